"""Connections: how the file is opened, one reader a thread, and whether the file is still the one that was opened."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from urllib.parse import quote

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.sqlite.faults import is_busy
from keyfob.stores.sqlite.options import SqliteOptions

MMAP_SIZE = 0x7FFF0000  # bytes: the most that SQLite maps as it is usually built; reads of the file then cost no system call
CHECKPOINT_PAGES = 2000  # 8 MiB: how much of the log a commit may leave before it copies it into the file
JOURNAL_LIMIT = 64 << 20  # bytes: what a burst may leave of the log's length
READER_CACHE = -4096  # KiB, negative by SQLite's convention
WRITER_CACHE = -65536  # KiB
STATEMENTS = 256  # prepared statements that a connection keeps: more than there are
_RETRY = 0.001  # seconds


def create(path: Path, *, mode_of: Path) -> None:
    """Make an empty file at *path* if there is none, with the permissions of *mode_of*.

    Raises:
        sqlite3.OperationalError: it cannot be made.
    """
    sqlite3.connect(f"file:{quote(str(path))}?mode=rwc&modeof={quote(str(mode_of))}", uri=True).close()


def connect(path: Path, *, busy_milliseconds: int) -> sqlite3.Connection:
    """Open the existing file at *path*; transactions are begun and ended by hand.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
        timeout=0,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {busy_milliseconds:d}")
        connection.execute(f"PRAGMA mmap_size = {MMAP_SIZE}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, options: SqliteOptions) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    connection = connect(path, busy_milliseconds=options.busy_milliseconds // 5)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = {READER_CACHE}")
    return connection


def connect_writer(path: Path, options: SqliteOptions) -> sqlite3.Connection:
    """Open the connection that writes. It does not wait for locks once it is open: `patiently` does."""
    connection = connect(path, busy_milliseconds=options.busy_milliseconds)
    connection.execute(f"PRAGMA synchronous = {options.synchronous.value}")
    connection.execute("PRAGMA fullfsync = ON")  # where fsync alone leaves it in the disk's cache (macOS)
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT}")
    connection.execute(f"PRAGMA cache_size = {WRITER_CACHE}")
    connection.execute(
        "PRAGMA cell_size_check = ON"
    )  # a damaged page is noticed before something is built on it
    connection.execute("PRAGMA busy_timeout = 0")
    return connection


def patiently(connection: sqlite3.Connection, statement: str, options: SqliteOptions) -> None:
    """Execute *statement*, trying again each millisecond while another process holds the lock.

    SQLite's own waiting backs off to 100 ms, by which others that come later are served first.

    Raises:
        sqlite3.Error: the lock is still held after `busy_timeout`, or something else is wrong.
    """
    for _ in range(options.busy_milliseconds):
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            time.sleep(_RETRY)
        else:
            return
    connection.execute(statement)


class OpenedFile:
    """The file as it was opened: SQLite itself would go on using one that was removed or replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        """Remember the file at *path*.

        Raises:
            StoreUnavailable: there is none.
        """
        self.path = path
        self._pid = os.getpid()
        self._fault: str | None = None
        self._refusal: StoreUnavailable | None = None
        self._identity: tuple[int, int] | None = None
        self.inspect()

    def inspect(self) -> None:
        """Look at the file, and refuse to go on with another one, ever.

        Raises:
            StoreUnavailable: the file is gone or replaced, or was opened before a fork.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            self._fault = f"the database {self.path} is gone ({error.strerror}); put it back and restart"
        else:
            identity = found.st_dev, found.st_ino
            if self._identity not in {None, identity}:
                self._fault = f"the database {self.path} was replaced while open; restart this process"
            self._identity = identity
        self.check()

    def refuse(self, fault: StoreUnavailable) -> None:
        """Refuse everything from now on, as *fault* says."""
        self._refusal = fault

    def check(self) -> None:
        """Refuse what `inspect` has found wrong. It costs a read nothing; somebody must `inspect` often enough.

        Raises:
            StoreUnavailable: the file is gone or replaced, was opened before a fork, or has moved.
        """
        if self._refusal is not None:
            raise type(self._refusal)(*self._refusal.args)
        if self._fault is not None:
            raise StoreUnavailable(self._fault)
        if os.getpid() != self._pid:
            raise StoreUnavailable(
                f"the database {self.path} was opened before a fork; open it in each process"
            )


class _Reader:
    """The connection of one thread. The lock keeps `close` from closing it in the middle of a read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lock = threading.Lock()

    def __del__(self) -> None:
        self.connection.close()


class Readers:
    """A connection for each thread that reads, made at its first read and closed with the thread."""

    def __init__(self, path: Path, options: SqliteOptions) -> None:
        self._path = path
        self._options = options
        self._local = threading.local()
        self._all: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_closed = False

    def mine(self) -> _Reader:
        """Return the reader of this thread.

        Raises:
            StoreUnavailable: the store is closed.
            sqlite3.Error: no connection can be made.
        """
        reader: _Reader | None = getattr(self._local, "reader", None)
        return self._make() if reader is None or self._is_closed else reader

    def drop_mine(self) -> None:
        """Give up the connection of this thread; the next read makes another."""
        self._local.reader = None

    def close(self) -> None:
        """Close all, each when its read is over; further ones are refused."""
        with self._lock:
            self._is_closed = True
            readers = list(self._all)
        for reader in readers:
            with reader.lock:
                reader.connection.close()

    def _make(self) -> _Reader:
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            reader = _Reader(connect_reader(self._path, self._options))
            self._all.add(reader)
        self._local.reader = reader
        return reader
