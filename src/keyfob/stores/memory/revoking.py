"""The one place of the memory store in which an entry is appended, and what it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Subject
from keyfob.revocation.entry import Entry, Head, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import RETENTION_MARGIN
from keyfob.sessions.session import Session
from keyfob.sessions.store import AlreadyEnded, Ended, EndOutcome
from keyfob.stores.memory.state import CutOffMark, State
from keyfob.stores.revoking import leaves_cut_off, next_entry
from keyfob.stores.standing import Over, as_it_stands, is_live, over_since, over_without_parent


def find(state: State, session_id: SessionId, now: datetime) -> Session | None:
    """Return the session as it stands at *now*: with its end, if a cut-off covers it or its parent is over."""
    session = state.sessions.get(session_id)
    if session is None:
        return None
    parent = None
    if session.parent_session_id is not None:
        above = find(state, session.parent_session_id, now)
        parent = over_without_parent(session) if above is None else over_since(above, now)
    return as_it_stands(session, cut_offs=_cut_offs(state, session), parent=parent)


def find_live(state: State, session_id: SessionId, now: datetime) -> Session | None:
    """Return the session if it is live at *now*."""
    session = find(state, session_id, now)
    return session if session is not None and is_live(session, now) else None


def is_cut_off(state: State, session: Session) -> bool:
    """Say whether a cut-off covers *session*, which may have no row."""
    return any(cut_off.position > session.as_of for cut_off in _cut_offs(state, session))


def end(state: State, revocation: Revocation, now: datetime) -> EndOutcome:
    """Carry out *revocation*, as `SessionStore.end` says."""
    if (
        revocation.scope is Scope.SESSION
        and (over := _over(state, SessionId(revocation.id), now)) is not None
    ):
        return AlreadyEnded(over.position)
    touched = _touched(state, revocation, now)
    entry = append(state, revocation, now)
    _take_effect(state, entry, touched)
    return Ended(entry, len(touched.ending))


def reappend(state: State, entries: Sequence[Entry], event: Event, now: datetime) -> Head:
    """Append *entries*, which continue the head, as they were, and end what is in their scope."""
    for entry in entries:
        touched = _touched(state, entry, now)
        _insert(state, entry)
        _take_effect(state, entry, touched)
    state.write_event(event)
    return state.head()


@dataclass(frozen=True, slots=True)
class _Touched:
    """The rows that an entry changes: those that are over by it, and those that it spares."""

    ending: Sequence[SessionId]
    kept: Sequence[SessionId]


def _touched(state: State, revocation: Revocation | Entry, now: datetime) -> _Touched:
    """Return what *revocation* is about to change: to be read before its entry is there, since that would show it as changed."""
    if revocation.reach is Reach.CLAIMS:
        return _Touched((), ())
    spared = set() if revocation.spared is None else _with_children(state, revocation.spared)
    return _Touched(_live(state, _listed(state, revocation) - spared, now), _live(state, spared, now))


def _take_effect(state: State, entry: Entry, touched: _Touched) -> None:
    if leaves_cut_off(entry):
        until = entry.at + state.longest_session + RETENTION_MARGIN
        state.cut_offs[entry.scope, entry.id] = CutOffMark(Over(entry.at, entry.position), until)
    for session_id in touched.kept:
        _change(state, session_id, as_of=entry.position)
    for session_id in touched.ending:
        _change(state, session_id, ended_at=entry.at, ended_position=entry.position)


def append(state: State, revocation: Revocation, now: datetime) -> Entry:
    """Append the entry of *revocation* and write its event."""
    entry = append_entry(state, revocation, now, longest=state.longest_credential)
    state.write_event(revocation.event)
    return entry


def append_entry(state: State, revocation: Revocation, now: datetime, *, longest: timedelta) -> Entry:
    """Append the entry alone; *longest* is the longest lifetime of what it can cover."""
    entry = next_entry(
        revocation,
        position=state.position,
        chain=state.chain,
        last_at=state.last_at,
        now=now,
        longest=longest,
    )
    _insert(state, entry)
    return entry


def _insert(state: State, entry: Entry) -> None:
    state.entries[entry.position] = entry
    state.position, state.chain, state.last_at = entry.position, entry.chain, entry.at


def _cut_offs(state: State, session: Session) -> list[Over]:
    places = (
        (Scope.SUBJECT, session.subject),
        (Scope.CLIENT, session.client_id),
        (Scope.EVERYTHING, ""),
    )
    return [state.cut_offs[place].over for place in places if place in state.cut_offs]


def _over(state: State, session_id: SessionId, now: datetime) -> Over | None:
    session = find(state, session_id, now)
    return None if session is None else over_since(session, now)


def _with_children(state: State, session_id: SessionId) -> set[SessionId]:
    return {session_id} | state.children.get(session_id, set())


def _listed(state: State, revocation: Revocation | Entry) -> set[SessionId]:
    """Return the rows in scope that are worth listing; those of a client or of everything are left to the cut-off."""
    if revocation.scope is Scope.SESSION:
        return _with_children(state, SessionId(revocation.id))
    if revocation.scope is Scope.SUBJECT:
        return set(state.by_subject.get(Subject(revocation.id), ()))
    return set()


def _live(state: State, session_ids: set[SessionId], now: datetime) -> list[SessionId]:
    return [session_id for session_id in session_ids if find_live(state, session_id, now) is not None]


def _change(
    state: State,
    session_id: SessionId,
    *,
    as_of: Position | None = None,
    ended_at: datetime | None = None,
    ended_position: Position | None = None,
) -> None:
    session = state.sessions[session_id]
    state.sessions[session_id] = replace(
        session,
        as_of=session.as_of if as_of is None else as_of,
        ended_at=ended_at,
        ended_position=ended_position,
    )
