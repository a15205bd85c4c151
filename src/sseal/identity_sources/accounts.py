"""sseal's own accounts: names, Argon2 hashes and grants in a SQLite file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import secrets
import sqlite3
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from ..auth.identity import ISSUER, Grants
from ..errors import (
    CredentialInvalid,
    InvalidInput,
    NotFound,
    SsealError,
    TooManyRequests,
    Unavailable,
)
from ..topics import MAX_TOPIC_LENGTH, user_topic

__all__ = ["ISSUER", "MAX_PASSWORD", "MAX_USERNAME", "MAX_WAITING", "MIN_PASSWORD", "THREADS", "Account", "Accounts"]

MAX_USERNAME: Final = 128
"""Characters of a name: any e-mail address in use fits, and so does the name in its topic."""
MIN_PASSWORD: Final = 8
"""Characters of a password, the least NIST SP 800-63B allows."""
MAX_PASSWORD: Final = 1024
"""Characters of a password: no pass phrase is longer, and hashing it stays a matter of memory, not of length."""
THREADS: Final = 2
"""Passwords hashed at the same time: each takes 64 MiB and several cores for some 50 ms."""
MAX_WAITING: Final = 32
"""Passwords waiting for a thread: with two threads less than two seconds of work."""

CACHE_TIMEOUT: Final = 1.0
"""Seconds an account that was looked up is believed: as long as a revocation may take (W17)."""
MAX_CACHED: Final = 10_000
"""Accounts remembered for that second."""

_BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that is writing."""

T = TypeVar("T")

logger = logging.getLogger("sseal.accounts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who logged in, and what they may do.

    ``generation`` names the password: it changes with it, and so ends the sessions that were opened before.
    """

    username: str
    grants: Grants
    generation: str = field(default="", compare=False)


class Accounts:
    """The accounts of one SQLite file, shared by any number of processes.

    Names are compared exactly, case included. A password is normalised to NFC first, so that it does not matter
    which keyboard wrote it (RFC 8265 section 4.2).

    :param path: the file; created readable by its owner only when it is missing.
    :param hasher: Argon2 parameters; the default of argon2-cffi is the second choice of RFC 9106. When they change,
        a hash is renewed at its owner's next login.
    :raises SsealError: the file cannot be used; says which, why and what to do.
    """

    threads = THREADS

    def __init__(self, path: str | os.PathLike[str], *, hasher: PasswordHasher | None = None) -> None:
        self._path = Path(path)
        self._hasher = hasher or PasswordHasher()
        # What an unknown name is checked against, so that it takes as long as a known one.
        self._nobody = self._hasher.hash(secrets.token_urlsafe())
        self._places = threading.BoundedSemaphore(THREADS + MAX_WAITING)  # passwords in work or waiting for a thread
        self._pool: ThreadPoolExecutor | None = None
        # Accounts looked up lately, by name: until when to believe it (in the loop's time), and what was found.
        self._cache: dict[str, tuple[float, Account | None]] = {}
        self._create()

    def add(self, username: str, password: str, *, grants: Grants | None = None, update: bool = False) -> None:
        """Add an account, or with ``update`` give an existing one this password and these grants.

        :raises InvalidInput: the name is taken, or name or password are not acceptable.
        :raises SsealError: the file cannot be written.
        """
        _check_username(username)
        record = (username, self._hash(password), json.dumps(asdict(grants or Grants())))
        insert = "INSERT INTO account (username, hash, grants) VALUES (?, ?, ?)"
        if update:
            insert += " ON CONFLICT (username) DO UPDATE SET hash = excluded.hash, grants = excluded.grants"
        with self._database() as database:
            try:
                database.execute(insert, record)
            except sqlite3.IntegrityError:
                raise InvalidInput("username", f"{username!r} exists already; update it or remove it first") from None

    def set_password(self, username: str, password: str) -> None:
        """Give an account another password.

        :raises NotFound: there is no such account.
        :raises InvalidInput: the password is not acceptable.
        """
        _check_username(username)
        digest = self._hash(password)
        with self._database() as database:
            changed = database.execute("UPDATE account SET hash = ? WHERE username = ?", (digest, username))
            _expect_one(changed, username)

    def remove(self, username: str) -> None:
        """Remove an account.

        :raises NotFound: there is no such account.
        """
        _check_username(username)
        with self._database() as database:
            _expect_one(database.execute("DELETE FROM account WHERE username = ?", (username,)), username)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        with self._database() as database:
            return [name for (name,) in database.execute("SELECT username FROM account ORDER BY username")]

    async def verify(self, username: str, password: str) -> Account:
        """Return the account if the password is right. An unknown name takes as long as a wrong password.

        :raises CredentialInvalid: name or password are wrong.
        :raises TooManyRequests: too many others are waiting to be checked.
        :raises Unavailable: the file cannot be read now; the log says why.
        """
        if not (isinstance(username, str) and isinstance(password, str)):
            raise CredentialInvalid("not a name and a password", auth_method="password")
        if len(username) > MAX_USERNAME or len(password) > MAX_PASSWORD:
            raise CredentialInvalid("longer than any name or password", auth_method="password")
        future = self._submit(username, password)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unavailable("accounts are being closed", code="accounts_unavailable") from None

    async def find(self, username: str) -> Account | None:
        """Return the account as it is now, or was within the last second; None if there is none.

        :raises Unavailable: the file cannot be read now; the log says why.
        """
        now = asyncio.get_running_loop().time()
        known = self._cache.get(username)
        if known is not None and known[0] > now:
            return known[1]
        account = await asyncio.to_thread(self._guarded, self._find, username)
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        self._cache[username] = (now + CACHE_TIMEOUT, account)
        return account

    def close(self) -> None:
        """Let go of the threads; whoever waits is refused. Idempotent."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _submit(self, username: str, password: str) -> Future[Account]:
        if not self._places.acquire(blocking=False):
            raise TooManyRequests("too many logins at once", retry_after=2.0)
        try:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sseal-accounts")
            future = self._pool.submit(self._verify, username, password)
        except BaseException:
            self._places.release()
            raise
        # A caller who gives up frees the place only once the work is done or was never begun.
        future.add_done_callback(lambda _: self._places.release())
        return future

    def _verify(self, username: str, password: str) -> Account:
        return self._guarded(self._compare, username, password)

    def _guarded(self, work: Callable[..., T], *arguments: str) -> T:
        try:
            return work(*arguments)
        except CredentialInvalid:
            raise
        except SsealError as error:
            # What is wrong with the file is for the log; whoever logs in learns only that it is not their fault.
            logger.error("an account could not be checked: %s", error.detail)  # noqa: TRY400 - it names its own cause
            raise Unavailable("accounts cannot be read now", code="accounts_unavailable") from None

    def _compare(self, username: str, password: str) -> Account:
        try:
            plain, name = _normal(password).encode(), username.encode().decode()
        except UnicodeEncodeError:
            raise CredentialInvalid("a lone surrogate in name or password", auth_method="password") from None
        with self._database() as database:
            row = database.execute("SELECT hash, grants FROM account WHERE username = ?", (name,)).fetchone()
        digest, stored = row or (self._nobody, "{}")
        right = self._matches(digest, plain)
        if row is None or not right:
            # The name goes into the log only if it is an account's: people type passwords into the wrong field.
            what, subject = ("unknown name", None) if row is None else ("wrong password", username)
            raise CredentialInvalid(what, auth_method="password", kind="unknown", subject=subject)
        grants = self._grants(stored)
        if self._hasher.check_needs_rehash(digest):
            digest = self._renew(name, digest, plain)
        return Account(username=name, grants=grants, generation=_generation(digest))

    def _find(self, username: str) -> Account | None:
        with self._database() as database:
            row = database.execute("SELECT hash, grants FROM account WHERE username = ?", (username,)).fetchone()
        if row is None:
            return None
        return Account(username=username, grants=self._grants(row[1]), generation=_generation(row[0]))

    def _matches(self, digest: str, plain: bytes) -> bool:
        try:
            return self._hasher.verify(digest, plain)
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError) as error:
            raise self._unusable(f"holds a password hash that cannot be read ({error})") from None

    def _grants(self, stored: str) -> Grants:
        try:
            value = json.loads(stored)
            return Grants(subscribe=tuple(value["subscribe"]), publish=tuple(value["publish"]), admin=value["admin"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._unusable(f"holds grants that cannot be read ({error!r})") from None

    def _renew(self, username: str, old: str, plain: bytes) -> str:
        """Replace a hash of other parameters, unless the password was changed meanwhile; return the one in force."""
        try:
            new = self._hasher.hash(plain)
            with self._database() as database:
                query = "UPDATE account SET hash = ? WHERE username = ? AND hash = ?"
                changed = database.execute(query, (new, username, old))
                return new if changed.rowcount else old
        except SsealError as error:
            logger.warning("a password hash could not be renewed: %s", error.detail)
            return old

    def _hash(self, password: str) -> str:
        if not isinstance(password, str) or not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InvalidInput("password", f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
        try:
            return self._hasher.hash(_normal(password).encode())
        except UnicodeEncodeError:
            raise InvalidInput("password", "holds a lone surrogate, which is not a character") from None

    def _create(self) -> None:
        try:
            # SQLite gives its -wal and -shm files the mode of the database.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise self._unusable(f"cannot be opened for writing ({error.strerror})") from None
        with self._database() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS account "
                "(username TEXT PRIMARY KEY, hash TEXT NOT NULL, grants TEXT NOT NULL) STRICT"
            )
            database.execute("SELECT username, hash, grants FROM account LIMIT 0")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one statement: logins are rare, and so threads and forks share nothing."""
        try:
            address = f"{self._path.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)) as database:
                yield database
        except sqlite3.Error as error:
            raise self._unusable(f"cannot be used as an accounts file ({error})") from None

    def _unusable(self, problem: str) -> SsealError:
        return SsealError(
            f"{self._path}: {problem}; make it and its directory writable for this user, restore it from a backup, "
            "or move it away and add the accounts again",
            code="accounts",
        )


def _generation(digest: str) -> str:
    return hashlib.sha256(digest.encode()).hexdigest()[:16]


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password)


def _check_username(username: str) -> None:
    if not isinstance(username, str) or not 1 <= len(username) <= MAX_USERNAME:
        raise InvalidInput("username", f"must have 1 to {MAX_USERNAME} characters")
    if not username.isprintable() or username != username.strip():
        raise InvalidInput("username", "must be printable, without a space at either end")
    if len(user_topic(username)) > MAX_TOPIC_LENGTH:
        raise InvalidInput("username", "has too many of the characters %, /, *, { and } to be part of a topic")


def _expect_one(cursor: sqlite3.Cursor, username: str) -> None:
    if cursor.rowcount != 1:
        raise NotFound(f"there is no account {username!r}")
