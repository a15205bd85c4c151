"""Which stretch of the log is whose: the epoch in the file, and those it continues (W10)."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from typing import Final

from ...position import EPOCH_ALPHABET, EPOCH_LENGTH, Lineage
from .rows import decode

__all__ = ["MAX_EPOCHS", "Tip", "begin", "ensure_continuity", "read_tip"]

MAX_EPOCHS: Final = 256
"""Epochs that are remembered: half a year of a restart a day and some more. Older positions get a gap."""


@dataclass(frozen=True, slots=True)
class Tip:
    """How far a log is known: its lineage, and the offset of its newest entry."""

    lineage: Lineage
    head: int


def read_tip(connection: sqlite3.Connection) -> Tip:
    """Return what the file says, the youngest of the older epochs first."""
    epoch, head, older = connection.execute(
        "SELECT epoch, head, (SELECT json_group_array(json_array(epoch, last)) FROM"
        " (SELECT epoch, last FROM epoch ORDER BY id DESC)) FROM log"
    ).fetchone()
    return Tip(Lineage(epoch, tuple((name, last) for name, last in decode(older))), head)


def begin(connection: sqlite3.Connection, known: Tip | None = None) -> None:
    """Start a new epoch at the stored head, in the caller's transaction.

    :param known: what is known of a later state of this file, whose epoch is good up to the stored head too.
    """
    tip = read_tip(connection)
    ended = [tip.lineage.epoch]
    if known is not None and known.lineage.epoch not in ended:
        ended.append(known.lineage.epoch)
    for epoch in filter(None, ended):
        connection.execute("INSERT INTO epoch (epoch, last) VALUES (?, ?)", (epoch, tip.head))
    fresh = "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(EPOCH_LENGTH))
    connection.execute("UPDATE log SET epoch = ?", (fresh,))
    connection.execute("DELETE FROM epoch WHERE id <= (SELECT max(id) FROM epoch) - ?", (MAX_EPOCHS,))


def ensure_continuity(connection: sqlite3.Connection, known: Tip) -> Tip:
    """Make sure that the file continues what this process knows, in the caller's transaction; return its tip.

    A file that was put back to an earlier state under open hubs, or became another log, begins a new epoch: its
    next offsets would be those of events that were handed out already.
    """
    tip = read_tip(connection)
    mine = known.lineage.epoch
    if tip.lineage.epoch == mine:
        if tip.head >= known.head:
            return tip
        begin(connection)
    elif mine not in (epoch for epoch, _ in tip.lineage.older):
        earlier = tip.lineage.epoch in (epoch for epoch, _ in known.lineage.older)
        begin(connection, known if earlier else None)
    else:
        return tip
    return read_tip(connection)
