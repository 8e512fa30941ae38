"""How a process learns at once that another has moved the feed: LISTEN on a connection of its own. The table is the truth.

A notification is a wake-up and no more. One that is lost costs at most a poll interval: each second the head is read, whoever called.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.postgres.connecting import DirectConnection, connect
from keyfob.stores.postgres.faults import FAULTS
from keyfob.stores.postgres.options import PostgresOptions
from keyfob.stores.wakers import Wakers

CHANNEL = "keyfob_feed"
POLL_INTERVAL = 1.0  # seconds
_UNREADABLE = -1

_log = logging.getLogger("keyfob.postgres")


class Listener:
    """Wakes whoever follows the feed, from its making to `close`."""

    def __init__(
        self, options: PostgresOptions, wakers: Wakers, *, read_position: Callable[[], Awaitable[int]]
    ) -> None:
        """Begin. *read_position* returns the head position; it may raise `StoreUnavailable`."""
        self._options = options
        self._wakers = wakers
        self._read_position = read_position
        self._connection: DirectConnection | None = None
        self._called = asyncio.Event()
        self._is_closed = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="keyfob postgres listener")

    async def close(self) -> None:
        """Stop, and close the connection."""
        self._is_closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._hang_up()

    async def _run(self) -> None:
        known = _UNREADABLE
        while not self._is_closed:  # a driver may swallow a cancellation
            try:
                known = await self._follow(known)
            except Exception:  # noqa: BLE001 - the edge of a task: if it ended, nobody would be woken, and nobody would know
                _log.exception("listening failed; it begins again")
                known = _UNREADABLE
                await self._hang_up()
                await asyncio.sleep(POLL_INTERVAL)

    async def _follow(self, known: int) -> int:
        """Wait for a call, or for as long as one may be missed; wake everybody if the head is no longer at *known*. Return where it is."""
        if self._connection is None:
            await self._listen()
        was_called = await self._is_called()
        position = await self._look()
        if position != known or position == _UNREADABLE:
            self._wakers.wake()
            # Moved, and nobody called: the others may have, on a connection that is no good any more.
            if not was_called:
                await self._test()
        return position

    async def _listen(self) -> None:
        options = self._options
        try:
            connection = await connect(options.listen_at or options.addresses, options, is_pooled=False)
            self._connection = connection
            connection.add_termination_listener(self._lost)
            await connection.add_listener(CHANNEL, self._heard)
        except FAULTS:
            await self._hang_up()

    async def _is_called(self) -> bool:
        try:
            async with asyncio.timeout(POLL_INTERVAL):
                await self._called.wait()
        except TimeoutError:
            return False
        self._called.clear()
        return True

    async def _look(self) -> int:
        """Return the head position; `_UNREADABLE` where it cannot be read, which a follower must find out for itself."""
        try:
            return await self._read_position()
        except StoreUnavailable:
            return _UNREADABLE

    async def _test(self) -> None:
        if self._connection is None:
            return
        try:
            async with asyncio.timeout(POLL_INTERVAL):
                await self._connection.fetchval("SELECT 1")
        except FAULTS:
            await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # whatever is wrong with it, it is no longer ours
                await connection.close(timeout=POLL_INTERVAL)

    def _heard(self, *_: object) -> None:
        self._wakers.wake()
        self._called.set()

    def _lost(self, _: object) -> None:
        self._connection = None
