"""The refresh of a hybrid's credentials: idempotent rotation.

1. The token is one of ours (its tag holds), and a refresh token.
2. Its session exists, and the chain of the token leads to the session's current secret; else it is unknown, with no effect.
3. The session is live.
4. `rotate` decides, in one step of the store, what the token is by now; all that was read before is only for clearer refusals.

Between 3 and 4 the caller does whatever may fail, such as to ask for the roles of today: so a source that is away costs nobody the
token. The access token has the `as_of` of 2, the smallest of all that it is made from (design.md, precondition 3).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.base.opaque import OpaqueKind, OpaqueToken
from keyfob.revocation.entry import Entry
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import Sessions
from keyfob.sessions.store import Current, Found, Holder, Replayed, Reused, Rotated, SessionStore, Unknown

LONG_CHAIN = 4_320  # derivations, about 7 ms: a longer chain is walked on a thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A genuine refresh token of a live session, as both were read at the feed position `as_of`."""

    token: OpaqueToken
    session: Session
    as_of: Position
    holder: Holder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """A refresh that went through: the session after it, and the token that is current.

    `closed_window` says that it was a replay too many: later ones count as reuse.
    """

    session: Session
    token: OpaqueToken
    closed_window: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TheftDetected:
    """An earlier token came back: the session was ended by `entry`."""

    session: Session
    entry: Entry


class Refresh:
    """Rotates refresh tokens."""

    def __init__(
        self, store: SessionStore, sessions: Sessions, *, policy: SessionPolicy, clock: Clock
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._policy = policy
        self._clock = clock

    async def present(self, text: str) -> Presented:
        """Take 1 to 3: read a refresh token and its session. Nothing is changed.

        Raises:
            Denied: `malformed`, `unknown_session`, `expired`, `revoked` or `idle`.
        """
        token = self._sessions.parse(text, OpaqueKind.REFRESH)
        found = await self._genuine(token)
        self._sessions.require_live(found.session, self._clock.now())
        return Presented(token=token, session=found.session, as_of=found.as_of, holder=found.holder)

    async def rotate(self, presented: Presented, *, address: str = "") -> Refreshed | TheftDetected:
        """Take 4: exchange it for the current one of its chain: a fresh one, or, repeated within the window, the same again.

        Raises:
            Denied: `unknown_session`, `expired`, `revoked` or `idle`, if that is so by now; nothing was changed.
        """
        token, session = presented.token, presented.session
        now = self._clock.now()
        successor = token.successor()
        outcome = await self._store.rotate(
            token.session_id,
            token.digest,
            successor.digest,
            generation=token.generation,
            now=now,
            replay_window=self._policy.replay_window,
            event=Event(
                at=now,
                code="refresh_reused",
                subject=session.subject,
                session_id=session.session_id,
                client_id=session.client_id,
                address=address or None,
                facts={
                    "generation": token.generation,
                    "current_generation": session.generation,
                    "late_by_seconds": int((now - (session.rotated_at or now)).total_seconds()),
                },
            ),
        )
        match outcome:
            case Rotated(rotated, _):
                return Refreshed(session=rotated, token=successor)
            case Replayed(replayed, _, closed):
                return Refreshed(session=replayed, token=successor, closed_window=closed)
            case Current(current, _):
                return Refreshed(session=current, token=token)
            case Reused(ended, entry):
                return TheftDetected(session=ended, entry=entry)
            case Unknown():
                self._sessions.require_live((await self._genuine(token)).session, now)
                raise Denied(Cause.UNKNOWN_SESSION, "another request was faster")
            case _:
                assert_never(outcome)

    async def _genuine(self, token: OpaqueToken) -> Found:
        """Return the session whose current secret is *token* or derived from it."""
        found = await self._store.find(token.session_id)
        if found is None or found.session.kind is not OpaqueKind.REFRESH:
            raise Denied(Cause.UNKNOWN_SESSION, "no such session")
        if not await leads_to(token, found.session):
            raise Denied(Cause.UNKNOWN_SESSION, "a secret that never was one of this session")
        return found


async def leads_to(token: OpaqueToken, session: Session) -> bool:
    """Say whether *token* is, or was, a genuine token of the present chain of *session*."""
    if session.digest is None or not session.chain_generation <= token.generation <= session.generation:
        return False
    if session.generation - token.generation > LONG_CHAIN:
        return await asyncio.to_thread(token.leads_to, session.digest, generation=session.generation)
    return token.leads_to(session.digest, generation=session.generation)


def window_closed(session: Session, at: datetime) -> Event:
    """Return the event that replays in consecutive rotations closed the window of *session*."""
    return Event(
        at=at,
        code="refresh_window_closed",
        subject=session.subject,
        session_id=session.session_id,
        client_id=session.client_id,
        reason="replays in consecutive rotations",
    )
