"""How a session is added in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import Added, CutOff, Ended, LimitReached
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.postgres.reading import child_ids, insert_sessions, lock_sessions, read_ids, read_where
from keyfob.stores.postgres.revoking import end
from keyfob.stores.revoking import check_session, of_oldest
from keyfob.stores.rows import span_micros
from keyfob.stores.standing import is_live

_MAY_STAND = """
    SELECT m.position, m.longest_session,
        (SELECT max(c.position) FROM keyfob.cut_offs AS c
         WHERE (c.scope = 'subject' AND c.id = $1) OR (c.scope = 'client' AND c.id = $2) OR (c.scope = 'everything' AND c.id = '')),
        (SELECT count(*) FROM keyfob.sessions AS s
         WHERE s.subject = $1 AND s.parent_session_id IS NULL AND s.ended_at IS NULL)
    FROM keyfob.meta AS m
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A session to be added, as `SessionStore.add` takes it."""

    session: Session
    limit: int
    at_limit: AtLimit
    event: Event


async def add(transaction: Transaction, addition: Addition) -> Added | LimitReached | CutOff:
    """Carry out *addition*.

    Logins of one subject come one after another, so that they are counted. A revocation does not wait for them: what it does not see of
    them, its cut-off covers.
    """
    connection, session = transaction.connection, addition.session
    await lock_names(connection, LockClass.SUBJECT, [session.subject])
    row = await connection.fetchrow(_MAY_STAND, session.subject, session.client_id)
    assert row is not None
    position, longest, cut_off, not_ended = row
    check_session(session, Position(position))
    if (cut_off is not None and cut_off > session.as_of) or not await _may_have_parent(connection, session):
        return CutOff()
    oldest = await _too_many(connection, session, addition.limit) if not_ended >= addition.limit else []
    if oldest and addition.at_limit is AtLimit.DENY:
        return LimitReached()
    ended = []
    # All of them before the first entry is appended: rows are locked before the head.
    await lock_sessions(connection, await _families(connection, oldest))
    for old in oldest:
        outcome = await end(transaction, of_oldest(old, addition.event), session.created_at)
        if isinstance(outcome, Ended):  # else somebody ended it meanwhile
            ended.append(outcome.entry)
    await _remember_lifetime(connection, session, longest)
    if not await insert_sessions(connection, [session]):
        raise ValueError("a session with this id stands already")
    await write_events(connection, [addition.event])
    return Added(tuple(ended))


async def _may_have_parent(connection: Connection, session: Session) -> bool:
    parent_id = session.parent_session_id
    if parent_id is None:
        return True
    parent = (await read_ids(connection, [parent_id])).session(parent_id, session.created_at)
    if parent is None or not is_live(parent, session.created_at):
        return False
    if parent.parent_session_id is not None:
        raise ValueError("the parent of a session has no parent itself")
    return parent.subject == session.subject


async def _too_many(connection: Connection, session: Session, limit: int) -> list[Session]:
    """Return the oldest sessions that must end for *session* to be one of at most *limit*."""
    if session.parent_session_id is not None:
        return []
    known = await read_where(
        connection,
        "s.subject = $1 AND s.parent_session_id IS NULL AND s.ended_at IS NULL",
        session.subject,
    )
    rows = known.sessions(known.listed, session.created_at)
    live = [row for row in rows if is_live(row, session.created_at)]
    live.sort(key=lambda row: (row.created_at, row.session_id))
    return live[: max(0, len(live) + 1 - limit)]


async def _families(connection: Connection, sessions: Sequence[Session]) -> set[SessionId]:
    ids = {session.session_id for session in sessions}
    for session in sessions:
        ids |= await child_ids(connection, session.session_id)
    return ids


async def _remember_lifetime(connection: Connection, session: Session, longest: int) -> None:
    """Raise the longest lifetime, if this is one: cut-offs must outlive it."""
    lifetime = span_micros(session.expires_at - session.created_at) or 0
    if lifetime > longest:
        await connection.execute(
            "UPDATE keyfob.meta SET longest_session = greatest(longest_session, $1)", lifetime
        )
