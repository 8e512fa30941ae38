"""One-time records in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.grants import rules
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.store import AmendOutcome, TakeOutcome
from keyfob.stores.grant_rows import ONE_TIME_COLUMNS, one_time_from, one_time_to
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions

_SELECT = f"SELECT {ONE_TIME_COLUMNS} FROM keyfob.one_times WHERE kind = $1"  # noqa: S608 - constants
_MARKS = ", ".join(f"${number}" for number in range(1, len(ONE_TIME_COLUMNS.split(", ")) + 1))
_INSERT = (
    f"INSERT INTO keyfob.one_times ({ONE_TIME_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING RETURNING 1"  # noqa: S608 - constants
)
_UPDATE = f"UPDATE keyfob.one_times SET ({ONE_TIME_COLUMNS}) = ROW ({_MARKS}) WHERE kind = $1 AND digest = $2"  # noqa: S608 - constants


class PostgresGrantStore:
    """A `GrantStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: OneTime) -> bool:
        """Add *record*, as the port says.

        Where the connection was lost in the middle and the step is tried again, it may be False although nobody else had it.
        """
        rules.check_one_time(record)

        async def operation(transaction: Transaction) -> bool:
            connection = transaction.connection
            if record.alias is not None:
                await connection.execute(
                    "UPDATE keyfob.one_times SET alias = NULL WHERE kind = $1 AND alias = $2 AND expires_at <= $3",
                    record.kind.value,
                    record.alias,
                    to_micros(record.created_at),
                )
            return await connection.fetchval(_INSERT, *one_time_to(record)) is not None

        return await self._database.transact(operation)

    async def find(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> OneTime | None:
        """Return the record that is open, or was taken and is kept."""
        record = await self._database.read(
            lambda connection: _one(connection, f"{_SELECT} AND digest = $2", kind, digest)
        )
        return rules.known(record, now)

    async def find_by_alias(self, kind: OneTimeKind, alias: bytes, *, now: datetime) -> OneTime | None:
        """Return the open record that has *alias*."""
        record = await self._database.read(
            lambda connection: _one(connection, f"{_SELECT} AND alias = $2", kind, alias)
        )
        return record if record is not None and rules.is_open(record, now) else None

    async def take(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> TakeOutcome:
        """Take the record."""

        async def operation(transaction: Transaction) -> TakeOutcome:
            outcome, after = rules.take(await _locked(transaction.connection, kind, digest), now)
            await _put(transaction.connection, after)
            return outcome

        return await self._database.transact(operation)

    async def amend(
        self, kind: OneTimeKind, digest: bytes, *, version: int, body: bytes, now: datetime
    ) -> AmendOutcome:
        """Replace the body if the record is still of *version*."""
        rules.check_body(body)

        async def operation(transaction: Transaction) -> AmendOutcome:
            present = await _locked(transaction.connection, kind, digest)
            outcome, after = rules.amend(present, version, body, now=now)
            await _put(transaction.connection, after)
            return outcome

        return await self._database.transact(operation)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* records that are kept no longer, a few hundred in a transaction."""
        return await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_expired(transaction, now, portion)
        )


async def _one(connection: Connection, query: str, kind: OneTimeKind, digest: bytes) -> OneTime | None:
    row = await connection.fetchrow(query, kind.value, digest)
    return None if row is None else one_time_from(tuple(row))


async def _locked(connection: Connection, kind: OneTimeKind, digest: bytes) -> OneTime | None:
    """Return the record as the last one left it: the statement that reads the row locks it."""
    return await _one(connection, f"{_SELECT} AND digest = $2 FOR UPDATE", kind, digest)


async def _put(connection: Connection, record: OneTime | None) -> None:
    if record is not None:
        await connection.execute(_UPDATE, *one_time_to(record))


async def _delete_expired(transaction: Transaction, now: datetime, limit: int) -> int:
    gone = await transaction.connection.fetch(
        "DELETE FROM keyfob.one_times AS o USING (SELECT kind, digest FROM keyfob.one_times WHERE kept_until <= $1"
        " LIMIT $2 FOR UPDATE SKIP LOCKED) AS over"
        " WHERE o.kind = over.kind AND o.digest = over.digest AND o.kept_until <= $1 RETURNING 1",
        to_micros(now),
        limit,
    )
    return len(gone)
