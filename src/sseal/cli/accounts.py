"""``sseal user``: the hub's own accounts."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..auth.identity import Grants
from ..errors import InvalidInput, NotFound
from ..identity_sources.accounts import Accounts
from ..settings import load
from .lazy import CONTEXT, MARKUP
from .output import AsJson, hint, say, say_json

__all__ = ["app"]

app = typer.Typer(
    help="Add, remove and list the hub's own accounts.",
    epilog="Passwords are asked for on a terminal, else read as one line from stdin; they are never arguments.",
    context_settings=CONTEXT,
    rich_markup_mode=MARKUP,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the account, also its subject.", show_default=False)]
File = Annotated[
    str | None,
    typer.Option(
        "--accounts", help="The file of accounts.", metavar="FILE", show_default="the setting accounts: SSEAL_ACCOUNTS"
    ),
]
Subscribe = Annotated[
    list[str] | None,
    typer.Option(help="A topic or pattern it may read; repeatable.", metavar="PATTERN", show_default=False),
]
Publish = Annotated[
    list[str] | None,
    typer.Option(help="A topic or pattern it may publish to; repeatable.", metavar="PATTERN", show_default=False),
]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command()
def add(
    name: Name,
    accounts: File = None,
    subscribe: Subscribe = None,
    publish: Publish = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may administer the hub.")] = False,
) -> None:
    """Add an account. Its own topic user/NAME needs no --subscribe."""
    book = _open(accounts)
    if name in book.names():
        raise InvalidInput("NAME", f"{name!r} exists already; `sseal user password` changes its password")
    grants = Grants(subscribe=tuple(subscribe or ()), publish=tuple(publish or ()), admin=admin)
    book.add(name, _password(), grants=grants)
    hint(f"added {name}")


@app.command()
def password(name: Name, accounts: File = None) -> None:
    """Give an account another password."""
    book = _open(accounts)
    _expect(book, name)
    book.set_password(name, _password())
    hint(f"changed the password of {name}; its sessions open nothing more, open streams go on until they end")


@app.command()
def remove(name: Name, accounts: File = None) -> None:
    """Remove an account."""
    book = _open(accounts)
    _expect(book, name)
    book.remove(name)
    hint(f"removed {name}; its sessions open nothing more, open streams go on until they end or are revoked")


@app.command("list")
def list_names(accounts: File = None, as_json: AsJson = False) -> None:
    """Print the names, one a line."""
    for name in _open(accounts, create=False).names():
        if as_json:
            say_json(name=name)
        else:
            say(name)


def _open(given: str | None, *, create: bool = True) -> Accounts:
    path = given or load().hub().accounts
    if path is None:
        raise InvalidInput("accounts", "which file? Add --accounts accounts.db, or set SSEAL_ACCOUNTS=accounts.db")
    if not create and not Path(path).exists():
        raise NotFound(f"{path}: there is no such file; `sseal user add NAME` makes it")
    return Accounts(path)


def _expect(book: Accounts, name: str) -> None:
    if name not in book.names():
        raise NotFound(f"there is no account {name!r}; `sseal user list` shows those there are")


def _password() -> str:
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise InvalidInput("password", "there was none on stdin")
        return line.removesuffix("\n").removesuffix("\r")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != first:
        raise InvalidInput("password", "the two differ; nothing was changed")
    return first
