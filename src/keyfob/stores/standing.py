"""Since when a session is over: its own end, a cut-off, its parent. Pure, and the same for every store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from keyfob.base.identifiers import Position
from keyfob.sessions.rules import Standing, idle_end, standing
from keyfob.sessions.session import Session

NO_ENTRY = Position(0)
"""The position of an end that left no entry of its own."""


@dataclass(frozen=True, slots=True)
class Over:
    """When something ended, and the position of the entry that ended it (`NO_ENTRY`: it ran out by itself)."""

    at: datetime
    position: Position


def is_live(session: Session, now: datetime) -> bool:
    """Say whether *session*, as `as_it_stands` returned it, is live at *now*."""
    return standing(session, now) is Standing.LIVE


def counts_with(other: Session, session: Session) -> bool:
    """Say whether *other* counts towards the limit that *session* must keep: logins beside logins, API keys beside API keys."""
    return other.parent_session_id is None and other.is_api_key is session.is_api_key


def is_login(session: Session) -> bool:
    """Say whether *session* is a login, which a list of sessions shows."""
    return not session.is_api_key


def is_api_key(session: Session) -> bool:
    """Say whether *session* is an API key, which a list of keys shows."""
    return session.is_api_key


def as_it_stands(session: Session, *, cut_offs: Iterable[Over], parent: Over | None) -> Session:
    """Return *session* with its end set, if one of *cut_offs* covers it or its *parent* is over.

    *cut_offs* are those of its subject, its client and of everything; one at exactly the `as_of` of the session does not cover it.
    """
    if session.ended_at is not None:
        return session
    covering = [cut_off for cut_off in cut_offs if cut_off.position > session.as_of]
    over = min(covering, key=lambda cut_off: cut_off.position) if covering else parent
    if over is None:
        return session
    return replace(session, ended_at=over.at, ended_position=over.position)


def over_since(session: Session, now: datetime) -> Over | None:
    """Return since when *session*, as `as_it_stands` returned it, is over at *now*; None if it is live."""
    if session.ended_at is not None:
        return Over(session.ended_at, session.ended_position or NO_ENTRY)
    if now >= session.expires_at:
        return Over(session.expires_at, NO_ENTRY)
    idle_at = idle_end(session)
    if idle_at is not None and now >= idle_at:
        return Over(idle_at, NO_ENTRY)
    return None


def over_without_parent(session: Session) -> Over:
    """Return since when a child is over whose parent's row is gone: the last moment at which it was known to be used."""
    return Over(session.last_seen_at, NO_ENTRY)
