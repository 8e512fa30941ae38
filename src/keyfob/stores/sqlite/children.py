"""Which children of logins an entry ended, in a SQLite file: a bounded look at rows in the order of an index, whatever is found."""

from __future__ import annotations

import sqlite3

from keyfob.base.identifiers import SessionId, shard_of
from keyfob.revocation.entry import Entry, Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import SessionPage
from keyfob.stores.children import (
    child_cursor,
    ends_sessions,
    ids_of_subject,
    is_ended_by,
    read_child_cursor,
)
from keyfob.stores.rows import SESSION_COLUMNS, Value, session_from, session_key

_SELECT = f"SELECT {SESSION_COLUMNS} FROM sessions AS s WHERE s.parent_session_id IS NOT NULL"  # noqa: S608 - constants


def ended_children(
    connection: sqlite3.Connection, entry: Entry, *, after: str | None, limit: int
) -> SessionPage:
    """Return those of the next *limit* rows that *entry* ended.

    Raises:
        InvalidRequest: *after* is no cursor.
    """
    if not ends_sessions(entry):
        return SessionPage([], None)
    behind = None if after is None else read_child_cursor(after)
    condition, values = _condition(connection, entry, behind)
    looked_at = _children(connection, f"{condition} LIMIT ?", *values, limit)
    if entry.scope is Scope.SESSION and behind is None and not looked_at:  # a child has none of its own
        looked_at = _children(connection, "s.session_id = ?", session_key(SessionId(entry.id)))
    page = [session for session in looked_at if is_ended_by(session, entry)]
    return SessionPage(page, child_cursor(looked_at[-1]) if len(looked_at) >= limit else None)


def _children(connection: sqlite3.Connection, condition: str, *values: Value) -> list[Session]:
    rows = connection.execute(f"{_SELECT} AND {condition}", values).fetchall()
    return [session_from(row) for row in rows]


def _condition(
    connection: sqlite3.Connection, entry: Entry, behind: tuple[SessionId, SessionId] | None
) -> tuple[str, list[Value]]:
    """Return which rows come next, and in which order: always that of an index, so that no row is looked at in vain."""
    parent, own = (b"", b"") if behind is None else (session_key(behind[0]), session_key(behind[1]))
    match entry.scope:
        case Scope.SESSION:
            key = session_key(SessionId(entry.id))
            return "s.parent_session_id = ? AND s.session_id > ? ORDER BY s.session_id", [key, own]
        case Scope.SUBJECT:
            (salt,) = connection.execute("SELECT salt FROM meta").fetchone()
            first, last = ids_of_subject(shard_of(salt, entry.id))
            return (
                "s.session_id BETWEEN ? AND ? AND s.session_id > ? ORDER BY s.session_id",
                [first, last, own],
            )
        case _:
            return (
                "(s.parent_session_id, s.session_id) > (?, ?) ORDER BY s.parent_session_id, s.session_id",
                [parent, own],
            )
