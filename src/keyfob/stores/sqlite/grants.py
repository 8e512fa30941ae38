"""One-time records in SQLite."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.grants import rules
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.store import AmendOutcome, TakeOutcome
from keyfob.stores.grant_rows import ONE_TIME_COLUMNS, one_time_from, one_time_to
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.writer import Transaction

_SELECT = f"SELECT {ONE_TIME_COLUMNS} FROM one_times WHERE kind = ?"  # noqa: S608 - constants
_MARKS = ", ".join("?" * len(ONE_TIME_COLUMNS.split(", ")))
_INSERT = f"INSERT OR IGNORE INTO one_times ({ONE_TIME_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608 - constants
_REPLACE = f"INSERT OR REPLACE INTO one_times ({ONE_TIME_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608 - constants


class SqliteGrantStore:
    """A `GrantStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: OneTime) -> bool:
        """Add *record*, as the port says."""
        rules.check_one_time(record)

        def operation(transaction: Transaction) -> bool:
            connection = transaction.connection
            connection.execute(
                "UPDATE one_times SET alias = NULL WHERE kind = ? AND alias = ? AND expires_at <= ?",
                (record.kind.value, record.alias, to_micros(record.created_at)),
            )
            return connection.execute(_INSERT, one_time_to(record)).rowcount == 1

        return await self._database.write(operation)

    async def find(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> OneTime | None:
        """Return the record that is open, or was taken and is kept."""
        return rules.known(self._database.read(_find, kind, digest), now)

    async def find_by_alias(self, kind: OneTimeKind, alias: bytes, *, now: datetime) -> OneTime | None:
        """Return the open record that has *alias*."""
        record = self._database.read(_find_by_alias, kind, alias)
        return record if record is not None and rules.is_open(record, now) else None

    async def take(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> TakeOutcome:
        """Take the record."""

        def operation(transaction: Transaction) -> TakeOutcome:
            outcome, after = rules.take(_find(transaction.connection, kind, digest), now)
            _put(transaction.connection, after)
            return outcome

        return await self._database.write(operation)

    async def amend(
        self, kind: OneTimeKind, digest: bytes, *, version: int, body: bytes, now: datetime
    ) -> AmendOutcome:
        """Replace the body if the record is still of *version*."""
        rules.check_body(body)

        def operation(transaction: Transaction) -> AmendOutcome:
            present = _find(transaction.connection, kind, digest)
            outcome, after = rules.amend(present, version, body, now=now)
            _put(transaction.connection, after)
            return outcome

        return await self._database.write(operation)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* records that are kept no longer."""

        def operation(transaction: Transaction) -> int:
            return transaction.connection.execute(
                "DELETE FROM one_times WHERE (kind, digest) IN"
                " (SELECT kind, digest FROM one_times WHERE kept_until <= ? LIMIT ?)",
                (to_micros(now), limit),
            ).rowcount

        return await self._database.write(operation)


def _find(connection: sqlite3.Connection, kind: OneTimeKind, digest: bytes) -> OneTime | None:
    row = connection.execute(f"{_SELECT} AND digest = ?", (kind.value, digest)).fetchone()
    return None if row is None else one_time_from(row)


def _find_by_alias(connection: sqlite3.Connection, kind: OneTimeKind, alias: bytes) -> OneTime | None:
    row = connection.execute(f"{_SELECT} AND alias = ?", (kind.value, alias)).fetchone()
    return None if row is None else one_time_from(row)


def _put(connection: sqlite3.Connection, record: OneTime | None) -> None:
    if record is not None:
        connection.execute(_REPLACE, one_time_to(record))
