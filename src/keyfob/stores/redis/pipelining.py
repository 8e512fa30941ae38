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
from dataclasses import dataclass, replace
from typing import Any

from redis import exceptions

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.redis.connecting import take_leave
from keyfob.stores.redis.faults import FAULTS, TooFewReplicas, is_lost, unavailable
from keyfob.stores.redis.options import RedisOptions
from keyfob.stores.redis.scripts import Script
from keyfob.stores.redis.wire import Connection, packed

MAX_BATCH = 256  # requests in one piece: how long the first may wait for the last
MAX_WAITING = 10_000  # requests: beyond them callers are refused at once, rather than at their deadline
_MOST_WATCHED = 4 * MAX_WAITING  # requests, most of them answered, behind one that is not

Command = tuple[object, ...]


@dataclass(slots=True, eq=False)
class _Asked:
    command: Command
    packed: bytes
    answer: asyncio.Future[Any]
    until: float
    script: Script | None
    only_reads: bool
    is_asking: bool
    tries_left: int = 1


@dataclass(slots=True, eq=False)
class _Line:
    """A connection, made when it is needed."""

    connection: Connection | None = None
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
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Asked] = deque()
        self._watched: deque[_Asked] = deque()  # in the order of their deadlines: one alarm is enough for all
        self._alarm: asyncio.TimerHandle | None = None
        self._free = [_Line() for _ in range(options.connections)]
        self._batches: set[asyncio.Task[None]] = set()
        self._era = 0
        self._is_due = False
        self._is_closed = False

    def ask(
        self, command: Command, *, script: Script | None = None, only_reads: bool, is_asking: bool = False
    ) -> asyncio.Future[Any]:
        """Return what comes to the answer to *command*. A caller that is cancelled does not stop what was sent.

        *is_asking*: it is about a slot that is on its way to this node.

        Raises:
            StoreUnavailable: the server does not answer, not in time, or refuses; of the future, or at once.
            UnicodeEncodeError: *command* holds a lone surrogate.
        """
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("too much waits for the Redis server; try again")
        # Packed here and not with the batch: what cannot be sent is the mistake of its caller alone.
        until = self._loop.time() + self._deadline
        asked = _Asked(
            command, packed(command), self._loop.create_future(), until, script, only_reads, is_asking
        )
        self._waiting.append(asked)
        self._watch(asked)
        self._come_soon()
        return asked.answer

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
        if self._alarm is not None:
            self._alarm.cancel()
        for line in self._free:
            if line.connection is not None:
                await take_leave(line.connection)
        await asyncio.sleep(0)  # whatever was hung up before is closed by the loop's next turn

    def _watch(self, asked: _Asked) -> None:
        """See that *asked* is told of its deadline, unless it is answered by then."""
        watched = self._watched
        while watched and watched[0].answer.done():
            watched.popleft()
        if len(watched) >= _MOST_WATCHED:
            self._watched = watched = deque(one for one in watched if not one.answer.done())
        watched.append(asked)
        if self._alarm is None:
            self._alarm = self._loop.call_at(asked.until, self._expire)

    def _expire(self) -> None:
        now, watched = self._loop.time(), self._watched
        while watched and (watched[0].until <= now or watched[0].answer.done()):
            self._refuse(watched.popleft(), unavailable(TimeoutError(), self._options.name))
        self._alarm = self._loop.call_at(watched[0].until, self._expire) if watched else None

    def _come_soon(self) -> None:
        if not self._is_due and self._free and self._waiting:
            self._is_due = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        batch = self._take()
        if not batch or not self._free:
            return
        line = self._free.pop()  # the one that was used last: others go on resting
        task = self._loop.create_task(self._carry_out(line, batch))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        self._come_soon()

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
            self._hang_up(line)
            self._give_back(requests, error)
        except BaseException:
            self._hang_up(line)
            self._give_back(requests, asyncio.CancelledError())
            raise
        finally:
            self._free.append(line)
            self._come_soon()

    async def _answer(self, line: _Line, requests: list[_Asked]) -> None:
        """Answer all *requests*, those with scripts that the server does not know in a second go.

        Raises:
            Exception: one of `FAULTS`: the connection is lost, and so is everything that has no answer yet.
        """
        connection = await self._connected(line)
        # Who was told that it came to nothing while a connection was made must not be wrong.
        requests = [asked for asked in requests if not asked.answer.done()]
        if not requests:
            return
        unknown = await self._go(connection, requests, [asked.packed for asked in requests])
        if unknown:
            await self._go(connection, unknown, [_with_text(asked) for asked in unknown])

    async def _go(
        self, connection: Connection, requests: Sequence[_Asked], pieces: list[bytes]
    ) -> list[_Asked]:
        """Send *pieces*, and answer *requests*; return those whose script the server does not know."""
        if self._options.replicas and any(not asked.only_reads for asked in requests):
            return await self._go_confirmed(connection, requests, pieces)
        requests, pieces = _with_asking(requests, pieces)
        answer = connection.send(b"".join(pieces), len(requests))
        try:
            replies = await answer
        except (OSError, asyncio.CancelledError):
            # What was answered before the connection was lost, or given up, is known.
            self._settle_all(requests, connection.received)
            raise
        unknown = self._settle_all(requests, replies)
        self._check_replies(replies)
        return unknown

    async def _go_confirmed(
        self, connection: Connection, requests: Sequence[_Asked], pieces: list[bytes]
    ) -> list[_Asked]:
        requests, pieces = _with_asking(requests, pieces)
        confirming = packed((b"WAIT", self._options.replicas, round(self._deadline * 500)))
        *replies, confirmed = await connection.send(b"".join((*pieces, confirming)), len(requests) + 1)
        return self._settle_confirmed(requests, replies, confirmed)

    def _settle_all(self, requests: Sequence[_Asked], replies: Sequence[object]) -> list[_Asked]:
        unknown = []
        for asked, reply in zip(requests, replies, strict=False):
            if isinstance(reply, exceptions.NoScriptError):
                unknown.append(asked)
            else:
                self._settle(asked, reply)
        return unknown

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
        self._check_replies(replies)
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

    def _check_replies(self, replies: Sequence[object]) -> None:
        """Raise what one of *replies* says of the connection: that it leads nowhere, or to no primary."""
        for reply in replies:
            if isinstance(reply, BaseException) and is_lost(reply) and not isinstance(reply, self._passes):
                raise reply

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
        if line.connection is not None and (line.era != self._era or line.connection.is_closed):
            self._hang_up(line)
        if line.connection is None:
            era = self._era
            line.connection = await self._connect()
            line.era = era
        return line.connection

    def _hang_up(self, line: _Line) -> None:
        connection, line.connection = line.connection, None
        if connection is not None:
            connection.abort()

    def _refuse(self, asked: _Asked, error: StoreUnavailable) -> None:
        if not asked.answer.done():
            asked.answer.set_exception(error)


def _with_asking(requests: Sequence[_Asked], pieces: list[bytes]) -> tuple[Sequence[_Asked], list[bytes]]:
    """Return *requests* with an `ASKING` before each that needs one, which nobody waits for."""
    if not any(asked.is_asking for asked in requests):
        return requests, pieces
    all_requests: list[_Asked] = []
    all_pieces: list[bytes] = []
    for asked, piece in zip(requests, pieces, strict=True):
        if asked.is_asking:
            nobody = replace(asked, answer=asyncio.get_running_loop().create_future(), only_reads=True)
            nobody.answer.cancel()
            all_requests.append(nobody)
            all_pieces.append(packed((b"ASKING",)))
        all_requests.append(asked)
        all_pieces.append(piece)
    return all_requests, all_pieces


def _with_text(asked: _Asked) -> bytes:
    assert asked.script is not None
    return packed((b"EVAL", asked.script.text, *asked.command[2:]))
