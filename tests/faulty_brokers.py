"""Brokers with one fault each, and the checks that have to find it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fnmatch import fnmatch

from shared_memory import SharedBroker, SharedLog
from sseal.errors import Unavailable
from sseal.position import Lineage
from sseal.storage import CANARY_ROOT, Entry, Page, Publication, Retention
from sseal.subscription import TopicSet

# -- brokers that lose, double, mix up --------------------------------------------------------------------------


class LosesSome(SharedBroker):
    """Does not hand out every seventh event."""

    def hand_out(self, entries, last):
        super().hand_out([entry for entry in entries if entry.offset % 7], last)


class Doubles(SharedBroker):
    """Hands some out again."""

    def hand_out(self, entries, last):
        super().hand_out(entries + entries[:1] * (last.offset % 5 == 0), last)


class TurnsAround(SharedBroker):
    """Hands a batch out backwards."""

    def hand_out(self, entries, last):
        super().hand_out(entries[::-1], last)


class OwnFirst(SharedBroker):
    """Hands out its own events before those that others published earlier (W28)."""

    async def publish(self, publications):
        offsets = await super().publish(publications)
        page = await self.shared.log.history(
            TopicSet.of(*self.names or ["never"]), min(offsets) - 1, max(offsets), limit=99, since={}
        )
        if self.listener is not None:
            self.listener.on_entries(list(page.entries))
        return offsets

    def hand_out(self, entries, last):
        super().hand_out([entry for entry in entries if entry.offset % 3], last)


class Deaf(SharedBroker):
    """Hears only what it has published itself."""

    async def publish(self, publications):
        self.mine = True
        try:
            return await super().publish(publications)
        finally:
            self.mine = False

    def hear(self, entries):
        if getattr(self, "mine", False):
            super().hear(entries)


class HandsOutTwiceWithTwoTopics(SharedBroker):
    """Hands an event of several topics out under each (W27)."""

    def hand_out(self, entries, last):
        super().hand_out([e for entry in entries for e in [entry] * len(entry.topics)], last)


class HandsOutOldEvents(SharedBroker):
    """Hands out to a new hub what was published before it came."""

    async def open(self, listener):
        await super().open(listener)
        if listener is not None and self.shared.log.head:
            listener.on_entries(self.shared.log._entries)


class ForgetsPatternsToo(SharedBroker):
    """A pattern that is forgotten takes the topics it covers along."""

    async def forget(self, names):
        names = list(names)
        self.names = {n for n in self.names if not any(fnmatch(n, name) for name in names)}


class ForgetsLate(SharedBroker):
    """A forget takes effect at its end, also on a listen that came after it."""

    async def forget(self, names):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await super().forget(names)


class ConfirmsTooEarly(SharedBroker):
    """Confirms a subscription before it holds."""

    async def listen(self, names):
        head = self.shared.log.head
        asyncio.get_running_loop().call_later(0.01, self.names.update, list(names))
        return head


class SaysTurned(SharedBroker):
    """Speaks of a new epoch without reason."""

    async def newest(self):
        if self.listener is not None:
            self.listener.on_epoch_change()
        return await super().newest()


class SaysMissed(SharedBroker):
    """Says that events were missed which the log has."""

    def hand_out(self, entries, last):
        super().hand_out(entries, last)
        if last.offset % 7 == 0 and self.listener is not None:
            self.listener.on_gap(None, last.offset)


class GoesOnAfterClose(SharedBroker):
    """A closed broker takes events and hands them out."""

    async def close(self):
        pass


class SilentAfterClose(SharedBroker):
    """A closed broker says that it took what it dropped."""

    async def publish(self, publications):
        await asyncio.sleep(0)
        if not self._open:
            return [self.shared.log.head + 1 + index for index, _ in enumerate(publications)]
        return await super().publish(publications)


class AppendsAfterClose(SharedBroker):
    """What was running at a close gets in although it was refused."""

    async def publish(self, publications):
        await asyncio.sleep(0)
        offsets = await self.shared.log.publish(publications)
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        return offsets


class CannotOnlyPublish(SharedBroker):
    """Needs somebody to hand events to."""

    async def publish(self, publications):
        if self.listener is None:
            raise Unavailable("nobody is here")
        return await super().publish(publications)


class ClockOfItsOwn(SharedBroker):
    """Has another time than its log."""

    def now(self):
        return super().now() - 100.0 * self.shared.hubs.index(self) - 100.0


# -- brokers that get publishing wrong --------------------------------------------------------------------------


class Rewriting(SharedBroker):
    """Changes drafts before they get in."""

    def rewritten(self, publication: Publication) -> Publication:
        return publication

    async def publish(self, publications):
        return await super().publish([self.rewritten(publication) for publication in publications])


class IgnoresKeys(Rewriting):
    """Every attempt is an event."""

    def rewritten(self, publication):
        return replace(publication, key=None)


class SharesKeys(Rewriting):
    """Keys of all publishers are one space."""

    def rewritten(self, publication):
        return (
            publication
            if publication.key is None
            else replace(publication, key=replace(publication.key, scope=("", "")))
        )


class IgnoresDigests(Rewriting):
    """The first content under a key stands for all."""

    def rewritten(self, publication):
        return (
            publication if publication.key is None else replace(publication, key=replace(publication.key, digest=b""))
        )


class KeepsKeysToItself(SharedBroker):
    """Does not know the keys of other hubs, nor those of before a restart."""

    async def publish(self, publications):
        own = [
            d if d.key is None else replace(d, key=replace(d.key, scope=(f"{id(self)}", *d.key.scope)))
            for d in publications
        ]
        return await super().publish(own)


class LooksBeforeItLocks(SharedBroker):
    """Looks keys up, waits, and appends."""

    async def publish(self, publications):
        keys = self.shared.log._keys
        seen = [None if d.key is None else keys.get((d.key.scope, d.key.key)) for d in publications]
        await asyncio.sleep(0.001)
        for publication, record in zip(publications, seen, strict=True):
            if publication.key is not None and record is None:
                keys.pop((publication.key.scope, publication.key.key), None)
        return await self.shared.log.publish(publications)


class OneByOne(SharedBroker):
    """Appends a batch draft by draft."""

    async def publish(self, publications):
        return [offset for publication in publications for offset in await super(OneByOne, self).publish([publication])]


class KeysForEver(SharedBroker):
    """Never forgets a key."""

    async def publish(self, publications):
        keys = self.shared.log._keys
        keys.update({key: (digest, offset, 1e12) for key, (digest, offset, _) in keys.items()})
        return await super().publish(publications)


class KeysForAnHour(SharedBroker):
    """Forgets keys too early."""

    async def publish(self, publications):
        keys, now = self.shared.log._keys, self.now()
        for key, (_, _, ends) in [*keys.items()]:
            if ends - now < 23 * 3600.0:
                del keys[key]
        return await super().publish(publications)


class KeysGoWithEvents(SharedBroker):
    """Forgets a key when retention takes its event."""

    async def publish(self, publications):
        log = self.shared.log
        kept = {entry.offset for entry in log._entries[log._start :]}
        log._keys = {key: record for key, record in log._keys.items() if record[1] in kept}
        return await super().publish(publications)


class MixesUpOffsets(SharedBroker):
    """Returns the offsets of a batch backwards."""

    async def publish(self, publications):
        return (await super().publish(publications))[::-1]


class StripsText(Rewriting):
    """Takes white space for nothing."""

    def rewritten(self, publication):
        return replace(publication, data=publication.data.strip())


class OneTopicOnly(Rewriting):
    """Lists an event under its first topic only."""

    def rewritten(self, publication):
        return replace(publication, topics=publication.topics[:1])


# -- brokers that get the history wrong -------------------------------------------------------------------------


class TopicByTopic(SharedBroker):
    """Pages one topic after the other, not merged by offset (W7)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        read = super().history
        pages = [await read(TopicSet.of(name), after, upto, limit=limit, since=since) for name in topics.names]
        entries = sorted({e.offset: e for page in pages for e in page.entries}.values(), key=lambda e: e.offset)
        more = any(page.more for page in pages) or len(entries) > limit
        end = entries[:limit][-1].offset if len(entries) > limit else max(page.upto for page in pages)
        return Page(entries[:limit], end, more, max(page.lost for page in pages))


class TornSnapshot(SharedBroker):
    """Reads one topic a moment after the other (W7)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        entries: dict[int, Entry] = {}
        for name in topics.names:
            page = await super().history(TopicSet.of(name), after, upto, limit=1_000, since=since)
            entries |= {entry.offset: entry for entry in page.entries}
            await asyncio.sleep(0)
        end = self.shared.log.head if upto is None else upto
        found = [entries[o] for o in sorted(entries) if o <= end]
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1].offset, True)
        return replace(page, entries=found, upto=max(end, after), more=False)


class IgnoresUpto(SharedBroker):
    """Reads to the head, whatever was asked."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, None, limit=limit, since=since)
        return replace(page, upto=max(page.upto, upto or 0))


class Globs(SharedBroker):
    """Takes topics for shell patterns, and lower and upper case for the same."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(TopicSet.of("**"), after, upto, limit=1_000, since=since)
        names = [name.lower().replace("**", "*") for name in topics.names]
        found = [e for e in page.entries if any(fnmatch(t.lower(), name) for t in e.topics for name in names)]
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1].offset, True, page.lost)
        return replace(page, entries=found)


class ListsTwice(SharedBroker):
    """Gives an event once for each topic that is read (W27)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        return replace(page, entries=[e for entry in page.entries for e in [entry] * len(entry.topics)])


class KeepsTheExpired(Rewriting):
    """Does not look at times to live."""

    def rewritten(self, publication):
        return replace(publication, ttl=None)


class MissesTheExpired(SharedBroker):
    """Takes what expired for lost."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        log = self.shared.log
        expired = [e.offset for e in log._entries if e.expires_at and e.expires_at <= log.now()]
        return replace(page, lost=max([page.lost, *(o for o in expired if o > after)]))


class Afraid(SharedBroker):
    """Says that something is lost whenever it finds nothing."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        return page if page.entries else replace(page, lost=after + 1)


# -- brokers that get retention wrong ---------------------------------------------------------------------------


class LosesSilently(SharedBroker):
    """Never says that something is lost."""

    async def history(self, topics, after, upto=None, *, limit, since):
        return replace(await super().history(topics, after, upto, limit=limit, since=since), lost=0)


class OneFloorForAll(SharedBroker):
    """Says to all that they lost what one topic lost (W25)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        page = await super().history(topics, after, upto, limit=limit, since=since)
        lost = max((offset for offset, _ in self.shared.log._trimmed.values()), default=0)
        return replace(page, lost=lost if lost > after else 0)


class IgnoresSince(SharedBroker):
    """Speaks of losses before somebody was allowed to read (W21)."""

    async def history(self, topics, after, upto=None, *, limit, since):
        return await super().history(topics, after, upto, limit=limit, since={})


class MissesWhatHadExpired(SharedBroker):
    """Takes for lost what had expired before it was trimmed (W25)."""

    async def publish(self, publications):
        log = self.shared.log
        log._entries = [replace(entry, expires_at=None) for entry in log._entries]
        for topic in {topic for entry in log._entries for topic in entry.topics}:
            log._by_topic[topic] = [entry for entry in log._entries[log._start :] if topic in entry.topics]
        return await super().publish(publications)


class KeepsTooMuch(SharedBroker):
    """Trims nothing."""

    async def publish(self, publications):
        self.shared.log._retention = Retention(count=10**9, age=1e9, size=10**12)
        return await super().publish(publications)


class KeepsTooLittle(SharedBroker):
    """Trims earlier than it was told."""

    async def publish(self, publications):
        self.shared.log._retention = Retention(count=5, age=0.5, size=5_000)
        return await super().publish(publications)


class LosesOneTopicOnly(SharedBroker):
    """Remembers a trimmed event under its first topic only."""

    async def history(self, topics, after, upto=None, *, limit, since):
        log = self.shared.log
        offsets = {offset for offset, _ in log._trimmed.values()}
        first = {min(t for t, record in log._trimmed.items() if record[0] == offset) for offset in offsets}
        log._trimmed = {topic: record for topic, record in log._trimmed.items() if topic in first}
        return await super().history(topics, after, upto, limit=limit, since=since)


class StartsOver(SharedLog):
    """Counts offsets from what is left in the log (W10)."""

    async def restart(self):
        await super().restart()
        self.log._trim(self.log.now())
        self.log._head = max((entry.offset for entry in self.log._entries[self.log._start :]), default=0)


class ForgetsLosses(SharedLog):
    """Does not know after a restart what it had trimmed."""

    async def restart(self):
        await super().restart()
        self.log._trimmed = {}


class ForgetsEvents(SharedLog):
    """Has lost its newest events after a restart."""

    async def restart(self):
        await super().restart()
        for index in (self.log._entries, *self.log._by_topic.values()):
            del index[-5:]


class ForgetsEpochs(SharedLog):
    """Knows no epoch but its own."""

    async def restart(self):
        await super().restart()
        self.log._lineage = Lineage(self.log.lineage.epoch)


class OneEpochForEver(SharedLog):
    """Takes every epoch for one that it continues, up to any offset."""

    async def restart(self):
        await super().restart()
        older = ((epoch, 10**9) for epoch, _ in self.log.lineage.older)
        self.log._lineage = Lineage(self.log.lineage.epoch, tuple(older))


class EpochPerHub(SharedBroker):
    """Every hub is an epoch of its own."""

    @property
    def lineage(self):
        return replace(super().lineage, epoch=f"{id(self) % 10**8:08}")


class KeepsCanaries(Rewriting):
    """Takes a canary for an ordinary event."""

    def rewritten(self, publication):
        topics = tuple(topic.replace(CANARY_ROOT, "$sseal/other") for topic in publication.topics)
        return replace(publication, topics=topics)

    def hand_out(self, entries, last):
        back = [replace(e, topics=tuple(t.replace("$sseal/other", CANARY_ROOT) for t in e.topics)) for e in entries]
        super().hand_out(back, last)

    async def listen(self, names):
        return await super().listen([name.replace(CANARY_ROOT, "$sseal/other") for name in names])


BROKER_FAULTS: dict[type[SharedBroker] | type[SharedLog], tuple[str, ...]] = {
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
    SaysTurned: ("an_epoch_change_is_told_only_when_there_is_one",),
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
    EpochPerHub: ("an_epoch_change_is_told_only_when_there_is_one", "hubs_agree_about_the_epoch"),
    KeepsCanaries: ("canaries_are_delivered_and_leave_nothing_behind",),
}
