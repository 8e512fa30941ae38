"""Revocation of a token by the client that it was issued to (RFC 7009).

1. This process catches up with the feed, so that what another has ended is over here as well.
2. The token is checked like any credential, from the store: its form, its tag or signature, its session.
3. It is the caller's own. Last, so that a token of another client took the same way as one of the caller's.
4. The entry: of the session, for whatever is the credential of a session; of the token alone, for any other access token.

Whatever fails before the entry is silence, and leaves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.authority.checks import Checks
from keyfob.authority.endings import Endings
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import ClientId, SessionId, Strategy
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.feed import Feed
from keyfob.revocation.store import FeedStore
from keyfob.sessions.store import SessionStore
from keyfob.tokens.refresh import Refresh

_NOBODYS = SessionId("0" * 32)
"""The id of no session: a login's begins with a hash, and ends with random bits."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What is to be ended, and whose it is."""

    client_id: ClientId
    scope: Scope
    id: str


class TokenRevocation:
    """Ends tokens that their own clients give back."""

    def __init__(
        self,
        checks: Checks,
        refresh: Refresh,
        endings: Endings,
        *,
        store: SessionStore,
        feed_store: FeedStore,
        feed: Feed,
    ) -> None:
        self._checks = checks
        self._refresh = refresh
        self._endings = endings
        self._store = store
        self._feed_store = feed_store
        self._feed = feed

    async def revoke(self, text: str, *, client: Client) -> Entry | None:
        """End what *text* is, if it is good and was issued to *client*; None, and nothing changed, for anything else.

        A session token, an API key, a refresh token (an earlier one of its chain, too: whoever holds it can only lose) and the access
        token of a login of the strategy `jwt`, which has no other, end their session with everything of it. Any other access token ends
        alone: its session goes on (RFC 7009, section 2.1, leaves that open). Of several calls at once for one session, one gets the entry.

        Raises:
            Unavailable: it could not be found out, or not be made durable. Whether it took effect is not known; it may be repeated.
        """
        await self._feed.catch_up((await self._feed_store.head()).position)
        try:
            target = await self._read(text)
        except Denied as denied:
            await self._look_as_long(text, denied)
            return None
        if target.client_id != client.client_id:
            return None
        order = self._endings.order(
            target.scope, target.id, code="token_revoked", actor=client.client_id, session_id=None
        )
        return await self._endings.carry_out(order)

    async def _read(self, text: str) -> _Target:
        if kind_of(text) is OpaqueKind.REFRESH:
            session = (await self._refresh.present(text)).session
            return _Target(session.client_id, Scope.SESSION, session.session_id)
        return _target_of(await self._checks.read(text, allowing=Cause.STALE_CLAIMS), kind_of(text))

    async def _look_as_long(self, text: str, denied: Denied) -> None:
        """Look for a session that is not there, where a token was refused before its own was looked for: the time tells less."""
        if kind_of(text) is not None and denied.cause is Cause.MALFORMED:
            await self._store.find(_NOBODYS)


def _target_of(principal: Principal, kind: OpaqueKind | None) -> _Target:
    is_its_session = kind is not None or (
        principal.strategy is Strategy.JWT and principal.auth_time is not None
    )
    if is_its_session and principal.session_id is not None:
        return _Target(principal.client_id, Scope.SESSION, principal.session_id)
    assert principal.token_id is not None  # `jti` is required of every access token
    return _Target(principal.client_id, Scope.TOKEN, principal.token_id)
