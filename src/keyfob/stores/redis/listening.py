"""How a process learns at once that somebody has moved the feed: a blocking read of its stream, on a connection of its own.

It is a wake-up and no more: each second the head is looked at, whoever called, so that one that is lost costs at most a poll interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from keyfob.stores.moving import Mark
from keyfob.stores.redis import places
from keyfob.stores.redis.connecting import ask, take_leave
from keyfob.stores.redis.faults import FAULTS
from keyfob.stores.redis.marks import read_mark
from keyfob.stores.redis.options import Address
from keyfob.stores.redis.wire import Connection
from keyfob.stores.wakers import Wakers

POLL_INTERVAL = 1.0  # seconds
_BETWEEN = 0.2  # seconds between looks at a store that is gone
_ANSWER = 2.0  # seconds: how much longer than the poll interval an answer may take


class Listener:
    """Wakes whoever follows the feed, from its making to `close`."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        wakers: Wakers,
        *,
        look: Callable[[], Awaitable[Address]] | None,
        on_failover: Callable[[], None],
        on_gone: Callable[[Mark | None], None],
    ) -> None:
        """Begin. *look* says where the primary is; *on_failover* is called when that is elsewhere than before.

        *on_gone* is called with the mark of a store that is closed.
        """
        self._connect = connect
        self._wakers = wakers
        self._find_primary = look
        self._on_failover = on_failover
        self._on_gone = on_gone
        self._connection: Connection | None = None
        self._primary: Address | None = None
        self._is_closed = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="keyfob redis listener")

    async def close(self) -> None:
        """Stop, and close the connection."""
        self._is_closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            await take_leave(self._connection)
        await asyncio.sleep(0)  # what was hung up before is closed by the loop's next turn

    async def _run(self) -> None:
        known = b""
        while not self._is_closed:  # a driver may swallow a cancellation
            try:
                async with asyncio.timeout(POLL_INTERVAL + _ANSWER):
                    known = await self._look(known)
            except FAULTS:
                await self._hang_up()
                known = b""
                self._wakers.wake()  # a follower must find out for itself
                await asyncio.sleep(POLL_INTERVAL)

    async def _look(self, known: bytes) -> bytes:
        """Return the head position once it is no longer *known*, or after the poll interval."""
        await self._look_for_primary()
        if self._connection is None:
            self._connection = await self._connect()
        if known:
            block = round(POLL_INTERVAL * 1000)
            await ask(
                self._connection,
                *(b"XREAD", b"COUNT", 1, b"BLOCK", block, b"STREAMS", places.ENTRIES, known + b"-0"),
            )
        position: bytes | None = await ask(self._connection, b"HGET", places.META, b"position")
        if position is None:
            self._on_gone(read_mark(await ask(self._connection, b"HGET", places.CLOSED, b"move")))
            await asyncio.sleep(_BETWEEN)
            return b""
        if position != known:
            self._wakers.wake()
        return position

    async def _look_for_primary(self) -> None:
        """Leave a primary that was cut off from its sentinels and does not know yet that it is none any more."""
        if self._find_primary is None:
            return
        primary = await self._find_primary()
        if primary != self._primary is not None:
            self._on_failover()
            await self._hang_up()
        self._primary = primary

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
