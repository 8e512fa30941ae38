"""The one place of the SQLite store in which an entry is appended, and what it ends; and how a session is read with its cut-offs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Timeline
from keyfob.revocation.entry import Entry, Head, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import RETENTION_MARGIN
from keyfob.sessions.session import Session
from keyfob.sessions.store import AlreadyEnded, Ended, EndOutcome, Found
from keyfob.stores.revoking import leaves_cut_off, next_entry
from keyfob.stores.rows import (
    ENTRY_COLUMNS,
    SESSION_COLUMNS,
    SESSION_WIDTH,
    Value,
    entry_to,
    holder_from,
    moment_micros,
    session_from,
    session_key,
)
from keyfob.stores.sqlite.events import write_event
from keyfob.stores.sqlite.writer import Transaction
from keyfob.stores.standing import Over, as_it_stands, is_live, over_since, over_without_parent

# One statement is one snapshot: the row, the head, what is known of its subject, and the three cut-offs that can cover the row.
_SELECT = f"""
    SELECT {SESSION_COLUMNS}, m.position, u.roles, u.disabled_at, a.position, a.at, b.position, b.at, c.position, c.at
    FROM sessions AS s
    CROSS JOIN meta AS m
    LEFT JOIN subjects AS u ON u.subject = s.subject
    LEFT JOIN cut_offs AS a ON a.scope = 'subject' AND a.id = s.subject
    LEFT JOIN cut_offs AS b ON b.scope = 'client' AND b.id = s.client_id
    LEFT JOIN cut_offs AS c ON c.scope = 'everything' AND c.id = ''
"""  # noqa: S608 - constants
_SELECT_ONE = f"{_SELECT} WHERE s.session_id = ?"
_HEAD = SESSION_WIDTH
_ROLES, _DISABLED_AT, _CUT_OFFS = _HEAD + 1, _HEAD + 2, _HEAD + 3
_NO_CUT_OFFS = (None,) * 6


def find(connection: sqlite3.Connection, session_id: SessionId, now: datetime) -> Found | None:
    """Return the session as it stands at *now*, and the head of the same snapshot.

    The parent of a child is read after it, so that its state is as new as the head or newer, never older.
    """
    row = connection.execute(_SELECT_ONE, (session_key(session_id),)).fetchone()
    if row is None:
        return None
    return Found(
        _standing_row(connection, row, now), Position(row[_HEAD]), holder_from(row[_ROLES], row[_DISABLED_AT])
    )


def find_live(connection: sqlite3.Connection, session_id: SessionId, now: datetime) -> Found | None:
    """Return the session if it is live at *now*."""
    found = find(connection, session_id, now)
    return found if found is not None and is_live(found.session, now) else None


def find_all(
    connection: sqlite3.Connection, condition: str, values: Iterable[Value], now: datetime
) -> list[Session]:
    """Return the sessions of which *condition* holds, each as it stands at *now*."""
    rows = connection.execute(f"{_SELECT} WHERE {condition}", tuple(values)).fetchall()
    return [_standing_row(connection, row, now) for row in rows]


def is_cut_off(connection: sqlite3.Connection, session: Session) -> bool:
    """Say whether a cut-off covers *session*, which may have no row."""
    row = connection.execute(
        "SELECT max(position) FROM cut_offs WHERE (scope = 'subject' AND id = ?) OR (scope = 'client' AND id = ?)"
        " OR (scope = 'everything' AND id = '')",
        (session.subject, session.client_id),
    ).fetchone()
    return row[0] is not None and row[0] > session.as_of


def end(transaction: Transaction, revocation: Revocation, now: datetime) -> EndOutcome:
    """Carry out *revocation*, as `SessionStore.end` says."""
    connection = transaction.connection
    if revocation.scope is Scope.SESSION:
        found = find(connection, SessionId(revocation.id), now)
        over = None if found is None else over_since(found.session, now)
        if over is not None:
            return AlreadyEnded(over.position)
    touched = _touched(connection, revocation, now)
    entry = append(transaction, revocation, now)
    _take_effect(connection, entry, touched)
    return Ended(entry, len(touched.ending))


def reappend(transaction: Transaction, entries: Sequence[Entry], event: Event, now: datetime) -> Head:
    """Append *entries*, which continue the head, as they were, and end what is in their scope."""
    for entry in entries:
        touched = _touched(transaction.connection, entry, now)
        _insert(transaction, entry)
        _take_effect(transaction.connection, entry, touched)
    write_event(transaction.connection, event)
    return head(transaction.connection)


def head(connection: sqlite3.Connection) -> Head:
    """Return the head of the feed."""
    timeline, position, chain = connection.execute("SELECT timeline, position, chain FROM meta").fetchone()
    return Head(timeline=Timeline(timeline), position=Position(position), chain=chain)


@dataclass(frozen=True, slots=True)
class _Touched:
    """The rows that an entry changes: those that are over by it, and those that it spares."""

    ending: Sequence[Session]
    kept: Sequence[Session]


def _touched(connection: sqlite3.Connection, revocation: Revocation | Entry, now: datetime) -> _Touched:
    """Return what *revocation* is about to change: to be read before its entry is there, since that would show it as changed."""
    if revocation.reach is Reach.CLAIMS:
        return _Touched((), ())
    kept = () if revocation.spared is None else _live_with_children(connection, revocation.spared, now)
    in_scope = _live_in_scope(connection, revocation, now)
    return _Touched([row for row in in_scope if not _is_spared(row, revocation.spared)], kept)


def _take_effect(connection: sqlite3.Connection, entry: Entry, touched: _Touched) -> None:
    if leaves_cut_off(entry):
        _cut_off(connection, entry)
    connection.executemany(
        "UPDATE sessions SET as_of = ? WHERE session_id = ?",
        [(entry.position, session_key(row.session_id)) for row in touched.kept],
    )
    connection.executemany(
        "UPDATE sessions SET ended_at = ?, ended_position = ? WHERE session_id = ?",
        [(to_micros(entry.at), entry.position, session_key(row.session_id)) for row in touched.ending],
    )


def append(transaction: Transaction, revocation: Revocation, now: datetime) -> Entry:
    """Append the entry of *revocation* behind the head, and write its event."""
    (longest,) = transaction.connection.execute("SELECT longest_credential FROM meta").fetchone()
    entry = append_entry(transaction, revocation, now, longest=timedelta(microseconds=longest))
    write_event(transaction.connection, revocation.event)
    return entry


def append_entry(
    transaction: Transaction, revocation: Revocation, now: datetime, *, longest: timedelta
) -> Entry:
    """Append the entry alone; *longest* is the longest lifetime of what it can cover."""
    connection = transaction.connection
    position, chain, last_at = connection.execute("SELECT position, chain, at FROM meta").fetchone()
    entry = next_entry(
        revocation,
        position=Position(position),
        chain=chain,
        last_at=from_micros(last_at),
        now=now,
        longest=longest,
    )
    _insert(transaction, entry)
    return entry


def _insert(transaction: Transaction, entry: Entry) -> None:
    connection = transaction.connection
    connection.execute(
        f"INSERT INTO entries ({ENTRY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        entry_to(entry),
    )
    connection.execute(
        "UPDATE meta SET position = ?, chain = ?, at = ?", (entry.position, entry.chain, to_micros(entry.at))
    )
    transaction.has_moved = True


def _standing_row(connection: sqlite3.Connection, row: tuple[Value, ...], now: datetime) -> Session:
    session = session_from(row)  # type: ignore[arg-type]  # the columns of _SELECT
    cut_offs = [] if row[_CUT_OFFS:] == _NO_CUT_OFFS else _cut_offs(row)
    if session.parent_session_id is None and not cut_offs:
        return session
    return as_it_stands(session, cut_offs=cut_offs, parent=_parent_over(connection, session, now))


def _cut_offs(row: tuple[Value, ...]) -> list[Over]:
    pairs = zip(row[_CUT_OFFS::2], row[_CUT_OFFS + 1 :: 2], strict=True)
    return [
        Over(from_micros(at), Position(position))
        for position, at in pairs
        if isinstance(position, int) and isinstance(at, int)
    ]


def _parent_over(connection: sqlite3.Connection, session: Session, now: datetime) -> Over | None:
    if session.parent_session_id is None:
        return None
    parent = find(connection, session.parent_session_id, now)
    return over_without_parent(session) if parent is None else over_since(parent.session, now)


def _live_in_scope(
    connection: sqlite3.Connection, revocation: Revocation | Entry, now: datetime
) -> list[Session]:
    """Return the live rows in scope that are worth listing; those of a client or of everything are left to the cut-off."""
    if revocation.scope is Scope.SESSION:
        return _live_with_children(connection, SessionId(revocation.id), now)
    if revocation.scope is not Scope.SUBJECT:
        return []
    rows = find_all(connection, "s.subject = ? AND s.ended_at IS NULL", (revocation.id,), now)
    return [row for row in rows if is_live(row, now)]


def _live_with_children(
    connection: sqlite3.Connection, session_id: SessionId, now: datetime
) -> list[Session]:
    key = session_key(session_id)
    rows = find_all(connection, "s.session_id = ?", (key,), now)
    rows += find_all(connection, "s.parent_session_id = ?", (key,), now)
    return [row for row in rows if is_live(row, now)]


def _is_spared(session: Session, spared: SessionId | None) -> bool:
    return spared is not None and spared in {session.session_id, session.parent_session_id}


def _cut_off(connection: sqlite3.Connection, entry: Entry) -> None:
    (longest,) = connection.execute("SELECT longest_session FROM meta").fetchone()
    until = entry.at + timedelta(microseconds=longest) + RETENTION_MARGIN
    connection.execute(
        "INSERT OR REPLACE INTO cut_offs (scope, id, position, at, until) VALUES (?, ?, ?, ?, ?)",
        (entry.scope.value, entry.id, entry.position, to_micros(entry.at), moment_micros(until)),
    )
