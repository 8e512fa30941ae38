"""A PostgreSQL store that is moved: its mark, and triggers that note changes and hold writers off.

Triggers are part of the database: no writer can miss one, whichever process, machine or version it is. They are made and dropped while
nobody writes, so that what was under way before is in the first snapshot, and what comes after is noted or refused. A closed store is
explained in `marks.py`.

Numbers of changes are not in the order of commits. So what is forgotten is exactly what was handed out, by number, and a row that changes
again has a new one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.stores.moving import Changes, Mark, Role
from keyfob.stores.postgres.connecting import Connection, DirectConnection
from keyfob.stores.postgres.faults import FENCED_STATE
from keyfob.stores.postgres.holding_off import Hold
from keyfob.stores.postgres.listening import CHANNEL, POLL_INTERVAL
from keyfob.stores.postgres.locks import LockClass
from keyfob.stores.postgres.marks import CLOSED_META, META, meta_of, read_mark
from keyfob.stores.postgres.transfer import PostgresTransfer
from keyfob.stores.postgres.transfer_rows import KEY_TEXTS, read_keys
from keyfob.stores.record_rows import FORMS
from keyfob.stores.records import AnyRecord, Kind

_NOTED = frozenset({Role.SOURCE, Role.FENCED, Role.MOVED})
_FENCED = frozenset({Role.FENCED, Role.MOVED})
_CLOSED = frozenset({Role.MOVED, Role.TARGET})
_TABLES = {**{form.table: kind for kind, form in FORMS.items()}, "session_data": Kind.SESSIONS}


class PostgresMovable(PostgresTransfer):
    """A `Movable` PostgreSQL store."""

    readers_leave = timedelta(seconds=2 * POLL_INTERVAL)
    """What reads the store is refused at once (`marks.py`); this is for what a process answers from its memory."""

    _is_mine = False
    _handed_out: frozenset[int] = frozenset()

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        """Hold an advisory lock on the connection that writes: whoever loses it can change nothing any more."""

        async def lock(connection: Connection) -> bool:
            is_free: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1, 0)", LockClass.COPYING)
            return is_free

        if not await self.write(lock):
            raise ConfigurationError(f"another copy of {self.name} is at work; wait for it, or end it")
        self._is_mine = True
        try:
            yield
        finally:
            self._is_mine = False
            await self.close()

    async def mark(self) -> Mark | None:
        """Return the mark."""
        return await self.read(read_mark)

    async def set_mark(self, mark: Mark | None, *, replaces: Mark | None) -> bool:
        """Set the mark, its triggers, and the name of the table `meta` in one transaction."""
        before, after = _role(replaces), _role(mark)

        async def operation(connection: Connection) -> bool:
            await connection.execute("LOCK TABLE keyfob.move IN EXCLUSIVE MODE")
            if await read_mark(connection) != replaces:
                return False
            await _put_mark(connection, mark)
            await _change_role(connection, before, after)
            return True

        hold = _to_hold(before, after)
        if hold is None:
            return await self.write(operation)
        return await self.write_alone(operation, hold=hold)

    async def changes(self, limit: int) -> Changes:
        """Return changed rows, of one snapshot."""

        async def query(connection: Connection) -> Changes:
            rows = await connection.fetch(
                "SELECT number, kind, key FROM keyfob.changes ORDER BY number LIMIT $1", limit
            )
            self._handed_out = frozenset(row[0] for row in rows)
            return await _changes(
                connection, [(Kind(row[1]), row[2]) for row in rows], max(self._handed_out, default=0)
            )

        return await self.read(query)

    async def forget_changes(self, through: int) -> None:
        """Forget those of the changes up to *through* that were handed out last; one that is being noted again stays."""
        numbers = sorted(number for number in self._handed_out if number <= through)

        async def operation(connection: Connection) -> None:
            await connection.execute(
                "DELETE FROM keyfob.changes WHERE number IN"
                " (SELECT number FROM keyfob.changes WHERE number = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED)",
                numbers,
            )

        await self.write(operation)

    async def _connected(self) -> DirectConnection:
        if self._is_mine and self._connection is None:
            raise StoreUnavailable(f"the connection to {self.name} was lost meanwhile; run it again")
        return await super()._connected()


def _role(mark: Mark | None) -> Role | None:
    return None if mark is None else mark.role


async def _put_mark(connection: Connection, mark: Mark | None) -> None:
    await connection.execute("DELETE FROM keyfob.move")
    if mark is not None:
        await connection.execute(
            "INSERT INTO keyfob.move VALUES (1, $1, $2, $3, $4)",
            mark.role.value,
            mark.copy_id,
            mark.place,
            mark.progress,
        )


def _to_hold(before: Role | None, after: Role | None) -> Hold | None:
    """Return who must be out of the store when its role changes; None: nobody."""
    if before in _NOTED and after not in _NOTED:
        return Hold.EVERYBODY  # dropping a trigger asks for it
    if (before in _CLOSED) != (after in _CLOSED):
        return Hold.FOLLOWERS
    if before is after or (before, after) == (Role.FENCED, Role.SOURCE):
        return None
    return Hold.WRITERS


async def _change_role(connection: Connection, before: Role | None, after: Role | None) -> None:
    if before in _CLOSED and after not in _CLOSED:
        await connection.execute(f"ALTER TABLE {CLOSED_META} RENAME TO {META.removeprefix('keyfob.')}")
    if after in _NOTED:
        await _put_functions(connection, after)
    if (before in _NOTED) != (after in _NOTED):
        await (_put_triggers if after in _NOTED else _drop_triggers)(connection)
    if after is None:
        await connection.execute("DELETE FROM keyfob.changes")
    if after in _CLOSED and before not in _CLOSED:
        await connection.execute(f"ALTER TABLE {META} RENAME TO {CLOSED_META.removeprefix('keyfob.')}")
        await connection.execute(f"NOTIFY {CHANNEL}")


async def _put_functions(connection: Connection, role: Role | None) -> None:
    """Say what the triggers do. Dropping them would ask for every reader to be gone, which a fence that is called off cannot wait for."""
    for table, kind in _TABLES.items():
        if role in _FENCED:
            body = f"RAISE EXCEPTION 'moving' USING ERRCODE = '{FENCED_STATE}';"
        else:
            body = f"IF TG_OP = 'DELETE' THEN {_noting(kind, 'OLD')}; ELSE {_noting(kind, 'NEW')}; END IF; RETURN NULL;"
        await connection.execute(
            f"CREATE OR REPLACE FUNCTION keyfob.move_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
        )


def _noting(kind: Kind, row: str) -> str:
    return (
        f"INSERT INTO keyfob.changes (kind, key) VALUES ('{kind.value}', {KEY_TEXTS[kind].format(row)})"  # noqa: S608 - constants
        " ON CONFLICT (kind, key) DO UPDATE SET number = DEFAULT"
    )


async def _put_triggers(connection: Connection) -> None:
    for table in _TABLES:
        # For each row, and so in each partition: those are written to by their own names, too.
        await connection.execute(
            f"CREATE TRIGGER move AFTER INSERT OR UPDATE OR DELETE ON {await _place(connection, table)}"
            f" FOR EACH ROW EXECUTE FUNCTION keyfob.move_{table}()"
        )


async def _drop_triggers(connection: Connection) -> None:
    for table in _TABLES:
        await connection.execute(f"DROP TRIGGER move ON {await _place(connection, table)}")
        await connection.execute(f"DROP FUNCTION keyfob.move_{table}()")


async def _place(connection: Connection, table: str) -> str:
    return await meta_of(connection) if table == "meta" else f"keyfob.{table}"


async def _changes(connection: Connection, noted: Sequence[tuple[Kind, str]], through: int) -> Changes:
    meta = await meta_of(connection)
    put: list[AnyRecord] = []
    removed: list[tuple[Kind, str]] = []
    for kind in Kind:
        keys = [key for of_kind, key in noted if of_kind is kind]
        if keys:
            found = await read_keys(connection, kind, keys, meta=meta)
            put += found.values()
            removed += [(kind, key) for key in keys if key not in found]
    return Changes(through=through, put=put, removed=removed)
