"""The audit trail in memory."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

from keyfob.audit.store import EventPage
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.stores.memory.state import State
from keyfob.stores.revoking import cursor_number


class MemoryAuditStore:
    """An `AuditStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, event: Event) -> None:
        """Write one event."""
        with self._state.step():
            self._state.write_event(event)

    async def list(
        self, *, subject: Subject | None = None, code: str | None = None, after: str | None = None, limit: int
    ) -> EventPage:
        """Return events, newest first."""
        before = None if after is None else cursor_number(after)
        with self._state.step():
            wanted = (
                (number, event)
                for number, event in reversed(self._state.events)
                if (before is None or number < before)
                and (subject is None or event.subject == subject)
                and (code is None or event.code == code)
            )
            found = list(islice(wanted, limit + 1))
        page = found[:limit]
        is_last = len(found) == len(page) or not page
        return EventPage([event for _, event in page], None if is_last else str(page[-1][0]))

    async def delete_expired(self, before: datetime, limit: int) -> int:
        """Delete up to *limit* events from before *before*, the earliest first."""
        with self._state.step():
            old = sorted((event.at, number) for number, event in self._state.events if event.at < before)
            gone = {number for _, number in old[:limit]}
            self._state.events = [pair for pair in self._state.events if pair[0] not in gone]
            return len(gone)
