"""What carries entries to rows when whoever appended them could not: again and again until it is done, and before an entry may be dropped.

Each process has one. Several at once do no harm: an entry is applied to a slot once, however often it is carried there. How far all of it was
carried lies beside the feed, so that nobody begins from the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

from keyfob.base.clock import Clock, from_micros
from keyfob.base.errors import Unavailable
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.catching_up import CatchingUp
from keyfob.stores.redis.cluster.debts import Debts, read_debt
from keyfob.stores.redis.cluster.journal import Journal, Standing
from keyfob.stores.redis.cluster.keys import state_at
from keyfob.stores.redis.cluster.orders import ALL, slots_of
from keyfob.stores.redis.packing import read_stream_entry

LOOK: Final = 1.0  # seconds
_PAGE: Final = 500  # entries carried together
_WAIT: Final = 2  # looks at what others have appended and not carried, before it is done here
_SLOTS: Final = 64  # whose debts are looked at each time
_OLD: Final = timedelta(seconds=10)  # a debt that its debtor has left behind


class Server(Protocol):
    """What is needed of a server."""

    salt: bytes
    journal: Journal

    def step(self, name: str, keys: Sequence[bytes], asked: Mapping[str, object]) -> Awaitable[Any]: ...
    def look(self, name: str, keys: Sequence[bytes], arguments: Sequence[object] = ()) -> Awaitable[Any]: ...
    def read(self, *command: object) -> Awaitable[Any]: ...
    async def read_news(self) -> Standing: ...
    async def read_stock(self) -> Standing: ...


class Applier:
    """Carries what is left, from `start` to `close`."""

    def __init__(self, server: Server, catching_up: CatchingUp, debts: Debts, *, clock: Clock) -> None:
        self._server = server
        self._catching_up = catching_up
        self._debts = debts
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._next_slot = 0
        self._stood = Position(0)
        self._waited = 0
        self._said = ""

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="keyfob redis applier")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                if await self._is_wanted():
                    await self.settle()
                await self._collect()
            except Unavailable as error:
                self._warn(f"what was revoked is not carried to every session yet: {error}")

    async def _is_wanted(self) -> bool:
        """Say whether there is something to carry, and nobody else does: those who have appended it come first."""
        standing = await self._server.read_news()
        stands, before = standing.applied, self._stood
        self._stood = stands
        if stands >= standing.head.position:
            self._waited = 0
            return False
        self._waited = self._waited + 1 if stands == before else 0
        is_own, self._catching_up.has_carried = self._catching_up.has_carried, False
        return is_own or self._waited >= _WAIT

    def _warn(self, words: str) -> None:
        """Say what is not done yet, but not each second again."""
        if words != self._said:
            _log.warning("%s", words)
        self._said = words

    async def settle(self) -> None:
        """Carry everything that is in the feed now, but for what is in the hands of others.

        Raises:
            StoreUnavailable: the feed cannot be read, or some of the sessions cannot be reached: what is behind these waits with them.
        """
        standing = await self._server.read_news()
        applied, last = standing.applied, standing.head.position
        while applied < last:
            items = await self._server.read(
                b"XRANGE", places.ENTRIES, f"({applied}-0", f"{last}-0", b"COUNT", _PAGE
            )
            entries = [read_stream_entry(item) for item in items]
            end = entries[-1].position if len(entries) == _PAGE else last
            through = min(end, self._catching_up.free_up_to(end))
            theirs = [entry for entry in entries if entry.position <= through]
            reached = await self._carry(theirs, through) if through > applied else applied
            if reached > applied:
                await self._server.step("cluster/applied", (), {"through": reached})
            if reached < end:
                return
            applied = reached

    async def _carry(self, entries: Sequence[Entry], through: Position) -> Position:
        """Bring the slots of *entries* on; return up to where all of them are.

        Raises:
            StoreUnavailable: not even the first could be carried.
        """
        slots = {entry.position: slots_of(self._server.salt, entry) for entry in entries}
        wanted = {slot for of_one in slots.values() if of_one is not ALL for slot in of_one}
        if any(of_one is ALL for of_one in slots.values()):
            await self._server.read_stock()
            wanted |= set(self._server.journal.used)
        _, failed = await self._catching_up.bring_on(self._catching_up.lagging(wanted))
        if not failed:
            self._said = ""
            return through
        waiting = (
            position for position, of_one in slots.items() if of_one is ALL or failed.keys() & set(of_one)
        )
        first = min(waiting)
        self._warn(
            f"what was revoked is not carried to {len(failed)} slots yet: {next(iter(failed.values()))}"
        )
        return Position(first - 1)

    async def _collect(self) -> None:
        """See that what was owed and left behind is paid."""
        used = sorted(self._server.journal.used)
        if not used:
            return
        start = self._next_slot % len(used)
        some = used[start : start + _SLOTS]
        self._next_slot = start + len(some)
        for slot in some:
            try:
                for packed in await self._server.look("cluster/debts", (state_at(slot),)):
                    if self._clock.now() - from_micros(read_debt(packed).at) > _OLD:
                        await self._debts.pay(packed)
            except Unavailable:
                continue


_log = logging.getLogger(__name__)
