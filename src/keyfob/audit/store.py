"""What the audit trail needs of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyfob.base.events import Event
from keyfob.base.identifiers import Subject


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, newest first; `next` continues the list, None at its end."""

    events: Sequence[Event]
    next: str | None


class AuditStore(Protocol):
    """Keeps events, in the order in which they were written. Raises `StoreUnavailable`."""

    async def add(self, event: Event) -> None:
        """Write one event durably."""
        ...

    async def list(
        self, *, subject: Subject | None = None, code: str | None = None, after: str | None = None, limit: int
    ) -> EventPage:
        """Return events, newest first, continuing *after* an earlier page's `next`."""
        ...

    async def delete_expired(self, before: datetime, limit: int) -> int:
        """Delete up to *limit* events from before *before*; return how many."""
        ...
