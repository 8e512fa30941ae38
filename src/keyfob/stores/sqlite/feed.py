"""The feed in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.grants.rules import READ_WITHIN
from keyfob.revocation.entry import CHAIN_START, Entry, Head
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import LEAP
from keyfob.stores.revoking import check_continues, new_timeline
from keyfob.stores.rows import ENTRY_COLUMNS, entry_from, span_micros
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.revoking import end, head, reappend
from keyfob.stores.sqlite.writer import Transaction

_DELETED_AT_ONCE = 500  # rows: they are small, and lie together


class SqliteFeedStore:
    """A `FeedStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._longest = (0, 0)  # what this process knows to be durable: it only ever grows

    async def head(self) -> Head:
        """Return the head, read from the file."""
        return self._database.read(head)

    async def read_after(self, position: Position, limit: int) -> Sequence[Entry]:
        """Return up to *limit* consecutive entries after *position*: from the first one that is left, up to the next gap."""
        return self._database.read(_read_after, position, limit)

    async def live(self, now: datetime) -> tuple[Head, Sequence[Entry]]:
        """Return the live entries and the head of one snapshot. There may be a million: it is read on another thread."""
        return await self._database.read_aside(_live, now)

    async def extend_retention(self, *, credential: timedelta, session: timedelta) -> None:
        """Raise the longest lifetimes; a call that raises none does not go to the file."""
        wanted = (span_micros(credential) or 0, span_micros(session) or 0)
        if wanted[0] > self._longest[0] or wanted[1] > self._longest[1]:
            self._longest = await self._database.write(partial(_extend, wanted=wanted))

    async def reappend(
        self, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
    ) -> Head | None:
        """Append *entries* again where the head is still *instead_of*.

        Raises:
            ValueError: they do not continue it.
        """
        check_continues(entries, instead_of)
        return await self._database.write(
            partial(_reappend, entries=entries, instead_of=instead_of, event=event, now=now)
        )

    async def begin_timeline(
        self, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
    ) -> Head | None:
        """Begin a new timeline where the head is still *instead_of*."""
        return await self._database.write(
            partial(_begin_timeline, revocations=revocations, instead_of=instead_of, past=past, now=now)
        )

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* right after each commit of this process that appended, and within milliseconds of another's.

        Raises:
            StoreUnavailable: the store is closed.
        """
        return self._database.subscribe(wake)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Drop up to *limit* entries and cut-offs, a few hundred in a transaction."""
        deleted = 0
        while deleted < limit:
            portion = min(_DELETED_AT_ONCE, limit - deleted)
            gone = await self._database.write(partial(_delete_expired, now=now, limit=portion))
            deleted += gone
            if gone < portion:
                break
        return deleted


def _reappend(
    transaction: Transaction, entries: Sequence[Entry], instead_of: Head, event: Event, now: datetime
) -> Head | None:
    if head(transaction.connection) != instead_of:
        return None
    return reappend(transaction, entries, event, now)


def _begin_timeline(
    transaction: Transaction,
    revocations: Sequence[Revocation],
    instead_of: Head,
    past: Position,
    now: datetime,
) -> Head | None:
    connection = transaction.connection
    if head(connection) != instead_of:
        return None
    connection.execute(
        "UPDATE meta SET timeline = ?, position = max(position, ?) + ?, chain = ?",
        (new_timeline(), past, LEAP, CHAIN_START),
    )
    for revocation in revocations:
        end(transaction, revocation, now)
    return head(connection)


def _read_after(connection: sqlite3.Connection, position: Position, limit: int) -> list[Entry]:
    rows = connection.execute(
        f"SELECT {ENTRY_COLUMNS} FROM entries WHERE position > ? ORDER BY position LIMIT ?",  # noqa: S608 - constants
        (position, limit),
    ).fetchall()
    return [entry_from(row) for place, row in enumerate(rows) if row[0] == rows[0][0] + place]


def _live(connection: sqlite3.Connection, now: datetime) -> tuple[Head, list[Entry]]:
    connection.execute("BEGIN")
    try:
        reached = head(connection)
        rows = connection.execute(
            f"SELECT {ENTRY_COLUMNS} FROM entries WHERE until IS NULL OR until > ? ORDER BY position",  # noqa: S608 - constants
            (to_micros(now),),
        ).fetchall()
    finally:
        connection.execute("ROLLBACK")
    return reached, [entry_from(row) for row in rows]


def _extend(transaction: Transaction, wanted: tuple[int, int]) -> tuple[int, int]:
    connection = transaction.connection
    present = connection.execute("SELECT longest_credential, longest_session FROM meta").fetchone()
    longest = (max(wanted[0], present[0]), max(wanted[1], present[1]))
    if longest != present:
        connection.execute("UPDATE meta SET longest_credential = ?, longest_session = ?", longest)
    return longest


def _delete_expired(transaction: Transaction, now: datetime, limit: int) -> int:
    connection = transaction.connection
    entries = connection.execute(
        "DELETE FROM entries WHERE position IN (SELECT position FROM entries WHERE until <= ?"
        " AND (until <= ? OR position <= coalesce((SELECT min(position) FROM cursors"
        " WHERE timeline = (SELECT timeline FROM meta)), position)) ORDER BY until LIMIT ?)",
        (to_micros(now), to_micros(now - READ_WITHIN), limit),
    ).rowcount
    cut_offs = connection.execute(
        "DELETE FROM cut_offs WHERE (scope, id) IN (SELECT scope, id FROM cut_offs WHERE until <= ? LIMIT ?)",
        (to_micros(now), limit - entries),
    ).rowcount
    return entries + cut_offs
