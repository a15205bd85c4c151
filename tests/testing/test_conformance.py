"""The conformance suite finds what it is there to find: each check fails on an engine that breaks its promise."""

from __future__ import annotations

import pytest

from engines import SharedFixture
from faulty_brokers import BROKER_FAULTS, MixesUpOffsets
from faulty_stores import STORE_FAULTS
from shared_memory import SharedBroker, SharedLog, SharedStore
from sseal.errors import Conflict, Unavailable
from sseal.storage import Retention
from sseal.testing import BROKER_CHECKS, STORE_CHECKS, Check, ConformanceError
from sseal.testing.conformance import fixture

Fault = type[SharedBroker] | type[SharedLog] | type[SharedStore] | type[SharedFixture]


def faulty(fault: Fault, retention: Retention) -> SharedFixture:
    """Return a fixture with a fault."""
    if issubclass(fault, SharedFixture):
        return fault(retention)
    if issubclass(fault, SharedBroker):
        return SharedFixture(retention, hub=fault)
    if issubclass(fault, SharedStore):
        return SharedFixture(retention, node=fault)
    fixture = SharedFixture(retention)
    fixture.shared = fault(fixture.clock, retention)
    return fixture


ALL = {**BROKER_CHECKS, **STORE_CHECKS}
PAIRS = [(fault, name) for fault, names in {**BROKER_FAULTS, **STORE_FAULTS}.items() for name in names]


@pytest.mark.parametrize(("fault", "name"), PAIRS, ids=lambda part: part if isinstance(part, str) else part.__name__)
async def test_a_fault_is_found(fault: Fault, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that breaks a promise fails the check of this promise, and says so as an error of its own."""
    monkeypatch.setattr(fixture, "EVENTUALLY_TIMEOUT", 0.1)
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
