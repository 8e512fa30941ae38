"""Counts of attempts at passwords in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from keyfob.accounts.rules import FAMILIARITY, THROTTLE_MEMORY
from keyfob.base.clock import from_micros, to_micros
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.writer import Transaction
from keyfob.stores.throttling import remembered, seconds_to_wait


class SqliteThrottleStore:
    """A `ThrottleStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attempt(self, keys: Sequence[str], *, now: datetime) -> float:
        """Count an attempt, or return how long it must wait. A key that is given twice counts once."""
        return await self._database.write(partial(_attempt, keys=keys, now=now))

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget the attempts under *keys*."""

        def operation(transaction: Transaction) -> None:
            transaction.connection.executemany("DELETE FROM attempts WHERE key = ?", [(key,) for key in keys])

        await self._database.write(operation)

    async def remember(self, key: str, *, now: datetime) -> None:
        """Remember *key* from *now* on, or from when it is remembered already if that is later."""

        def operation(transaction: Transaction) -> None:
            transaction.connection.execute(
                "INSERT INTO familiar (key, since) VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET since = max(since, excluded.since)",
                (key, to_micros(now)),
            )

        await self._database.write(operation)

    async def is_remembered(self, key: str, *, now: datetime) -> bool:
        """Say whether *key* is still remembered: at exactly `FAMILIARITY` no longer."""

        since = self._database.read(_familiar_since, key)
        return since is not None and now - since < FAMILIARITY

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* counts and familiar keys that are forgotten at *now*."""

        def operation(transaction: Transaction) -> int:
            connection = transaction.connection
            counts = connection.execute(
                "DELETE FROM attempts WHERE key IN (SELECT key FROM attempts WHERE last_at <= ? LIMIT ?)",
                (to_micros(now - THROTTLE_MEMORY), limit),
            ).rowcount
            familiar = connection.execute(
                "DELETE FROM familiar WHERE key IN (SELECT key FROM familiar WHERE since <= ? LIMIT ?)",
                (to_micros(now - FAMILIARITY), limit - counts),
            ).rowcount
            return counts + familiar

        return await self._database.write(operation)


def _familiar_since(connection: sqlite3.Connection, key: str) -> datetime | None:
    row = connection.execute("SELECT since FROM familiar WHERE key = ?", (key,)).fetchone()
    return None if row is None else from_micros(row[0])


def _attempt(transaction: Transaction, keys: Sequence[str], now: datetime) -> float:
    connection = transaction.connection
    at = to_micros(now)
    connection.executemany(
        "UPDATE attempts SET last_at = ? WHERE key = ? AND last_at > ?", [(at, key, at) for key in keys]
    )
    counts: dict[str, tuple[int, datetime]] = {}
    for key in keys:
        row = connection.execute("SELECT count, last_at FROM attempts WHERE key = ?", (key,)).fetchone()
        counts[key] = (0, now) if row is None else (row[0], from_micros(row[1]))
    wait = max((seconds_to_wait(count, last_at, now) for count, last_at in counts.values()), default=0.0)
    if wait > 0:
        return wait
    connection.executemany(
        "INSERT OR REPLACE INTO attempts (key, count, last_at) VALUES (?, ?, ?)",
        [(key, remembered(count, last_at, now) + 1, at) for key, (count, last_at) in counts.items()],
    )
    return 0.0
