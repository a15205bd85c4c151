"""Judges a scenario: nothing lost, nothing doubled, order kept, and every gap true.

Pure: it knows what was published, what each reader saw and what the log holds in the end, and nothing of hubs. The
promises, in the order of `Kind`:

- A reader has every event of its topics that the log holds and that was published after its stream had begun.
- What was acknowledged is in the log, unless the scenario took the log's data (`History.keeps`).
- What the log lost is announced: a reader that did not get it has a gap that covers it. One exception, which is
  rule W10's: a position up to which the log still is as it was goes on without a gap, for nobody can know that
  there was more. These are counted as `Verdict.untold`.
- A gap covers something lost. ``trimmed``: an event of the reader's own topics between ``from`` and ``to`` is not in
  the log. ``other_epoch``: the position lies beyond what the log has of that epoch, and events of that epoch beyond it
  are not in the log (of whichever topics: a log cannot know what was in the part it lost). ``ahead`` and
  ``unknown_position`` are never true here: readers present only what a hub gave them.
- An event comes twice only where a gap has taken the reader back behind it (W25: repeats are allowed).
- Offsets grow from event to event, except over a gap; and so do the numbers of each publisher that awaited one
  acknowledgement before the next.
- Nobody gets what is not of his topics, or what nobody published.
- What was not acknowledged is in the log once or not at all; what was refused is nowhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from sseal.position import Position
from sseal.subscription import TopicSet

from .record import GapSeen, History, Opened, Publish, ReaderRecord, Received

__all__ = ["Fault", "Kind", "Verdict", "check"]


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    FORGOTTEN = "acknowledged and not in the log"
    UNANNOUNCED = "lost by the log, and no gap says so"
    EMPTY_GAP = "a gap over nothing lost"
    DOUBLED = "doubled"
    REORDERED = "out of order"
    FOREIGN = "not for this reader"
    REPEATED = "more than once in the log"
    REFUSED = "refused, and yet there"


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken promise."""

    kind: Kind
    who: str
    what: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.kind}: {self.who}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found.

    :ivar untold: events lost by the log that a reader was behind of and not told of (W10).
    :ivar repeats: events that came again after a gap had taken the reader back behind them (W25).
    """

    faults: tuple[Fault, ...]
    untold: int
    repeats: int

    def __str__(self) -> str:
        """Return the number of faults of each kind, and the first of each."""
        counts = Counter(fault.kind for fault in self.faults)
        firsts = {fault.kind: fault for fault in reversed(self.faults)}
        return "\n".join(f"{count} x {firsts[kind]}" for kind, count in counts.items()) or "no fault"


def check(history: History) -> Verdict:
    """Return every promise a scenario broke."""
    return _Checker(history).verdict()


class _Checker:
    def __init__(self, history: History) -> None:
        self._history = history
        self._published = {publish.payload: publish for publish in history.publishes}
        self._known = _known(history)
        self._last = {
            epoch: max((o for o, payload in known.items() if o in history.log.get(payload, ())), default=-1)
            for epoch, known in self._known.items()
        }
        self._by_topics: dict[tuple[str, ...], list[Publish]] = defaultdict(list)
        for publish in history.publishes:
            self._by_topics[publish.topics].append(publish)
        self._born: dict[str, float] = {}  # when an epoch was first heard of
        for publish in history.publishes:
            if publish.position is not None:
                born = self._born.get(publish.position.epoch, publish.began)
                self._born[publish.position.epoch] = min(born, publish.began)
        self._faults: list[Fault] = []
        self._untold = 0
        self._repeats = 0

    def verdict(self) -> Verdict:
        for publish in self._history.publishes:
            self._check_publish(publish)
        for reader in self._history.readers:
            matches = _matcher(reader)
            self._walk(reader, matches)
            self._check_complete(reader, matches)
        return Verdict(tuple(self._faults), self._untold, self._repeats)

    def _fault(self, kind: Kind, who: str, what: str) -> None:
        self._faults.append(Fault(kind, who, what))

    def _check_publish(self, publish: Publish) -> None:
        offsets = self._history.log.get(publish.payload, ())
        if len(offsets) > 1:
            self._fault(Kind.REPEATED, publish.publisher, f"{publish.payload} stands at {list(offsets)}")
        if publish.outcome == "refused" and offsets:
            self._fault(Kind.REFUSED, publish.publisher, f"{publish.payload} stands at {offsets[0]}")
        if publish.outcome == "acknowledged" and not offsets and self._history.keeps and not self._trimmed(publish):
            self._fault(Kind.FORGOTTEN, publish.publisher, f"{publish.payload} was acknowledged as {publish.position}")

    def _trimmed(self, publish: Publish) -> bool:
        """Tell whether the log's retention took it: all before the oldest it has."""
        oldest = min((offsets[0] for offsets in self._history.log.values()), default=0)
        return publish.position is not None and publish.position.offset < oldest

    def _walk(self, reader: ReaderRecord, matches: Callable[[tuple[str, ...]], bool]) -> None:
        """Go through what a reader saw, in order."""
        cursor: Position | None = None
        numbers: dict[str, int] = {}
        got: dict[str, Position] = {}
        back = -1  # a gap has taken the reader back to here
        for item in reader.seen:
            match item:
                case Opened():
                    cursor = cursor or item.position
                case GapSeen():
                    self._check_gap(reader, item, matches)
                    back = item.end.offset if cursor is not None and item.end.offset < cursor.offset else back
                    cursor = item.end
                    if item.reason == "other_epoch":
                        numbers.clear()
                case Received():
                    self._check_known(reader, item, matches)
                    if (first := got.get(item.payload)) is not None:
                        self._check_double(reader, item, first, back)
                    elif cursor is not None and item.position.offset <= cursor.offset:
                        self._fault(Kind.REORDERED, reader.name, f"{item.position} after {cursor}: {item.payload}")
                    else:
                        self._check_number(reader, item, numbers)
                    got.setdefault(item.payload, item.position)
                    cursor = item.position
                case _:
                    pass

    def _check_known(self, reader: ReaderRecord, item: Received, matches: Callable[[tuple[str, ...]], bool]) -> None:
        publish = self._published.get(item.payload)
        if publish is None:
            self._fault(Kind.FOREIGN, reader.name, f"nobody published {item.payload!r}")
        elif not matches(publish.topics):
            self._fault(Kind.FOREIGN, reader.name, f"{item.payload} is of {publish.topics}, not of {reader.topics}")
        elif publish.outcome == "refused":
            self._fault(Kind.REFUSED, reader.name, item.payload)

    def _check_double(self, reader: ReaderRecord, item: Received, first: Position, back: int) -> None:
        if back < first.offset and back >= 0:
            self._repeats += 1
        else:
            self._fault(Kind.DOUBLED, reader.name, f"{item.payload} as {first} and as {item.position}")

    def _check_number(self, reader: ReaderRecord, item: Received, numbers: dict[str, int]) -> None:
        publish = self._published.get(item.payload)
        if publish is None or publish.outcome != "acknowledged":
            return
        if publish.number <= numbers.get(publish.publisher, -1):
            what = f"{item.payload} ({item.position}) after number {numbers[publish.publisher]} of that publisher"
            self._fault(Kind.REORDERED, reader.name, what)
        numbers[publish.publisher] = publish.number

    def _check_gap(self, reader: ReaderRecord, gap: GapSeen, matches: Callable[[tuple[str, ...]], bool]) -> None:
        if not self._true(gap, matches):
            self._fault(Kind.EMPTY_GAP, reader.name, f"{gap.reason} from {gap.start} to {gap.end}")

    def _true(self, gap: GapSeen, matches: Callable[[tuple[str, ...]], bool]) -> bool:
        if gap.start is None:
            return False
        if gap.reason == "trimmed":
            return any(
                gap.start.offset < offset <= gap.end.offset and matches(self._published[payload].topics)
                for offset, payload in self._lost()
            )
        if gap.reason != "other_epoch":
            return False
        epoch, last = gap.start.epoch, self._last.get(gap.start.epoch, -1)
        return gap.start.offset > last and any(offset > last for offset in self._known.get(epoch, ()))

    def _lost(self) -> Iterator[tuple[int, str]]:
        """Yield what is known to have been in the log and is no longer, with its offset."""
        for known in self._known.values():
            for offset, payload in known.items():
                if payload in self._published and offset not in self._history.log.get(payload, ()):
                    yield offset, payload

    def _check_complete(self, reader: ReaderRecord, matches: Callable[[tuple[str, ...]], bool]) -> None:
        """Look for what a reader should have and has not."""
        received = reader.received
        got = {item.payload for item in received}
        opened = next((item for item in reader.seen if isinstance(item, Opened)), None)
        if opened is None:
            return
        ends = max((o for item in received for o in self._history.log.get(item.payload, ())), default=-1)
        mine = (some for topics, some in self._by_topics.items() if matches(topics))
        for publish in chain.from_iterable(mine):
            if publish.payload in got or publish.outcome == "refused" or not _is_due(publish, opened):
                continue
            offsets = self._history.log.get(publish.payload, ())
            if offsets and (reader.settled or offsets[0] < ends):
                self._fault(Kind.LOST, reader.name, f"{publish.payload} stands at {offsets[0]}")
            elif not offsets and publish.outcome == "acknowledged" and reader.settled:
                self._check_announced(reader, publish)

    def _check_announced(self, reader: ReaderRecord, publish: Publish) -> None:
        """Judge an acknowledged event that neither the log nor this reader has."""
        place = publish.position
        assert place is not None
        passed = any(
            item.position.epoch == place.epoch and item.position.offset > place.offset for item in reader.received
        )
        covered = any(self._covers(gap, place) for gap in reader.gaps)
        if covered:
            return
        if passed or place.offset <= self._last.get(place.epoch, -1):
            self._fault(Kind.UNANNOUNCED, reader.name, f"{publish.payload}, acknowledged as {place}")
        else:
            self._untold += 1

    def _covers(self, gap: GapSeen, place: Position) -> bool:
        """Tell whether a gap speaks of this place: between its ends, or of an epoch that came and went in between."""
        if gap.start is None:
            return True
        if gap.reason == "trimmed":
            return gap.start.offset < place.offset <= gap.end.offset
        if gap.start.epoch == place.epoch:
            return place.offset > min(gap.start.offset, gap.end.offset)
        first, here, last = (self._born.get(e, 0.0) for e in (gap.start.epoch, place.epoch, gap.end.epoch))
        return first < here < last


def _known(history: History) -> dict[str, dict[int, str]]:
    """Return, per epoch, the payload that was seen at each offset: in acknowledgements and in readers' events."""
    known: dict[str, dict[int, str]] = defaultdict(dict)
    for publish in history.publishes:
        if publish.position is not None:
            known[publish.position.epoch][publish.position.offset] = publish.payload
    for reader in history.readers:
        for item in reader.received:
            known[item.position.epoch].setdefault(item.position.offset, item.payload)
    return known


def _matcher(reader: ReaderRecord) -> Callable[[tuple[str, ...]], bool]:
    matches = TopicSet.of(*reader.topics).matcher()
    answers: dict[tuple[str, ...], bool] = {}

    def remembered(topics: tuple[str, ...]) -> bool:
        if topics not in answers:
            answers[topics] = matches(topics)
        return answers[topics]

    return remembered


def _is_due(publish: Publish, opened: Opened) -> bool:
    """Tell whether an event surely comes after the position where a reader's first stream began."""
    if publish.began > opened.at:
        return True
    start, place = opened.position, publish.position
    return start is not None and place is not None and place.epoch == start.epoch and place.offset > start.offset
