"""One database, as the ports of the store use it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.postgres.connecting import Connection, OpenTransaction, Pool, make_pool
from keyfob.stores.postgres.faults import FAULTS, at_opening, is_lost, is_worth_another_try, unavailable
from keyfob.stores.postgres.listening import Listener
from keyfob.stores.postgres.marks import why_closed
from keyfob.stores.postgres.options import PostgresOptions
from keyfob.stores.postgres.schema import check_schema, check_server
from keyfob.stores.wakers import Wakers

T = TypeVar("T")

MAX_WAITING = 10_000  # steps: beyond them callers are refused at once, rather than at their deadline
_TRIES = 3
_GOODBYE = 2.0  # seconds: how long `close` waits for what is under way


@dataclass(slots=True)
class Transaction:
    """What an operation works on. `has_moved` says that it appended to the feed."""

    connection: Connection
    has_moved: bool = False


Operation = Callable[[Transaction], Awaitable[T]]
Query = Callable[[Connection], Awaitable[T]]


class Database:
    """Carries out reads and transactions. Every verb raises `StoreUnavailable` for whatever the server or the network has to say.

    Everything happens on the event loop that opened it; what another loop asks for is carried over to it. A caller that is cancelled, or
    whose deadline has come, does not stop what it began: the step is done whole or not at all, and its connection is given back.
    """

    def __init__(self, options: PostgresOptions, pool: Pool, salt: bytes) -> None:
        self.salt = salt
        self.options = options
        self.wakers = Wakers()
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._steps: set[asyncio.Task[object]] = set()
        self._is_closed = False
        self._refusal: StoreUnavailable | None = None
        self._patience = options.connect_timeout.total_seconds()
        self._listener = Listener(options, self.wakers, read_position=self._read_position)

    @classmethod
    async def open(cls, options: PostgresOptions) -> Database:
        """Connect, and check that this version can work there.

        Raises:
            ConfigurationError: a wrong user, password or database, too old a server, another schema, or a store that has moved.
            StoreUnavailable: no primary answers.
        """
        try:
            pool = await make_pool(options)
        except FAULTS as error:
            raise at_opening(error, options.name) from None
        try:
            async with pool.acquire(timeout=options.deadline.total_seconds()) as connection:
                await check_server(connection, options.name)
                await check_schema(connection, options.name)
                salt: bytes = await connection.fetchval("SELECT salt FROM keyfob.meta")
        except FAULTS as error:
            pool.terminate()
            raise at_opening(error, options.name) from None
        except BaseException:
            pool.terminate()
            raise
        return cls(options, pool, salt)

    async def read(self, query: Query[T]) -> T:
        """Return what *query* reads with one statement, which sees one snapshot with all that was acknowledged.

        Several statements are several snapshots. A connection that turns out to be lost is replaced, and the query repeated.
        """
        return await self.at_home(lambda: self._step(query))

    async def transact(self, operation: Operation[T]) -> T:
        """Carry *operation* out as one transaction; return when it is durable.

        After a deadlock it is carried out again, from its beginning: it must change nothing but rows.
        """

        async def step(connection: Connection) -> T:
            transaction = Transaction(connection)
            outcome = await commit(transaction, operation)
            if transaction.has_moved:
                self.wakers.wake()
            return outcome

        return await self.at_home(lambda: self._step(step))

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* whenever the feed may have moved, by this process or another.

        Raises:
            StoreUnavailable: the store is closed.
        """
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        return self.wakers.add(wake)

    async def close(self) -> None:
        """Finish what is under way, for a moment, and close every connection. More than once is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        self.wakers.clear()
        await self.at_home(self._close)

    async def _close(self) -> None:
        await self._listener.close()
        if self._steps:
            await asyncio.wait(self._steps, timeout=_GOODBYE)
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._pool.close()
        except FAULTS:
            self._pool.terminate()

    async def at_home(self, begin: Callable[[], Coroutine[object, object, T]]) -> T:
        """Return what *begin* comes to on the event loop that opened the store.

        Raises:
            StoreUnavailable: that loop is closed.
        """
        if asyncio.get_running_loop() is self._loop:
            return await begin()
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begin(), self._loop))
        except RuntimeError:
            raise StoreUnavailable("the event loop that opened the store is closed") from None

    async def _step(self, query: Query[T]) -> T:
        """Carry *query* out in a task of its own, and wait for it until the deadline."""
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        if self._refusal is not None:
            raise type(self._refusal)(*self._refusal.args)
        if len(self._steps) >= MAX_WAITING:
            raise StoreUnavailable("too much waits for the database; try again")
        task = self._loop.create_task(self._patiently(query))
        self._steps.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait([task], timeout=self.options.deadline.total_seconds())
        if not done:
            raise unavailable(TimeoutError(), self.options.name)
        return task.result()

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._steps.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone: nobody else looks at it

    async def _patiently(self, query: Query[T]) -> T:
        """Carry *query* out; again on another connection if one is lost before a commit was asked for, and after a deadlock."""
        for tries_left in reversed(range(_TRIES)):
            try:
                async with self._pool.acquire(timeout=self._patience) as connection:
                    return await query(connection)
            except Unsure as unsure:
                await self._pool.expire_connections()
                raise unavailable(unsure.error, self.options.name) from None
            except FAULTS as error:
                if is_lost(error):
                    await self._pool.expire_connections()
                if isinstance(error, asyncpg.UndefinedTableError):
                    await self._look_whether_moved()
                if not tries_left or not is_worth_another_try(error):
                    raise unavailable(error, self.options.name) from None
        raise AssertionError("unreachable")

    async def _look_whether_moved(self) -> None:
        """Find out why a table is missing; where the store is closed, refuse everything from now on.

        Raises:
            StoreUnavailable: the store has moved, or is being filled.
        """
        try:
            async with self._pool.acquire(timeout=self._patience) as connection:
                self._refusal = await why_closed(connection, self.options.name)
        except FAULTS as error:
            raise unavailable(error, self.options.name) from None
        if self._refusal is not None:
            raise type(self._refusal)(*self._refusal.args)

    async def _read_position(self) -> int:
        position: int = await self.read(
            lambda connection: connection.fetchval("SELECT position FROM keyfob.meta")
        )
        return position


class Unsure(Exception):
    """A commit was asked for, and whether it took effect is not known."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


async def commit(transaction: Transaction, operation: Operation[T]) -> T:
    """Carry *operation* out as one transaction of a connection.

    Raises:
        Unsure: a commit was asked for, and whether it took effect is not known.
        Exception: one of `faults.FAULTS`, or what *operation* raised; nothing was changed.
    """
    manager = transaction.connection.transaction(isolation="read_committed")
    await manager.start()
    try:
        outcome = await operation(transaction)
    except BaseException:
        await _roll_back(manager)
        raise
    try:
        warnings = await _warned_commit(transaction.connection, manager)
    except FAULTS as error:
        raise Unsure(error) from None
    if warnings:
        raise Unsure(warnings[0])
    return outcome


async def _warned_commit(connection: Connection, manager: OpenTransaction) -> list[BaseException]:
    """Commit; return what the server warned of meanwhile.

    A commit that waits for a synchronous standby and is cancelled there (`pg_cancel_backend`) succeeds, says PostgreSQL, with a warning:
    it would be lost if the standby became the primary. Which warning it is only its text could tell, which is translated.
    """
    warnings: list[BaseException] = []

    def note(_: object, message: BaseException) -> None:
        if isinstance(message, asyncpg.PostgresWarning):
            warnings.append(message)

    connection.add_log_listener(note)
    try:
        await manager.commit()
    finally:
        connection.remove_log_listener(note)
    return warnings


async def _roll_back(manager: OpenTransaction) -> None:
    """Undo what was done; a connection that is lost has undone it already."""
    try:
        await manager.rollback()
    except FAULTS:
        return
