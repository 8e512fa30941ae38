"""The audit trail in Redis: a stream."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from keyfob.audit.store import EventPage
from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.stores.redis import places
from keyfob.stores.redis.packing import event_fields, read_event
from keyfob.stores.redis.server import Server
from keyfob.stores.revoking import cursor_number
from keyfob.stores.texts import can_be_kept

_LOOKED_AT: Final = 2_000  # events of one step: how long a search for a few may hold the server
_PORTION: Final = 500


class RedisAuditStore:
    """An `AuditStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def add(self, event: Event) -> None:
        """Write one event."""
        await self._server.step("write_event", (), {"event": event_fields(event)})

    async def list(
        self, *, subject: Subject | None = None, code: str | None = None, after: str | None = None, limit: int
    ) -> EventPage:
        """Return events, newest first. Those of one subject or code are looked for among all, a few thousand in a step."""
        before = "" if after is None else str(cursor_number(after))
        if not can_be_kept(f"{subject or ''}{code or ''}"):
            return EventPage([], None)
        found: list[tuple[bytes, bytes, bytes]] = []
        while len(found) <= limit:
            arguments = (before, subject or "", code or "", limit + 1 - len(found), _LOOKED_AT)
            next_, some = await self._server.look("list_events", (places.EVENTS,), arguments)
            found += some
            before = next_.decode()
            if not before:
                break
        page = found[:limit]
        is_last = len(found) == len(page) or not page
        return EventPage(
            [read_event(at, body) for _, at, body in page], None if is_last else page[-1][0].decode()
        )

    async def delete_expired(self, before: datetime, limit: int) -> int:
        """Delete up to *limit* events from before *before*, the earliest written first."""
        gone = 0
        while gone < limit:
            portion = min(_PORTION, limit - gone)
            deleted = int(
                await self._server.step("drop_events", (), {"before": to_micros(before), "limit": portion})
            )
            gone += deleted
            if deleted < portion:
                break
        return gone
