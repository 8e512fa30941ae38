"""The one writer of a process: whatever waits is carried out in one transaction, and committed once.

1. Wait for an operation; take whatever else waits by then. There is no timer: what one turn of an event loop asks for comes together.
2. `BEGIN IMMEDIATE`: from here on no other process writes.
3. Each operation in a savepoint of its own, so that one that fails takes nothing from the others.
4. One commit, which returns when the disk has it.
5. Whoever follows the feed is woken, then every caller is told. Nobody is told anything before.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.sqlite.connections import OpenedFile, connect_writer, patiently
from keyfob.stores.sqlite.faults import spoils_connection, unavailable
from keyfob.stores.sqlite.options import SqliteOptions

T = TypeVar("T")

MAX_BATCH = 256  # operations: how long the write lock is held at most, about 10 ms
MAX_WAITING = 10_000  # operations: beyond them callers are refused at once, rather than after a minute


@dataclass(slots=True)
class Transaction:
    """What an operation works on. `has_moved` says that it appended to the feed."""

    connection: sqlite3.Connection
    has_moved: bool = False


Operation = Callable[[Transaction], T]


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    operation: Operation[T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]


@dataclass(frozen=True, slots=True)
class _Done:
    value: object


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


_Outcome = _Done | _Failed


class Writer:
    """Carries operations out, from any thread and event loop. Its thread ends with `close`, or with the process."""

    def __init__(self, file: OpenedFile, options: SqliteOptions, *, on_moved: Callable[[], None]) -> None:
        """Open the connection and start the thread. *on_moved* is called after each commit that appended to the feed.

        Raises:
            sqlite3.Error: the file cannot be opened.
        """
        self._file = file
        self._options = options
        self._on_moved = on_moved
        self._connection: sqlite3.Connection | None = connect_writer(file.path, options)
        self._asked: dict[asyncio.AbstractEventLoop, list[_Job[object]]] = {}
        self._waiting: SimpleQueue[list[_Job[object]] | None] = SimpleQueue()
        self._count = 0  # jobs put and not yet taken
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="keyfob-sqlite-writer", daemon=True)
        self._thread.start()

    async def carry_out(self, operation: Operation[T]) -> T:
        """Carry *operation* out and return what it returned, once that is durable.

        A caller that is cancelled meanwhile does not stop it.

        Raises:
            StoreUnavailable: it cannot be written, or too much waits; or whatever *operation* raised, which then changed nothing.
        """
        loop = asyncio.get_running_loop()
        job: _Job[T] = _Job(operation, loop, loop.create_future())
        asked = self._asked.get(loop)
        if asked is None:
            self._asked[loop] = asked = []
            loop.call_soon(self._put_asked, loop)
        asked.append(job)  # type: ignore[arg-type]  # the queue does not ask what a job returns
        return await job.future

    def close(self) -> None:
        """Carry out what waits, refuse the rest, and return when the connection is closed. More than once is harmless."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._waiting.put(None)
        self._thread.join()

    def _put_asked(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over what one turn of *loop* asked for; refuse it if it cannot be carried out."""
        jobs = self._asked.pop(loop)
        with self._lock:
            if self._is_closed:
                refusal = "the store is closed"
            elif self._count + len(jobs) > MAX_WAITING:
                refusal = "too many writes wait for the database; try again"
            else:
                self._count += len(jobs)
                self._waiting.put(jobs)
                return
        _resolve([(job.future, _Failed(StoreUnavailable(refusal))) for job in jobs])

    def _run(self) -> None:
        is_open = True
        while is_open:
            jobs, is_open = self._take()
            for start in range(0, len(jobs), MAX_BATCH):
                batch = jobs[start : start + MAX_BATCH]
                _tell(batch, self._commit(batch))
        if self._connection is not None:
            self._connection.close()

    def _take(self) -> tuple[list[_Job[object]], bool]:
        """Wait for jobs; return all that are there, and whether more may come."""
        portion = self._waiting.get()
        jobs: list[_Job[object]] = []
        while portion is not None:
            jobs += portion
            try:
                portion = self._waiting.get_nowait()
            except Empty:
                break
        with self._lock:
            self._count -= len(jobs)
        return jobs, portion is not None

    def _commit(self, jobs: list[_Job[object]]) -> list[_Outcome]:
        try:
            return self._transact(jobs)
        except sqlite3.Error as error:
            self._abandon(error)
            return [_Failed(unavailable(error, self._file.path)) for _ in jobs]
        except StoreUnavailable as error:
            self._abandon(None)
            return [_Failed(type(error)(*error.args)) for _ in jobs]
        except Exception as error:
            self._abandon(None)
            logging.getLogger(__name__).exception("the writer of %s failed", self._file.path)
            return [_Failed(StoreUnavailable(f"the writer failed ({type(error).__name__})")) for _ in jobs]

    def _transact(self, jobs: list[_Job[object]]) -> list[_Outcome]:
        self._file.inspect()
        if self._connection is None:
            self._connection = connect_writer(self._file.path, self._options)
        connection = self._connection
        transaction = Transaction(connection)
        patiently(connection, "BEGIN IMMEDIATE", self._options)
        outcomes = [self._step(transaction, job.operation) for job in jobs]
        if not _is_in_transaction(connection):
            failed = next((outcome for outcome in outcomes if isinstance(outcome, _Failed)), None)
            raise StoreUnavailable(str(failed.error) if failed else "the transaction was lost")
        connection.execute("COMMIT")
        self._file.inspect()  # a commit into a file that was moved away is none
        if transaction.has_moved:
            self._on_moved()
        return outcomes

    def _step(self, transaction: Transaction, operation: Operation[object]) -> _Outcome:
        connection = transaction.connection
        if not _is_in_transaction(connection):
            return _Failed(StoreUnavailable("the transaction was lost; nothing was changed"))
        connection.execute("SAVEPOINT step")
        try:
            outcome: _Outcome = _Done(operation(transaction))
        except sqlite3.Error as error:
            outcome = _Failed(unavailable(error, self._file.path))
        except Exception as error:  # noqa: BLE001 - the caller's error, raised to the caller
            outcome = _Failed(error)
        if not _is_in_transaction(connection):  # some errors end it: a full disk, for one
            return outcome
        if isinstance(outcome, _Failed):
            connection.execute("ROLLBACK TO step")
        connection.execute("RELEASE step")
        return outcome

    def _abandon(self, error: sqlite3.Error | None) -> None:
        """Leave nothing of a transaction that failed; give the connection up if it may be no good any more."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            is_spoilt = error is not None and spoils_connection(error)
        except sqlite3.Error:
            is_spoilt = True
        if is_spoilt:
            self._connection = None
            connection.close()


def _is_in_transaction(connection: sqlite3.Connection) -> bool:
    return connection.in_transaction


def _tell(jobs: list[_Job[object]], outcomes: list[_Outcome]) -> None:
    """Resolve the futures, with one call to each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[object], _Outcome]]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_loop.setdefault(job.loop, []).append((job.future, outcome))
    for loop, resolved in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, resolved)
        except RuntimeError:  # the loop was closed: nobody waits there any more
            continue


def _resolve(resolved: list[tuple[asyncio.Future[object], _Outcome]]) -> None:
    for future, outcome in resolved:
        if future.done():  # cancelled
            continue
        match outcome:
            case _Done(value):
                future.set_result(value)
            case _Failed(error):
                future.set_exception(error)
