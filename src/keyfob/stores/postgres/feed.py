"""The feed in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, Timeline
from keyfob.grants.rules import READ_WITHIN
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.revocation import Revocation
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.postgres.revoking import begin_timeline, reappend
from keyfob.stores.revoking import check_continues
from keyfob.stores.rows import ENTRY_COLUMNS, entry_from, span_micros


class PostgresFeedStore:
    """A `FeedStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted: tuple[int, int] = (0, 0)  # the longest that this process was ever asked for
        self._longest: tuple[int, int] = (0, 0)  # what it found to be durable

    async def head(self) -> Head:
        """Return the head, read from the primary. Where the longest lifetimes went back with it, they are raised again first."""
        head, longest = await self._database.read(_head_and_longest)
        if longest[0] < self._wanted[0] or longest[1] < self._wanted[1]:  # a failover lost them
            self._longest = await self._database.transact(partial(_extend, wanted=self._wanted))
        return head

    async def read_after(self, position: Position, limit: int) -> Sequence[Entry]:
        """Return up to *limit* consecutive entries after *position*: from the first one that is left, up to the next gap."""
        return await self._database.read(partial(_read_after, position=position, limit=limit))

    async def live(self, now: datetime) -> tuple[Head, Sequence[Entry]]:
        """Return the live entries and the head of one snapshot."""
        return await self._database.read(partial(_live, now=now))

    async def extend_retention(self, *, credential: timedelta, session: timedelta) -> None:
        """Raise the longest lifetimes; a call that raises none does not go to the server."""
        wanted = (span_micros(credential) or 0, span_micros(session) or 0)
        self._wanted = (max(self._wanted[0], wanted[0]), max(self._wanted[1], wanted[1]))
        if wanted[0] > self._longest[0] or wanted[1] > self._longest[1]:
            self._longest = await self._database.transact(partial(_extend, wanted=wanted))

    async def reappend(
        self, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
    ) -> Head | None:
        """Append *entries* again where the head is still *instead_of*.

        Raises:
            ValueError: they do not continue it.
        """
        check_continues(entries, instead_of)
        return await self._database.transact(
            partial(reappend, entries=entries, instead_of=instead_of, event=event, now=now)
        )

    async def begin_timeline(
        self, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
    ) -> Head | None:
        """Begin a new timeline where the head is still *instead_of*."""
        return await self._database.transact(
            partial(begin_timeline, revocations=revocations, instead_of=instead_of, past=past, now=now)
        )

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* right after each commit of this process that appended, and within milliseconds of another's.

        Raises:
            StoreUnavailable: the store is closed.
        """
        return self._database.subscribe(wake)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Drop up to *limit* entries and cut-offs, a few hundred in a transaction."""
        return await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_expired(transaction, now, portion)
        )


async def read_head(connection: Connection) -> Head:
    row = await connection.fetchrow("SELECT timeline, position, chain FROM keyfob.meta")
    assert row is not None
    return Head(timeline=Timeline(row[0]), position=Position(row[1]), chain=row[2])


async def _head_and_longest(connection: Connection) -> tuple[Head, tuple[int, int]]:
    row = await connection.fetchrow(
        "SELECT timeline, position, chain, longest_credential, longest_session FROM keyfob.meta"
    )
    assert row is not None
    head = Head(timeline=Timeline(row[0]), position=Position(row[1]), chain=row[2])
    return head, (row[3], row[4])


async def _read_after(connection: Connection, position: Position, limit: int) -> list[Entry]:
    rows = await connection.fetch(
        f"SELECT {ENTRY_COLUMNS} FROM keyfob.entries WHERE position > $1 ORDER BY position LIMIT $2",  # noqa: S608 - constants
        position,
        limit,
    )
    return [entry_from(tuple(row)) for place, row in enumerate(rows) if row[0] == rows[0][0] + place]


async def _live(connection: Connection, now: datetime) -> tuple[Head, list[Entry]]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        head = await read_head(connection)
        rows = await connection.fetch(
            f"SELECT {ENTRY_COLUMNS} FROM keyfob.entries WHERE until IS NULL OR until > $1 ORDER BY position",  # noqa: S608 - constants
            to_micros(now),
        )
    return head, [entry_from(tuple(row)) for row in rows]


async def _extend(transaction: Transaction, wanted: tuple[int, int]) -> tuple[int, int]:
    connection = transaction.connection
    # Where none is raised, nothing is locked: what was read is committed, and lifetimes only grow, so whoever appends from now on sees as much.
    # Where one is, it waits for whoever raises another, and looks again.
    row = await connection.fetchrow(
        "UPDATE keyfob.meta SET longest_credential = greatest(longest_credential, $1),"
        " longest_session = greatest(longest_session, $2)"
        " WHERE longest_credential < $1 OR longest_session < $2 RETURNING longest_credential, longest_session",
        *wanted,
    )
    if row is None:
        row = await connection.fetchrow("SELECT longest_credential, longest_session FROM keyfob.meta")
        assert row is not None
    return row[0], row[1]


async def _delete_expired(transaction: Transaction, now: datetime, limit: int) -> int:
    connection = transaction.connection
    # Rows that somebody else deletes are left to him. A cut-off that is replaced meanwhile is looked at again, and stays.
    entries = await connection.fetch(
        "DELETE FROM keyfob.entries WHERE position IN"
        " (SELECT position FROM keyfob.entries WHERE until <= $1 AND (until <= $3 OR position <= coalesce("
        "(SELECT min(c.position) FROM keyfob.cursors AS c, keyfob.meta AS m WHERE c.timeline = m.timeline), position))"
        " ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        to_micros(now),
        limit,
        to_micros(now - READ_WITHIN),
    )
    cut_offs = await connection.fetch(
        "DELETE FROM keyfob.cut_offs AS c USING"
        " (SELECT scope, id FROM keyfob.cut_offs WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS gone"
        " WHERE c.scope = gone.scope AND c.id = gone.id AND c.until <= $1 RETURNING 1",
        to_micros(now),
        limit - len(entries),
    )
    return len(entries) + len(cut_offs)
