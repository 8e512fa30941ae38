"""One database file, as the ports of the store use it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from keyfob.base.errors import ConfigurationError
from keyfob.stores.moving import refusal
from keyfob.stores.sqlite.connections import OpenedFile, Readers
from keyfob.stores.sqlite.faults import spoils_connection, unavailable
from keyfob.stores.sqlite.marks import read_mark
from keyfob.stores.sqlite.options import SqliteOptions
from keyfob.stores.sqlite.wake_up import WakeUps, Watch
from keyfob.stores.sqlite.writer import Operation, Writer
from keyfob.stores.wakers import Wakers

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """Reads on the calling thread, writes by the one writer. Every verb raises `StoreUnavailable` for whatever SQLite has to say."""

    def __init__(self, path: Path, options: SqliteOptions) -> None:
        """Open the file at *path*, whose schema is that of this version.

        Raises:
            ConfigurationError: the store has moved to another place, or is not whole yet.
            StoreUnavailable: it cannot be opened.
        """
        self._file = OpenedFile(path)
        self._readers = Readers(path, options)
        fault = refusal(self.read(read_mark), str(path))
        if fault is not None:
            self._readers.close()
            raise ConfigurationError(str(fault))
        self._wakers = Wakers()
        self._wake_ups = WakeUps(path)
        try:
            self.salt: bytes = self.read(_salt)
            self._writer = Writer(self._file, options, on_moved=self._wake)
        except sqlite3.Error as error:
            self._readers.close()
            raise unavailable(error, path) from error
        self._watch = Watch(
            self._wakers,
            self._wake_ups,
            inspect=self._inspect,
            read_position=lambda: self.read(_position),
        )

    def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what *query* reads on this thread's connection. One statement sees one snapshot, with all that was acknowledged."""
        try:
            reader = self._readers.mine()
            with reader.lock:
                self._file.check()
                return query(reader.connection, *args, **kwargs)
        except sqlite3.Error as error:
            if spoils_connection(error):
                self._readers.drop_mine()
            raise unavailable(error, self._file.path) from error

    async def read_aside(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what *query* reads on another thread: for what may be long."""
        return await asyncio.to_thread(lambda: self.read(query, *args, **kwargs))

    async def write(self, operation: Operation[T]) -> T:
        """Carry *operation* out as one atomic step; return when it is durable."""
        return await self._writer.carry_out(operation)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* whenever the feed may have moved, by this process or another."""
        return self._watch.subscribe(wake)

    def close(self) -> None:
        """Finish what waits, and close the file, its log copied into it. More than once is harmless."""
        self._watch.close()
        self._readers.close()
        self._writer.close()  # the last connection: it is the one that may write

    def _inspect(self) -> None:
        """Look at the file, and at whether another store has taken its place."""
        self._file.inspect()
        fault = refusal(self.read(read_mark), str(self._file.path))
        if fault is not None:
            self._file.refuse(fault)

    def _wake(self) -> None:
        self._wakers.wake()
        self._wake_ups.send()


def _salt(connection: sqlite3.Connection) -> bytes:
    salt: bytes = connection.execute("SELECT salt FROM meta").fetchone()[0]
    return salt


def _position(connection: sqlite3.Connection) -> int:
    position: int = connection.execute("SELECT position FROM meta").fetchone()[0]
    return position
