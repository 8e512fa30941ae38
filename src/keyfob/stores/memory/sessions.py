"""Sessions in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec.structs import replace

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId, Subject
from keyfob.base.opaque import TokenDigest
from keyfob.revocation.entry import Entry, Reach
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    UNRECORDED,
    Added,
    Current,
    CutOff,
    Ended,
    EndOutcome,
    Found,
    Holder,
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
from keyfob.stores.children import child_cursor, child_place, is_ended_by, read_child_cursor
from keyfob.stores.memory.revoking import append, end, find, find_live, is_cut_off
from keyfob.stores.memory.state import State
from keyfob.stores.revoking import (
    check_data,
    check_session,
    of_oldest,
    of_session,
    read_session_cursor,
    session_cursor,
)
from keyfob.stores.rotation import Verdict
from keyfob.stores.standing import counts_with, is_api_key, is_login

_Key = TypeVar("_Key", bound=str)


class MemorySessionStore:
    """A `SessionStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(
        self, session: Session, *, limit: int, at_limit: AtLimit, event: Event
    ) -> Added | LimitReached | CutOff:
        """Add a session, as the port says.

        Raises:
            ValueError: an id of the wrong form or in use, an `as_of` past the head, a parent that is a child itself.
        """
        state = self._state
        with state.step():
            check_session(session, state.position)
            if session.session_id in state.sessions:
                raise ValueError("a session with this id stands already")
            if is_cut_off(state, session) or not self._may_have_parent(session):
                return CutOff()
            oldest = self._too_many(session, limit)
            if oldest and at_limit is AtLimit.DENY:
                return LimitReached()
            ended = [self._make_room(old, session.created_at, event) for old in oldest]
            state.longest_session = max(state.longest_session, session.expires_at - session.created_at)
            state.sessions[session.session_id] = session
            state.by_subject.setdefault(session.subject, set()).add(session.session_id)
            if session.parent_session_id is not None:
                state.children.setdefault(session.parent_session_id, set()).add(session.session_id)
            state.write_event(event)
            return Added(tuple(ended))

    def _may_have_parent(self, session: Session) -> bool:
        if session.parent_session_id is None:
            return True
        parent = find_live(self._state, session.parent_session_id, session.created_at)
        if parent is not None and parent.parent_session_id is not None:
            raise ValueError("the parent of a session has no parent itself")
        return parent is not None and parent.subject == session.subject

    def _too_many(self, session: Session, limit: int) -> list[Session]:
        """Return the oldest sessions that must end for *session* to be one of at most *limit*."""
        if session.parent_session_id is not None:
            return []
        ids = self._state.by_subject.get(session.subject, ())
        found = (find_live(self._state, session_id, session.created_at) for session_id in ids)
        live = [other for other in found if other is not None and counts_with(other, session)]
        live.sort(key=lambda other: (other.created_at, other.session_id))
        return live[: max(0, len(live) + 1 - limit)]

    def _make_room(self, old: Session, now: datetime, login: Event) -> Entry:
        outcome = end(self._state, of_oldest(old, login), now)
        assert isinstance(outcome, Ended)
        return outcome.entry

    async def find(self, session_id: SessionId) -> Found | None:
        """Return the session and the head position."""
        state = self._state
        with state.step():
            session = find(state, session_id, state.clock.now())
            return (
                None if session is None else Found(session, state.position, _holder(state, session.subject))
            )

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
        state = self._state
        with state.step():
            session = find_live(state, session_id, now)
            if session is None:
                return Unknown()
            match rotation.verdict(
                session, presented, successor, generation=generation, now=now, replay_window=replay_window
            ):
                case Verdict.ROTATE:
                    return Rotated(self._put(rotation.rotated(session, successor, now)), state.position)
                case Verdict.KEEP:
                    return Current(self._put(rotation.kept(session, now)), state.position)
                case Verdict.REPLAY:
                    after = self._put(rotation.replayed(session, now))
                    closed = after.window_closed and not session.window_closed
                    return Replayed(after, state.position, closed)
                case Verdict.REUSE:
                    return self._end_reused(session, now, event)
                case Verdict.REFUSE:
                    return Unknown()

    def _end_reused(self, session: Session, now: datetime, event: Event) -> Reused:
        outcome = end(self._state, of_session(session.session_id, event), now)
        assert isinstance(outcome, Ended)
        ended = self._state.sessions[session.session_id]
        return Reused(ended, outcome.entry, rotation.since_rotation(session, now))

    async def renew(
        self, session_id: SessionId, renewal: Renewal, *, now: datetime, event: Event
    ) -> Renewed | Unknown:
        """Replace the secret, as the port says."""
        state = self._state
        with state.step():
            session = find_live(state, session_id, now)
            if session is None or not rotation.can_renew(session, renewal, now):
                return Unknown()
            entry = append(state, of_session(session_id, event, reach=Reach.CLAIMS), now)
            after = replace(rotation.renewed(session, renewal, now), as_of=entry.position)
            return Renewed(self._put(after), entry)

    async def touch(self, seen: Sequence[Seen]) -> int:
        """Write activity; return how many rows moved."""
        moved: set[SessionId] = set()
        with self._state.step():
            for use in sorted(seen, key=lambda use: use.at):
                session = find_live(self._state, use.session_id, use.at)
                if session is not None and session.last_seen_at < use.at:
                    self._put(replace(session, last_seen_at=use.at))
                    moved.add(use.session_id)
        return len(moved)

    async def end(self, revocation: Revocation, *, now: datetime) -> EndOutcome:
        """Append the entry and end what is in its scope."""
        with self._state.step():
            return end(self._state, revocation, now)

    async def list(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live sessions, newest first."""
        return self._page(subject, now=now, after=after, limit=limit, wanted=is_login)

    async def list_api_keys(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live API keys, newest first."""
        return self._page(subject, now=now, after=after, limit=limit, wanted=is_api_key)

    def _page(
        self,
        subject: Subject | None,
        *,
        now: datetime,
        after: str | None,
        limit: int,
        wanted: Callable[[Session], bool],
    ) -> SessionPage:
        before = None if after is None else read_session_cursor(after)
        state = self._state
        with state.step():
            ids = state.sessions.keys() if subject is None else state.by_subject.get(subject, set())
            found = (find_live(state, session_id, now) for session_id in ids)
            live = [session for session in found if session is not None and wanted(session)]
        ordered = sorted(live, key=_age, reverse=True)
        rest = [session for session in ordered if before is None or _age(session) < before]
        page = rest[:limit]
        more = len(rest) > len(page) and page
        return SessionPage(page, session_cursor(page[-1], _age(page[-1])[0]) if more else None)

    async def list_ended_children(self, entry: Entry, *, after: str | None, limit: int) -> SessionPage:
        """Return children that *entry* ended, by parent and id."""
        behind = None if after is None else read_child_cursor(after)
        with self._state.step():
            ended = [session for session in self._state.sessions.values() if is_ended_by(session, entry)]
        ended.sort(key=child_place)
        rest = [session for session in ended if behind is None or child_place(session) > behind]
        page = rest[:limit]
        return SessionPage(page, child_cursor(page[-1]) if len(rest) > len(page) and page else None)

    async def read_data(self, session_id: SessionId) -> SessionData | None:
        """Return the data of a live session."""
        state = self._state
        with state.step():
            if find_live(state, session_id, state.clock.now()) is None:
                return None
            return state.data.get(session_id, SessionData(b"", 0))

    async def write_data(self, session_id: SessionId, data: bytes, *, version: int, now: datetime) -> bool:
        """Write the data of a live session if *version* is still its version.

        Raises:
            ValueError: *data* is too long.
        """
        check_data(data)
        state = self._state
        with state.step():
            present = state.data.get(session_id, SessionData(b"", 0))
            if find_live(state, session_id, now) is None or present.version != version:
                return False
            state.data[session_id] = SessionData(bytes(data), version + 1)
            return True

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* rows whose absolute end is reached."""
        state = self._state
        with state.step():
            expired = [session for session in state.sessions.values() if session.expires_at <= now]
            expired.sort(key=lambda session: (session.expires_at, session.session_id))
            for session in expired[:limit]:
                self._delete(session)
            return len(expired[:limit])

    def _delete(self, session: Session) -> None:
        state = self._state
        del state.sessions[session.session_id]
        state.data.pop(session.session_id, None)
        _forget(state.by_subject, session.subject, session.session_id)
        if session.parent_session_id is not None:
            _forget(state.children, session.parent_session_id, session.session_id)

    def _put(self, session: Session) -> Session:
        self._state.sessions[session.session_id] = session
        return session


def _holder(state: State, subject: Subject) -> Holder:
    record = state.subjects.get(subject)
    return UNRECORDED if record is None else Holder(record.roles, record.disabled_at is not None)


def _age(session: Session) -> tuple[int, SessionId]:
    return to_micros(session.created_at), session.session_id


def _forget(index: dict[_Key, set[SessionId]], key: _Key, session_id: SessionId) -> None:
    ids = index[key]
    ids.remove(session_id)
    if not ids:
        del index[key]
