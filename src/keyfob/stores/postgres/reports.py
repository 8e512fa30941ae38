"""What verifiers report, in PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import msgspec

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import Position
from keyfob.revocation.canary import KEPT_CANARIES, Canary, is_due, revocation_of
from keyfob.revocation.entry import Entry
from keyfob.revocation.reports import (
    FORGOTTEN_AFTER,
    Report,
    Reporter,
    Reports,
    VerifierRecord,
    noted,
)
from keyfob.stores.postgres.connecting import Connection, Row
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.postgres.revoking import append_entry, lock_head
from keyfob.stores.reporting import has_audience, has_room
from keyfob.stores.rows import DamagedRow

_record_decoder = msgspec.msgpack.Decoder(VerifierRecord)
_record_encoder = msgspec.msgpack.Encoder()
_THIS_ONE = "client_id = $1 AND name = $2 AND instance = $3"


class PostgresReportStore:
    """A `ReportStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revoke_canary(self, *, now: datetime, period: timedelta) -> Entry | None:
        """Append the next canary's entry if it is due. Where it is not, no transaction begins."""
        if not await self._database.read(partial(_is_wanted, now=now, period=period)):
            return None
        return await self._database.transact(partial(_revoke_canary, now=now, period=period))

    async def report(self, reporter: Reporter, report: Report, *, now: datetime) -> bool:
        """Note *report* if there is room."""
        return await self._database.transact(partial(_report, reporter=reporter, report=report, now=now))

    async def leave(self, reporter: Reporter) -> None:
        """Forget a verifier."""

        async def operation(transaction: Transaction) -> None:
            await transaction.connection.execute(
                f"DELETE FROM keyfob.verifiers WHERE {_THIS_ONE}",  # noqa: S608 - constants
                *_key(reporter),
            )

        await self._database.transact(operation)

    async def reports(self) -> Reports:
        """Return verifiers and canaries of one snapshot."""
        return await self._database.read(_reports)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* verifiers that are silent for too long."""

        async def operation(transaction: Transaction) -> int:
            gone = await transaction.connection.fetch(
                "DELETE FROM keyfob.verifiers AS v USING (SELECT client_id, name, instance FROM keyfob.verifiers"
                " WHERE heard_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS gone"
                " WHERE (v.client_id, v.name, v.instance) = (gone.client_id, gone.name, gone.instance) RETURNING 1",
                to_micros(now - FORGOTTEN_AFTER),
                limit,
            )
            return len(gone)

        return await self._database.transact(operation)


async def _is_wanted(connection: Connection, now: datetime, period: timedelta) -> bool:
    last = await _last(connection)
    heard: int | None = await connection.fetchval("SELECT max(heard_at) FROM keyfob.verifiers")
    last_heard = None if heard is None else from_micros(heard)
    return has_audience(last_heard, now) and is_due(last.at if last else None, now, period=period)


async def _revoke_canary(transaction: Transaction, now: datetime, period: timedelta) -> Entry | None:
    connection = transaction.connection
    head = await lock_head(
        connection
    )  # whose turn it is, is decided under the lock that appending takes anyway
    if not await _is_wanted(connection, now, period):  # another process was faster
        return None
    last = await _last(connection)
    number = last.number + 1 if last else 1
    entry = await append_entry(transaction, revocation_of(number, now), now, head=head, longest=timedelta(0))
    await connection.execute(
        "INSERT INTO keyfob.canaries (number, position, at) VALUES ($1, $2, $3)",
        number,
        entry.position,
        to_micros(now),
    )
    await connection.execute("DELETE FROM keyfob.canaries WHERE number <= $1", number - KEPT_CANARIES)
    return entry


async def _last(connection: Connection) -> Canary | None:
    row = await connection.fetchrow(
        "SELECT number, position, at FROM keyfob.canaries ORDER BY number DESC LIMIT 1"
    )
    return None if row is None else _canary(row)


async def _report(transaction: Transaction, reporter: Reporter, report: Report, now: datetime) -> bool:
    connection = transaction.connection
    key = _key(reporter)
    select = f"SELECT record FROM keyfob.verifiers WHERE {_THIS_ONE}"  # noqa: S608 - constants
    row = await connection.fetchrow(f"{select} FOR UPDATE", *key)
    if row is None:
        # New ones come one after another, so that they are counted.
        await lock_names(connection, LockClass.REPORTS, [""])
        row = await connection.fetchrow(f"{select} FOR UPDATE", *key)
        if row is None and not await _has_room(connection, reporter):
            return False
    canaries = {canary.position: canary for canary in await _canaries(connection)} if report.denials else {}
    known = None if row is None else _record(row[0])
    record = noted(known, reporter, report, canaries=canaries, now=now)
    await connection.execute(
        "INSERT INTO keyfob.verifiers (client_id, name, instance, heard_at, record) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (client_id, name, instance) DO UPDATE SET heard_at = excluded.heard_at, record = excluded.record",
        *key,
        to_micros(now),
        _record_encoder.encode(record),
    )
    return True


async def _has_room(connection: Connection, reporter: Reporter) -> bool:
    row = await connection.fetchrow(
        "SELECT count(*), count(*) FILTER (WHERE client_id = $1) FROM keyfob.verifiers", reporter.client_id
    )
    assert row is not None
    return has_room(of_client=row[1], in_all=row[0])


async def _reports(connection: Connection) -> Reports:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(
            "SELECT record FROM keyfob.verifiers ORDER BY client_id, name, instance"
        )
        canaries = await _canaries(connection)
    return Reports([_record(row[0]) for row in rows], canaries)


async def _canaries(connection: Connection) -> list[Canary]:
    rows = await connection.fetch("SELECT number, position, at FROM keyfob.canaries ORDER BY number")
    return [_canary(row) for row in rows]


def _canary(row: Row) -> Canary:
    return Canary(row[0], Position(row[1]), from_micros(row[2]))


def _record(raw: bytes) -> VerifierRecord:
    try:
        return _record_decoder.decode(raw)
    except msgspec.MsgspecError:
        raise DamagedRow("the record of a verifier") from None


def _key(reporter: Reporter) -> tuple[str, str, str]:
    return (reporter.client_id, reporter.name, reporter.instance)
