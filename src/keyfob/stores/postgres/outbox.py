"""Deliveries in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.grants.delivery import Cursor, Delivery, Waiting
from keyfob.grants.rules import check_delivery
from keyfob.stores.grant_rows import DELIVERY_COLUMNS, cursor_from, delivery_from, delivery_to
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.rows import moment
from keyfob.stores.texts import can_be_kept, require_texts

_COLUMNS = DELIVERY_COLUMNS.split(", ")
_MARKS = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
_INSERT = f"INSERT INTO keyfob.deliveries ({DELIVERY_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"  # noqa: S608 - constants
_LEASE = (
    "WITH due AS (SELECT delivery_id, due_at FROM keyfob.deliveries WHERE due_at <= $1 AND expires_at > $1"  # noqa: S608 - constants
    " ORDER BY due_at, delivery_id LIMIT $3 FOR UPDATE SKIP LOCKED)"
    " UPDATE keyfob.deliveries AS d SET due_at = $2, attempts = d.attempts + 1 FROM due"
    " WHERE d.delivery_id = due.delivery_id"
    f" RETURNING {', '.join(f'd.{column}' for column in _COLUMNS)}, due.due_at"
)


class PostgresOutboxStore:
    """An `OutboxStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def enqueue(
        self,
        consumer: str,
        deliveries: Sequence[Delivery],
        *,
        cursor_from: Cursor | None,
        cursor_to: Cursor,
    ) -> bool:
        """Queue *deliveries* if the cursor is still *cursor_from*.

        Where the connection was lost in the middle and the step is tried again, it may be False although nobody else did it.
        """
        require_texts(consumer)
        for one in deliveries:
            require_texts(one.delivery_id, one.kind, one.client_id)
            check_delivery(one)

        async def operation(transaction: Transaction) -> bool:
            connection = transaction.connection
            if not await _move_on(connection, consumer, cursor_from, cursor_to):
                return False
            await connection.executemany(_INSERT, [delivery_to(one) for one in deliveries])
            return True

        return await self._database.transact(operation)

    async def cursor(self, consumer: str) -> Cursor | None:
        """Return how far *consumer* has come."""
        if not can_be_kept(consumer):
            return None
        row = await self._database.read(
            lambda connection: connection.fetchrow(
                "SELECT consumer, timeline, position FROM keyfob.cursors WHERE consumer = $1", consumer
            )
        )
        return None if row is None else cursor_from(tuple(row))

    async def lease(self, now: datetime, *, until: datetime, limit: int) -> Sequence[Delivery]:
        """Return up to *limit* deliveries that are due, and make them due again at *until*."""

        async def operation(transaction: Transaction) -> list[Delivery]:
            rows = await transaction.connection.fetch(_LEASE, to_micros(now), to_micros(until), max(0, limit))
            rows.sort(key=lambda row: (row[-1], row[0]))
            return [delivery_from(tuple(row)[:-1]) for row in rows]

        return await self._database.transact(operation)

    async def delivered(self, delivery_id: str) -> bool:
        """Remove the delivery."""

        async def operation(transaction: Transaction) -> bool:
            gone = await transaction.connection.fetchval(
                "DELETE FROM keyfob.deliveries WHERE delivery_id = $1 RETURNING 1", delivery_id
            )
            return gone is not None

        return can_be_kept(delivery_id) and await self._database.transact(operation)

    async def failed(self, delivery_id: str, *, attempts: int, due_at: datetime) -> bool:
        """Make the delivery due at *due_at*, unless it was leased again."""

        async def operation(transaction: Transaction) -> bool:
            moved = await transaction.connection.fetchval(
                "UPDATE keyfob.deliveries SET due_at = $3 WHERE delivery_id = $1 AND attempts = $2 RETURNING 1",
                delivery_id,
                attempts,
                to_micros(due_at),
            )
            return moved is not None

        return can_be_kept(delivery_id) and await self._database.transact(operation)

    async def waiting(self) -> Waiting:
        """Say how much there is."""
        row = await self._database.read(
            lambda connection: connection.fetchrow("SELECT count(*), min(expires_at) FROM keyfob.deliveries")
        )
        assert row is not None  # an aggregate has one row
        return Waiting(deliveries=row[0], first_ends=moment(row[1]))

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* deliveries that are over, a few hundred in a transaction."""
        return await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_expired(transaction, now, portion)
        )


async def _move_on(connection: Connection, consumer: str, before: Cursor | None, after: Cursor) -> bool:
    """Move the cursor on; a statement that waits for another one's sees what that has left."""
    if before is None:
        moved = await connection.fetchval(
            "INSERT INTO keyfob.cursors (consumer, timeline, position) VALUES ($1, $2, $3)"
            " ON CONFLICT DO NOTHING RETURNING 1",
            consumer,
            after.timeline,
            after.position,
        )
        return moved is not None
    moved = await connection.fetchval(
        "UPDATE keyfob.cursors SET timeline = $2, position = $3"
        " WHERE consumer = $1 AND timeline = $4 AND position = $5 RETURNING 1",
        consumer,
        after.timeline,
        after.position,
        before.timeline,
        before.position,
    )
    return moved is not None


async def _delete_expired(transaction: Transaction, now: datetime, limit: int) -> int:
    gone = await transaction.connection.fetch(
        "DELETE FROM keyfob.deliveries WHERE delivery_id IN"
        " (SELECT delivery_id FROM keyfob.deliveries WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        to_micros(now),
        limit,
    )
    return len(gone)
