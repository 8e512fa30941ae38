"""The feed in Redis: a stream whose ids are the positions, beside a hash with the head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.grants.rules import READ_WITHIN
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.revocation import Revocation
from keyfob.stores.redis import places
from keyfob.stores.redis.appending import beginning, read_head, reappending
from keyfob.stores.redis.packing import read_stream_entry
from keyfob.stores.redis.server import Server
from keyfob.stores.revoking import check_continues
from keyfob.stores.rows import span_micros

_PAGE = 1_000  # entries: what is read in one piece
_PORTION = 500  # entries: how long a step that deletes may hold the server


class RedisFeedStore:
    """A `FeedStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._longest = (0, 0)  # what this process knows to be kept: it only ever grows

    async def head(self) -> Head:
        """Return the head, read from the primary."""
        known = self._server.evidence.mark
        timeline, position, chain = await self._server.read(
            b"HMGET", places.META, b"timeline", b"position", b"chain"
        )
        self._server.check_head(known, timeline, position)
        return read_head((timeline, position, chain))

    async def read_after(self, position: Position, limit: int) -> Sequence[Entry]:
        """Return up to *limit* consecutive entries after *position*: from the first one that is left, up to the next gap."""
        timeline = self._server.evidence.timeline
        entries = await self._range(position + 1, limit)
        if timeline is not None:
            self._server.evidence.note(timeline, entries)
        return [entry for place, entry in enumerate(entries) if entry.position == entries[0].position + place]

    async def live(self, now: datetime) -> tuple[Head, Sequence[Entry]]:
        """Return the live entries up to the head. It is read first: what comes meanwhile lies behind it, and what goes is over."""
        while True:
            head = await self.head()
            live = await self._live_up_to(head.position, now)
            if (await self.head()).timeline == head.timeline:
                return head, live

    async def _live_up_to(self, last: Position, now: datetime) -> list[Entry]:
        live: list[Entry] = []
        after = 0
        while page := await self._range(after + 1, _PAGE):
            after = page[-1].position
            live += [
                entry
                for entry in page
                if entry.position <= last and (entry.until is None or entry.until > now)
            ]
            if len(page) < _PAGE or after >= last:
                break
        return live

    async def _range(self, first: int, limit: int) -> list[Entry]:
        if limit <= 0:
            return []
        items = await self._server.read(b"XRANGE", places.ENTRIES, f"{first}-0", b"+", b"COUNT", limit)
        return [read_stream_entry(item) for item in items]

    async def extend_retention(self, *, credential: timedelta, session: timedelta) -> None:
        """Raise the longest lifetimes; a call that raises none does not go to the server."""
        wanted = (span_micros(credential) or 0, span_micros(session) or 0)
        if wanted[0] > self._longest[0] or wanted[1] > self._longest[1]:
            found = await self._server.step("extend", (), {"credential": wanted[0], "session": wanted[1]})
            self._longest = (int(found[0]), int(found[1]))

    async def reappend(
        self, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
    ) -> Head | None:
        """Append *entries* again where the head is still *instead_of*.

        Raises:
            ValueError: they do not continue it.
        """
        check_continues(entries, instead_of)
        orders = self._server.orders()
        keys, asked = reappending(orders, entries, instead_of=instead_of, event=event, now=now)
        if not await self._server.step("reappend", keys, asked):
            return None
        self._server.evidence.note(instead_of.timeline, entries)
        self._server.wakers.wake()
        last = entries[-1]
        return Head(timeline=instead_of.timeline, position=last.position, chain=last.chain)

    async def begin_timeline(
        self, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
    ) -> Head | None:
        """Begin a new timeline where the head is still *instead_of*."""
        orders = self._server.orders()
        keys, asked = beginning(orders, revocations, instead_of=instead_of, past=past, now=now)
        begun, *head = await self._server.step("begin_timeline", keys, asked)
        if not begun:
            return None
        self._server.wakers.wake()
        return read_head(head)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* within milliseconds of every step that appended, of this process or another.

        Raises:
            StoreUnavailable: the store is closed.
        """
        return self._server.subscribe(wake)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Drop up to *limit* entries and cut-offs, a few hundred in a step."""
        gone = 0
        while gone < limit:
            portion = min(_PORTION, limit - gone)
            asked = {"now": to_micros(now), "unread": to_micros(now - READ_WITHIN), "limit": portion}
            dropped = int(await self._server.step("drop", (places.CURSORS,), asked))
            gone += dropped
            if dropped < portion:
                break
        return gone
