"""What every store checks and derives when it revokes. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta

from keyfob.base.errors import InvalidRequest
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position, SessionId, Subject, Timeline, is_session_id
from keyfob.revocation.entry import Entry, Head, Reach, Scope, next_chain
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import RETENTION_MARGIN
from keyfob.sessions.session import Session
from keyfob.sessions.store import MAX_DATA
from keyfob.stores.texts import require_texts

CUT_OFF_SCOPES = frozenset({Scope.SUBJECT, Scope.CLIENT, Scope.EVERYTHING})


def next_entry(
    revocation: Revocation,
    *,
    position: Position,
    chain: bytes,
    last_at: datetime,
    now: datetime,
    longest: timedelta,
) -> Entry:
    """Return the entry of *revocation* behind the head (*position*, *chain*, *last_at*); its moment never goes back.

    *longest* is the longest lifetime of a credential so far.

    Raises:
        InvalidRequest: an id that no store could keep.
    """
    require_texts(revocation.id, revocation.spared)
    at = max(now, last_at)
    until = None if revocation.scope is Scope.KEY else at + longest + RETENTION_MARGIN
    following = Position(position + 1)
    return Entry(
        position=following,
        at=at,
        scope=revocation.scope,
        id=revocation.id,
        reach=revocation.reach,
        spared=revocation.spared,
        until=until,
        chain=next_chain(
            chain,
            position=following,
            at=at,
            scope=revocation.scope,
            id=revocation.id,
            reach=revocation.reach,
            spared=revocation.spared,
            until=until,
        ),
    )


def check_continues(entries: Sequence[Entry], head: Head) -> None:
    """Refuse *entries* that are not the next ones after *head*.

    Raises:
        ValueError: none, a gap, or a chain that does not hold.
    """
    position, chain = head.position, head.chain
    for entry in entries:
        position = Position(position + 1)
        chain = next_chain(
            chain,
            position=position,
            at=entry.at,
            scope=entry.scope,
            id=entry.id,
            reach=entry.reach,
            spared=entry.spared,
            until=entry.until,
        )
        if (entry.position, entry.chain) != (position, chain):
            raise ValueError(f"the entries do not continue the feed at position {position}")
    if not entries:
        raise ValueError("no entries to append again")


def new_timeline() -> Timeline:
    """Return the id of a new timeline."""
    return Timeline(os.urandom(8).hex())


def leaves_cut_off(revocation: Revocation | Entry) -> bool:
    """Say whether *revocation* leaves a cut-off in the store: one of reach `claims` never does."""
    return revocation.reach is Reach.END and revocation.scope in CUT_OFF_SCOPES


def of_session(session_id: SessionId, event: Event, *, reach: Reach = Reach.END) -> Revocation:
    """Return the revocation of one session."""
    return Revocation(scope=Scope.SESSION, id=session_id, reach=reach, event=event)


def of_oldest(session: Session, login: Event) -> Revocation:
    """Return the revocation of a session that makes room for the one of *login*."""
    event = Event(
        at=login.at,
        code="revoked",
        actor=login.actor,
        subject=session.subject,
        session_id=session.session_id,
        client_id=session.client_id,
        address=login.address,
        reason="session_limit",
    )
    return of_session(session.session_id, event)


def check_session(session: Session, head: Position) -> None:
    """Refuse what no caller may add.

    Raises:
        ValueError: an id of the wrong form, or an `as_of` past *head*, which no read can have seen and no later cut-off would cover.
        InvalidRequest: a subject or a client id that no store could keep.
    """
    require_texts(session.subject, session.client_id)
    if not is_session_id(session.session_id):
        raise ValueError("a session id is 32 lower-case hex digits")
    if session.as_of > head:
        raise ValueError(f"as_of {session.as_of} is past the head of the feed, {head}")


def check_data(data: bytes) -> None:
    """Refuse more than `MAX_DATA` bytes.

    Raises:
        ValueError: *data* is longer.
    """
    if len(data) > MAX_DATA:
        raise ValueError(f"the data of a session is at most {MAX_DATA} bytes, not {len(data)}")


def check_subject_revocation(revocation: Revocation, subject: Subject) -> None:
    """Refuse a revocation that is not about *subject*.

    Raises:
        ValueError: another scope or id.
        InvalidRequest: a subject that no store could keep.
    """
    require_texts(subject)
    if revocation.scope is not Scope.SUBJECT or revocation.id != subject:
        raise ValueError("a change of an account revokes its own subject")


def check_client_revocation(revocation: Revocation, client_id: ClientId) -> None:
    """Refuse a revocation that is not about *client_id*.

    Raises:
        ValueError: another scope or id.
        InvalidRequest: an id that no store could keep.
    """
    require_texts(client_id)
    if revocation.scope is not Scope.CLIENT or revocation.id != client_id:
        raise ValueError("deleting or changing a client revokes that client")


def cursor_number(text: str) -> int:
    """Read a cursor that is a number.

    Raises:
        InvalidRequest: it is none of ours.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidRequest("bad_cursor", "The cursor is not one that an earlier page gave.")
    return int(text)


def session_cursor(session: Session, created_at: int) -> str:
    """Return the cursor behind *session* in a list by *created_at* (microseconds) and id."""
    return f"{created_at}.{session.session_id}"


def read_session_cursor(text: str) -> tuple[int, SessionId]:
    """Read what `session_cursor` wrote.

    Raises:
        InvalidRequest: it is none of ours.
    """
    created_at, _, session_id = text.partition(".")
    if not is_session_id(session_id):
        raise InvalidRequest("bad_cursor", "The cursor is not one that an earlier page gave.")
    return cursor_number(created_at), SessionId(session_id)
