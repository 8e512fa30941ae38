"""What verifiers report, in SQLite."""

from __future__ import annotations

import sqlite3
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
from keyfob.stores.reporting import has_audience, has_room
from keyfob.stores.rows import DamagedRow
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.revoking import append_entry
from keyfob.stores.sqlite.writer import Transaction

_record_decoder = msgspec.msgpack.Decoder(VerifierRecord)
_record_encoder = msgspec.msgpack.Encoder()
_THIS_ONE = "client_id = ? AND name = ? AND instance = ?"


class SqliteReportStore:
    """A `ReportStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revoke_canary(self, *, now: datetime, period: timedelta) -> Entry | None:
        """Append the next canary's entry if it is due. Where it is not, no transaction begins."""
        if not self._database.read(_is_wanted, now, period):
            return None
        return await self._database.write(partial(_revoke_canary, now=now, period=period))

    async def report(self, reporter: Reporter, report: Report, *, now: datetime) -> bool:
        """Note *report* if there is room."""
        return await self._database.write(partial(_report, reporter=reporter, report=report, now=now))

    async def leave(self, reporter: Reporter) -> None:
        """Forget a verifier."""

        def operation(transaction: Transaction) -> None:
            transaction.connection.execute(f"DELETE FROM verifiers WHERE {_THIS_ONE}", _key(reporter))  # noqa: S608 - constants

        await self._database.write(operation)

    async def reports(self) -> Reports:
        """Return verifiers and canaries of one snapshot, read on another thread."""
        return await self._database.read_aside(_reports)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* verifiers that are silent for too long."""

        def operation(transaction: Transaction) -> int:
            return transaction.connection.execute(
                "DELETE FROM verifiers WHERE (client_id, name, instance) IN"
                " (SELECT client_id, name, instance FROM verifiers WHERE heard_at <= ? LIMIT ?)",
                (to_micros(now - FORGOTTEN_AFTER), limit),
            ).rowcount

        return await self._database.write(operation)


def _is_wanted(connection: sqlite3.Connection, now: datetime, period: timedelta) -> bool:
    last = _last(connection)
    (heard,) = connection.execute("SELECT max(heard_at) FROM verifiers").fetchone()
    last_heard = None if heard is None else from_micros(heard)
    return has_audience(last_heard, now) and is_due(last.at if last else None, now, period=period)


def _revoke_canary(transaction: Transaction, now: datetime, period: timedelta) -> Entry | None:
    connection = transaction.connection
    if not _is_wanted(connection, now, period):  # another process was faster
        return None
    last = _last(connection)
    number = last.number + 1 if last else 1
    entry = append_entry(transaction, revocation_of(number, now), now, longest=timedelta(0))
    connection.execute("INSERT INTO canaries VALUES (?, ?, ?)", (number, entry.position, to_micros(now)))
    connection.execute("DELETE FROM canaries WHERE number <= ?", (number - KEPT_CANARIES,))
    return entry


def _last(connection: sqlite3.Connection) -> Canary | None:
    row = connection.execute(
        "SELECT number, position, at FROM canaries ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return None if row is None else _canary(row)


def _report(transaction: Transaction, reporter: Reporter, report: Report, now: datetime) -> bool:
    connection = transaction.connection
    row = connection.execute(f"SELECT record FROM verifiers WHERE {_THIS_ONE}", _key(reporter)).fetchone()  # noqa: S608 - constants
    if row is None and not _has_room(connection, reporter):
        return False
    canaries = {canary.position: canary for canary in _canaries(connection)} if report.denials else {}
    known = None if row is None else _record(row[0])
    record = noted(known, reporter, report, canaries=canaries, now=now)
    connection.execute(
        "INSERT OR REPLACE INTO verifiers VALUES (?, ?, ?, ?, ?)",
        (*_key(reporter), to_micros(now), _record_encoder.encode(record)),
    )
    return True


def _has_room(connection: sqlite3.Connection, reporter: Reporter) -> bool:
    in_all, of_client = connection.execute(
        "SELECT count(*), coalesce(sum(client_id = ?), 0) FROM verifiers", (reporter.client_id,)
    ).fetchone()
    return has_room(of_client=of_client, in_all=in_all)


def _reports(connection: sqlite3.Connection) -> Reports:
    connection.execute("BEGIN")
    try:
        rows = connection.execute(
            "SELECT record FROM verifiers ORDER BY client_id, name, instance"
        ).fetchall()
        canaries = _canaries(connection)
    finally:
        connection.execute("ROLLBACK")
    return Reports([_record(row[0]) for row in rows], canaries)


def _canaries(connection: sqlite3.Connection) -> list[Canary]:
    rows = connection.execute("SELECT number, position, at FROM canaries ORDER BY number").fetchall()
    return [_canary(row) for row in rows]


def _canary(row: tuple[int, int, int]) -> Canary:
    return Canary(row[0], Position(row[1]), from_micros(row[2]))


def _record(raw: bytes) -> VerifierRecord:
    try:
        return _record_decoder.decode(raw)
    except msgspec.MsgspecError:
        raise DamagedRow("the record of a verifier") from None


def _key(reporter: Reporter) -> tuple[str, str, str]:
    return (reporter.client_id, reporter.name, reporter.instance)
