"""Sessions in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from msgspec.structs import replace

from keyfob.base.clock import Clock, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId, Subject
from keyfob.base.opaque import TokenDigest
from keyfob.revocation.entry import Entry, Reach
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    Added,
    Current,
    CutOff,
    Ended,
    EndOutcome,
    Found,
    LimitReached,
    Renewal,
    Renewed,
    Replayed,
    Reused,
    Rotated,
    RotateOutcome,
    Seen,
    SessionData,
    SessionPage,
    Unknown,
)
from keyfob.stores import rotation
from keyfob.stores.revoking import (
    check_data,
    check_session,
    of_oldest,
    of_session,
    read_session_cursor,
    session_cursor,
)
from keyfob.stores.rotation import Verdict
from keyfob.stores.rows import (
    SESSION_WIDTH,
    details,
    moment_micros,
    replays,
    session_key,
    session_to,
    span_micros,
)
from keyfob.stores.sqlite.children import ended_children
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.events import write_event
from keyfob.stores.sqlite.faults import is_fenced
from keyfob.stores.sqlite.revoking import append, end, find, find_all, find_live, is_cut_off
from keyfob.stores.sqlite.writer import Transaction
from keyfob.stores.standing import counts_with, is_api_key, is_live, is_login
from keyfob.stores.texts import require_texts

_INSERT = f"INSERT INTO sessions VALUES ({', '.join('?' * SESSION_WIDTH)})"  # noqa: S608 - constants
_MAX_SCANNED = 2_000  # rows: what a page of a list looks at, however few of them are live (it runs on the caller's thread)
_DELETED_AT_ONCE = 200  # rows: how many are deleted in one transaction, so that others get in between


class SqliteSessionStore:
    """A `SessionStore` in a SQLite file."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(
        self, session: Session, *, limit: int, at_limit: AtLimit, event: Event
    ) -> Added | LimitReached | CutOff:
        """Add a session, as the port says.

        Raises:
            ValueError: an id of the wrong form or in use, an `as_of` past the head, a parent that is a child itself.
        """
        return await self._database.write(
            partial(_add, session=session, limit=limit, at_limit=at_limit, event=event)
        )

    async def find(self, session_id: SessionId) -> Found | None:
        """Return the session and the head position of one snapshot."""
        return self._database.read(find, session_id, self._clock.now())

    async def rotate(
        self,
        session_id: SessionId,
        presented: TokenDigest,
        successor: TokenDigest,
        *,
        generation: int,
        now: datetime,
        replay_window: timedelta,
        event: Event,
    ) -> RotateOutcome:
        """Make *successor* the current secret, as the port says."""

        def operation(transaction: Transaction) -> RotateOutcome:
            found = find_live(transaction.connection, session_id, now)
            if found is None:
                return Unknown()
            session = found.session
            match rotation.verdict(
                session, presented, successor, generation=generation, now=now, replay_window=replay_window
            ):
                case Verdict.ROTATE:
                    return Rotated(_put(transaction, rotation.rotated(session, successor, now)), found.as_of)
                case Verdict.KEEP:
                    return Current(_put(transaction, rotation.kept(session, now)), found.as_of)
                case Verdict.REPLAY:
                    after = _put(transaction, rotation.replayed(session, now))
                    closed = after.window_closed and not session.window_closed
                    return Replayed(after, found.as_of, closed)
                case Verdict.REUSE:
                    return _end_reused(transaction, session, now, event)
                case Verdict.REFUSE:
                    return Unknown()

        return await self._database.write(operation)

    async def renew(
        self, session_id: SessionId, renewal: Renewal, *, now: datetime, event: Event
    ) -> Renewed | Unknown:
        """Replace the secret, as the port says."""
        return await self._database.write(
            partial(_renew, session_id=session_id, renewal=renewal, now=now, event=event)
        )

    async def touch(self, seen: Sequence[Seen]) -> int:
        """Write activity; return how many rows moved."""
        return await self._database.write(partial(_touch, seen=seen)) if seen else 0

    async def end(self, revocation: Revocation, *, now: datetime) -> EndOutcome:
        """Append the entry and end what is in its scope."""
        require_texts(revocation.id, revocation.spared)
        return await self._database.write(partial(end, revocation=revocation, now=now))

    async def list(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live sessions, newest first. A page may be short of *limit* although more follow, where few of many are live."""
        return self._database.read(_list, subject, now=now, after=after, limit=limit, wanted=is_login)

    async def list_api_keys(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live API keys, newest first, of a page as `list` gives them."""
        return self._database.read(_list, subject, now=now, after=after, limit=limit, wanted=is_api_key)

    async def list_ended_children(self, entry: Entry, *, after: str | None, limit: int) -> SessionPage:
        """Return children that *entry* ended, by parent and id."""
        return self._database.read(ended_children, entry, after=after, limit=limit)

    async def read_data(self, session_id: SessionId) -> SessionData | None:
        """Return the data of a live session."""
        return self._database.read(_read_data, session_id, self._clock.now())

    async def write_data(self, session_id: SessionId, data: bytes, *, version: int, now: datetime) -> bool:
        """Write the data of a live session if *version* is still its version.

        Raises:
            ValueError: *data* is too long.
        """
        check_data(data)
        return await self._database.write(
            partial(_write_data, session_id=session_id, data=data, version=version, now=now)
        )

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* rows whose absolute end is reached, a few hundred in a transaction."""
        deleted = 0
        while deleted < limit:
            portion = min(_DELETED_AT_ONCE, limit - deleted)
            gone = await self._database.write(partial(_delete_expired, now=now, limit=portion))
            deleted += gone
            if gone < portion:
                break
        return deleted


def _add(
    transaction: Transaction, session: Session, limit: int, at_limit: AtLimit, event: Event
) -> Added | LimitReached | CutOff:
    connection = transaction.connection
    position, longest = connection.execute("SELECT position, longest_session FROM meta").fetchone()
    check_session(session, position)
    if is_cut_off(connection, session) or not _may_have_parent(connection, session):
        return CutOff()
    oldest = _too_many(connection, session, limit)
    if oldest and at_limit is AtLimit.DENY:
        return LimitReached()
    ended = [_make_room(transaction, old, session.created_at, event) for old in oldest]
    lifetime = span_micros(session.expires_at - session.created_at) or 0
    if lifetime > longest:
        connection.execute("UPDATE meta SET longest_session = ?", (lifetime,))
    try:
        connection.execute(_INSERT, session_to(session))
    except sqlite3.IntegrityError as error:
        if is_fenced(error):
            raise
        raise ValueError("a session with this id stands already") from None
    write_event(connection, event)
    return Added(tuple(ended))


def _may_have_parent(connection: sqlite3.Connection, session: Session) -> bool:
    if session.parent_session_id is None:
        return True
    found = find_live(connection, session.parent_session_id, session.created_at)
    if found is not None and found.session.parent_session_id is not None:
        raise ValueError("the parent of a session has no parent itself")
    return found is not None and found.session.subject == session.subject


def _too_many(connection: sqlite3.Connection, session: Session, limit: int) -> list[Session]:
    """Return the oldest sessions that must end for *session* to be one of at most *limit*."""
    if session.parent_session_id is not None:
        return []
    condition = "s.subject = ? AND s.parent_session_id IS NULL AND s.ended_at IS NULL"
    (not_ended,) = connection.execute(
        f"SELECT count(*) FROM sessions AS s WHERE {condition}",  # noqa: S608 - constants
        (session.subject,),
    ).fetchone()
    if not_ended < limit:  # an index alone says so; which of them are live needs their rows
        return []
    rows = find_all(connection, condition, (session.subject,), session.created_at)
    live = [row for row in rows if is_live(row, session.created_at) and counts_with(row, session)]
    live.sort(key=lambda row: (row.created_at, row.session_id))
    return live[: max(0, len(live) + 1 - limit)]


def _make_room(transaction: Transaction, old: Session, now: datetime, login: Event) -> Entry:
    outcome = end(transaction, of_oldest(old, login), now)
    assert isinstance(outcome, Ended)
    return outcome.entry


def _put(transaction: Transaction, session: Session) -> Session:
    """Write what a rotation may have changed."""
    transaction.connection.execute(
        "UPDATE sessions SET digest = ?, generation = ?, last_seen_at = ?, replays = ?, rotated_at = ?"
        " WHERE session_id = ?",
        (
            session.digest,
            session.generation,
            to_micros(session.last_seen_at),
            replays(session),
            moment_micros(session.rotated_at),
            session_key(session.session_id),
        ),
    )
    return session


def _end_reused(transaction: Transaction, session: Session, now: datetime, event: Event) -> Reused:
    outcome = end(transaction, of_session(session.session_id, event), now)
    assert isinstance(outcome, Ended)
    entry = outcome.entry
    ended = replace(session, ended_at=entry.at, ended_position=entry.position)
    return Reused(ended, entry, rotation.since_rotation(session, now))


def _renew(
    transaction: Transaction, session_id: SessionId, renewal: Renewal, now: datetime, event: Event
) -> Renewed | Unknown:
    found = find_live(transaction.connection, session_id, now)
    if found is None or not rotation.can_renew(found.session, renewal, now):
        return Unknown()
    entry = append(transaction, of_session(session_id, event, reach=Reach.CLAIMS), now)
    session = replace(rotation.renewed(found.session, renewal, now), as_of=entry.position)
    _put(transaction, session)
    transaction.connection.execute(
        "UPDATE sessions SET as_of = ?, details = ? WHERE session_id = ?",
        (session.as_of, details(session), session_key(session_id)),
    )
    return Renewed(session, entry)


def _touch(transaction: Transaction, seen: Sequence[Seen]) -> int:
    connection = transaction.connection
    moved: set[SessionId] = set()
    for use in sorted(seen, key=lambda use: use.at):
        found = find_live(connection, use.session_id, use.at)
        if found is not None and found.session.last_seen_at < use.at:
            connection.execute(
                "UPDATE sessions SET last_seen_at = ? WHERE session_id = ?",
                (to_micros(use.at), session_key(use.session_id)),
            )
            moved.add(use.session_id)
    return len(moved)


def _list(
    connection: sqlite3.Connection,
    subject: Subject | None,
    *,
    now: datetime,
    after: str | None,
    limit: int,
    wanted: Callable[[Session], bool],
) -> SessionPage:
    page: list[Session] = []
    cursor = after
    for _ in range(0, _MAX_SCANNED, limit + 1):
        rows = _older(connection, subject, now=now, after=cursor, limit=limit + 1)
        for row in rows:
            if wanted(row) and is_live(row, now):
                if len(page) == limit:
                    return SessionPage(page, cursor)
                page.append(row)
            cursor = session_cursor(row, to_micros(row.created_at))
        if len(rows) <= limit:
            return SessionPage(page, None)
    return SessionPage(page, cursor)


def _older(
    connection: sqlite3.Connection, subject: Subject | None, *, now: datetime, after: str | None, limit: int
) -> list[Session]:
    """Return up to *limit* rows that nobody ended, newest first, live or not."""
    conditions = ["s.ended_at IS NULL"]
    values: list[str | bytes | int | None] = []
    if subject is not None:
        conditions.append("s.subject = ?")
        values.append(subject)
    if after is not None:
        created_at, session_id = read_session_cursor(after)
        conditions.append("(s.created_at, s.session_id) < (?, ?)")
        values += [created_at, session_key(session_id)]
    order = "ORDER BY s.created_at DESC, s.session_id DESC LIMIT ?"
    return find_all(connection, f"{' AND '.join(conditions)} {order}", [*values, limit], now)


def _read_data(connection: sqlite3.Connection, session_id: SessionId, now: datetime) -> SessionData | None:
    # The session first: what is read after it is at most newer than the state that allowed it.
    if find_live(connection, session_id, now) is None:
        return None
    row = connection.execute(
        "SELECT data, version FROM session_data WHERE session_id = ?", (session_key(session_id),)
    ).fetchone()
    return SessionData(b"", 0) if row is None else SessionData(*row)


def _write_data(
    transaction: Transaction, session_id: SessionId, data: bytes, version: int, now: datetime
) -> bool:
    present = _read_data(transaction.connection, session_id, now)
    if present is None or present.version != version:
        return False
    transaction.connection.execute(
        "INSERT OR REPLACE INTO session_data (session_id, version, data) VALUES (?, ?, ?)",
        (session_key(session_id), version + 1, bytes(data)),
    )
    return True


def _delete_expired(transaction: Transaction, now: datetime, limit: int) -> int:
    # Two statements whatever the limit: each gives up the interpreter once, and waits for it where everybody else is busy.
    over = "(SELECT session_id FROM sessions WHERE expires_at <= ? ORDER BY expires_at, session_id LIMIT ?)"
    values = (to_micros(now), limit)
    connection = transaction.connection
    connection.execute(f"DELETE FROM session_data WHERE session_id IN {over}", values)  # noqa: S608 - a constant
    return connection.execute(f"DELETE FROM sessions WHERE session_id IN {over}", values).rowcount  # noqa: S608
