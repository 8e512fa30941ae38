"""Deliveries in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from keyfob.grants.delivery import Cursor, Delivery, Waiting
from keyfob.grants.rules import check_delivery
from keyfob.stores.memory.state import State
from keyfob.stores.texts import require_texts


class MemoryOutboxStore:
    """An `OutboxStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def enqueue(
        self,
        consumer: str,
        deliveries: Sequence[Delivery],
        *,
        cursor_from: Cursor | None,
        cursor_to: Cursor,
    ) -> bool:
        """Queue *deliveries* if the cursor is still *cursor_from*."""
        require_texts(consumer)
        for one in deliveries:
            require_texts(one.delivery_id, one.kind, one.client_id)
            check_delivery(one)
        with self._state.step():
            if self._state.cursors.get(consumer) != cursor_from:
                return False
            self._state.cursors[consumer] = cursor_to
            for one in deliveries:
                self._state.deliveries.setdefault(one.delivery_id, one)
            return True

    async def cursor(self, consumer: str) -> Cursor | None:
        """Return how far *consumer* has come."""
        with self._state.step():
            return self._state.cursors.get(consumer)

    async def lease(self, now: datetime, *, until: datetime, limit: int) -> Sequence[Delivery]:
        """Return up to *limit* deliveries that are due, and make them due again at *until*."""
        with self._state.step():
            table = self._state.deliveries
            due = [one for one in table.values() if one.due_at <= now < one.expires_at]
            due.sort(key=lambda one: (one.due_at, one.delivery_id))
            leased = [replace(one, due_at=until, attempts=one.attempts + 1) for one in due[:limit]]
            for one in leased:
                table[one.delivery_id] = one
            return leased

    async def delivered(self, delivery_id: str) -> bool:
        """Remove the delivery."""
        with self._state.step():
            return self._state.deliveries.pop(delivery_id, None) is not None

    async def failed(self, delivery_id: str, *, attempts: int, due_at: datetime) -> bool:
        """Make the delivery due at *due_at*, unless it was leased again."""
        with self._state.step():
            present = self._state.deliveries.get(delivery_id)
            if present is None or present.attempts != attempts:
                return False
            self._state.deliveries[delivery_id] = replace(present, due_at=due_at)
            return True

    async def waiting(self) -> Waiting:
        """Say how much there is."""
        with self._state.step():
            table = self._state.deliveries
            ends = min((one.expires_at for one in table.values()), default=None)
            return Waiting(deliveries=len(table), first_ends=ends)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* deliveries that are over."""
        with self._state.step():
            over = [key for key, one in self._state.deliveries.items() if one.expires_at <= now][:limit]
            for key in over:
                del self._state.deliveries[key]
            return len(over)
