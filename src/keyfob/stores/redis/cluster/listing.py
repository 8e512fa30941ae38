"""What looks through many sessions of a cluster: node by node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.base.errors import Unavailable
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Entry
from keyfob.sessions.session import Session
from keyfob.sessions.store import SessionPage
from keyfob.stores.children import is_ended_by
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.keys import state_at
from keyfob.stores.redis.cluster.server import ClusterServer
from keyfob.stores.redis.listing import MAX_SWEPT, START, Listing, live_of, scan
from keyfob.stores.redis.options import Address
from keyfob.stores.redis.packing import read_session

_LISTED = 256  # slots looked through for one page
_TIDIED = 200  # slots whose cut-offs one deletion looks at


class ClusterListing(Listing):
    """Looks through the sessions of one cluster."""

    def __init__(self, server: ClusterServer) -> None:
        super().__init__(server)
        self._cluster = server
        self._cursors: dict[Address, bytes] = {}
        self._tidied = 0

    async def sweep(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* rows whose absolute end is reached, of each node in turn; one that cannot be reached hinders no other."""
        await self._tidy(now)
        gone, failure = 0, None
        for address in self._cluster.nodes.primaries():
            try:
                gone += await self._sweep_node(address, now, limit - gone)
            except Unavailable as error:
                failure = error
        if failure is not None and not gone:
            raise failure
        return gone

    async def _sweep_node(self, address: Address, now: datetime, limit: int) -> int:
        gone = looked = 0
        while gone < limit and looked < MAX_SWEPT:
            found, keys = await self._cluster.at(address, *scan(self._cursors.get(address, START)))
            for key in keys:
                if gone < limit:
                    asked = {"now": to_micros(now), "limit": limit - gone}
                    rows = (key, places.data_beside(key))
                    swept = await self._cluster.catching_up.step("sweep", _tag(key), rows, asked)
                    gone += int(swept[0])
            looked += len(keys)
            if gone < limit:
                self._cursors[address] = found
                if found == START:
                    break
        return gone

    async def _tidy(self, now: datetime) -> None:
        """Drop cut-offs that nothing needs any more, of some slots."""
        used = sorted(self._cluster.journal.used)
        start = self._tidied % max(1, len(used))
        some = used[start : start + _TIDIED]
        self._tidied = start + len(some)
        try:
            await self._cluster.together(self._tidy_slot(slot, now) for slot in some)
        except Unavailable:
            return  # the next time

    async def _tidy_slot(self, slot: int, now: datetime) -> None:
        """Drop the cut-offs of a slot that are over, and that the feed has dropped: it knows best how long they matter."""
        over = await self._cluster.look("cluster/over", (state_at(slot),), (to_micros(now),))
        if not over:
            return
        kept = await self._cluster.read(b"HMGET", places.CUT_OFFS, *over[::2])
        gone = [part for at, one in enumerate(kept) if one is None for part in over[2 * at : 2 * at + 2]]
        if gone:
            await self._cluster.run("cluster/tidy", (state_at(slot),), gone)

    async def _live(self, subject: Subject | None, now: datetime) -> AsyncIterator[list[Session]]:
        if subject is not None:
            tag = places.tag_of(self._cluster.salt, subject)
            yield [session for session in await self._rows(tag, now) if session.subject == subject]
            return
        seen: set[bytes] = set()
        for address in self._cluster.nodes.primaries():
            cursor = None
            while cursor != START:
                cursor, keys = await self._cluster.at(address, *scan(cursor or START))
                fresh = set(keys) - seen  # one that moves to another node meanwhile would be met twice
                seen |= fresh
                found = await self._cluster.together(self._rows(_tag(key), now) for key in fresh)
                yield [session for sessions in found for session in sessions]

    async def _ended_everywhere(self, entry: Entry, place: int) -> SessionPage:
        """Return what *entry* ended in the next slots from *place* on, whatever nodes have them."""
        await self._cluster.read_stock()  # another process may use slots of which this one has not heard
        following = [slot for slot in sorted(self._cluster.journal.used) if slot >= place]
        some = following[:_LISTED]
        keys = await self._cluster.together(self._cluster.keys_in(slot) for slot in some)
        rows = [key for of_slot in keys for key in of_slot if key.endswith(b":s")]
        found = await self._cluster.together(self._ended_at(key, entry) for key in rows)
        everyone = [session for sessions in found for session in sessions]
        return SessionPage(everyone, str(some[-1] + 1) if len(following) > len(some) else None)

    async def _ended_at(self, key: bytes, entry: Entry) -> list[Session]:
        _, rest = await self._cluster.catching_up.look("rows_of", _tag(key), ())
        sessions = (read_session(field, row) for field, row, _ in rest[0])
        return [session for session in sessions if is_ended_by(session, entry)]

    async def _rows(self, tag: str, now: datetime) -> list[Session]:
        _, rest = await self._cluster.catching_up.look("rows_of", tag, ())
        return live_of(rest[0], now)


def _tag(key: bytes) -> str:
    return key[key.index(b"{") + 1 : key.index(b"}")].decode()
