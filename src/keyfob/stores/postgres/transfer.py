"""What moves a PostgreSQL store: its rows as records, through connections of its own, past a pooler where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from keyfob.base.clock import to_micros
from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Head
from keyfob.stores.postgres.connecting import Connection, DirectConnection, OpenTransaction, connect
from keyfob.stores.postgres.database import Transaction, Unsure, commit
from keyfob.stores.postgres.faults import FAULTS, is_lost, unavailable
from keyfob.stores.postgres.feed import read_head
from keyfob.stores.postgres.holding_off import WAITS, Hold, hold_off
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.marks import META, meta_of
from keyfob.stores.postgres.options import PostgresOptions
from keyfob.stores.postgres.partitions import cover
from keyfob.stores.postgres.reading import day_of
from keyfob.stores.postgres.transfer_rows import clear, count_rows, put, read_page, remove
from keyfob.stores.records import AnyRecord, Kind, SessionRow

T = TypeVar("T")

_PATIENCE = timedelta(hours=1)
"""How long a statement may take, and a snapshot may be idle: a page of a store that is loaded may take its time."""
_PAUSE = 0.1  # seconds between two tries to hold writers off: who queued behind the first has gone by then
_GOODBYE = 2.0  # seconds
_IN_USE = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class PostgresSnapshot:
    """A `Snapshot` of a PostgreSQL store: a transaction of isolation level REPEATABLE READ."""

    def __init__(self, connection: Connection, name: str, *, meta: str, now: datetime) -> None:
        self._connection = connection
        self._name = name
        self._meta = meta
        self._now = to_micros(now)

    async def read(self, kind: Kind, *, after: str | None, limit: int) -> Sequence[AnyRecord]:
        """Return up to *limit* records behind *after*."""
        try:
            return await read_page(
                self._connection, kind, meta=self._meta, now=self._now, after=after, limit=limit
            )
        except FAULTS as error:
            raise unavailable(error, self._name) from None

    async def count(self, kind: Kind) -> int:
        """Return how many records of *kind* there are."""
        try:
            return await count_rows(self._connection, kind, meta=self._meta, now=self._now)
        except FAULTS as error:
            raise unavailable(error, self._name) from None


class PostgresTransfer:
    """A `Transfer` of a PostgreSQL store. It belongs to one event loop; what it writes goes through one connection, a step at a time."""

    def __init__(self, options: PostgresOptions) -> None:
        """Take the existing store at *options*; nothing is opened before it is needed."""
        self._options = replace(options, statement_timeout=_PATIENCE, deadline=_PATIENCE)
        self._connection: DirectConnection | None = None
        self._idle: DirectConnection | None = None
        self._turn = asyncio.Lock()

    @property
    def name(self) -> str:
        """Return how messages call the database."""
        return self._options.name

    @asynccontextmanager
    async def snapshot(self, now: datetime) -> AsyncIterator[PostgresSnapshot]:
        """Open one moment of the store, on a connection of its own, which the next snapshot takes over."""
        connection, self._idle = self._idle, None
        if connection is None:
            connection = await self._connect_or_raise()
        try:
            moment, meta = await self._begin(connection)
            yield PostgresSnapshot(connection, self.name, meta=meta, now=now)
        except BaseException:
            await _hang_up(connection)
            raise
        try:
            await moment.rollback()
        except FAULTS as error:
            await _hang_up(connection)
            raise unavailable(error, self.name) from None
        spare, self._idle = self._idle, connection
        await _hang_up(spare)

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place in one transaction. Sessions get the partitions of their days first."""
        days = [day_of(bytes.fromhex(one.key)) for one in records if isinstance(one, SessionRow)]
        if days:
            await self.write(lambda connection: cover(Transaction(connection), days))

        async def operation(connection: Connection) -> None:
            await put(connection, records, meta=await meta_of(connection))

        await self.write(operation)

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys* in one transaction."""
        await self.write(lambda connection: remove(connection, kind, keys))

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*, in one transaction, for which writers wait and readers do not."""
        given = iter(pages)

        async def operation(connection: Connection) -> bool:
            if await read_head(connection) != instead_of:
                return False
            for kind in kinds:
                await clear(connection, kind)
            while (page := await asyncio.to_thread(next, given, None)) is not None:
                await put(connection, page, meta=META)
            await connection.execute(f"NOTIFY {CHANNEL}")
            return True

        return await self.write_alone(operation, hold=Hold.WRITERS)

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what *query* reads of one moment.

        Raises:
            StoreUnavailable: the server does not answer.
        """

        async def moment(connection: DirectConnection) -> T:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await query(connection)

        try:
            return await self._step(moment)
        except FAULTS as error:
            raise unavailable(error, self.name) from None

    async def write(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """Carry *operation* out in one transaction.

        Raises:
            StoreUnavailable: the server does not answer, or what it answered cannot be relied on.
        """
        try:
            return await self._write(operation)
        except FAULTS as error:
            raise unavailable(error, self.name) from None

    async def write_alone(self, operation: Callable[[Connection], Awaitable[T]], *, hold: Hold) -> T:
        """Carry *operation* out in one transaction, once everybody whom *hold* names is out of the store, while nobody comes in.

        Raises:
            StoreUnavailable: the server does not answer, or somebody stays for too long.
        """

        async def alone(connection: Connection, wait: timedelta) -> T:
            try:
                await hold_off(connection, hold, wait)
            except _IN_USE:
                raise _Occupied from None
            return await operation(connection)

        for wait in WAITS:
            try:
                return await self.write(lambda connection, wait=wait: alone(connection, wait))  # type: ignore[misc]  # a default of a lambda
            except _Occupied:
                await asyncio.sleep(_PAUSE)
        raise StoreUnavailable(
            f"the database {self.name} is in use for too long (a dump, a report, a transaction left open?);"
            " look at pg_stat_activity and try again"
        )

    async def close(self) -> None:
        """Close the connections."""
        connections = (self._connection, self._idle)
        self._connection = self._idle = None
        for connection in connections:
            await _hang_up(connection)

    async def _begin(self, connection: DirectConnection) -> tuple[OpenTransaction, str]:
        """Begin a snapshot; return it, and what the table `meta` is called in it."""
        moment = connection.transaction(isolation="repeatable_read", readonly=True)
        try:
            await moment.start()
            meta = await meta_of(connection)
            await connection.fetchval(f"SELECT 1 FROM {meta}")  # noqa: S608 - constants; the moment is that of the first read
        except FAULTS as error:
            raise unavailable(error, self.name) from None
        return moment, meta

    async def _connect_or_raise(self) -> DirectConnection:
        try:
            return await self._connect()
        except FAULTS as error:
            raise unavailable(error, self.name) from None

    async def _connected(self) -> DirectConnection:
        """Return the connection that writes."""
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> DirectConnection:
        options = self._options
        return await connect(options.listen_at or options.addresses, options, is_pooled=False)

    async def _write(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        async def step(connection: DirectConnection) -> T:
            try:
                return await commit(Transaction(connection), lambda open_: operation(open_.connection))
            except Unsure as unsure:
                await self._drop()
                raise unavailable(unsure.error, self.name) from None

        return await self._step(step)

    async def _step(self, step: Callable[[DirectConnection], Awaitable[T]]) -> T:
        async with self._turn:
            try:
                return await step(await self._connected())
            except asyncio.CancelledError:
                await self._drop()
                raise
            except FAULTS as error:
                if is_lost(error):
                    await self._drop()
                raise

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        await _hang_up(connection)


class _Occupied(Exception):
    """Somebody is in the store; nothing was changed."""


async def _hang_up(connection: DirectConnection | None) -> None:
    if connection is not None:
        with suppress(*FAULTS):
            await connection.close(timeout=_GOODBYE)
