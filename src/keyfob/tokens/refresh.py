"""The refresh of a hybrid's credentials: idempotent rotation.

1. The token is one of ours (its tag holds), and a refresh token.
2. Its session exists, and the chain of the token leads to the session's current secret; else it is unknown, with no effect.
3. The session is live.
4. `rotate` decides, in one step of the store, what the token is by now; all that was read before is only for clearer refusals.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
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
from keyfob.sessions.store import Current, Replayed, Reused, Rotated, SessionStore, Unknown

LONG_CHAIN = 4_320  # derivations, about 7 ms: a longer chain is walked on a thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """A refresh that went through: the session after it, the token that is current, and the position of the same step.

    `closed_window` says that it was a replay too many: later ones count as reuse.
    """

    session: Session
    token: OpaqueToken
    as_of: Position
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

    async def rotate(self, text: str, *, address: str = "") -> Refreshed | TheftDetected:
        """Exchange a refresh token for the current one of its chain: a fresh one, or, repeated within the window, the same again.

        Raises:
            Denied: `malformed`, `unknown_session`, `expired`, `revoked` or `idle`; nothing was changed.
        """
        presented = self._sessions.parse(text, OpaqueKind.REFRESH)
        session = await self._genuine(presented)
        now = self._clock.now()
        self._sessions.require_live(session, now)
        successor = presented.successor()
        outcome = await self._store.rotate(
            presented.session_id,
            presented.digest,
            successor.digest,
            generation=presented.generation,
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
                    "generation": presented.generation,
                    "current_generation": session.generation,
                    "late_by_seconds": int((now - (session.rotated_at or now)).total_seconds()),
                },
            ),
        )
        match outcome:
            case Rotated(rotated, as_of):
                return Refreshed(session=rotated, token=successor, as_of=as_of)
            case Replayed(replayed, as_of, closed):
                return Refreshed(session=replayed, token=successor, as_of=as_of, closed_window=closed)
            case Current(current, as_of):
                return Refreshed(session=current, token=presented, as_of=as_of)
            case Reused(ended, entry):
                return TheftDetected(session=ended, entry=entry)
            case Unknown():
                self._sessions.require_live(await self._genuine(presented), now)
                raise Denied(Cause.UNKNOWN_SESSION, "another request was faster")
            case _:
                assert_never(outcome)

    async def _genuine(self, token: OpaqueToken) -> Session:
        """Return the session whose current secret is *token* or derived from it."""
        found = await self._store.find(token.session_id)
        if found is None or found.session.kind is not OpaqueKind.REFRESH:
            raise Denied(Cause.UNKNOWN_SESSION, "no such session")
        if not await leads_to(token, found.session):
            raise Denied(Cause.UNKNOWN_SESSION, "a secret that never was one of this session")
        return found.session


async def leads_to(token: OpaqueToken, session: Session) -> bool:
    """Say whether *token* is, or was, a genuine token of the present chain of *session*."""
    if session.digest is None or not session.chain_generation <= token.generation <= session.generation:
        return False
    if session.generation - token.generation > LONG_CHAIN:
        return await asyncio.to_thread(token.leads_to, session.digest, generation=session.generation)
    return token.leads_to(session.digest, generation=session.generation)
