"""The conformance suite finds what it is there to find: each check fails on an engine that breaks its promise."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fnmatch import fnmatch

import pytest

from engines import SharedWorld
from shared_memory import Hub, Node, Trunk
from sseal.brokers import CANARY_ROOT, Draft, Entry, Page, Retention
from sseal.errors import Conflict, Unavailable
from sseal.position import Lineage
from sseal.subscription import TopicSet
from sseal.testing import BROKER_CHECKS, STORE_CHECKS, Check, ConformanceError
from sseal.testing.conformance import world as waiting

# -- brokers that lose, double, mix up --------------------------------------------------------------------------


class LosesSome(Hub):
    """Does not hand out every seventh event."""

    def hand_out(self, entries, last):
        super().hand_out([entry for entry in entries if entry.offset % 7], last)


class Doubles(Hub):
    """Hands some out again."""

    def hand_out(self, entries, last):
        super().hand_out(entries + entries[:1] * (last.offset % 5 == 0), last)


class TurnsAround(Hub):
    """Hands a batch out backwards."""

    def hand_out(self, entries, last):
        super().hand_out(entries[::-1], last)


class OwnFirst(Hub):
    """Hands out its own events before those that others published earlier (W28)."""

    async def publish(self, drafts):
        offsets = await super().publish(drafts)
        page = await self.trunk.log.history(
            TopicSet.of(*self.names or ["never"]), min(offsets) - 1, max(offsets), limit=99, since={}
        )
        if self.intake is not None:
            self.intake.deliver(list(page.entries))
        return offsets

    def hand_out(self, entries, last):
        super().hand_out([entry for entry in entries if entry.offset % 3], last)


class Deaf(Hub):
    """Hears only what it has published itself."""

    async def publish(self, drafts):
        self.mine = True
        try:
            return await super().publish(drafts)
        finally:
            self.mine = False

    def hear(self, entries):
        if getattr(self, "mine", False):
            super().hear(entries)


class HandsOutTwiceWithTwoTopics(Hub):
    """Hands an event of several topics out under each (W27)."""

    def hand_out(self, entries, last):
        super().hand_out([e for entry in entries for e in [entry] * len(entry.topics)], last)


class HandsOutOldEvents(Hub):
    """Hands out to a new hub what was published before it came."""

    async def open(self, intake):
        await super().open(intake)
        if intake is not None and self.trunk.log.head:
            intake.deliver(self.trunk.log._entries)


class ForgetsPatternsToo(Hub):
    """A pattern that is forgotten takes the topics it covers along."""

    async def forget(self, names):
        names = list(names)
        self.names = {n for n in self.names if not any(fnmatch(n, name) for name in names)}


class ForgetsLate(Hub):
    """A forget takes effect at its end, also on a listen that came after it."""

    async def forget(self, names):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await super().forget(names)


class ConfirmsTooEarly(Hub):
    """Confirms a subscription before it holds."""

    async def listen(self, names):
        head = self.trunk.log.head
        asyncio.get_running_loop().call_later(0.01, self.names.update, list(names))
        return head


class SaysTurned(Hub):
    """Speaks of a new epoch without reason."""

    async def newest(self):
        if self.intake is not None:
            self.intake.turned()
        return await super().newest()


class SaysMissed(Hub):
    """Says that events were missed which the log has."""

    def hand_out(self, entries, last):
        super().hand_out(entries, last)
        if last.offset % 7 == 0 and self.intake is not None:
            self.intake.missed(None, last.offset)


class GoesOnAfterClose(Hub):
    """A closed broker takes events and hands them out."""

    async def close(self):
        pass


class SilentAfterClose(Hub):
    """A closed broker says that it took what it dropped."""

    async def publish(self, drafts):
        await asyncio.sleep(0)
        if not self._open:
            return [self.trunk.log.head + 1 + index for index, _ in enumerate(drafts)]
        return await super().publish(drafts)


class AppendsAfterClose(Hub):
    """What was running at a close gets in although it was refused."""

    async def publish(self, drafts):
        await asyncio.sleep(0)
        offsets = await self.trunk.log.publish(drafts)
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        return offsets


class CannotOnlyPublish(Hub):
    """Needs somebody to hand events to."""

    async def publish(self, drafts):
        if self.intake is None:
            raise Unavailable("nobody is here")
        return await super().publish(drafts)


class ClockOfItsOwn(Hub):
    """Has another time than its log."""

    def now(self):
        return super().now() - 100.0 * self.trunk.hubs.index(self) - 100.0


# -- brokers that get publishing wrong --------------------------------------------------------------------------


class Rewriting(Hub):
    """Changes drafts before they get in."""

    def rewritten(self, draft: Draft) -> Draft:
        return draft

    async def publish(self, drafts):
        return await super().publish([self.rewritten(draft) for draft in drafts])


class IgnoresKeys(Rewriting):
    """Every attempt is an event."""

    def rewritten(self, draft):
        return replace(draft, key=None)


class SharesKeys(Rewriting):
    """Keys of all publishers are one space."""

    def rewritten(self, draft):
        return draft if draft.key is None else replace(draft, key=replace(draft.key, scope=("", "")))


class IgnoresDigests(Rewriting):
    """The first content under a key stands for all."""

    def rewritten(self, draft):
        return draft if draft.key is None else replace(draft, key=replace(draft.key, digest=b""))


class KeepsKeysToItself(Hub):
    """Does not know the keys of other hubs, nor those of before a restart."""

    async def publish(self, drafts):
        own = [
            d if d.key is None else replace(d, key=replace(d.key, scope=(f"{id(self)}", *d.key.scope))) for d in drafts
        ]
        return await super().publish(own)


class LooksBeforeItLocks(Hub):
    """Looks keys up, waits, and appends."""

    async def publish(self, drafts):
        keys = self.trunk.log._keys
        seen = [None if d.key is None else keys.get((d.key.scope, d.key.key)) for d in drafts]
        await asyncio.sleep(0.001)
        for draft, record in zip(drafts, seen, strict=True):
            if draft.key is not None and record is None:
                keys.pop((draft.key.scope, draft.key.key), None)
        return await self.trunk.log.publish(drafts)


class OneByOne(Hub):
    """Appends a batch draft by draft."""

    async def publish(self, drafts):
        return [offset for draft in drafts for offset in await super(OneByOne, self).publish([draft])]


class KeysForEver(Hub):
    """Never forgets a key."""

    async def publish(self, drafts):
        keys = self.trunk.log._keys
        keys.update({key: (digest, offset, 1e12) for key, (digest, offset, _) in keys.items()})
        return await super().publish(drafts)


class KeysForAnHour(Hub):
    """Forgets keys too early."""

    async def publish(self, drafts):
        keys, now = self.trunk.log._keys, self.now()
        for key, (_, _, ends) in [*keys.items()]:
            if ends - now < 23 * 3600.0:
                del keys[key]
        return await super().publish(drafts)


class KeysGoWithEvents(Hub):
    """Forgets a key when retention takes its event."""

    async def publish(self, drafts):
        log = self.trunk.log
        kept = {entry.offset for entry in log._entries[log._start :]}
        log._keys = {key: record for key, record in log._keys.items() if record[1] in kept}
        return await super().publish(drafts)


class MixesUpOffsets(Hub):
    """Returns the offsets of a batch backwards."""

    async def publish(self, drafts):
        return (await super().publish(drafts))[::-1]


class StripsText(Rewriting):
    """Takes white space for nothing."""

    def rewritten(self, draft):
        return replace(draft, data=draft.data.strip())


class OneTopicOnly(Rewriting):
    """Lists an event under its first topic only."""

    def rewritten(self, draft):
        return replace(draft, topics=draft.topics[:1])


# -- brokers that get the history wrong -------------------------------------------------------------------------


class TopicByTopic(Hub):
    """Pages one topic after the other, not merged by offset (W7)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        read = super().history
        pages = [await read(TopicSet.of(name), after, upto, limit=limit, since=since) for name in topics.names]
        entries = sorted({e.offset: e for page in pages for e in page.entries}.values(), key=lambda e: e.offset)
        more = any(page.more for page in pages) or len(entries) > limit
        end = entries[:limit][-1].offset if len(entries) > limit else max(page.upto for page in pages)
        return Page(entries[:limit], end, more, max(page.lost for page in pages))


class TornSnapshot(Hub):
    """Reads one topic a moment after the other (W7)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        entries: dict[int, Entry] = {}
        for name in topics.names:
            page = await super().history(TopicSet.of(name), after, upto, limit=1_000, since=since)
            entries |= {entry.offset: entry for entry in page.entries}
            await asyncio.sleep(0)
        end = self.trunk.log.head if upto is None else upto
        found = [entries[o] for o in sorted(entries) if o <= end]
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1].offset, True)
        return replace(page, entries=found, upto=max(end, after), more=False)


class IgnoresUpto(Hub):
    """Reads to the head, whatever was asked."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, None, limit=limit, since=since)
        return replace(page, upto=max(page.upto, upto or 0))


class Globs(Hub):
    """Takes topics for shell patterns, and lower and upper case for the same."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(TopicSet.of("**"), after, upto, limit=1_000, since=since)
        names = [name.lower().replace("**", "*") for name in topics.names]
        found = [e for e in page.entries if any(fnmatch(t.lower(), name) for t in e.topics for name in names)]
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1].offset, True, page.lost)
        return replace(page, entries=found)


class ListsTwice(Hub):
    """Gives an event once for each topic that is read (W27)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        return replace(page, entries=[e for entry in page.entries for e in [entry] * len(entry.topics)])


class KeepsTheExpired(Rewriting):
    """Does not look at times to live."""

    def rewritten(self, draft):
        return replace(draft, ttl=None)


class MissesTheExpired(Hub):
    """Takes what expired for lost."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        log = self.trunk.log
        expired = [e.offset for e in log._entries if e.expires_at and e.expires_at <= log.now()]
        return replace(page, lost=max([page.lost, *(o for o in expired if o > after)]))


class Afraid(Hub):
    """Says that something is lost whenever it finds nothing."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        return page if page.entries else replace(page, lost=after + 1)


# -- brokers that get retention wrong ---------------------------------------------------------------------------


class LosesSilently(Hub):
    """Never says that something is lost."""

    async def history(self, topics, after, upto=None, *, limit, since):
        return replace(await super().history(topics, after, upto, limit=limit, since=since), lost=0)


class OneFloorForAll(Hub):
    """Says to all that they lost what one topic lost (W25)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        lost = max((offset for offset, _ in self.trunk.log._trimmed.values()), default=0)
        return replace(page, lost=lost if lost > after else 0)


class IgnoresSince(Hub):
    """Speaks of losses before somebody was allowed to read (W21)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        return await super().history(topics, after, upto, limit=limit, since={})


class MissesWhatHadExpired(Hub):
    """Takes for lost what had expired before it was trimmed (W25)."""

    async def publish(self, drafts):
        log = self.trunk.log
        log._entries = [replace(entry, expires_at=None) for entry in log._entries]
        for topic in {topic for entry in log._entries for topic in entry.topics}:
            log._by_topic[topic] = [entry for entry in log._entries[log._start :] if topic in entry.topics]
        return await super().publish(drafts)


class KeepsTooMuch(Hub):
    """Trims nothing."""

    async def publish(self, drafts):
        self.trunk.log._retention = Retention(count=10**9, age=1e9, size=10**12)
        return await super().publish(drafts)


class KeepsTooLittle(Hub):
    """Trims earlier than it was told."""

    async def publish(self, drafts):
        self.trunk.log._retention = Retention(count=5, age=0.5, size=5_000)
        return await super().publish(drafts)


class LosesOneTopicOnly(Hub):
    """Remembers a trimmed event under its first topic only."""

    async def history(self, topics, after, upto=None, *, limit, since):
        log = self.trunk.log
        offsets = {offset for offset, _ in log._trimmed.values()}
        first = {min(t for t, record in log._trimmed.items() if record[0] == offset) for offset in offsets}
        log._trimmed = {topic: record for topic, record in log._trimmed.items() if topic in first}
        return await super().history(topics, after, upto, limit=limit, since=since)


class StartsOver(Trunk):
    """Counts offsets from what is left in the log (W10)."""

    async def restart(self):
        await super().restart()
        self.log._trim(self.log.now())
        self.log._head = max((entry.offset for entry in self.log._entries[self.log._start :]), default=0)


class ForgetsLosses(Trunk):
    """Does not know after a restart what it had trimmed."""

    async def restart(self):
        await super().restart()
        self.log._trimmed = {}


class ForgetsEvents(Trunk):
    """Has lost its newest events after a restart."""

    async def restart(self):
        await super().restart()
        for index in (self.log._entries, *self.log._by_topic.values()):
            del index[-5:]


class ForgetsEpochs(Trunk):
    """Knows no epoch but its own."""

    async def restart(self):
        await super().restart()
        self.log._lineage = Lineage(self.log.lineage.epoch)


class OneEpochForEver(Trunk):
    """Takes every epoch for one that it continues, up to any offset."""

    async def restart(self):
        await super().restart()
        older = ((epoch, 10**9) for epoch, _ in self.log.lineage.older)
        self.log._lineage = Lineage(self.log.lineage.epoch, tuple(older))


class EpochPerHub(Hub):
    """Every hub is an epoch of its own."""

    @property
    def lineage(self):
        return replace(super().lineage, epoch=f"{id(self) % 10**8:08}")


class KeepsCanaries(Rewriting):
    """Takes a canary for an ordinary event."""

    def rewritten(self, draft):
        topics = tuple(topic.replace(CANARY_ROOT, "$sseal/other") for topic in draft.topics)
        return replace(draft, topics=topics)

    def hand_out(self, entries, last):
        back = [replace(e, topics=tuple(t.replace("$sseal/other", CANARY_ROOT) for t in e.topics)) for e in entries]
        super().hand_out(back, last)

    async def listen(self, names):
        return await super().listen([name.replace(CANARY_ROOT, "$sseal/other") for name in names])


BROKER_FAULTS: dict[type[Hub] | type[Trunk], tuple[str, ...]] = {
    LosesSome: ("all_hubs_see_one_order", "listen_keeps_its_promise", "names_mean_themselves"),
    Doubles: ("all_hubs_see_one_order", "listen_keeps_its_promise"),
    TurnsAround: ("all_hubs_see_one_order", "an_entry_is_what_was_published"),
    OwnFirst: ("all_hubs_see_one_order",),
    Deaf: ("all_hubs_see_one_order", "a_log_may_be_opened_for_publishing_only", "a_known_key_returns_its_first_offset"),
    HandsOutTwiceWithTwoTopics: ("several_topics_are_one_event", "listen_keeps_its_promise"),
    HandsOutOldEvents: ("a_hub_that_comes_late_is_handed_what_comes_after",),
    ForgetsPatternsToo: ("forget_stops_only_what_it_names",),
    ForgetsLate: ("listen_after_forget_holds_again",),
    ConfirmsTooEarly: ("listen_keeps_its_promise",),
    SaysTurned: ("a_turn_is_told_only_when_there_is_one",),
    SaysMissed: ("all_hubs_see_one_order", "listen_keeps_its_promise"),
    GoesOnAfterClose: ("a_closed_log_refuses", "a_hub_that_leaves_disturbs_nobody"),
    SilentAfterClose: ("a_closed_log_refuses", "what_a_close_interrupts_is_finished_or_refused"),
    AppendsAfterClose: ("what_a_close_interrupts_is_finished_or_refused",),
    CannotOnlyPublish: ("a_log_may_be_opened_for_publishing_only",),
    ClockOfItsOwn: ("the_log_has_one_time", "an_entry_is_what_was_published"),
    IgnoresKeys: (
        "a_known_key_returns_its_first_offset",
        "a_key_with_other_content_conflicts",
        "one_key_at_once_is_one_event",
        "of_two_contents_at_once_one_wins",
        "a_key_outlives_its_event",
        "a_key_is_forgotten_after_a_day",
        "a_key_outlives_a_restart",
        "a_batch_is_all_or_nothing",
    ),
    SharesKeys: ("a_key_is_its_publishers_own",),
    IgnoresDigests: (
        "a_key_with_other_content_conflicts",
        "of_two_contents_at_once_one_wins",
        "a_batch_is_all_or_nothing",
    ),
    KeepsKeysToItself: (
        "a_known_key_returns_its_first_offset",
        "a_key_with_other_content_conflicts",
        "one_key_at_once_is_one_event",
        "a_key_outlives_a_restart",
    ),
    LooksBeforeItLocks: ("one_key_at_once_is_one_event",),
    OneByOne: ("a_batch_is_all_or_nothing",),
    KeysForEver: ("a_key_is_forgotten_after_a_day",),
    KeysForAnHour: ("a_key_is_forgotten_after_a_day",),
    KeysGoWithEvents: ("a_key_outlives_its_event",),
    MixesUpOffsets: ("offsets_are_returned_in_order",),
    StripsText: ("an_entry_is_what_was_published",),
    OneTopicOnly: ("an_entry_is_what_was_published", "several_topics_are_one_event"),
    TopicByTopic: ("pages_agree_with_a_plain_list", "history_is_one_snapshot"),
    TornSnapshot: ("history_is_one_snapshot",),
    IgnoresUpto: ("an_upto_holds_while_the_log_grows", "pages_agree_with_a_plain_list"),
    Globs: ("names_mean_themselves", "pages_agree_with_a_plain_list"),
    ListsTwice: ("several_topics_are_one_event", "pages_agree_with_a_plain_list"),
    KeepsTheExpired: ("what_has_expired_is_left_out_and_not_lost",),
    MissesTheExpired: ("what_has_expired_is_left_out_and_not_lost",),
    Afraid: ("bounds_outside_the_log_are_harmless",),
    LosesSilently: (
        "only_the_topics_that_lost_something_say_so",
        "nothing_vanishes_without_a_word",
        "what_is_trimmed_between_two_pages_is_told",
        "the_newest_are_kept_by_age",
        "the_newest_are_kept_by_size",
    ),
    OneFloorForAll: ("only_the_topics_that_lost_something_say_so", "nothing_vanishes_without_a_word"),
    IgnoresSince: ("what_was_trimmed_before_since_is_no_loss",),
    MissesWhatHadExpired: ("what_had_expired_when_it_was_trimmed_is_no_loss",),
    KeepsTooMuch: ("the_newest_are_kept_by_count", "the_newest_are_kept_by_age", "the_newest_are_kept_by_size"),
    KeepsTooLittle: ("the_newest_are_kept_by_count", "the_newest_are_kept_by_size"),
    LosesOneTopicOnly: ("an_event_of_several_topics_is_lost_to_each",),
    StartsOver: ("offsets_are_never_used_again",),
    ForgetsLosses: ("what_was_lost_is_known_after_a_restart",),
    ForgetsEvents: ("what_was_acknowledged_is_there_after_a_restart",),
    ForgetsEpochs: ("positions_of_before_a_restart_hold", "hubs_agree_about_the_epoch"),
    OneEpochForEver: ("positions_of_before_a_restart_hold",),
    EpochPerHub: ("a_turn_is_told_only_when_there_is_one", "hubs_agree_about_the_epoch"),
    KeepsCanaries: ("canaries_fly_and_leave_nothing_behind",),
}


# -- stores -----------------------------------------------------------------------------------------------------


class TakesInTwoSteps(Node):
    """Reads, waits, deletes."""

    async def take(self, key):
        value = await self.get(key)
        await asyncio.sleep(0)
        await self.shelf.take(key)
        return value


class SwapsInTwoSteps(Node):
    """Compares, waits, writes."""

    async def swap(self, key, old, new, expires_at):
        if await self.get(key) != old:
            return False
        await asyncio.sleep(0)
        return await self.shelf.swap(key, self.shelf._read(key), new, expires_at)


class SwapsBlindly(Node):
    """Writes without comparing."""

    async def swap(self, key, old, new, expires_at):
        return await self.shelf.swap(key, self.shelf._read(key), new, expires_at)


class EmptyIsAbsent(Node):
    """Takes the empty value for no value."""

    async def get(self, key):
        return await super().get(key) or None

    async def swap(self, key, old, new, expires_at):
        return await self.shelf.swap(key, old or self.shelf._read(key) or None, new, expires_at)


class TextOnly(Node):
    """Stores values as text."""

    async def put(self, key, value, expires_at):
        await super().put(key, value.decode(errors="replace").encode(), expires_at)


class SmallLetters(Node):
    """Does not tell keys apart that a database finds equal."""

    async def put(self, key, value, expires_at):
        await super().put(key.lower().strip()[:200], value, expires_at)

    async def get(self, key):
        return await super().get(key.lower().strip()[:200])


class KeepsForEver(Node):
    """Does not look at the end of records."""

    async def put(self, key, value, expires_at):
        await super().put(key, value, expires_at + 1e9)

    async def swap(self, key, old, new, expires_at):
        return await super().swap(key, old, new, expires_at + 1e9)

    async def revoke(self, record, expires_at):
        return await super().revoke(record, expires_at + 1e9)


class FirstEndStays(Node):
    """Writing again does not change when a record ends."""

    async def put(self, key, value, expires_at):
        known = self.shelf._records.get(key)
        await super().put(key, value, expires_at if known is None else known[1])


class CountsByItself(Node):
    """Counts per node."""

    async def count(self, key, seconds):
        return await super().count(f"{id(self)}/{key}", seconds)


class CountsInTwoSteps(Node):
    """Reads a count, waits, writes it."""

    async def count(self, key, seconds):
        known = self.shelf._records.get(f"count/{key}")
        await asyncio.sleep(0)
        await self.shelf.count(key, seconds)
        return 1 if known is None else int(known[0]) + 1


class CountsForEver(Node):
    """A count never starts anew."""

    async def count(self, key, seconds):
        return await super().count(key, 1e9)


class CountsSinceTheLast(Node):
    """Every count prolongs the time of all."""

    async def count(self, key, seconds):
        number = await super().count(key, seconds)
        value, _ = self.shelf._records[f"count/{key}"]
        self.shelf._records[f"count/{key}"] = (value, self.shelf._clock.wall() + seconds)
        return number


class CountsAreRecords(Node):
    """A count and a record of one name are the same."""

    async def count(self, key, seconds):
        number = await super().count(key, seconds)
        await self.shelf.put(key, b"%d" % number, self.shelf._clock.wall() + seconds)
        return number


class DropsOnClose(Node):
    """Closing takes the records along."""

    async def close(self):
        await super().close()
        self.shelf._records.clear()


class ForgetsRecords(SharedWorld):
    """Records do not outlive a restart."""

    async def restart(self):
        await super().restart()
        self.shelf._records.clear()


class ForgetsRevocations(SharedWorld):
    """The revocation log does not outlive a restart."""

    async def restart(self):
        await super().restart()
        self.shelf._log, self.shelf._last = [], 0


class NumbersByTheRest(Node):
    """Numbers a revocation by how many are in force."""

    async def revoke(self, record, expires_at):
        self.shelf._last = len(await self.shelf.revocations(0))
        return await super().revoke(record, expires_at)


class NumbersInTwoSteps(Node):
    """Two who revoke at once get one number."""

    async def revoke(self, record, expires_at):
        last = self.shelf._last
        await super().revoke(record, expires_at)
        return last + 1


class SignalsItself(Node):
    """Tells of a revocation only the node that made it."""

    async def revoke(self, record, expires_at):
        number = await self.shelf.revoke(record, expires_at)
        self.shelf.heard[self.name].revocations_grew()
        return number


class ReadsAll(Node):
    """Gives the whole revocation log every time."""

    async def revocations(self, after):
        return await super().revocations(0)


class ReadsBackwards(Node):
    """Gives the newest revocation first."""

    async def revocations(self, after):
        return (await super().revocations(after))[::-1]


class ReadsNothingBeyond(Node):
    """Does not notice that the log began anew."""

    async def revocations(self, after):
        return await self.shelf.revocations(after)


class StaysKnown(Node):
    """Is a node for ever."""

    async def close(self):
        pass


class KnowsItself(Node):
    """Knows no other node."""

    async def nodes(self):
        return [self.name]


class MailsTwice(Node):
    """Delivers a message again."""

    async def send(self, node, body):
        await super().send(node, body)
        return await super().send(node, body)


class MailsToAll(Node):
    """Delivers a message to everybody."""

    async def send(self, node, body):
        known = node in self.shelf.heard
        for name in self.shelf.heard:
            await super().send(name, body)
        return known


class MailsNotFar(Node):
    """Reaches itself only."""

    async def send(self, node, body):
        return await super().send(self.name, body)


class MailsAnywhere(Node):
    """Says that it reached a node that is not there."""

    async def send(self, node, body):
        await super().send(node, body)
        return True


class KeepsMail(Node):
    """Gives a node what was sent to it before it came."""

    async def open(self, node, heard):
        await super().open(node, heard)
        for body in self.shelf.__dict__.pop(f"kept-{node}", ()):
            heard.mail(body)

    async def send(self, node, body):
        if node not in self.shelf.heard:
            self.shelf.__dict__.setdefault(f"kept-{node}", []).append(body)
        return await super().send(node, body)


STORE_FAULTS: dict[type[Node] | type[SharedWorld], tuple[str, ...]] = {
    TakesInTwoSteps: ("of_all_takers_one_gets_it", "a_take_and_a_swap_do_not_both_win"),
    SwapsInTwoSteps: ("of_all_swaps_of_one_value_one_wins", "no_change_by_swap_is_lost"),
    SwapsBlindly: ("a_swap_writes_only_over_what_was_seen", "of_all_swaps_of_one_value_one_wins"),
    EmptyIsAbsent: ("a_record_is_what_was_written", "a_swap_writes_only_over_what_was_seen"),
    TextOnly: ("a_record_is_what_was_written",),
    SmallLetters: ("keys_mean_themselves",),
    KeepsForEver: ("a_record_ends_at_its_moment", "what_is_in_force_no_more_is_left_out", "records_outlive_a_restart"),
    FirstEndStays: ("a_record_ends_at_its_moment",),
    CountsByItself: ("counts_are_of_all_nodes", "records_outlive_a_restart"),
    CountsInTwoSteps: ("counts_are_of_all_nodes",),
    CountsForEver: ("a_count_starts_anew",),
    CountsSinceTheLast: ("a_count_starts_anew",),
    CountsAreRecords: ("counts_are_of_all_nodes",),
    DropsOnClose: ("closing_may_be_repeated",),
    ForgetsRecords: ("records_outlive_a_restart",),
    ForgetsRevocations: ("revocations_outlive_a_restart",),
    NumbersByTheRest: ("what_is_in_force_no_more_is_left_out", "revocations_outlive_a_restart"),
    NumbersInTwoSteps: ("revocations_at_once_are_all_kept",),
    SignalsItself: ("every_node_hears_of_a_revocation",),
    ReadsAll: ("revocations_are_numbered_in_order", "a_node_that_reads_on_misses_none"),
    ReadsBackwards: ("revocations_are_numbered_in_order",),
    ReadsNothingBeyond: ("who_knows_more_than_the_log_is_given_all",),
    StaysKnown: ("nodes_know_each_other", "mail_to_nobody_is_told"),
    KnowsItself: ("nodes_know_each_other",),
    MailsTwice: ("mail_reaches_its_node_once",),
    MailsToAll: ("mail_reaches_its_node_once",),
    MailsNotFar: ("mail_reaches_its_node_once",),
    MailsAnywhere: ("mail_to_nobody_is_told",),
    KeepsMail: ("a_node_that_comes_back_gets_only_new_mail",),
}

# -- the tests --------------------------------------------------------------------------------------------------

Fault = type[Hub] | type[Trunk] | type[Node] | type[SharedWorld]


def faulty(fault: Fault, retention: Retention) -> SharedWorld:
    """Return a world with a fault."""
    if issubclass(fault, SharedWorld):
        return fault(retention)
    if issubclass(fault, Hub):
        return SharedWorld(retention, hub=fault)
    if issubclass(fault, Node):
        return SharedWorld(retention, node=fault)
    world = SharedWorld(retention)
    world.trunk = fault(world.clock, retention)
    return world


ALL = {**BROKER_CHECKS, **STORE_CHECKS}
PAIRS = [(fault, name) for fault, names in {**BROKER_FAULTS, **STORE_FAULTS}.items() for name in names]


@pytest.mark.parametrize(("fault", "name"), PAIRS, ids=lambda part: part if isinstance(part, str) else part.__name__)
async def test_a_fault_is_found(fault: Fault, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that breaks a promise fails the check of this promise, and says so as an error of its own."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.1)
    check = ALL[name]
    with pytest.raises((ConformanceError, Conflict, Unavailable)):
        await check(faulty(fault, check.retention))


def test_every_check_can_fail() -> None:
    """For each check there is a fault that it finds: one that cannot fail proves nothing."""
    assert {name for _, name in PAIRS} == set(ALL)


def test_every_check_says_what_it_proves() -> None:
    """Each has a promise in one sentence, and a name that is in no other table."""
    assert len(ALL) == len(BROKER_CHECKS) + len(STORE_CHECKS)
    for name, check in ALL.items():
        assert check.promise.strip().endswith("."), name
        assert name == check.run.__name__


async def test_the_suite_needs_no_asserts() -> None:
    """It works under ``python -O`` too: what it finds it raises."""
    check = Check(BROKER_CHECKS["offsets_are_returned_in_order"].run, frozenset(), Retention())
    with pytest.raises(ConformanceError, match="expected"):
        await check(faulty(MixesUpOffsets, check.retention))
