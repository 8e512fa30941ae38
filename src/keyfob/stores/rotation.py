"""What a presented refresh token is to its session, and the session after it. Pure, and the same for every store.

1. The current token: `ROTATE`, or `KEEP` while the last rotation is younger than the window.
2. The parent of the current one (its successor *is* the current one): `REPLAY` while the rotation is younger than the window, else
   `REUSE`.
3. An earlier generation of the same chain: `REUSE`. That it leads to the current secret has been checked by the caller, who alone has
   the key for it.
4. Anything else: `REFUSE`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, auto
from hmac import compare_digest

from msgspec.structs import replace

from keyfob.base.opaque import OpaqueKind, TokenDigest
from keyfob.sessions.session import Session
from keyfob.sessions.store import REPLAYED_ROTATIONS_LIMIT, Renewal
from keyfob.stores.standing import is_live

_NO_TIME = timedelta(0)


class Verdict(Enum):
    """What the presented token is to the session."""

    ROTATE = auto()
    KEEP = auto()
    REPLAY = auto()
    REUSE = auto()
    REFUSE = auto()


def verdict(
    session: Session,
    presented: TokenDigest,
    successor: TokenDigest,
    *,
    generation: int,
    now: datetime,
    replay_window: timedelta,
) -> Verdict:
    """Say what the token of digest *presented* is to *session* (as it stands) at *now*; the module says how.

    A rotation that seems to lie ahead of *now* (two clocks) counts as just made. At exactly *replay_window* the window is over.
    """
    if session.kind is not OpaqueKind.REFRESH or session.digest is None or not is_live(session, now):
        return Verdict.REFUSE
    window = _NO_TIME if session.window_closed else replay_window
    is_young = session.rotated_at is not None and since_rotation(session, now) < window
    if generation == session.generation and compare_digest(presented, session.digest):
        return Verdict.KEEP if is_young else Verdict.ROTATE
    if not session.chain_generation <= generation < session.generation:
        return Verdict.REFUSE
    if generation < session.generation - 1:
        return Verdict.REUSE
    if not compare_digest(successor, session.digest):
        return Verdict.REFUSE
    return Verdict.REPLAY if is_young else Verdict.REUSE


def since_rotation(session: Session, now: datetime) -> timedelta:
    """Return how long ago the last rotation was; 0 if there was none, or if it seems to lie ahead."""
    return max(now - session.rotated_at, _NO_TIME) if session.rotated_at is not None else _NO_TIME


def rotated(session: Session, successor: TokenDigest, now: datetime) -> Session:
    """Return *session* with *successor* as its current secret. A rotation that nobody replayed breaks the row of replayed ones."""
    return replace(
        session,
        digest=successor,
        generation=session.generation + 1,
        rotated_at=now,
        last_seen_at=max(session.last_seen_at, now),
        replayed_rotations=session.replayed_rotations if session.replayed_since_rotation else 0,
        replayed_since_rotation=False,
    )


def kept(session: Session, now: datetime) -> Session:
    """Return *session* used at *now*."""
    return replace(session, last_seen_at=max(session.last_seen_at, now))


def replayed(session: Session, now: datetime) -> Session:
    """Return *session* after a replay: only the first one of a rotation counts, and the third such rotation in a row closes the window."""
    if session.replayed_since_rotation:
        return kept(session, now)
    replays = session.replayed_rotations + 1
    return replace(
        session,
        last_seen_at=max(session.last_seen_at, now),
        replayed_since_rotation=True,
        replayed_rotations=replays,
        window_closed=session.window_closed or replays >= REPLAYED_ROTATIONS_LIMIT,
    )


def can_renew(session: Session, renewal: Renewal, now: datetime) -> bool:
    """Say whether *renewal* presents the current secret of the live *session*."""
    return (
        session.digest is not None
        and is_live(session, now)
        and renewal.generation == session.generation
        and compare_digest(renewal.presented, session.digest)
    )


def renewed(session: Session, renewal: Renewal, now: datetime) -> Session:
    """Return *session* with the new secret, which begins a new chain. A window once closed stays closed."""
    generation = session.generation + 1
    return replace(
        session,
        digest=renewal.successor,
        generation=generation,
        chain_generation=generation,
        previous_digest=renewal.presented,
        previous_until=renewal.previous_until,
        rotated_at=None,
        replayed_since_rotation=False,
        replayed_rotations=0,
        last_seen_at=max(session.last_seen_at, now),
        auth_time=session.auth_time if renewal.auth_time is None else renewal.auth_time,
        amr=session.amr if renewal.amr is None else renewal.amr,
        acr=session.acr if renewal.acr is None else renewal.acr,
    )
