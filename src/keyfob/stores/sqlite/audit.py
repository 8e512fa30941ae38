"""The audit trail in SQLite."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from functools import partial

from keyfob.audit.store import EventPage
from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.stores.revoking import cursor_number
from keyfob.stores.rows import Value, event_from
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.events import write_event
from keyfob.stores.sqlite.writer import Transaction

_DELETED_AT_ONCE = 500  # rows


class SqliteAuditStore:
    """An `AuditStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, event: Event) -> None:
        """Write one event durably."""

        def operation(transaction: Transaction) -> None:
            write_event(transaction.connection, event)

        await self._database.write(operation)

    async def list(
        self, *, subject: Subject | None = None, code: str | None = None, after: str | None = None, limit: int
    ) -> EventPage:
        """Return events, newest first."""
        before = None if after is None else cursor_number(after)
        return self._database.read(_list, subject=subject, code=code, before=before, limit=limit)

    async def delete_expired(self, before: datetime, limit: int) -> int:
        """Delete up to *limit* events from before *before*, the earliest first, a few hundred in a transaction."""
        deleted = 0
        while deleted < limit:
            portion = min(_DELETED_AT_ONCE, limit - deleted)
            gone = await self._database.write(partial(_delete_expired, before=before, limit=portion))
            deleted += gone
            if gone < portion:
                break
        return deleted


def _list(
    connection: sqlite3.Connection,
    *,
    subject: Subject | None,
    code: str | None,
    before: int | None,
    limit: int,
) -> EventPage:
    wanted: list[tuple[str, Value]] = [("number < ?", before), ("subject = ?", subject), ("code = ?", code)]
    given = [(condition, value) for condition, value in wanted if value is not None]
    where = f" WHERE {' AND '.join(condition for condition, _ in given)}" if given else ""
    rows = connection.execute(
        "SELECT number, at, code, actor, subject, session_id, client_id, address, reason, facts"  # noqa: S608 - constants
        f" FROM events{where} ORDER BY number DESC LIMIT ?",
        [*(value for _, value in given), limit + 1],
    ).fetchall()
    page = rows[:limit]
    is_last = len(rows) == len(page) or not page
    return EventPage([event_from(row[1:]) for row in page], None if is_last else str(page[-1][0]))


def _delete_expired(transaction: Transaction, before: datetime, limit: int) -> int:
    return transaction.connection.execute(
        "DELETE FROM events WHERE number IN (SELECT number FROM events WHERE at < ? ORDER BY at, number LIMIT ?)",
        (to_micros(before), limit),
    ).rowcount
