"""What `/check` asks, answered by the authority itself."""

from __future__ import annotations

from datetime import timedelta

from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import OpaqueKind
from keyfob.base.principal import Principal
from keyfob.endpoints import machine
from keyfob.endpoints.caller import require_csrf_of
from keyfob.endpoints.check_rules import Rules
from keyfob.endpoints.minted_tokens import Minted, MintedTokens, proxy_principal
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest
from keyfob.verifier.token_check import check_access_token


class AuthorityChecks:
    """A `CheckSource` for the site of an authority."""

    def __init__(self) -> None:
        self._minted = MintedTokens()

    def own_origins(self, site: Site) -> frozenset[bytes]:
        """Return the origins of the site."""
        return site.own_origins

    def cached(self, site: Site, token: str) -> Principal | None:
        """Answer from the memory of this process, under the rule."""
        return site.authority.authenticate_cached(token)

    def answers_at_once(self, site: Site) -> bool:
        """Say whether the store, and nobody else, is asked, and does not make anybody wait."""
        return site.authority.reads_at_once

    async def check(self, site: Site, request: HttpRequest, *, token: str, rules: Rules) -> Principal:
        """Check against the store where memory does not answer."""
        principal = await site.authority.authenticate(
            token, roles=rules.roles, scopes=rules.scopes, max_auth_age=rules.max_auth_age
        )
        if rules.max_staleness is not None:
            _require_fresh(site, rules.max_staleness)
        return principal

    async def require_csrf(self, site: Site, request: HttpRequest, *, token: str) -> None:
        """Compare with the token of the session that the credential names; nothing is read for it."""
        session_id = site.authority.sessions.parse(token, OpaqueKind.SESSION).session_id
        require_csrf_of(site, request, session_id)

    async def mint(
        self, site: Site, request: HttpRequest, *, token: str, principal: Principal, audience: str
    ) -> Minted:
        """Sign one, or give again the one that was signed before.

        Only for a proxy: with its cookie alone, a script in the page could fetch tokens here.
        """
        authority = site.authority
        key = (token, audience, tuple(request.all(b"x-keyfob-proxy")))
        known, now = authority.feed.live.head, authority.clock.now()
        kept = self._minted.find(key, of=principal, live=authority.feed.live, now=now.timestamp())
        if kept is not None and authority.feed.is_level():
            return kept
        client = await machine.proxy(site, request)
        if audience not in client.audiences:
            raise Denied(
                Cause.INSUFFICIENT_SCOPE, "an audience that is not on the list of the proxy's client"
            )
        signed = await authority.mint(principal, audience)
        said = check_access_token(
            signed.text,
            keys=authority.keys.public_keys(),
            issuer=authority.issuer,
            audiences={audience},
            now=authority.clock.time(),
        )
        proxy = proxy_principal(client.client_id, known=known, now=now)
        return self._minted.keep(key, Minted(signed.text, principal=said, of=principal, proxy=proxy))

    def may_give_again(self, site: Site, minted: Minted, principal: Principal) -> bool:
        """Apply the rule to it; `cached` has found before that this process is sure of the feed."""
        return minted.is_good(principal, live=site.authority.feed.live, now=site.authority.clock.time())


def _require_fresh(site: Site, max_staleness: timedelta) -> None:
    """Refuse while this process is further behind the feed; at exactly *max_staleness* it is not.

    Raises:
        Denied: `verifier_stale`.
    """
    if site.authority.feed.staleness() > max_staleness.total_seconds():
        raise Denied(Cause.VERIFIER_STALE, "this process is behind the feed")
