"""What moves a SQLite store: its rows as records, through connections of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from keyfob.base.clock import to_micros
from keyfob.revocation.entry import Head
from keyfob.stores.record_rows import FORMS
from keyfob.stores.records import AnyRecord, Kind
from keyfob.stores.sqlite.connections import connect_reader, connect_writer, patiently
from keyfob.stores.sqlite.faults import unavailable
from keyfob.stores.sqlite.options import SqliteOptions
from keyfob.stores.sqlite.revoking import head
from keyfob.stores.sqlite.transfer_rows import clear, put, remove, select

T = TypeVar("T")


class SqliteSnapshot:
    """A `Snapshot` of a SQLite file: a read transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path, now: datetime) -> None:
        self._connection = connection
        self._path = path
        self._now = now

    async def read(self, kind: Kind, *, after: str | None, limit: int) -> Sequence[AnyRecord]:
        """Return up to *limit* records behind *after*, read on another thread."""
        return await asyncio.to_thread(self._read, kind, after, limit)

    async def count(self, kind: Kind) -> int:
        """Return how many records of *kind* there are, counted on another thread."""
        return await asyncio.to_thread(self._count, kind)

    def _count(self, kind: Kind) -> int:
        condition = FORMS[kind].live.format(now=":now")
        statement = f"SELECT count(*) FROM {FORMS[kind].table} AS s WHERE {condition}"  # noqa: S608 - constants
        try:
            count: int = self._connection.execute(statement, {"now": to_micros(self._now)}).fetchone()[0]
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error
        return count

    def _read(self, kind: Kind, after: str | None, limit: int) -> list[AnyRecord]:
        form = FORMS[kind]
        values: dict[str, object] = {"now": to_micros(self._now), "limit": limit}
        condition = form.live.format(now=":now")
        if after is not None:
            names = [f"after{number}" for number in range(len(form.key))]
            values |= dict(zip(names, form.key_of(after), strict=True))
            key = ", ".join(f"s.{column}" for column in form.key)
            condition += f" AND ({key}) > ({', '.join(f':{name}' for name in names)})"
        try:
            rows = self._connection.execute(f"{select(kind, condition)} LIMIT :limit", values).fetchall()
            return [form.record(row) for row in rows]
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error


class SqliteTransfer:
    """A `Transfer` of a SQLite file."""

    def __init__(self, path: Path, options: SqliteOptions) -> None:
        """Take the existing file at *path*; nothing is opened before it is needed."""
        self._path = path
        self._options = options
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    @asynccontextmanager
    async def snapshot(self, now: datetime) -> AsyncIterator[SqliteSnapshot]:
        """Open one moment of the store."""
        connection = await asyncio.to_thread(self._begin_reading)
        try:
            yield SqliteSnapshot(connection, self._path, now)
        finally:
            connection.close()

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place in one transaction."""

        def operation(connection: sqlite3.Connection) -> None:
            for record in records:
                put(connection, record)

        await self.write(operation)

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys* in one transaction."""

        def operation(connection: sqlite3.Connection) -> None:
            for key in keys:
                remove(connection, kind, key)

        await self.write(operation)

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*, in one transaction."""

        def operation(connection: sqlite3.Connection) -> bool:
            if head(connection) != instead_of:
                return False
            for kind in kinds:
                clear(connection, kind)
            for page in pages:
                for record in page:
                    put(connection, record)
            return True

        return await self.write(operation)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what *query* reads of one moment, on another thread; no writer waits for it.

        Raises:
            StoreUnavailable: the file does not answer.
        """
        return await asyncio.to_thread(self._read, query)

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Carry *operation* out in one transaction, on another thread.

        Raises:
            StoreUnavailable: the file does not answer.
        """
        return await asyncio.to_thread(self._write, operation)

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._close)

    def _begin_reading(self) -> sqlite3.Connection:
        try:
            connection = connect_reader(self._path, self._options)
            try:
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM meta").fetchone()  # the moment is that of the first read
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error
        return connection

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._begin_reading()
        try:
            return query(connection)
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error
        finally:
            connection.close()

    def _write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = connect_writer(self._path, self._options)
                connection = self._connection
                patiently(connection, "BEGIN IMMEDIATE", self._options)
                try:
                    outcome = operation(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise unavailable(error, self._path) from error
            return outcome

    def _close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
