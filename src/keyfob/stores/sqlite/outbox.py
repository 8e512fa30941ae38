"""Deliveries in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.grants.delivery import Cursor, Delivery, Waiting
from keyfob.grants.rules import check_delivery
from keyfob.stores.grant_rows import (
    CURSOR_COLUMNS,
    DELIVERY_COLUMNS,
    cursor_from,
    cursor_to,
    delivery_from,
    delivery_to,
)
from keyfob.stores.rows import moment
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.writer import Transaction
from keyfob.stores.texts import can_be_kept, require_texts

_MARKS = ", ".join("?" * len(DELIVERY_COLUMNS.split(", ")))
_DUE = (
    f"SELECT {DELIVERY_COLUMNS} FROM deliveries WHERE due_at <= ? AND expires_at > ?"  # noqa: S608 - constants
    " ORDER BY due_at, delivery_id LIMIT ?"
)
_INSERT = f"INSERT OR IGNORE INTO deliveries ({DELIVERY_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608 - constants


class SqliteOutboxStore:
    """An `OutboxStore` in a SQLite file."""

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
        """Queue *deliveries* if the cursor is still *cursor_from*."""
        require_texts(consumer)
        for one in deliveries:
            require_texts(one.delivery_id, one.kind, one.client_id)
            check_delivery(one)

        def operation(transaction: Transaction) -> bool:
            connection = transaction.connection
            if _cursor(connection, consumer) != cursor_from:
                return False
            _put_cursor(connection, consumer, cursor_to)
            connection.executemany(_INSERT, [delivery_to(one) for one in deliveries])
            return True

        return await self._database.write(operation)

    async def cursor(self, consumer: str) -> Cursor | None:
        """Return how far *consumer* has come."""
        if not can_be_kept(consumer):
            return None
        return self._database.read(_cursor, consumer)

    async def lease(self, now: datetime, *, until: datetime, limit: int) -> Sequence[Delivery]:
        """Return up to *limit* deliveries that are due, and make them due again at *until*."""

        def operation(transaction: Transaction) -> list[Delivery]:
            connection, at = transaction.connection, to_micros(now)
            rows = connection.execute(_DUE, (at, at, max(0, limit))).fetchall()
            leased = [
                replace(one, due_at=until, attempts=one.attempts + 1) for one in map(delivery_from, rows)
            ]
            connection.executemany(
                "UPDATE deliveries SET due_at = ?, attempts = ? WHERE delivery_id = ?",
                [(to_micros(until), one.attempts, one.delivery_id) for one in leased],
            )
            return leased

        return await self._database.write(operation)

    async def delivered(self, delivery_id: str) -> bool:
        """Remove the delivery."""
        if not can_be_kept(delivery_id):
            return False

        def operation(transaction: Transaction) -> bool:
            gone = transaction.connection.execute(
                "DELETE FROM deliveries WHERE delivery_id = ?", (delivery_id,)
            )
            return gone.rowcount == 1

        return await self._database.write(operation)

    async def failed(self, delivery_id: str, *, attempts: int, due_at: datetime) -> bool:
        """Make the delivery due at *due_at*, unless it was leased again."""
        if not can_be_kept(delivery_id):
            return False

        def operation(transaction: Transaction) -> bool:
            moved = transaction.connection.execute(
                "UPDATE deliveries SET due_at = ? WHERE delivery_id = ? AND attempts = ?",
                (to_micros(due_at), delivery_id, attempts),
            )
            return moved.rowcount == 1

        return await self._database.write(operation)

    async def waiting(self) -> Waiting:
        """Say how much there is."""
        return self._database.read(_waiting)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* deliveries that are over."""

        def operation(transaction: Transaction) -> int:
            return transaction.connection.execute(
                "DELETE FROM deliveries WHERE delivery_id IN"
                " (SELECT delivery_id FROM deliveries WHERE expires_at <= ? LIMIT ?)",
                (to_micros(now), limit),
            ).rowcount

        return await self._database.write(operation)


def _waiting(connection: sqlite3.Connection) -> Waiting:
    count, ends = connection.execute("SELECT count(*), min(expires_at) FROM deliveries").fetchone()
    return Waiting(deliveries=count, first_ends=moment(ends))


def _cursor(connection: sqlite3.Connection, consumer: str) -> Cursor | None:
    row = connection.execute(
        f"SELECT {CURSOR_COLUMNS} FROM cursors WHERE consumer = ?",  # noqa: S608 - constants
        (consumer,),
    ).fetchone()
    return None if row is None else cursor_from(row)


def _put_cursor(connection: sqlite3.Connection, consumer: str, cursor: Cursor) -> None:
    connection.execute(
        f"INSERT OR REPLACE INTO cursors ({CURSOR_COLUMNS}) VALUES (?, ?, ?)",  # noqa: S608 - constants
        cursor_to(consumer, cursor),
    )
