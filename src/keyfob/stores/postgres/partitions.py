"""Expired sessions leave by whole days: a partition for each day of absolute ends, made ahead and dropped when the day is over.

Whatever day has no partition goes to the default one, `sessions_other`, whose rows are deleted one by one. Both making and dropping lock
the table for everybody, for a millisecond; they wait for that lock for a moment only, so that nobody queues behind them, and try again
at the next cleaning. Of however many servers one does it.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from keyfob.base.clock import to_micros, to_seconds
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.postgres.locks import LockClass

DAYS_BEYOND = 2  # days that are made beyond the longest lifetime
MAX_AHEAD = 400  # days: sessions that live longer are deleted row by row
_DAY = 86_400  # seconds
_DAY_MICROS = _DAY * 1_000_000
_PATIENCE = "SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '2s'"
_PREFIX = "sessions_day_"


class Partitions:
    """The partitions of one database, and what is deleted by them or beside them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Look after the partitions; return how many sessions left with one, or else up to *limit* expired ones of the default one."""
        if limit <= 0:
            return 0
        dropped = await self.keep_up(now)
        return dropped or await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_others(transaction, now, portion)
        )

    async def keep_up(self, now: datetime) -> int:
        """Make the partitions of the days to come and drop those that are over; return how many sessions left with them."""
        wanted, over = await self._database.read(partial(_due, now=now))
        for day in wanted:
            if not await self._database.transact(partial(_make, day=day)):
                break
        dropped = 0
        for day in over:
            dropped += await self._database.transact(partial(_drop, day=day, now=now))
        return dropped


async def _due(connection: Connection, now: datetime) -> tuple[list[int], list[int]]:
    """Return the days whose partitions are to be made, and those that are over."""
    longest: int = await connection.fetchval("SELECT longest_session FROM keyfob.meta")
    there = await _days(connection)
    today = to_seconds(now) // _DAY
    ahead = min(longest // _DAY_MICROS + DAYS_BEYOND, MAX_AHEAD)
    wanted = [day for day in range(today, today + ahead + 1) if day not in there]
    return wanted, sorted(day for day in there if day < today)


async def _days(connection: Connection) -> set[int]:
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'keyfob.sessions'::regclass"
    )
    names = [row[0].removeprefix(_PREFIX) for row in rows if row[0].startswith(_PREFIX)]
    return {int(name) for name in names}


async def _is_mine(connection: Connection) -> bool:
    """Say whether nobody else looks after the partitions now; until the transaction ends nobody else will."""
    is_mine: bool = await connection.fetchval(
        "SELECT pg_try_advisory_xact_lock($1, 0)", LockClass.PARTITIONS.value
    )
    return is_mine


async def _make(transaction: Transaction, day: int) -> bool:
    """Make the partitions of *day*; False if somebody else is at it, or the table is in use for too long."""
    connection = transaction.connection
    if not await _is_mine(connection):
        return False
    if day in await _days(connection):
        return True
    if await connection.fetchval("SELECT 1 FROM keyfob.sessions_other WHERE day = $1 LIMIT 1", day):
        return True  # the default partition holds sessions of that day, and keeps them
    await connection.execute(_PATIENCE)
    try:
        async with connection.transaction(isolation="read_committed"):  # a savepoint
            for table, room in (("sessions", " WITH (fillfactor = 80)"), ("session_data", "")):
                await connection.execute(
                    f"CREATE TABLE keyfob.{table}_day_{day:d} PARTITION OF keyfob.{table}"
                    f" FOR VALUES FROM ({day:d}) TO ({day + 1:d}){room}"
                )
    except asyncpg.CheckViolationError:  # one came meanwhile
        return True
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
        return False
    return True


async def _drop(transaction: Transaction, day: int, now: datetime) -> int:
    """Drop the partitions of *day* if everything in them is over; return how many sessions were in them."""
    connection = transaction.connection
    if not await _is_mine(connection) or day not in await _days(connection):
        return 0
    table = f"keyfob.{_PREFIX}{day:d}"
    if await connection.fetchval(f"SELECT 1 FROM {table} WHERE expires_at > $1 LIMIT 1", to_micros(now)):  # noqa: S608 - a number
        return 0
    count: int = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a number
    await connection.execute(_PATIENCE)
    try:
        async with connection.transaction(isolation="read_committed"):  # a savepoint
            await connection.execute(f"DROP TABLE {table}, keyfob.session_data_day_{day:d}")
    except asyncpg.LockNotAvailableError:
        return 0
    return count


async def _delete_others(transaction: Transaction, now: datetime, limit: int) -> int:
    rows = await transaction.connection.fetch(
        "WITH gone AS (DELETE FROM keyfob.sessions_other WHERE session_id IN"
        " (SELECT session_id FROM keyfob.sessions_other WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2"
        " FOR UPDATE SKIP LOCKED) RETURNING session_id, day),"
        " data AS (DELETE FROM keyfob.session_data AS d USING gone WHERE d.day = gone.day AND d.session_id = gone.session_id)"
        " SELECT 1 FROM gone",
        to_micros(now),
        limit,
    )
    return len(rows)
