"""How a session is added in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, is_session_id
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
from keyfob.stores.standing import counts_with, is_live

_MAY_STAND = """
    SELECT m.position, m.longest_session, w.subject,
        (SELECT max(c.position) FROM keyfob.cut_offs AS c
         WHERE (c.scope = 'subject' AND c.id = w.subject) OR (c.scope = 'client' AND c.id = w.client_id)
            OR (c.scope = 'everything' AND c.id = '')),
        (SELECT count(*) FROM keyfob.sessions AS s
         WHERE s.subject = w.subject AND s.parent_session_id IS NULL AND s.ended_at IS NULL)
    FROM keyfob.meta AS m, unnest($1::text[], $2::text[]) AS w (subject, client_id)
"""

AddOutcome = Added | LimitReached | CutOff


@dataclass(frozen=True, slots=True)
class _Beside:
    """What says whether a session may stand: the head, the longest lifetime, the last cut-off, and how many sessions nobody ended."""

    position: Position
    longest: int
    cut_off: int | None
    not_ended: int


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
    beside = (await _look_beside(connection, [session]))[session.subject]
    check_session(session, beside.position)
    if _is_cut_off(session, beside) or not await _may_have_parent(connection, session):
        return CutOff()
    oldest = (
        await _too_many(connection, session, addition.limit) if beside.not_ended >= addition.limit else []
    )
    if oldest and addition.at_limit is AtLimit.DENY:
        return LimitReached()
    # All of them before the first entry is appended: rows are locked before the head.
    await lock_sessions(connection, await _families(connection, oldest))
    if not await _remember_lifetime(connection, session, beside.longest):
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
    """Carry out *additions* of sessions without parents, each of another subject, but for those that are to be done alone.

    Those are: who logs in elsewhere at this moment, who has too many sessions, whose session may live longer than any so far, and whatever
    is to be refused as a mistake.
    """
    connection = transaction.connection
    subjects = {addition.session.subject: addition for addition in additions}
    free = await lock_free_names(connection, LockClass.SUBJECT, subjects)
    mine = [addition for subject, addition in subjects.items() if subject in free]
    beside = await _look_beside(connection, [addition.session for addition in mine])
    outcomes = {addition.session.subject: _outcome(addition, beside) for addition in mine}
    fit = [addition for addition in mine if outcomes[addition.session.subject] == Added()]
    sessions = [addition.session for addition in fit]
    if fit:
        written = await insert_sessions(connection, sessions)
        stand = [addition for addition in fit if addition.session.session_id in written]
        # An id that is taken is refused alone.
        outcomes |= {one.session.subject: Left.ALONE for one in fit if one not in stand}
        await write_events(connection, [addition.event for addition in stand])
    return [outcomes.get(addition.session.subject, Left.ALONE) for addition in additions]


def _outcome(addition: Addition, beside: Mapping[str, _Beside]) -> AddOutcome | Left:
    session = addition.session
    found = beside[session.subject]
    if session.as_of > found.position or not is_session_id(session.session_id):
        return Left.ALONE
    if _is_cut_off(session, found):
        return CutOff()
    is_plain = found.not_ended < addition.limit and _lifetime(session) <= found.longest
    return Added() if is_plain else Left.ALONE


def _is_cut_off(session: Session, beside: _Beside) -> bool:
    return beside.cut_off is not None and beside.cut_off > session.as_of


async def _look_beside(connection: Connection, sessions: Sequence[Session]) -> Mapping[str, _Beside]:
    rows = await connection.fetch(
        _MAY_STAND, [session.subject for session in sessions], [session.client_id for session in sessions]
    )
    return {
        subject: _Beside(Position(position), longest, cut_off, not_ended)
        for position, longest, subject, cut_off, not_ended in rows
    }


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
    live = [row for row in rows if is_live(row, session.created_at) and counts_with(row, session)]
    live.sort(key=lambda row: (row.created_at, row.session_id))
    return live[: max(0, len(live) + 1 - limit)]


async def _families(connection: Connection, sessions: Sequence[Session]) -> set[SessionId]:
    ids = {session.session_id for session in sessions}
    return ids | await child_ids(connection, ids)


async def _remember_lifetime(connection: Connection, session: Session, longest: int) -> bool:
    """Raise the longest lifetime, if this is one; False if a cut-off came meanwhile, which may not outlive the session.

    That locks the head: cut-offs that come now outlive the session, and those that came are looked at again.
    """
    if _lifetime(session) <= longest:
        return True
    await connection.execute(
        "UPDATE keyfob.meta SET longest_session = greatest(longest_session, $1)", _lifetime(session)
    )
    return not _is_cut_off(session, (await _look_beside(connection, [session]))[session.subject])


def _lifetime(session: Session) -> int:
    return span_micros(session.expires_at - session.created_at) or 0
