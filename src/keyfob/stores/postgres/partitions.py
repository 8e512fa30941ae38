"""Expired sessions leave by whole days: a partition for a day, or a few, of absolute ends, made ahead and dropped when they are over.

Whatever day has no partition goes to the default one, `sessions_other`, whose rows are deleted one by one. Both making and dropping lock
the table for everybody, for a millisecond; they wait for that lock for a moment only, so that nobody queues behind them, and try again
at the next cleaning. Of however many servers one does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import datetime
from functools import partial

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from keyfob.base.clock import to_micros, to_seconds
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.postgres.faults import RefusedStep
from keyfob.stores.postgres.locks import LockClass
from keyfob.stores.postgres.marks import meta_of, read_mark

DAYS_BEYOND = 2  # days that are made beyond the longest lifetime
MAX_AHEAD = 400  # days: sessions that live longer are deleted row by row
PARTITIONS_AHEAD = 8
_COUNTED = 10_000  # rows of a partition that are counted one by one; of more the server's estimate is told
_DAY = 86_400  # seconds
_DAY_MICROS = _DAY * 1_000_000
_PATIENCE = "SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '2s'"
_PREFIX = "sessions_from_"

Days = tuple[int, int]
"""The first day of a partition since the epoch, and the day after its last."""


class Partitions:
    """The partitions of one database, and what is deleted by them or beside them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, now: datetime) -> None:
        """Make the partitions of the days to come before anything is put there; return when this server, or another, has.

        What a table in use for long, or somebody who looks after them for long, prevents is left to the cleaning.
        """
        wanted, _ = await self._database.read(partial(due, now=now))
        with suppress(RefusedStep):
            for days in wanted:
                if not await self._database.transact(partial(_make, days=days, take_turn=_wait_for_turn)):
                    break

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Look after the partitions; return how many sessions left with one, or else up to *limit* expired ones of the default one."""
        if limit <= 0:
            return 0
        dropped = await self.keep_up(now)
        return dropped or await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_others(transaction, now, portion)
        )

    async def keep_up(self, now: datetime) -> int:
        """Make the partitions of the days to come and drop one that is over; return how many sessions left with it."""
        wanted, over = await self._database.read(partial(due, now=now))
        for days in wanted:
            if not await self._database.transact(partial(_make, days=days, take_turn=_is_my_turn)):
                break
        for days in over:
            if dropped := await self._database.transact(partial(_drop, days=days, now=now)):
                return dropped  # each takes the table for itself for a moment: whoever cleans may pause before the next
        return 0


async def cover(transaction: Transaction, days: Collection[int]) -> None:
    """Make partitions for *days*, where a store is filled: as wide as those that `Partitions` makes."""
    connection = transaction.connection
    there = await _partitions(connection)
    if {day for first, end in there for day in range(first, end)}.issuperset(days):
        return
    meta = await meta_of(connection)
    longest: int = await connection.fetchval(f"SELECT longest_session FROM {meta}")  # noqa: S608 - constants
    for missed in missing(there, min(days), longest // _DAY_MICROS):
        await _make(transaction, missed, _wait_for_turn)


async def due(connection: Connection, now: datetime) -> tuple[list[Days], list[Days]]:
    """Return the days whose partitions are to be made, and those that are over."""
    longest: int = await connection.fetchval("SELECT longest_session FROM keyfob.meta")
    there = await _partitions(connection)
    today = to_seconds(now) // _DAY
    return missing(there, today, longest // _DAY_MICROS), sorted(days for days in there if days[1] <= today)


def missing(there: Collection[Days], today: int, longest: int) -> list[Days]:
    """Return the partitions that are to be made beside those that are *there*, so that sessions of up to *longest* days have one.

    Each look-up by subject goes through all partitions, so there are few: eight or so for the longest lifetime, of whole days.
    """
    width = longest // PARTITIONS_AHEAD + 1
    covered = {day for days in there for day in range(*days)}
    found: list[Days] = []
    day = today
    while day <= today + min(longest, MAX_AHEAD) + DAYS_BEYOND:
        first = day
        while day not in covered and day < first + width:
            day += 1
        if day > first:
            found.append((first, day))
        else:
            day += 1
    return found


async def _partitions(connection: Connection) -> set[Days]:
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'keyfob.sessions'::regclass"
    )
    names = [row[0].removeprefix(_PREFIX).split("_") for row in rows if row[0].startswith(_PREFIX)]
    return {(int(first), int(end)) for first, end in names}


async def _is_my_turn(connection: Connection) -> bool:
    """Say whether nobody else looks after the partitions now; until the transaction ends nobody else will."""
    is_mine: bool = await connection.fetchval(
        "SELECT pg_try_advisory_xact_lock($1, 0)", LockClass.PARTITIONS.value
    )
    return is_mine


async def _wait_for_turn(connection: Connection) -> bool:
    """Wait until nobody else looks after the partitions."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, 0)", LockClass.PARTITIONS.value)
    return True


async def _make(
    transaction: Transaction, days: Days, take_turn: Callable[[Connection], Awaitable[bool]]
) -> bool:
    """Make the partitions of *days*; False if somebody else is at it, or the table is in use for too long."""
    connection = transaction.connection
    if not await take_turn(connection):
        return False
    if days in await _partitions(connection):
        return True
    if await connection.fetchval(
        "SELECT 1 FROM keyfob.sessions_other WHERE day >= $1 AND day < $2 LIMIT 1", *days
    ):
        return True  # the default partition holds sessions of that day, and keeps them
    await connection.execute(_PATIENCE)
    try:
        async with connection.transaction(isolation="read_committed"):  # a savepoint
            for table, room in (("sessions", " WITH (fillfactor = 80)"), ("session_data", "")):
                await connection.execute(
                    f"CREATE TABLE keyfob.{_name(table, days)} PARTITION OF keyfob.{table}"
                    f" FOR VALUES FROM ({days[0]:d}) TO ({days[1]:d}){room}"
                )
    except asyncpg.CheckViolationError:  # one came meanwhile
        return True
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
        return False
    return True


async def _drop(transaction: Transaction, days: Days, now: datetime) -> int:
    """Drop the partitions of *days* if everything in them is over; return how many sessions were in them, about."""
    connection = transaction.connection
    if not await _is_my_turn(connection) or days not in await _partitions(connection):
        return 0
    if await read_mark(connection) is not None:  # what is over for this clock may not be so for the copier's
        return 0
    table = f"keyfob.{_name('sessions', days)}"
    if await connection.fetchval(f"SELECT 1 FROM {table} WHERE expires_at > $1 LIMIT 1", to_micros(now)):  # noqa: S608 - a number
        return 0
    count = await _rough_count(connection, table)
    await connection.execute(_PATIENCE)
    try:
        async with connection.transaction(isolation="read_committed"):  # a savepoint
            await connection.execute(f"DROP TABLE {table}, keyfob.{_name('session_data', days)}")
    except asyncpg.LockNotAvailableError:
        return 0
    return count


async def _rough_count(connection: Connection, table: str) -> int:
    """Return how many rows *table* has, without reading millions of them."""
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {_COUNTED}) AS first"  # noqa: S608 - numbers
    )
    if count < _COUNTED:
        return count
    estimate: int = await connection.fetchval(
        "SELECT reltuples::bigint FROM pg_class WHERE oid = $1::text::regclass", table
    )
    return max(count, estimate)


def _name(table: str, days: Days) -> str:
    return f"{table}_from_{days[0]:d}_{days[1]:d}"


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
