"""Tables of measurements: a column is a heading and what it shows of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.table import Table

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def number(name: str, digits: int = 0, scale: float = 1.0) -> Callable[[Row], str]:
    """Show one figure, or a dash where it was not measured."""
    return lambda row: f"{row[name] * scale:,.{digits}f}" if row.get(name) is not None else "-"


def times(names: Sequence[str], digits: int = 1) -> Callable[[Row], str]:
    """Show several figures with slashes between them."""
    return lambda row: " / ".join(number(name, digits)(row) for name in names)


def table(title: str, columns: Sequence[Column], rows: Iterable[tuple[str, Row]]) -> Table:
    """Return a table with a line for each labelled row."""
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for name, _ in columns:
        made.add_column(name, justify="right")
    for label, row in rows:
        made.add_row(label, *(cell(row) for _, cell in columns))
    return made
