"""Which children of logins an entry ended, in PostgreSQL: a bounded look at rows in the order of an index, whatever is found."""

from __future__ import annotations

from typing import cast

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
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.rows import SESSION_COLUMNS, SessionRow, Value, session_from, session_key
from keyfob.stores.texts import can_be_kept

_SELECT = f"SELECT {SESSION_COLUMNS} FROM keyfob.sessions AS s WHERE s.parent_session_id IS NOT NULL"  # noqa: S608 - constants


async def ended_children(
    connection: Connection, entry: Entry, *, after: str | None, limit: int
) -> SessionPage:
    """Return those of the next *limit* rows that *entry* ended.

    Raises:
        InvalidRequest: *after* is no cursor.
    """
    if not ends_sessions(entry) or not can_be_kept(entry.id):
        return SessionPage([], None)
    behind = None if after is None else read_child_cursor(after)
    condition, values = await _condition(connection, entry, behind)
    looked_at = await _children(connection, f"{condition} LIMIT $1", limit, *values)
    if entry.scope is Scope.SESSION and behind is None and not looked_at:  # a child has none of its own
        looked_at = await _children(connection, "s.session_id = $1", session_key(SessionId(entry.id)))
    page = [session for session in looked_at if is_ended_by(session, entry)]
    return SessionPage(page, child_cursor(looked_at[-1]) if len(looked_at) >= limit else None)


async def _children(connection: Connection, condition: str, *values: Value) -> list[Session]:
    rows = await connection.fetch(f"{_SELECT} AND {condition}", *values)
    return [session_from(cast("SessionRow", tuple(row))) for row in rows]


async def _condition(
    connection: Connection, entry: Entry, behind: tuple[SessionId, SessionId] | None
) -> tuple[str, list[Value]]:
    """Return which rows come next, and in which order: always that of an index."""
    parent, own = (b"", b"") if behind is None else (session_key(behind[0]), session_key(behind[1]))
    match entry.scope:
        case Scope.SESSION:
            key = session_key(SessionId(entry.id))
            return "s.parent_session_id = $2 AND s.session_id > $3 ORDER BY s.session_id", [key, own]
        case Scope.SUBJECT:
            row = await connection.fetchrow("SELECT salt FROM keyfob.meta")
            assert row is not None  # a store has its row from the first migration on
            first, last = ids_of_subject(shard_of(row[0], entry.id))
            return (
                "s.session_id BETWEEN $2 AND $3 AND s.session_id > $4 ORDER BY s.session_id",
                [first, last, own],
            )
        case _:
            return (
                "(s.parent_session_id, s.session_id) > ($2, $3) ORDER BY s.parent_session_id, s.session_id",
                [parent, own],
            )
