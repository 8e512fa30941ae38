"""The feed of a cluster: as on one server; what its entries are about lies elsewhere, and they stay until they were carried there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from keyfob.base.clock import to_micros
from keyfob.base.errors import Unavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.grants.rules import READ_WITHIN
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.revocation import Revocation
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.keys import SLOTS
from keyfob.stores.redis.cluster.server import ClusterServer
from keyfob.stores.redis.feed import RedisFeedStore

_PORTION: Final = 500  # entries: how long a step that deletes may hold the server


class ClusterFeedStore(RedisFeedStore):
    """A `FeedStore` in a cluster."""

    def __init__(self, server: ClusterServer) -> None:
        super().__init__(server)
        self._cluster = server

    async def head(self) -> Head:
        """Return the head, read from the primary, once every entry up to it is known: a login as of it can be told what its slot lacks."""
        return (await self._cluster.read_news()).head

    async def reappend(
        self, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
    ) -> Head | None:
        """Append *entries* again where the head is still *instead_of*, and carry them to the rows.

        Raises:
            ValueError: they do not continue it.
        """
        head = await super().reappend(entries, instead_of=instead_of, event=event, now=now)
        if head is not None:
            await self._cluster.carry(entries)
        return head

    async def begin_timeline(
        self, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
    ) -> Head | None:
        """Begin a new timeline where the head is still *instead_of*; a slot learns of it with the next step on it."""
        head = await super().begin_timeline(revocations, instead_of=instead_of, past=past, now=now)
        if head is not None:
            await self._cluster.read_news()
        return head

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Drop up to *limit* entries and cut-offs, a few hundred in a step; entries that were not carried to all their rows stay."""
        with suppress(Unavailable):  # what was carried may be dropped though others cannot be reached
            await self._cluster.at_home(self._cluster.applier.settle)
        gone = 0
        while gone < limit:
            portion = min(_PORTION, limit - gone)
            asked = {"now": to_micros(now), "unread": to_micros(now - READ_WITHIN), "limit": portion}
            dropped = int(await self._cluster.step("cluster/drop", (places.CURSORS, SLOTS), asked))
            gone += dropped
            if dropped < portion:
                break
        return gone
