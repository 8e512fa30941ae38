"""How sessions are read with their cut-offs, locked, and written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from keyfob.base.clock import from_micros
from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.session import Session
from keyfob.sessions.store import Holder
from keyfob.stores.postgres.connecting import Connection, Row
from keyfob.stores.rows import (
    SESSION_COLUMNS,
    SESSION_WIDTH,
    SessionRow,
    Value,
    holder_from,
    session_from,
    session_key,
    session_to,
)
from keyfob.stores.standing import Over, as_it_stands, over_since, over_without_parent
from keyfob.stores.texts import can_be_kept

# One statement is one snapshot: the row, the head, what is known of its subject, and the three cut-offs that can cover the row.
_COLUMNS = f"{SESSION_COLUMNS}, m.position, u.roles, u.disabled_at, a.position, a.at, b.position, b.at, c.position, c.at"
_BESIDE = """
    CROSS JOIN keyfob.meta AS m
    LEFT JOIN keyfob.subjects AS u ON u.subject = s.subject
    LEFT JOIN keyfob.cut_offs AS a ON a.scope = 'subject' AND a.id = s.subject
    LEFT JOIN keyfob.cut_offs AS b ON b.scope = 'client' AND b.id = s.client_id
    LEFT JOIN keyfob.cut_offs AS c ON c.scope = 'everything' AND c.id = ''
"""
_WANTED = (
    "unnest($1::int[], $2::bytea[]) AS w (day, id)"
    " JOIN keyfob.sessions AS s ON s.day = w.day AND s.session_id = w.id"
)
_SELECT_IDS = f"SELECT {_COLUMNS} FROM {_WANTED} {_BESIDE}"  # noqa: S608 - constants
_SELECT_WHERE = f"SELECT {_COLUMNS} FROM keyfob.sessions AS s {_BESIDE} WHERE "  # noqa: S608 - constants
_LOCK = f"SELECT s.session_id FROM {_WANTED} ORDER BY s.session_id FOR UPDATE OF s"  # noqa: S608 - constants
_HEAD = SESSION_WIDTH
_ROLES, _DISABLED_AT, _CUT_OFFS = _HEAD + 1, _HEAD + 2, _HEAD + 3
_NO_CUT_OFFS = (None,) * 6
_COLUMN_NAMES = [name.removeprefix("s.") for name in SESSION_COLUMNS.split(", ")]
_BYTES = {"session_id", "digest", "parent_session_id", "details"}
_TEXTS = {"subject", "client_id"}


def day_of(key: bytes) -> int:
    """Return the day of the absolute end that the key of a session holds."""
    return key[4] << 8 | key[5]


def _type_of(column: str) -> str:
    return "bytea" if column in _BYTES else "text" if column in _TEXTS else "bigint"


_INSERT = (
    f"INSERT INTO keyfob.sessions (day, {', '.join(_COLUMN_NAMES)})"  # noqa: S608 - constants
    " SELECT get_byte(w.session_id, 4) * 256 + get_byte(w.session_id, 5), w.* FROM unnest("
    + ", ".join(f"${number}::{_type_of(column)}[]" for number, column in enumerate(_COLUMN_NAMES, 1))
    + f") AS w ({', '.join(_COLUMN_NAMES)}) ON CONFLICT DO NOTHING RETURNING session_id"
)


@dataclass(slots=True)
class Known:
    """Sessions as their rows are, with all that says whether they stand; and the head of the snapshot, if there was a row."""

    position: Position | None = None
    listed: list[SessionId] = field(default_factory=list)
    """What was asked for, in the order in which it was read, without what was read beside it."""
    holders: dict[SessionId, Holder] = field(default_factory=dict)
    """What is recorded of the subject of each session that was read."""
    _rows: dict[SessionId, tuple[Session, list[Over]]] = field(default_factory=dict)

    def session(self, session_id: SessionId | None, now: datetime) -> Session | None:
        """Return a session as it stands at *now*; None if it has no row."""
        found = None if session_id is None else self._rows.get(session_id)
        if found is None:
            return None
        session, cut_offs = found
        if not cut_offs and session.parent_session_id is None:
            return session
        return as_it_stands(session, cut_offs=cut_offs, parent=self._parent_over(session, now))

    def sessions(self, session_ids: Iterable[SessionId], now: datetime) -> list[Session]:
        """Return those of *session_ids* that have a row, in their order, each as it stands at *now*."""
        found = (self.session(session_id, now) for session_id in session_ids)
        return [session for session in found if session is not None]

    def has(self, session_id: SessionId) -> bool:
        """Say whether a session has a row."""
        return session_id in self._rows

    def changed_by(self, revocation: Revocation) -> set[SessionId]:
        """Return the sessions that *revocation* may change."""
        match revocation.scope:
            case Scope.SESSION:
                ids = self._family_ids(SessionId(revocation.id))
            case Scope.SUBJECT:
                ids = {id_ for id_, (row, _) in self._rows.items() if row.subject == revocation.id}
            case _:
                ids = set()
        return ids if revocation.spared is None else ids | self._family_ids(revocation.spared)

    def _family_ids(self, session_id: SessionId) -> set[SessionId]:
        children = {id_ for id_, (row, _) in self._rows.items() if row.parent_session_id == session_id}
        return {session_id} | children

    def in_scope(self, entry: Entry, now: datetime) -> list[Session]:
        """Return the sessions that *entry* is about, each as it stands at *now*."""
        match entry.scope:
            case Scope.SESSION:
                return self.family(SessionId(entry.id), now)
            case Scope.SUBJECT:
                return [one for one in self.sessions(list(self._rows), now) if one.subject == entry.id]
            case _:
                return []

    def family(self, session_id: SessionId | None, now: datetime) -> list[Session]:
        """Return a session and its children."""
        if session_id is None:
            return []
        family = [row.session_id for row, _ in self._rows.values() if row.parent_session_id == session_id]
        return self.sessions([session_id, *family], now)

    def change(self, session: Session) -> None:
        """Take note of what is about to be written."""
        self._rows[session.session_id] = (session, self._rows[session.session_id][1])

    def take(self, rows: Iterable[Row]) -> list[SessionId]:
        """Take *rows* of a statement in; return their ids."""
        taken = []
        for row in rows:
            session = session_from(cast("SessionRow", row))
            self._rows[session.session_id] = (session, _cut_offs(row))
            self.holders[session.session_id] = holder_from(row[_ROLES], row[_DISABLED_AT])
            taken.append(session.session_id)
            if self.position is None:
                self.position = Position(row[_HEAD])
        return taken

    def missing_parents(self) -> set[SessionId]:
        """Return the parents that were not read yet."""
        parents = {session.parent_session_id for session, _ in self._rows.values()}
        return {parent for parent in parents if parent is not None and parent not in self._rows}

    def _parent_over(self, session: Session, now: datetime) -> Over | None:
        if session.parent_session_id is None:
            return None
        parent = self.session(session.parent_session_id, now)
        return over_without_parent(session) if parent is None else over_since(parent, now)


async def read_ids(connection: Connection, session_ids: Collection[SessionId]) -> Known:
    """Return what is known of *session_ids*.

    The parents of children are read after them, so that their state is as new as the head or newer, never older.
    """
    known = Known()
    known.take(await _fetch(connection, _SELECT_IDS, session_ids))
    await _read_parents(connection, known)
    return known


async def read_where(connection: Connection, condition: str, *values: Value) -> Known:
    """Return what is known of the sessions `s` of which *condition* holds."""
    known = Known()
    known.listed = known.take(await connection.fetch(_SELECT_WHERE + condition, *values))
    await _read_parents(connection, known)
    return known


async def subject_ids(connection: Connection, subjects: Iterable[str]) -> set[SessionId]:
    """Return the sessions of *subjects* that nobody ended."""
    kept = [subject for subject in subjects if can_be_kept(subject)]
    if not kept:
        return set()
    return _ids(
        await connection.fetch(
            "SELECT s.session_id FROM unnest($1::text[]) AS w (subject)"
            " JOIN keyfob.sessions AS s ON s.subject = w.subject AND s.ended_at IS NULL",
            kept,
        )
    )


async def child_ids(connection: Connection, session_ids: Iterable[SessionId]) -> set[SessionId]:
    """Return the children of sessions."""
    keys = [key for key in map(session_key, session_ids) if key is not None]
    if not keys:
        return set()
    return _ids(
        await connection.fetch(
            "SELECT s.session_id FROM unnest($1::bytea[]) AS w (id)"
            " JOIN keyfob.sessions AS s ON s.parent_session_id = w.id",
            keys,
        )
    )


async def lock_sessions(connection: Connection, session_ids: Collection[SessionId]) -> set[SessionId]:
    """Lock the rows of *session_ids* until the transaction ends, waiting for others; return those that there are.

    What they hold is to be read by a statement after this one.
    """
    return _ids(await _fetch(connection, _LOCK, session_ids))


async def lock_free_sessions(connection: Connection, session_ids: Collection[SessionId]) -> set[SessionId]:
    """Lock the rows of *session_ids* that nobody else holds; return those."""
    return _ids(await _fetch(connection, f"{_LOCK} SKIP LOCKED", session_ids))


async def insert_sessions(connection: Connection, sessions: Collection[Session]) -> set[SessionId]:
    """Write new rows; return the ids of those that were not taken."""
    rows = [session_to(session) for session in sessions]
    columns = [[row[number] for row in rows] for number in range(SESSION_WIDTH)]
    return _ids(await connection.fetch(_INSERT, *columns))


async def write_rows(connection: Connection, changes: Mapping[SessionId, Mapping[str, Value]]) -> None:
    """Write values into rows that are locked; the same columns into each."""
    if not changes:
        return
    columns = list(next(iter(changes.values())))
    keys = [_key(session_id) for session_id in changes]
    arrays = ", ".join(f"${number}::{_type_of(column)}[]" for number, column in enumerate(columns, 3))
    sets = ", ".join(f"{column} = w.{column}" for column in columns)
    await connection.execute(
        f"UPDATE keyfob.sessions AS s SET {sets} FROM unnest($1::int[], $2::bytea[], {arrays})"  # noqa: S608 - constants
        f" AS w (day, id, {', '.join(columns)}) WHERE s.day = w.day AND s.session_id = w.id",
        [day_of(key) for key in keys],
        keys,
        *([change[column] for change in changes.values()] for column in columns),
    )


async def _read_parents(connection: Connection, known: Known) -> None:
    parents = known.missing_parents()
    if parents:
        known.take(await _fetch(connection, _SELECT_IDS, parents))


async def _fetch(connection: Connection, statement: str, session_ids: Collection[SessionId]) -> list[Row]:
    keys = [key for key in map(session_key, session_ids) if key is not None]
    if not keys:
        return []
    return await connection.fetch(statement, [day_of(key) for key in keys], keys)


def _key(session_id: SessionId) -> bytes:
    key = session_key(session_id)
    assert key is not None
    return key


def _ids(rows: Iterable[Row]) -> set[SessionId]:
    return {SessionId(row[0].hex()) for row in rows}


def _cut_offs(row: Row) -> list[Over]:
    pairs = tuple(row[_CUT_OFFS:])
    if pairs == _NO_CUT_OFFS:
        return []
    return [
        Over(from_micros(at), Position(position))
        for position, at in zip(pairs[::2], pairs[1::2], strict=True)
        if position is not None
    ]
