"""Another store's revocations, carried out in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from keyfob.base.clock import Clock, to_micros
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Entry, Head
from keyfob.stores.redis.packing import raw
from keyfob.stores.redis.places import META
from keyfob.stores.redis.server import Server


class RedisMirror:
    """A `Mirror` in Redis."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    async def reached(self) -> Head | None:
        """Return the head of the other feed up to which this one has come."""
        names = (b"mirror-timeline", b"mirror-position", b"mirror-chain")
        timeline, position, chain = await self._server.read(b"HMGET", META, *names)
        if timeline is None:
            return None
        return Head(
            timeline=Timeline(timeline.decode()), position=Position(int(position)), chain=bytes(chain)
        )

    async def carry_out(
        self, entries: Sequence[Entry], *, instead_of: Head | None, reached: Head
    ) -> Sequence[Entry] | None:
        """Carry *entries* out, in one step."""
        orders = self._server.orders()
        asked = {
            "orders": [orders.add(entry) for entry in entries],
            "instead_of": ("", "0")
            if instead_of is None
            else (instead_of.timeline, str(instead_of.position)),
            "reached": (reached.timeline, str(reached.position), raw(reached.chain)),
            "now": to_micros(self._clock.now()),
        }
        is_done, *rest = await self._server.step("mirror", orders.keys, asked)
        if not is_done:
            return None
        appended = [self._server.appended(entry) for entry in rest[0]]
        await self._server.carry(appended)
        return appended
