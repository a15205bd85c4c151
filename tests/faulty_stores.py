"""Stores with one fault each, and the checks that have to find it."""

from __future__ import annotations

import asyncio

from engines import SharedFixture
from shared_memory import SharedStore


class TakesInTwoSteps(SharedStore):
    """Reads, waits, deletes."""

    async def take(self, key):
        value = await self.get(key)
        await asyncio.sleep(0)
        await self.records.take(key)
        return value


class SwapsInTwoSteps(SharedStore):
    """Compares, waits, writes."""

    async def swap(self, key, old, new, expires_at):
        if await self.get(key) != old:
            return False
        await asyncio.sleep(0)
        return await self.records.swap(key, self.records._read(key), new, expires_at)


class SwapsBlindly(SharedStore):
    """Writes without comparing."""

    async def swap(self, key, old, new, expires_at):
        return await self.records.swap(key, self.records._read(key), new, expires_at)


class EmptyIsAbsent(SharedStore):
    """Takes the empty value for no value."""

    async def get(self, key):
        return await super().get(key) or None

    async def swap(self, key, old, new, expires_at):
        return await self.records.swap(key, old or self.records._read(key) or None, new, expires_at)


class TextOnly(SharedStore):
    """Stores values as text."""

    async def put(self, key, value, expires_at):
        await super().put(key, value.decode(errors="replace").encode(), expires_at)


class SmallLetters(SharedStore):
    """Does not tell keys apart that a database finds equal."""

    async def put(self, key, value, expires_at):
        await super().put(key.lower().strip()[:200], value, expires_at)

    async def get(self, key):
        return await super().get(key.lower().strip()[:200])


class KeepsForEver(SharedStore):
    """Does not look at the end of records."""

    async def put(self, key, value, expires_at):
        await super().put(key, value, expires_at + 1e9)

    async def swap(self, key, old, new, expires_at):
        return await super().swap(key, old, new, expires_at + 1e9)

    async def revoke(self, record, expires_at):
        return await super().revoke(record, expires_at + 1e9)


class FirstEndStays(SharedStore):
    """Writing again does not change when a record ends."""

    async def put(self, key, value, expires_at):
        known = self.records._records.get(key)
        await super().put(key, value, expires_at if known is None else known[1])


class CountsByItself(SharedStore):
    """Counts per node."""

    async def count(self, key, seconds, by=1):
        return await super().count(f"{id(self)}/{key}", seconds, by)


class CountsInTwoSteps(SharedStore):
    """Reads a count, waits, writes it."""

    async def count(self, key, seconds, by=1):
        known = self.records._records.get(f"count/{key}")
        await asyncio.sleep(0)
        await self.records.count(key, seconds, by)
        return 1 if known is None else int(known[0]) + 1


class CountsForEver(SharedStore):
    """A count never starts anew."""

    async def count(self, key, seconds, by=1):
        return await super().count(key, 1e9, by)


class CountsSinceTheLast(SharedStore):
    """Every count prolongs the time of all."""

    async def count(self, key, seconds, by=1):
        number = await super().count(key, seconds, by)
        value, _ = self.records._records[f"count/{key}"]
        self.records._records[f"count/{key}"] = (value, self.records._clock.wall() + seconds)
        return number


class CountsAreRecords(SharedStore):
    """A count and a record of one name are the same."""

    async def count(self, key, seconds, by=1):
        number = await super().count(key, seconds, by)
        await self.records.put(key, b"%d" % number, self.records._clock.wall() + seconds)
        return number


class CountsByOne(SharedStore):
    """Does not look at the amount."""

    async def count(self, key, seconds, by=1):
        return await super().count(key, seconds)


class EntersByItself(SharedStore):
    """Keeps its sets from other owners."""

    async def enter(self, owner, changes):
        counts = await super().enter(owner, {(f"{owner}/{name}", key): value for (name, key), value in changes.items()})
        return {name.removeprefix(f"{owner}/"): number for name, number in counts.items()}


class EntersSmallLetters(SharedStore):
    """Does not tell sets apart that a database finds equal."""

    async def enter(self, owner, changes):
        small = {(name.lower().strip(), key): value for (name, key), value in changes.items()}
        counts = await super().enter(owner, small)
        return {name: counts[name.lower().strip()] for name, _ in changes}


class EntersWithoutLease(SharedStore):
    """Lets everybody put in."""

    async def enter(self, owner, changes):
        if not self.records._leases._holds(owner, self.records._clock.wall()):
            await self.renew(owner, 60.0)
        return await super().enter(owner, changes)


class EntersInTwoSteps(SharedStore):
    """Puts in, waits, counts."""

    async def enter(self, owner, changes):
        counts = await super().enter(owner, changes)
        await asyncio.sleep(0)
        return {name: len(entries) for name, entries in (await self.held(list(counts))).items()}


class LeasesForEver(SharedStore):
    """A crash frees nothing."""

    async def renew(self, owner, seconds):
        return await super().renew(owner, 1e9)


class LeasesByTheClock(SharedStore):
    """A lease lapses while nobody can renew it."""

    async def renew(self, owner, seconds):
        self._lapse()
        return await super().renew(owner, seconds)

    async def held(self, sets):
        self._lapse()
        return await super().held(sets)

    def _lapse(self):
        now = self.records._clock.wall()
        for owner, (end, _) in list(self.records._leases._ends.items()):
            if end <= now:
                self.records._leases.release(owner)


class ReleasesTheLeaseOnly(SharedStore):
    """What a lease held comes back with it."""

    async def release(self, owner):
        self.records._leases._ends.pop(owner, None)


class ForgetsLeases(SharedFixture):
    """Leases do not outlive a restart."""

    async def restart(self):
        await super().restart()
        for owner in list(self.records._leases._ends):
            self.records._leases.release(owner)


class DropsOnClose(SharedStore):
    """Closing takes the records along."""

    async def close(self):
        await super().close()
        self.records._records.clear()


class ForgetsRecords(SharedFixture):
    """Records do not outlive a restart."""

    async def restart(self):
        await super().restart()
        self.records._records.clear()


class ForgetsRevocations(SharedFixture):
    """The revocation log does not outlive a restart."""

    async def restart(self):
        await super().restart()
        self.records._log, self.records._last = [], 0


class NumbersByTheRest(SharedStore):
    """Numbers a revocation by how many are in force."""

    async def revoke(self, record, expires_at):
        self.records._last = len(await self.records.revocations(0))
        return await super().revoke(record, expires_at)


class NumbersInTwoSteps(SharedStore):
    """Two who revoke at once get one number."""

    async def revoke(self, record, expires_at):
        last = self.records._last
        await super().revoke(record, expires_at)
        return last + 1


class SignalsItself(SharedStore):
    """Tells of a revocation only the node that made it."""

    async def revoke(self, record, expires_at):
        number = await self.records.revoke(record, expires_at)
        self.records.heard[self.name].on_revocations()
        return number


class ReadsAll(SharedStore):
    """Gives the whole revocation log every time."""

    async def revocations(self, after):
        return await super().revocations(0)


class ReadsBackwards(SharedStore):
    """Gives the newest revocation first."""

    async def revocations(self, after):
        return (await super().revocations(after))[::-1]


class ReadsNothingBeyond(SharedStore):
    """Does not notice that the log began anew."""

    async def revocations(self, after):
        known = await self.records.revocations(0)
        return [entry for entry in known if entry[0] > after]


class StaysKnown(SharedStore):
    """Is a node for ever."""

    async def close(self):
        pass


class KnowsItself(SharedStore):
    """Knows no other node."""

    async def nodes(self):
        return [self.name]


class MailsTwice(SharedStore):
    """Delivers a message again."""

    async def send(self, node, body):
        await super().send(node, body)
        return await super().send(node, body)


class MailsToAll(SharedStore):
    """Delivers a message to everybody."""

    async def send(self, node, body):
        known = node in self.records.heard
        for name in self.records.heard:
            await super().send(name, body)
        return known


class MailsNotFar(SharedStore):
    """Reaches itself only."""

    async def send(self, node, body):
        return await super().send(self.name, body)


class MailsAnywhere(SharedStore):
    """Says that it reached a node that is not there."""

    async def send(self, node, body):
        await super().send(node, body)
        return True


class KeepsMail(SharedStore):
    """Gives a node what was sent to it before it came."""

    async def open(self, node, heard):
        await super().open(node, heard)
        for body in self.records.__dict__.pop(f"kept-{node}", ()):
            heard.on_message(body)

    async def send(self, node, body):
        if node not in self.records.heard:
            self.records.__dict__.setdefault(f"kept-{node}", []).append(body)
        return await super().send(node, body)


class BroadcastsToOne(SharedStore):
    """Tells one other node what all are to hear."""

    async def broadcast(self, body):
        others = [name for name in self.records.heard if name != self.name]
        await self.send(others[0], body)


STORE_FAULTS: dict[type[SharedStore] | type[SharedFixture], tuple[str, ...]] = {
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
    CountsByOne: ("counts_go_by_any_amount",),
    EntersByItself: ("entries_of_all_owners_are_counted", "entering_and_counting_are_one_step"),
    EntersSmallLetters: ("names_of_sets_owners_and_ids_mean_themselves",),
    EntersWithoutLease: ("entries_need_a_lease", "a_crash_frees_what_its_lease_held"),
    EntersInTwoSteps: ("entering_and_counting_are_one_step",),
    LeasesForEver: ("a_crash_frees_what_its_lease_held",),
    LeasesByTheClock: ("time_without_the_store_does_not_count",),
    ReleasesTheLeaseOnly: ("what_is_released_is_free_at_once",),
    ForgetsLeases: ("leases_outlive_a_restart",),
    DropsOnClose: ("closing_may_be_repeated",),
    ForgetsRecords: ("records_outlive_a_restart",),
    ForgetsRevocations: ("revocations_outlive_a_restart",),
    NumbersByTheRest: ("what_is_in_force_no_more_is_left_out", "revocations_outlive_a_restart"),
    NumbersInTwoSteps: ("revocations_at_once_are_all_kept",),
    SignalsItself: ("every_node_hears_of_a_revocation",),
    ReadsAll: ("revocations_are_numbered_in_order", "a_node_that_reads_on_misses_none"),
    ReadsBackwards: ("revocations_are_numbered_in_order",),
    ReadsNothingBeyond: ("who_knows_more_than_the_log_is_given_all",),
    StaysKnown: ("nodes_know_each_other", "a_message_to_nobody_is_told"),
    KnowsItself: ("nodes_know_each_other",),
    MailsTwice: ("a_message_reaches_its_node_once",),
    MailsToAll: ("a_message_reaches_its_node_once",),
    MailsNotFar: ("a_message_reaches_its_node_once",),
    MailsAnywhere: ("a_message_to_nobody_is_told",),
    BroadcastsToOne: ("a_broadcast_reaches_all_others",),
    KeepsMail: ("a_node_that_comes_back_gets_only_new_messages",),
}
