"""Fresh credentials for a session that goes on: a refresh, and a renewal at a change of privilege.

Whatever may fail comes before the rotation, so that nobody loses a token to a source that is away; and nobody has the access token before the
rotation has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import assert_never

from keyfob.audit.trail import Trail
from keyfob.authority.claims import TodaysClaims
from keyfob.authority.endings import Endings
from keyfob.authority.issued import Issued, issued_of
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import Position, Strategy
from keyfob.base.opaque import OpaqueKind
from keyfob.base.principal import Principal
from keyfob.clients.client import Client
from keyfob.clients.clients import Clients
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.feed import Feed
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import Sessions
from keyfob.sessions.store import Holder, SessionStore
from keyfob.tokens.access_token import AccessToken
from keyfob.tokens.grant import grant_of_session
from keyfob.tokens.issuer import Issuer
from keyfob.tokens.refresh import Refresh, Refreshed, TheftDetected, window_closed

LifetimeOf = Callable[[Client, Strategy], timedelta]


class Renewals:
    """Gives sessions fresh credentials. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        sessions: Sessions,
        refresh: Refresh,
        *,
        store: SessionStore,
        clients: Clients,
        claims: TodaysClaims,
        issuing: Issuer,
        lifetime_of: LifetimeOf,
        endings: Endings,
        feed: Feed,
        trail: Trail,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._refresh = refresh
        self._store = store
        self._clients = clients
        self._claims = claims
        self._issuing = issuing
        self._lifetime_of = lifetime_of
        self._endings = endings
        self._feed = feed
        self._trail = trail
        self._clock = clock

    async def refresh(self, token: str, *, address: str) -> Issued:
        """Exchange a refresh token, as `Authority.refresh` says."""
        presented = await self._refresh.present(token)
        client = await self._client_of(presented.session)
        if client.refreshes_at_endpoint:
            raise Denied(
                Cause.WRONG_TYPE, "a refresh token for the token endpoint, where its client says who it is"
            )
        access_token = await self._access_token(
            presented.session, client, as_of=presented.as_of, holder=presented.holder
        )
        outcome = await self._refresh.rotate(presented, address=address)
        match outcome:
            case TheftDetected():
                await self._endings.applied(outcome.entry)
                raise Denied(Cause.REUSED, f"ended by the entry at position {outcome.entry.position}")
            case Refreshed():
                if outcome.closed_window:
                    await self._trail.record(window_closed(outcome.session, self._clock.now()))
                return issued_of(outcome.session, token=outcome.token, access_token=access_token)
            case _:
                assert_never(outcome)

    async def renew(self, principal: Principal) -> Issued:
        """Replace the secret of a session, as `Authority.renew` says."""
        session = await self._live_session(principal)
        if session.kind is None:
            entry = await self._make_stale(session)
            access_token = await self._access_token(
                session, await self._client_of(session), as_of=entry.position
            )
            return issued_of(session, token=None, access_token=access_token)
        renewed, token, entry = await self._sessions.renew(session)
        await self._endings.applied(entry)
        if renewed.kind is OpaqueKind.SESSION:
            return issued_of(renewed, token=token, access_token=None)
        access_token = await self._access_token(renewed, await self._client_of(renewed), as_of=entry.position)
        return issued_of(renewed, token=token, access_token=access_token)

    async def _make_stale(self, session: Session) -> Entry:
        """Make what a session without a token of its own has handed out stale.

        Raises:
            Denied: `revoked`: another request has ended it.
        """
        order = self._endings.order(
            Scope.SESSION,
            session.session_id,
            code="session_renewed",
            actor=session.subject,
            reach=Reach.CLAIMS,
        )
        entry = await self._endings.carry_out(order)
        if entry is None:
            raise Denied(Cause.REVOKED, "ended by another request")
        return entry

    async def _live_session(self, principal: Principal) -> Session:
        found = await self._store.find(principal.session_id) if principal.session_id else None
        if found is None:
            raise Denied(Cause.UNKNOWN_SESSION, "no such session")
        self._sessions.require_live(found.session, self._clock.now())
        return found.session

    async def _client_of(self, session: Session) -> Client:
        client = await self._clients.find(session.client_id)
        if client is None:
            raise Denied(Cause.REVOKED, "the client was deleted")
        return client

    async def _access_token(
        self, session: Session, client: Client, *, as_of: Position, holder: Holder | None = None
    ) -> AccessToken:
        """Issue an access token for *session* at *client* with what holds today; *as_of* was read before, *holder* with it."""
        subject_claims = await self._claims.of(session, holder)
        now = self._clock.now()
        return self._issuing.issue(
            grant_of_session(session, subject_claims, used_at=now),
            as_of=as_of,
            timeline=self._feed.live.head.timeline,
            now=now,
            lifetime=self._lifetime_of(client, session.strategy),
        )
