"""A SQLite store that is moved: its mark, and triggers that note changes and hold writers off.

Triggers are part of the file: no writer can miss one, whichever process or version it is.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from keyfob.base.errors import ConfigurationError
from keyfob.stores.moving import Changes, Mark, Role
from keyfob.stores.record_rows import FORMS
from keyfob.stores.records import AnyRecord, Kind
from keyfob.stores.sqlite.marks import read_mark
from keyfob.stores.sqlite.transfer import SqliteTransfer
from keyfob.stores.sqlite.transfer_rows import KEY_TEXTS, select
from keyfob.stores.sqlite.wake_up import POLL_INTERVAL

_EVENTS = (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
_TABLES = (*((form.table, kind) for kind, form in FORMS.items()), ("session_data", Kind.SESSIONS))


class SqliteMovable(SqliteTransfer):
    """A `Movable` SQLite file."""

    readers_leave = timedelta(seconds=10 * POLL_INTERVAL)

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        """Hold the lock of `<database>-copy.lock`."""
        import fcntl  # here, so that the rest runs on systems that have no such lock

        path = self._path.with_name(f"{self._path.name}-copy.lock")
        try:
            descriptor = await asyncio.to_thread(os.open, path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be made ({error.strerror})") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise ConfigurationError(
                f"another copy of {self._path} is at work; wait for it, or end it"
            ) from None
        finally:
            os.close(descriptor)

    async def mark(self) -> Mark | None:
        """Return the mark."""
        return await self.read(read_mark)

    async def set_mark(self, mark: Mark | None, *, replaces: Mark | None) -> bool:
        """Set the mark and its triggers in one transaction."""

        def operation(connection: sqlite3.Connection) -> bool:
            if read_mark(connection) != replaces:
                return False
            _put_mark(connection, mark)
            _put_triggers(connection, mark, before=replaces)
            return True

        return await self.write(operation)

    async def changes(self, limit: int) -> Changes:
        """Return changed rows, of one snapshot."""
        return await self.read(lambda connection: _changes(connection, limit))

    async def forget_changes(self, through: int) -> None:
        """Forget the changes up to *through*."""

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM changes WHERE number <= ?", (through,))

        await self.write(operation)


def _put_mark(connection: sqlite3.Connection, mark: Mark | None) -> None:
    connection.execute("DELETE FROM move")
    if mark is not None:
        connection.execute(
            "INSERT INTO move VALUES (1, ?, ?, ?, ?)",
            (mark.role.value, mark.copy_id, mark.place, mark.progress),
        )


def _put_triggers(connection: sqlite3.Connection, mark: Mark | None, *, before: Mark | None) -> None:
    noted = {Role.SOURCE, Role.FENCED, Role.MOVED}
    fenced = {Role.FENCED, Role.MOVED}
    for name, roles, statement in (("note", noted, _noting), ("fence", fenced, _fencing)):
        was = before is not None and before.role in roles
        is_ = mark is not None and mark.role in roles
        if was == is_:
            continue
        for table, kind in _TABLES:
            for event, row in _EVENTS:
                trigger = f"move_{name}_{table}_{event.lower()}"
                if was:
                    connection.execute(f"DROP TRIGGER {trigger}")
                else:
                    connection.execute(f"CREATE TRIGGER {trigger} {statement(kind, table, event, row)}")
    if mark is None:
        connection.execute("DELETE FROM changes")


def _noting(kind: Kind, table: str, event: str, row: str) -> str:
    key = KEY_TEXTS[kind].format(row)
    # Not INSERT OR REPLACE: within a trigger the conflict rule of the statement that fired it would count.
    return (
        f"AFTER {event} ON {table} BEGIN"  # noqa: S608 - constants
        f" DELETE FROM changes WHERE kind = '{kind.value}' AND key = {key};"
        f" INSERT INTO changes (kind, key) VALUES ('{kind.value}', {key}); END"
    )


def _fencing(_kind: Kind, table: str, event: str, _row: str) -> str:
    return f"BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'moving'); END"


def _changes(connection: sqlite3.Connection, limit: int) -> Changes:
    rows = connection.execute(
        "SELECT number, kind, key FROM changes ORDER BY number LIMIT ?", (limit,)
    ).fetchall()
    put: list[AnyRecord] = []
    removed: list[tuple[Kind, str]] = []
    for _, kind, key in rows:
        form = FORMS[Kind(kind)]
        condition = " AND ".join(f"s.{column} = ?" for column in form.key)
        row = connection.execute(select(Kind(kind), condition), form.key_of(key)).fetchone()
        if row is None:
            removed.append((Kind(kind), key))
        else:
            put.append(form.record(row))
    return Changes(through=rows[-1][0] if rows else 0, put=put, removed=removed)
