"""Accounts: names and passwords in a file."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from sseal.auth.identity import Grants
from sseal.errors import (
    CredentialInvalid,
    InvalidInput,
    NotFound,
    SsealError,
    TooManyRequests,
    Unavailable,
)
from sseal.identity_sources.accounts import MAX_WAITING, THREADS, Account, Accounts

QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
PASSWORD = "correct horse"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite3"


@pytest.fixture
def accounts(path: Path) -> Iterator[Accounts]:
    opened = Accounts(path, hasher=QUICK)
    yield opened
    opened.close()


async def refused(accounts: Accounts, username: Any, password: Any) -> str:
    with pytest.raises(CredentialInvalid) as caught:
        await accounts.verify(username, password)
    assert caught.value.auth_method == "password"
    return caught.value.reason


def stored_hash(path: Path, username: str) -> str:
    database = sqlite3.connect(path)
    try:
        (digest,) = database.execute("SELECT hash FROM account WHERE username = ?", (username,)).fetchone()
        return str(digest)
    finally:
        database.close()


def write(path: Path, statement: str, *values: object) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute(statement, values)
    finally:
        database.close()


class SlowHasher(PasswordHasher):
    """Waits for the test before it compares, and counts how many do at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=64, parallelism=1)
        self.go = threading.Event()
        self.lock = threading.Lock()
        self.now = self.most = self.compared = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        with self.lock:
            self.now += 1
            self.compared += 1
            self.most = max(self.most, self.now)
        self.go.wait()
        with self.lock:
            self.now -= 1
        return super().verify(hash, password)


async def test_the_right_password_returns_the_account(accounts: Accounts) -> None:
    """Name and grants come back as they were added; another password, case or name is refused."""
    grants = Grants(subscribe=("news/**", "user/{sub}"), publish=("chat/*",), admin=True)
    accounts.add("alice", PASSWORD, grants=grants)
    assert await accounts.verify("alice", PASSWORD) == Account(username="alice", grants=grants)
    assert await refused(accounts, "alice", "wrong horse") == "wrong password"
    assert await refused(accounts, "alice", "") == "wrong password"
    assert await refused(accounts, "Alice", PASSWORD) == "unknown name"


async def test_no_password_fits_an_unknown_name(path: Path) -> None:
    """What an unknown name is compared with takes one comparison, like a known one, and never lets in."""

    class Open(SlowHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Any:
            self.compared += 1
            return True

    hasher = Open()
    accounts = Accounts(path, hasher=hasher)
    assert await refused(accounts, "nobody", PASSWORD) == "unknown name"
    assert hasher.compared == 1
    accounts.close()


async def test_an_unknown_name_takes_as_long_as_a_wrong_password(path: Path) -> None:
    """Nobody can list the accounts with a clock."""
    accounts = Accounts(path, hasher=PasswordHasher(time_cost=2, memory_cost=16384, parallelism=1))
    accounts.add("alice", PASSWORD)
    best = {"alice": math.inf, "nobody": math.inf}
    for turn in range(200):  # in turns, and until both were left in peace once: the machine may have other work
        for username in best:
            start = time.perf_counter()
            await refused(accounts, username, "wrong horse")
            if turn:
                best[username] = min(best[username], time.perf_counter() - start)
        if turn >= 7 and 0.5 < best["nobody"] / best["alice"] < 2:
            break
    assert 0.5 < best["nobody"] / best["alice"] < 2
    accounts.close()


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (None, PASSWORD),
        ("alice", None),
        (["alice"], PASSWORD),
        ("alice", {"$ne": ""}),
        ("alice", "x" * 1025),
        ("x" * 129, PASSWORD),
        ("\ud800", PASSWORD),
        ("alice", "\ud800" * 8),
        ("", ""),
        ("alice' OR 1=1 --", PASSWORD),
        ("alice\0", PASSWORD),
    ],
)
async def test_what_is_no_name_and_password_is_refused(accounts: Accounts, username: object, password: object) -> None:
    """Other types, lengths and characters are wrong like any other guess, not an error of the server."""
    accounts.add("alice", PASSWORD)
    await refused(accounts, username, password)


async def test_a_password_is_the_same_from_every_keyboard(accounts: Accounts) -> None:
    """Composed and decomposed characters are the same password."""
    accounts.add("zoe", "cre\u0300me br\u00fbl\u00e9e")
    assert (await accounts.verify("zoe", "cr\u00e8me bru\u0302le\u0301e")).username == "zoe"


@pytest.mark.parametrize("username", ["", " alice", "alice ", "a\nb", "a\0b", "\ud800", "x" * 129, "*" * 100, None, 7])
def test_a_name_that_could_not_be_shown_is_refused(accounts: Accounts, username: Any) -> None:
    """A name has 1 to 128 printable characters and fits into its own topic."""
    calls: list[Callable[[], None]] = [
        lambda: accounts.add(username, PASSWORD),
        lambda: accounts.set_password(username, PASSWORD),
        lambda: accounts.remove(username),
    ]
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == "username"


async def test_unusual_names_are_names(accounts: Accounts) -> None:
    """Slashes, stars, spaces inside and any script are fine, for they are quoted where they matter."""
    for name in ("*", "a/b", "Zoë Müller", "{sub}", "x" * 128, "名前"):
        accounts.add(name, PASSWORD)
        assert (await accounts.verify(name, PASSWORD)).username == name


@pytest.mark.parametrize("password", ["", "seven77", "x" * 1025, "\ud800" * 8, None, 12345678])
def test_a_password_of_the_wrong_length_is_refused(accounts: Accounts, password: Any) -> None:
    """A password has 8 to 1024 characters, and the error does not repeat it."""
    for call in (accounts.add, accounts.set_password):
        with pytest.raises(InvalidInput) as caught:
            call("alice", password)
        assert caught.value.field == "password"
        assert not password or str(password) not in str(caught.value)
    assert accounts.names() == []


async def test_accounts_are_added_changed_and_removed(accounts: Accounts) -> None:
    """A taken name is refused unless an update was asked for; what is gone cannot log in."""
    accounts.add("bob", PASSWORD, grants=Grants(admin=True))
    accounts.add("alice", PASSWORD)
    assert accounts.names() == ["alice", "bob"]
    with pytest.raises(InvalidInput, match="exists already"):
        accounts.add("bob", "another horse")
    accounts.set_password("bob", "another horse")
    assert (await accounts.verify("bob", "another horse")).grants.admin
    accounts.add("bob", "third horse", update=True)
    assert not (await accounts.verify("bob", "third horse")).grants.admin
    accounts.remove("bob")
    assert await refused(accounts, "bob", "third horse") == "unknown name"
    with pytest.raises(NotFound, match="bob"):
        accounts.remove("bob")
    with pytest.raises(NotFound, match="bob"):
        accounts.set_password("bob", PASSWORD)
    accounts.add("bob", PASSWORD, update=True)
    assert accounts.names() == ["alice", "bob"]


async def test_processes_share_the_file(accounts: Accounts, path: Path) -> None:
    """What one process adds, another one sees at once."""
    other = Accounts(str(path), hasher=QUICK)
    accounts.add("alice", PASSWORD)
    assert (await other.verify("alice", PASSWORD)).username == "alice"
    other.remove("alice")
    assert accounts.names() == []
    other.close()


async def test_a_hash_of_other_parameters_is_renewed(accounts: Accounts, path: Path) -> None:
    """The login of its owner brings a hash up to date; a wrong password does not."""
    accounts.add("alice", PASSWORD)
    stronger = Accounts(path, hasher=PasswordHasher(time_cost=2, memory_cost=128, parallelism=1))
    before = stored_hash(path, "alice")
    await refused(stronger, "alice", "wrong horse")
    assert stored_hash(path, "alice") == before
    await stronger.verify("alice", PASSWORD)
    after = stored_hash(path, "alice")
    assert "m=128,t=2" in after
    await stronger.verify("alice", PASSWORD)
    assert stored_hash(path, "alice") == after
    stronger.close()


async def test_a_hash_that_cannot_be_renewed_still_lets_in(
    accounts: Accounts, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A right password counts even if the new hash cannot be written."""
    accounts.add("alice", PASSWORD)
    write(path, "CREATE TRIGGER no BEFORE UPDATE ON account BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    stronger = Accounts(path, hasher=PasswordHasher(time_cost=2, memory_cost=128, parallelism=1))
    assert (await stronger.verify("alice", PASSWORD)).username == "alice"
    assert "disk is full" in caplog.text
    stronger.close()


async def test_two_at_once_and_a_bounded_queue(path: Path, time_unit: float) -> None:
    """Two passwords are hashed at a time, so many wait, the next is told to come back; then all is as before."""
    hasher = SlowHasher()
    accounts = Accounts(path, hasher=hasher)
    accounts.add("alice", PASSWORD)
    callers = [asyncio.create_task(accounts.verify("alice", PASSWORD)) for _ in range(THREADS + MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as caught:
        await accounts.verify("alice", PASSWORD)
    assert caught.value.retry_after > 0
    callers[-1].cancel()
    await asyncio.sleep(0)
    late = asyncio.create_task(accounts.verify("alice", PASSWORD))
    async with asyncio.timeout(100 * time_unit):
        while hasher.now < THREADS:
            await asyncio.sleep(time_unit / 100)
    hasher.go.set()
    results = await asyncio.gather(*callers, late, return_exceptions=True)
    assert isinstance(results[-2], asyncio.CancelledError)
    assert [account.username for account in results[:-2] + results[-1:] if isinstance(account, Account)] == [
        "alice"
    ] * 34
    assert hasher.most == THREADS
    assert (await accounts.verify("alice", PASSWORD)).username == "alice"
    accounts.close()


async def test_close_refuses_who_waits(path: Path, time_unit: float) -> None:
    """Logins that were not begun end as a 503, not as a cancelled request, and `close` may be called twice."""
    hasher = SlowHasher()
    accounts = Accounts(path, hasher=hasher)
    accounts.add("alice", PASSWORD)
    callers = [asyncio.create_task(accounts.verify("alice", PASSWORD)) for _ in range(THREADS + 3)]
    async with asyncio.timeout(100 * time_unit):
        while hasher.now < THREADS:
            await asyncio.sleep(time_unit / 100)
    accounts.close()
    accounts.close()
    hasher.go.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [Account] * THREADS + [Unavailable] * 3


async def test_a_pool_that_cannot_start_keeps_no_place(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that could not be started leaves the queue as long as it was."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    accounts.add("alice", PASSWORD)
    with monkeypatch.context() as patch:
        patch.setattr("sseal.identity_sources.accounts.ThreadPoolExecutor", fail)
        for _ in range(THREADS + MAX_WAITING + 1):
            with pytest.raises(RuntimeError):
                await accounts.verify("alice", PASSWORD)
    assert (await accounts.verify("alice", PASSWORD)).username == "alice"


def test_only_the_owner_can_read_the_file(path: Path) -> None:
    """The file, its journal and its index are created with mode 0600 whatever the umask."""
    before = os.umask(0)
    try:
        accounts = Accounts(path, hasher=QUICK)
        reader = sqlite3.connect(path)
        reader.execute("SELECT * FROM account").fetchall()
        accounts.add("alice", PASSWORD)
        modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.iterdir()}
        reader.close()
        accounts.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    """A missing directory, a directory, another program's file or table: the error names the file and what to do."""
    text = tmp_path / "notes.txt"
    text.write_text("not a database, " * 100)
    foreign = tmp_path / "foreign.sqlite3"
    write(foreign, "CREATE TABLE account (id INTEGER)")
    for bad in (tmp_path / "missing" / "accounts.sqlite3", tmp_path, text, foreign):
        with pytest.raises(SsealError, match="make it and its directory writable") as caught:
            Accounts(bad, hasher=QUICK)
        assert str(bad) in caught.value.detail
    assert text.read_text().startswith("not a database")


async def test_a_file_that_breaks_later_is_a_503(
    accounts: Accounts, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever logs in learns only that it is not their fault; the log learns the file and the reason."""
    accounts.add("alice", PASSWORD)
    breakage = {
        "grants": "UPDATE account SET grants = '[]'",
        "cannot be read": "UPDATE account SET grants = '{}', hash = 'plain text'",
        "no such table": "DROP TABLE account",
    }
    for reason, statement in breakage.items():
        caplog.clear()
        write(path, statement)
        with pytest.raises(Unavailable) as caught:
            await accounts.verify("alice", PASSWORD)
        assert str(path) not in caught.value.detail
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert str(path) in record.getMessage()
        assert reason in record.getMessage()
    for call in (accounts.names, lambda: accounts.add("bob", PASSWORD), lambda: accounts.remove("alice")):
        with pytest.raises(SsealError, match="no such table"):
            call()


def test_a_file_that_vanished_is_not_made_anew(accounts: Accounts, path: Path) -> None:
    """Accounts that were deleted under a running server are missed, not replaced by none."""
    path.unlink()
    with pytest.raises(SsealError, match="unable to open"):
        accounts.names()
    assert not path.exists()
