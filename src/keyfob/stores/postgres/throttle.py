"""Counts of attempts at passwords in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from keyfob.accounts.rules import FAMILIARITY, THROTTLE_MEMORY
from keyfob.base.clock import from_micros, to_micros
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.throttling import remembered, seconds_to_wait


class PostgresThrottleStore:
    """A `ThrottleStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attempt(self, keys: Sequence[str], *, now: datetime) -> float:
        """Count an attempt, or return how long it must wait. A key that is given twice counts once."""
        return await self._database.transact(partial(_attempt, keys=sorted(set(keys)), now=now))

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget the attempts under *keys*."""

        async def operation(transaction: Transaction) -> None:
            await lock_names(transaction.connection, LockClass.ATTEMPT, keys)
            await transaction.connection.execute(
                "DELETE FROM keyfob.attempts WHERE key = ANY($1::text[])", list(keys)
            )

        await self._database.transact(operation)

    async def remember(self, key: str, *, now: datetime) -> None:
        """Remember *key* from *now* on, or from when it is remembered already if that is later."""

        async def operation(transaction: Transaction) -> None:
            await transaction.connection.execute(
                "INSERT INTO keyfob.familiar AS f (key, since) VALUES ($1, $2)"
                " ON CONFLICT (key) DO UPDATE SET since = greatest(f.since, excluded.since)",
                key,
                to_micros(now),
            )

        await self._database.transact(operation)

    async def is_remembered(self, key: str, *, now: datetime) -> bool:
        """Say whether *key* is still remembered: at exactly `FAMILIARITY` no longer."""
        since: int | None = await self._database.read(
            lambda connection: connection.fetchval("SELECT since FROM keyfob.familiar WHERE key = $1", key)
        )
        return since is not None and now - from_micros(since) < FAMILIARITY

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* counts and familiar keys that are forgotten at *now*."""
        return await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_expired(transaction, now, portion)
        )


async def _attempt(transaction: Transaction, keys: list[str], now: datetime) -> float:
    connection = transaction.connection
    at = to_micros(now)
    await lock_names(connection, LockClass.ATTEMPT, keys)
    await connection.execute(
        "UPDATE keyfob.attempts SET last_at = $1 WHERE key = ANY($2::text[]) AND last_at > $1", at, keys
    )
    rows = await connection.fetch(
        "SELECT key, count, last_at FROM keyfob.attempts WHERE key = ANY($1::text[])", keys
    )
    counts: dict[str, tuple[int, datetime]] = dict.fromkeys(keys, (0, now))
    counts |= {key: (count, from_micros(last_at)) for key, count, last_at in rows}
    wait = max((seconds_to_wait(count, last_at, now) for count, last_at in counts.values()), default=0.0)
    if wait > 0:
        return wait
    await connection.execute(
        "INSERT INTO keyfob.attempts (key, count, last_at) SELECT w.*, $3::bigint FROM unnest($1::text[], $2::bigint[]) AS w"
        " ON CONFLICT (key) DO UPDATE SET count = excluded.count, last_at = excluded.last_at",
        list(counts),
        [remembered(count, last_at, now) + 1 for count, last_at in counts.values()],
        at,
    )
    return 0.0


async def _delete_expired(transaction: Transaction, now: datetime, limit: int) -> int:
    connection = transaction.connection
    # What is counted anew meanwhile is locked, and left.
    counts = await connection.fetch(
        "DELETE FROM keyfob.attempts WHERE key IN"
        " (SELECT key FROM keyfob.attempts WHERE last_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        to_micros(now - THROTTLE_MEMORY),
        limit,
    )
    familiar = await connection.fetch(
        "DELETE FROM keyfob.familiar WHERE key IN"
        " (SELECT key FROM keyfob.familiar WHERE since <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        to_micros(now - FAMILIARITY),
        limit - len(counts),
    )
    return len(counts) + len(familiar)
