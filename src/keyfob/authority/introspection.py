"""Introspection (RFC 7662, RFC 9701): what a credential is worth right now, from the store and never from a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from keyfob.authority.checks import Checks
from keyfob.base.clock import Clock, to_seconds
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import SessionId
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.clients.client import Client
from keyfob.jwt import jws
from keyfob.revocation.feed import Feed
from keyfob.revocation.store import FeedStore
from keyfob.sessions.rules import idle_end
from keyfob.sessions.sessions import Sessions
from keyfob.sessions.store import SessionStore

INACTIVE: Mapping[str, object] = {"active": False}
"""The whole answer about anything that is not active, or not the caller's business (RFC 7662, section 2.2)."""

SIGNED_TYPE = "token-introspection+jwt"  # (RFC 9701, section 5)
_TOKEN_TYPES: Mapping[OpaqueKind | None, str] = MappingProxyType(
    {OpaqueKind.SESSION: "session", OpaqueKind.API_KEY: "api_key"}
)


class Introspection:
    """Answers what a token is worth. A refresh token is worth nothing to a service."""

    def __init__(
        self,
        checks: Checks,
        sessions: Sessions,
        *,
        store: SessionStore,
        feed_store: FeedStore,
        feed: Feed,
        clock: Clock,
        issuer: str,
        signer: Callable[[], jws.SigningKey],
    ) -> None:
        self._signer = signer
        self._checks = checks
        self._sessions = sessions
        self._store = store
        self._feed_store = feed_store
        self._feed = feed
        self._clock = clock
        self._issuer = issuer

    async def introspect(self, text: str, *, caller: Client | None = None) -> Mapping[str, object]:
        """Return the answer about *text*, to *caller* where its list of audiences restricts what it may know.

        `as_of` and `tl` are those of the credential, so that whoever caches the answer can apply the rule; `idle_exp` is when a session
        idles out if it is not used again, in seconds since the epoch.

        Raises:
            Unavailable: it could not be found out. Never an answer of inactive.
        """
        try:
            await self._feed.catch_up((await self._feed_store.head()).position)
            principal = await self._checks.read(text)
            idle_at = await self._idle_at(principal.session_id)
        except Denied:
            return INACTIVE
        if caller is not None and caller.audiences and not caller.audiences & set(principal.audience):
            return INACTIVE
        return _answer(principal, issuer=self._issuer, kind=kind_of(text), idle_at=idle_at)

    async def introspect_signed(self, text: str, *, caller: Client) -> str:
        """Return the answer about *text* as a JWT for *caller* and for nobody else, who can show later what it was told (RFC 9701, section 5).

        It has no `sub` and no `exp`, so that nothing takes it for a token; its type says the same.

        Raises:
            Unavailable: it could not be found out.
        """
        answer = {
            "iss": self._issuer,
            "aud": caller.client_id,
            "iat": to_seconds(self._clock.now()),
            "token_introspection": await self.introspect(text, caller=caller),
        }
        return jws.sign(msgspec.json.encode(answer), self._signer(), typ=SIGNED_TYPE)

    async def _idle_at(self, session_id: SessionId | None) -> int | None:
        """Return when the session of a credential idles out; refuse one whose session is over, which the feed says too."""
        if session_id is None:
            return None
        found = await self._store.find(session_id)
        if (
            found is None
        ):  # a row stands for every login, and goes only after its last token: this one was never given
            raise Denied(Cause.UNKNOWN_SESSION, "no such session")
        self._sessions.require_live(found.session, self._clock.now())
        idle_at = idle_end(found.session, idle_timeout=self._sessions.idle_timeout(found.session))
        return None if idle_at is None else to_seconds(idle_at)


def _answer(
    principal: Principal, *, issuer: str, kind: OpaqueKind | None, idle_at: int | None
) -> Mapping[str, object]:
    answer: dict[str, object | None] = {
        "active": True,
        "iss": issuer,
        "sub": principal.subject,
        "client_id": principal.client_id,
        "aud": list(principal.audience),
        "exp": to_seconds(principal.expires_at),
        "iat": to_seconds(principal.issued_at),
        "as_of": principal.as_of,
        "tl": principal.timeline,
        "token_type": _TOKEN_TYPES.get(kind, "Bearer"),
        "sid": principal.session_id,
        "psid": principal.parent_session_id,
        "pcid": principal.parent_client_id,
        "jti": principal.token_id,
        "strategy": principal.strategy.value if principal.strategy else None,
        "scope": " ".join(sorted(principal.scopes)) or None,
        "roles": sorted(principal.roles) or None,
        "auth_time": to_seconds(principal.auth_time) if principal.auth_time else None,
        "amr": list(principal.amr) or None,
        "acr": principal.acr,
        "idle_exp": idle_at if kind is not None else None,
    }
    further = {name: value for name, value in principal.claims.items() if name not in answer}
    return {**further, **{name: value for name, value in answer.items() if value is not None}}
