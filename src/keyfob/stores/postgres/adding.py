"""How a session is added in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import Added, CutOff, Ended, LimitReached
from keyfob.stores.postgres.coalescing import Left
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.locks import LockClass, lock_free_names, lock_names
from keyfob.stores.postgres.reading import child_ids, insert_sessions, lock_sessions, read_ids, read_where
from keyfob.stores.postgres.revoking import end
from keyfob.stores.revoking import check_session, of_oldest
from keyfob.stores.rows import span_micros
from keyfob.stores.standing import is_live

# What is asked for may be many: each with the head, the last cut-off that covers such a session, and how many stand beside it.
_MAY_STAND = """
    SELECT m.position, m.longest_session,
        (SELECT max(c.position) FROM keyfob.cut_offs AS c
         WHERE (c.scope = 'subject' AND c.id = w.subject COLLATE "C") OR (c.scope = 'client' AND c.id = w.client_id COLLATE "C")
            OR (c.scope = 'everything' AND c.id = '')),
        (SELECT count(*) FROM keyfob.sessions AS s
         WHERE s.subject = w.subject COLLATE "C" AND s.parent_session_id IS NULL AND s.ended_at IS NULL)
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (subject, client_id, number) CROSS JOIN keyfob.meta AS m
    ORDER BY w.number
"""

AddOutcome = Added | LimitReached | CutOff


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A session to be added, as `SessionStore.add` takes it."""

    session: Session
    limit: int
    at_limit: AtLimit
    event: Event


async def add(transaction: Transaction, addition: Addition) -> AddOutcome:
    """Carry out *addition*.

    Logins of one subject come one after another, so that they are counted. A revocation does not wait for them: what it does not see of
    them, its cut-off covers.
    """
    connection, session = transaction.connection, addition.session
    await lock_names(connection, LockClass.SUBJECT, [session.subject])
    (now,) = await _surroundings(connection, [session])
    check_session(session, now.position)
    if now.covers(session) or not await _may_have_parent(connection, session):
        return CutOff()
    oldest = await _too_many(connection, session, addition.limit) if now.count >= addition.limit else []
    if oldest and addition.at_limit is AtLimit.DENY:
        return LimitReached()
    # All of them before the first entry is appended: rows are locked before the head.
    await lock_sessions(connection, await _families(connection, oldest))
    if not await _remember_lifetime(connection, session, now.longest):
        return CutOff()
    ended = []
    for old in oldest:
        outcome = await end(transaction, of_oldest(old, addition.event), session.created_at)
        if isinstance(outcome, Ended):  # else somebody ended it meanwhile
            ended.append(outcome.entry)
    if not await insert_sessions(connection, [session]):
        raise ValueError("a session with this id stands already")
    await write_events(connection, [addition.event])
    return Added(tuple(ended))


async def add_together(
    transaction: Transaction, additions: Sequence[Addition]
) -> Sequence[AddOutcome | Left]:
    """Carry out *additions* of different subjects, but for those that need more than a new row, or would have to wait for somebody."""
    connection = transaction.connection
    free = await lock_free_names(connection, LockClass.SUBJECT, [one.session.subject for one in additions])
    there = await _surroundings(connection, [one.session for one in additions])
    plain = [
        one
        for one, now in zip(additions, there, strict=True)
        if one.session.subject in free and now.has_room_for(one) and one.session.parent_session_id is None
    ]
    if not plain:
        return [Left.ALONE] * len(additions)
    written = await insert_sessions(connection, [one.session for one in plain])
    added = [one for one in plain if one.session.session_id in written]
    await write_events(connection, [one.event for one in added])
    subjects = {one.session.subject for one in added}
    return [Added() if one.session.subject in subjects else Left.ALONE for one in additions]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a session would stand in: the head, the longest lifetime so far, the last cut-off for it, its subject's sessions."""

    position: Position
    longest: int
    cut_off: int | None
    count: int

    def covers(self, session: Session) -> bool:
        """Say whether the cut-off covers *session*."""
        return self.cut_off is not None and self.cut_off > session.as_of

    def has_room_for(self, one: Addition) -> bool:
        """Say whether a new row is all that it takes to add it."""
        return (
            one.session.as_of <= self.position
            and not self.covers(one.session)
            and self.count < one.limit
            and _lifetime(one.session) <= self.longest
        )


async def _surroundings(connection: Connection, sessions: Sequence[Session]) -> list[_Surroundings]:
    rows = await connection.fetch(
        _MAY_STAND, [one.subject for one in sessions], [one.client_id for one in sessions]
    )
    return [_Surroundings(Position(row[0]), row[1], row[2], row[3]) for row in rows]


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


async def _remember_lifetime(connection: Connection, session: Session, longest: int) -> bool:
    """Raise the longest lifetime, if this is one; False if a cut-off came meanwhile, which may not outlive the session.

    That locks the head: cut-offs that come now outlive the session, and those that came are looked at again.
    """
    if _lifetime(session) <= longest:
        return True
    await connection.execute(
        "UPDATE keyfob.meta SET longest_session = greatest(longest_session, $1)", _lifetime(session)
    )
    (now,) = await _surroundings(connection, [session])
    return not now.covers(session)


def _lifetime(session: Session) -> int:
    return span_micros(session.expires_at - session.created_at) or 0
