"""Commands from one hub to another, as messages through their store, and the answers (W42)."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from ..errors import CredentialExpired, CredentialInvalid, Forbidden, InvalidInput, NotFound, SsealError, Unavailable
from ..position import EPOCH_ALPHABET
from ..storage.store import Store

__all__ = ["Handler", "NodeRpc", "new_node_id"]

CALL_TIMEOUT: Final = 1.0
"""Seconds in which a node has to answer (W42)."""
MAX_OPEN: Final = 1_000
"""Commands under way at once, each way: a hub that cannot keep up refuses more."""

Handler = Callable[[Mapping[str, object]], Awaitable[object]]
"""Carries out one kind of command; what it returns, or the `SsealError` it raises, goes back to the asker."""

logger = logging.getLogger("sseal.cluster")


class _Fault(msgspec.Struct, frozen=True):
    kind: str
    detail: str
    code: str


class _Command(msgspec.Struct, frozen=True, tag=True):
    id: str
    sender: str
    verb: str
    args: dict[str, object]


class _Answer(msgspec.Struct, frozen=True, tag=True):
    id: str
    result: object = None
    fault: _Fault | None = None


def new_node_id() -> str:
    """Return a name for a node: eight characters, chosen at random."""
    return "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(8))


_decode = msgspec.json.Decoder(_Command | _Answer).decode


class NodeRpc:
    """All hubs on one store, seen from one of them.

    :param store: carries the messages.
    :param node_id: the name of this node.
    :ivar handlers: what this hub does on command, by verb.
    """

    def __init__(self, store: Store, node_id: str) -> None:
        self._store = store
        self.node_id = node_id
        self.handlers: dict[str, Handler] = {}
        self._asked: dict[str, asyncio.Future[_Answer]] = {}  # calls that wait for their answer, by their id
        self._tasks: set[asyncio.Task[None]] = set()  # commands that are carried out or sent

    def on_message(self, body: bytes) -> None:
        """Take a message from another hub; what is none is dropped with a word in the log."""
        try:
            message = _decode(body)
        except msgspec.DecodeError as error:
            logger.warning("a message that cannot be read: %s", error)
            return
        if isinstance(message, _Answer):
            future = self._asked.get(message.id)
            if future is not None and not future.done():
                future.set_result(message)
        elif len(self._tasks) < MAX_OPEN:
            self._spawn(self._handle(message))

    async def call(self, node: str, verb: str, **args: object) -> object:
        """Have a node do something, this one included; return its answer.

        :raises NotFound: there is no such node.
        :raises Unavailable: it did not answer within a second (code ``node_silent``).
        :raises SsealError: what it answered.
        """
        if node == self.node_id:
            return await self.handlers[verb](args)
        if len(self._asked) >= MAX_OPEN:
            raise Unavailable("too many commands to other hubs are under way", code="busy")
        command = _Command(secrets.token_hex(8), self.node_id, verb, args)
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._asked[command.id] = future
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                if not await self._store.send(node, msgspec.json.encode(command)):
                    raise NotFound("there is no such node")
                answer = await future
        except TimeoutError:
            raise Unavailable("the hub that holds the stream does not answer", code="node_silent") from None
        finally:
            del self._asked[command.id]
        if answer.fault is not None:
            raise _error(answer.fault)
        return answer.result

    async def ask_all(self, verb: str, **args: object) -> tuple[list[object], list[str]]:
        """Have every node do something; return the answers, and the nodes that gave none."""
        nodes = {*await self._store.nodes(), self.node_id}
        answers = await asyncio.gather(*(self.call(node, verb, **args) for node in nodes), return_exceptions=True)
        silent = []
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, SsealError):
                silent.append(node)
            elif isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)], sorted(silent)

    def cast(self, node: str, verb: str, **args: object) -> None:
        """Have a node do something, without waiting for it and without being told whether it did."""
        if len(self._tasks) < MAX_OPEN:
            self._spawn(self._cast(node, _Command("", self.node_id, verb, args)))

    async def broadcast(self, verb: str, **args: object) -> None:
        """Have all other nodes do something, without writing to the store; whoever is not reached is not."""
        await self._store.broadcast(msgspec.json.encode(_Command("", self.node_id, verb, args)))

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cast(self, node: str, command: _Command) -> None:
        try:
            if node == self.node_id:
                await self.handlers[command.verb](command.args)
            else:
                await self._store.send(node, msgspec.json.encode(command))
        except SsealError as error:
            logger.warning("%s could not be told to %s: %s", node, command.verb, error)

    async def _handle(self, command: _Command) -> None:
        handler = self.handlers.get(command.verb)
        try:
            if handler is None:
                raise NotFound(f"this hub knows no command {command.verb!r}")
            answer = _Answer(command.id, await handler(command.args))
        except SsealError as error:
            answer = _Answer(command.id, fault=_Fault(type(error).__name__, error.detail, error.code))
        except Exception:
            logger.exception("a command of another hub failed: %s", command.verb)
            answer = _Answer(command.id, fault=_Fault("SsealError", "the command failed", "internal"))
        if command.id:
            try:
                await self._store.send(command.sender, msgspec.json.encode(answer))
            except SsealError as error:
                logger.warning("%s could not be answered: %s", command.sender, error)

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _error(fault: _Fault) -> SsealError:
    """Return the error another hub answered with; what does not travel becomes a transient one."""
    match fault.kind:
        case "NotFound":
            return NotFound(fault.detail, code=fault.code)
        case "Forbidden":
            return Forbidden(fault.detail, code=fault.code)
        case "InvalidInput":
            field, _, problem = fault.detail.partition(": ")
            return InvalidInput(field, problem, code=fault.code)
        case "CredentialInvalid":
            return CredentialInvalid("refused by the hub that holds the stream")
        case "CredentialExpired":
            return CredentialExpired("refused by the hub that holds the stream")
        case _:
            return Unavailable(fault.detail, code=fault.code)
