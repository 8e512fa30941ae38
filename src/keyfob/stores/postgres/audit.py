"""The audit trail in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import cast

from keyfob.audit.store import EventPage
from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.postgres.events import write_events
from keyfob.stores.revoking import cursor_number
from keyfob.stores.rows import EVENT_COLUMNS, Row, event_from
from keyfob.stores.texts import can_be_kept


class PostgresAuditStore:
    """An `AuditStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, event: Event) -> None:
        """Write one event durably."""
        await self._database.transact(lambda transaction: write_events(transaction.connection, [event]))

    async def list(
        self, *, subject: Subject | None = None, code: str | None = None, after: str | None = None, limit: int
    ) -> EventPage:
        """Return events, newest first."""
        before = None if after is None else cursor_number(after)
        if not all(can_be_kept(text) for text in (subject, code) if text is not None):
            return EventPage([], None)
        return await self._database.read(
            partial(_list, subject=subject, code=code, before=before, limit=limit)
        )

    async def delete_expired(self, before: datetime, limit: int) -> int:
        """Delete up to *limit* events from before *before*, the earliest first, a few hundred in a transaction."""
        return await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_expired(transaction, before, portion)
        )


async def _list(
    connection: Connection, *, subject: Subject | None, code: str | None, before: int | None, limit: int
) -> EventPage:
    wanted: list[tuple[str, str | int | None]] = [
        ("number <", before),
        ("subject =", subject),
        ("code =", code),
    ]
    given = [(condition, value) for condition, value in wanted if value is not None]
    conditions = [f"{condition} ${number}" for number, (condition, _) in enumerate(given, 2)]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = await connection.fetch(
        f"SELECT number, {EVENT_COLUMNS} FROM keyfob.events{where} ORDER BY number DESC LIMIT $1",  # noqa: S608 - constants
        limit + 1,
        *(value for _, value in given),
    )
    page = rows[:limit]
    is_last = len(rows) == len(page) or not page
    return EventPage(
        [event_from(cast("Row", tuple(row[1:]))) for row in page], None if is_last else str(page[-1][0])
    )


async def _delete_expired(transaction: Transaction, before: datetime, limit: int) -> int:
    gone = await transaction.connection.fetch(
        "DELETE FROM keyfob.events WHERE number IN"
        " (SELECT number FROM keyfob.events WHERE at < $1 ORDER BY at, number LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        to_micros(before),
        limit,
    )
    return len(gone)
