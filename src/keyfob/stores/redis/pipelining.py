"""Many callers, few round trips: what is asked for in one turn of the event loop goes to the server in one piece.

1. Requests gather until the loop's turn ends, or until a connection is free: there is no timer.
2. A connection carries one batch at a time. Each request is a step of its own: batches only save round trips.
3. A script that the server does not know is sent again with its text: it has changed nothing.
4. A connection that is lost takes its batch with it. What only reads is asked for once more, on another; whether a write took effect is not
   known, and its caller is told so.
5. Who has waited until the deadline is told so; what has not been sent by then never is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hiredis import pack_command
from redis import exceptions

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.redis.connecting import Connection, take_leave
from keyfob.stores.redis.faults import FAULTS, TooFewReplicas, is_lost, unavailable
from keyfob.stores.redis.options import RedisOptions
from keyfob.stores.redis.scripts import Script

MAX_BATCH = 256  # requests in one piece: how long the first may wait for the last
MAX_WAITING = 10_000  # requests: beyond them callers are refused at once, rather than at their deadline
_IDLE = 0.1  # seconds: after so long without use a connection may have been closed unseen

_ASKING = pack_command((b"ASKING",))

Command = tuple[object, ...]


@dataclass(slots=True, eq=False)
class _Asked:
    command: Command
    packed: bytes
    answer: asyncio.Future[Any]
    script: Script | None
    only_reads: bool
    is_asking: bool
    tries_left: int = 1


@dataclass(slots=True, eq=False)
class _Line:
    """A connection, made when it is needed."""

    connection: Connection | None = None
    used_at: float = 0.0
    era: int = 0


class Pipeline:
    """Carries requests to the server. All of its methods belong to the event loop of the store."""

    def __init__(
        self,
        options: RedisOptions,
        connect: Callable[[], Awaitable[Connection]],
        *,
        passes: tuple[type[BaseException], ...] = (),
    ) -> None:
        """*connect* makes a connection to the primary, or raises one of `FAULTS`. Refusals that *passes* names are raised as they are."""
        self._passes = passes
        self._options = options
        self._connect = connect
        self._deadline = options.deadline.total_seconds()
        self._waiting: deque[_Asked] = deque()
        self._free = [_Line() for _ in range(options.connections)]
        self._batches: set[asyncio.Task[None]] = set()
        self._era = 0
        self._is_due = False
        self._is_closed = False

    async def ask(
        self, command: Command, *, script: Script | None = None, only_reads: bool, is_asking: bool = False
    ) -> Any:
        """Return the answer to *command*. A caller that is cancelled does not stop what was sent. *is_asking*: of a slot that is coming.

        Raises:
            StoreUnavailable: the server does not answer, not in time, or refuses.
            UnicodeEncodeError: *command* holds a lone surrogate.
        """
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("too much waits for the Redis server; try again")
        loop = asyncio.get_running_loop()
        # Packed here and not with the batch: what cannot be sent is the mistake of its caller alone.
        packed = (_ASKING if is_asking else b"") + _packed(command)
        asked = _Asked(command, packed, loop.create_future(), script, only_reads, is_asking)
        self._waiting.append(asked)
        self._come_soon(loop)
        alarm = loop.call_later(self._deadline, self._expire, asked)
        try:
            return await asked.answer
        finally:
            alarm.cancel()

    def leave(self) -> None:
        """Use no connection that there is for another batch: the primary is elsewhere by now."""
        self._era += 1

    async def close(self, patience: float) -> None:
        """Finish what is under way, for *patience* seconds, and close every connection."""
        self._is_closed = True
        if self._batches:
            await asyncio.wait(self._batches, timeout=patience)
        for task in list(self._batches):
            task.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        while self._waiting:
            self._refuse(self._waiting.popleft(), StoreUnavailable("the store is closed"))
        for line in self._free:
            if line.connection is not None:
                await take_leave(line.connection)
        await asyncio.sleep(0)  # whatever was hung up before is closed by the loop's next turn

    def _come_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_due and self._free and self._waiting:
            self._is_due = True
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        batch = self._take()
        if not batch or not self._free:
            return
        line = self._free.pop()  # the one that was used last: others go on resting
        task = asyncio.get_running_loop().create_task(self._carry_out(line, batch))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        self._come_soon(asyncio.get_running_loop())

    def _take(self) -> list[_Asked]:
        batch: list[_Asked] = []
        while self._free and self._waiting and len(batch) < MAX_BATCH:
            asked = self._waiting.popleft()
            if not asked.answer.done():
                batch.append(asked)
        return batch

    async def _carry_out(self, line: _Line, requests: list[_Asked]) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                await self._answer(line, requests)
        except FAULTS as error:
            await self._hang_up(line)
            self._give_back(requests, error)
        except BaseException:
            await self._hang_up(line)
            self._give_back(requests, asyncio.CancelledError())
            raise
        finally:
            self._free.append(line)
            self._come_soon(asyncio.get_running_loop())

    async def _answer(self, line: _Line, requests: list[_Asked]) -> None:
        """Answer all *requests*, those with scripts that the server does not know in a second go.

        Raises:
            Exception: one of `FAULTS`: the connection is lost, and so is everything that has no answer yet.
        """
        connection = await self._connected(line)
        unknown = await self._go(connection, requests, [asked.packed for asked in requests])
        if unknown:
            await self._go(connection, unknown, [_with_text(asked) for asked in unknown])
        line.used_at = asyncio.get_running_loop().time()

    async def _go(
        self, connection: Connection, requests: Sequence[_Asked], packed: Sequence[bytes]
    ) -> list[_Asked]:
        """Send what is *packed*, and answer *requests*; return those whose script the server does not know."""
        replicas = self._options.replicas if any(not asked.only_reads for asked in requests) else 0
        sent = list(packed)
        if replicas:
            sent.append(_packed((b"WAIT", replicas, round(self._deadline * 500))))
        await connection.send_packed_command([b"".join(sent)], check_health=False)
        replies: list[object] = []
        for asked in requests:
            if asked.is_asking:
                await _next(connection)
            reply = await _next(connection)
            if replicas:
                replies.append(reply)
            elif not isinstance(reply, exceptions.NoScriptError):
                self._settle(asked, reply)
            else:
                replies.append(asked)
        if not replicas:
            return [asked for asked in replies if isinstance(asked, _Asked)]
        return self._settle_confirmed(requests, replies, await _next(connection))

    def _settle_confirmed(
        self, requests: Sequence[_Asked], replies: Sequence[object], confirmed: object
    ) -> list[_Asked]:
        is_confirmed = isinstance(confirmed, int) and confirmed >= self._options.replicas
        unknown = []
        for asked, reply in zip(requests, replies, strict=True):
            if isinstance(reply, exceptions.NoScriptError):
                unknown.append(asked)
            elif is_confirmed or asked.only_reads or isinstance(reply, self._passes):
                self._settle(asked, reply)
            else:
                self._settle(asked, TooFewReplicas())
        return unknown

    def _settle(self, asked: _Asked, reply: object) -> None:
        if not isinstance(reply, BaseException):
            if not asked.answer.done():
                asked.answer.set_result(reply)
            return
        if isinstance(reply, self._passes):
            if not asked.answer.done():
                asked.answer.set_exception(reply)
            return
        self._refuse(asked, unavailable(reply, self._options.name))
        if not isinstance(reply, TooFewReplicas) and is_lost(reply):
            raise reply  # the rest of the batch would hear the same

    def _give_back(self, requests: Sequence[_Asked], error: BaseException) -> None:
        """Ask once more for what only reads; tell all others."""
        again = []
        for asked in requests:
            if asked.answer.done():
                continue
            if asked.only_reads and asked.tries_left and not self._is_closed:
                asked.tries_left -= 1
                again.append(asked)
            else:
                self._refuse(asked, unavailable(error, self._options.name))
        self._waiting.extendleft(reversed(again))

    async def _connected(self, line: _Line) -> Connection:
        if line.connection is not None and await self._is_stale(line):
            await self._hang_up(line)
        if line.connection is None:
            era = self._era
            line.connection = await self._connect()
            line.era = era
        return line.connection

    async def _is_stale(self, line: _Line) -> bool:
        assert line.connection is not None
        if line.era != self._era:
            return True
        if asyncio.get_running_loop().time() - line.used_at < _IDLE:
            return False
        try:
            return await line.connection.can_read()  # nothing was asked for
        except FAULTS:
            return True

    async def _hang_up(self, line: _Line) -> None:
        connection, line.connection = line.connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def _expire(self, asked: _Asked) -> None:
        self._refuse(asked, unavailable(TimeoutError(), self._options.name))

    def _refuse(self, asked: _Asked, error: StoreUnavailable) -> None:
        if not asked.answer.done():
            asked.answer.set_exception(error)


async def _next(connection: Connection) -> object:
    """Return the next reply; an error that the server answers is a reply too."""
    try:
        return await connection.read_response()
    except exceptions.ResponseError as error:
        return error


def _with_text(asked: _Asked) -> bytes:
    assert asked.script is not None
    return (_ASKING if asked.is_asking else b"") + _packed((b"EVAL", asked.script.text, *asked.command[2:]))


def _packed(command: Command) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one
    return packed
