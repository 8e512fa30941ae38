"""Deliveries in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from keyfob.base.clock import from_micros, to_micros
from keyfob.grants.delivery import Cursor, Delivery, Waiting
from keyfob.grants.rules import check_delivery
from keyfob.stores.records import CursorRow, DeliveryRow, encode
from keyfob.stores.redis.packing import raw
from keyfob.stores.redis.places import CURSORS, DELIVERIES, DUE, OVER
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.tables import read_record
from keyfob.stores.texts import can_be_kept, require_texts

_DELIVERY: Final = (DELIVERIES, DUE, OVER)


class RedisOutboxStore:
    """An `OutboxStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

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
        asked = {
            "consumer": consumer,
            "before": False if cursor_from is None else raw(_packed(consumer, cursor_from)),
            "after": raw(_packed(consumer, cursor_to)),
            "deliveries": [
                (
                    one.delivery_id,
                    raw(encode(DeliveryRow(delivery=one))),
                    to_micros(one.due_at),
                    to_micros(one.expires_at),
                )
                for one in deliveries
            ],
        }
        return bool(await self._server.step("enqueue", (DELIVERIES, DUE, OVER, CURSORS), asked))

    async def cursor(self, consumer: str) -> Cursor | None:
        """Return how far *consumer* has come."""
        if not can_be_kept(consumer):
            return None
        packed = await self._server.read(b"HGET", CURSORS, consumer)
        return None if packed is None else read_record(packed, CursorRow).cursor

    async def lease(self, now: datetime, *, until: datetime, limit: int) -> Sequence[Delivery]:
        """Return up to *limit* deliveries that are due, and make them due again at *until*."""
        asked = {"now": to_micros(now), "until_at": to_micros(until), "limit": limit}
        found = await self._server.step("lease", _DELIVERY, asked)
        return [
            replace(read_record(packed, DeliveryRow).delivery, due_at=until, attempts=attempts)
            for packed, attempts in found
        ]

    async def delivered(self, delivery_id: str) -> bool:
        """Remove the delivery."""
        if not can_be_kept(delivery_id):
            return False
        return bool(await self._server.step("delivered", _DELIVERY, {"id": delivery_id}))

    async def failed(self, delivery_id: str, *, attempts: int, due_at: datetime) -> bool:
        """Make the delivery due at *due_at*, unless it was leased again."""
        if not can_be_kept(delivery_id):
            return False
        asked = {"id": delivery_id, "attempts": attempts, "due": to_micros(due_at)}
        return bool(await self._server.step("failed", (DELIVERIES, DUE), asked))

    async def waiting(self) -> Waiting:
        """Say how much there is: two reads, of which the second may see a little more."""
        count = int(await self._server.read(b"ZCARD", OVER))
        first = await self._server.read(b"ZRANGE", OVER, b"0", b"0", b"WITHSCORES")
        if not count or not first:
            return Waiting()
        score = first[1] if len(first) == 2 else first[0][1]
        return Waiting(deliveries=count, first_ends=from_micros(int(float(score))))

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* deliveries that are over."""
        return int(await self._server.step("delivered", _DELIVERY, {"now": to_micros(now), "limit": limit}))


def _packed(consumer: str, cursor: Cursor) -> bytes:
    return encode(CursorRow(consumer=consumer, cursor=cursor))
