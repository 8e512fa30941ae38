"""The rules of sessions: pure functions of a record, a policy and a moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, auto

from keyfob.sessions.session import Session


class Standing(Enum):
    """Where a session stands."""

    LIVE = auto()
    ENDED = auto()  # by somebody: revoked
    EXPIRED = auto()  # at its absolute end
    IDLE = auto()  # not used for its idle timeout


def standing(session: Session, now: datetime, *, idle_timeout: timedelta | None = None) -> Standing:
    """Say where *session* stands at *now*.

    A session ends at the instant its limit is reached, not after it. *idle_timeout* is today's policy; the stricter of it and the
    session's own counts. Its absolute end comes first, then that it was ended, then idleness.
    """
    if now >= session.expires_at:
        return Standing.EXPIRED
    if session.ended_at is not None:
        return Standing.ENDED
    idle_at = idle_end(session, idle_timeout=idle_timeout)
    if idle_at is not None and now >= idle_at:
        return Standing.IDLE
    return Standing.LIVE


def idle_end(session: Session, *, idle_timeout: timedelta | None = None) -> datetime | None:
    """Return the instant at which *session* becomes idle if it is not used again; None if it never does."""
    limit = idle_limit(session, idle_timeout=idle_timeout)
    return None if limit is None else session.last_seen_at + limit


def idle_limit(session: Session, *, idle_timeout: timedelta | None = None) -> timedelta | None:
    """Return how long *session* may be left unused: the stricter of its own limit and *idle_timeout*; None for ever."""
    own = session.idle_timeout
    if own is None:
        return idle_timeout
    return own if idle_timeout is None else min(own, idle_timeout)


def roles_of(session: Session, roles: frozenset[str]) -> frozenset[str]:
    """Return which of its subject's *roles* of today *session* has: a login all, an API key those that it was made with."""
    return roles if session.role_limit is None else roles.intersection(session.role_limit)


def is_touch_due(session: Session, now: datetime, touch_interval: timedelta) -> bool:
    """Say whether activity at *now* is to be written: at exactly *touch_interval* it is."""
    return now - session.last_seen_at >= touch_interval
