"""What `/check` asks, answered by a gateway's verifier."""

from __future__ import annotations

import re
from typing import Final

from keyfob.base.errors import AuthorityUnavailable, Cause, Denied
from keyfob.base.principal import Principal
from keyfob.endpoints.caller import MAX_CSRF_TOKEN
from keyfob.endpoints.check import PATH
from keyfob.endpoints.check_rules import Rules
from keyfob.endpoints.minted_tokens import Minted, MintedTokens, MintKey, proxy_principal
from keyfob.http import bearer, cookies
from keyfob.http.messages import HttpRequest
from keyfob.server.gateway.gateway import Gateway
from keyfob.verifier.token_check import check_access_token

_VISIBLE: Final = re.compile(rb"[!-~]+")


class GatewayChecks:
    """A `CheckSource` for a gateway."""

    def __init__(self) -> None:
        self._minted = MintedTokens()

    def own_origins(self, site: Gateway) -> frozenset[bytes]:
        """Return the authority's own origins: where its cookies are sent."""
        return site.own_origins

    def cached(self, site: Gateway, token: str) -> Principal | None:
        """Answer from the verifier's memory, under the rule and its staleness."""
        return site.verifier.cached(token)

    def answers_at_once(self, site: Gateway) -> bool:
        """Say no: what memory does not answer is asked over the network."""
        return False

    async def check(self, site: Gateway, request: HttpRequest, *, token: str, rules: Rules) -> Principal:
        """Check in memory; ask the authority about a session that is not there.

        On the path `/check` the proxy states how stale the gateway may be. Below it the query is the client's, who can only make it less.
        """
        max_staleness = rules.max_staleness
        if max_staleness is not None and request.path != PATH:
            max_staleness = min(max_staleness, site.max_staleness)
        return await site.verifier.authenticate(
            token,
            max_staleness=max_staleness,
            max_auth_age=rules.max_auth_age,
            roles=rules.roles,
            scopes=rules.scopes,
            source=request.address if site.counts_sources else "",
        )

    async def require_csrf(self, site: Gateway, request: HttpRequest, *, token: str) -> None:
        """Ask the authority: it alone has the key. Without a CSRF token there is nothing to ask."""
        values = request.all(b"x-csrf-token")
        if len(values) != 1 or len(values[0]) > MAX_CSRF_TOKEN or _VISIBLE.fullmatch(values[0]) is None:
            raise Denied(Cause.CROSS_ORIGIN, "no CSRF token of the session")
        # No method is named and no browser vouches: to the authority that is a request that the CSRF token alone can vouch for.
        await site.asking.check(
            {
                "Cookie": f"{cookies.SESSION_COOKIE.decode('ascii')}={token}",
                "X-CSRF-Token": values[0].decode("ascii"),
            }
        )

    async def mint(
        self, site: Gateway, request: HttpRequest, *, token: str, principal: Principal, audience: str
    ) -> Minted:
        """Ask the authority, once for a session, an audience and a proxy until just before the token ends; and check what it gave."""
        value, client_id = _proxy_of(request)
        key: MintKey = (token, audience, (value,))
        live, known, now = site.view.live, site.view.live.head, site.view.time.now()
        kept = self._minted.find(key, of=principal, live=live, now=now)
        if kept is not None:
            return kept
        text = await site.asking.mint(token=token, audience=audience, proxy=value.decode("latin-1"))
        said = _read(site, text, audience=audience, principal=principal)
        cause = live.cause(said)
        if cause is not None:
            raise Denied(cause, "the minted token is covered by the feed")
        proxy = proxy_principal(client_id, known=known, now=said.issued_at)
        return self._minted.keep(key, Minted(text, principal=said, of=principal, proxy=proxy))

    def may_give_again(self, site: Gateway, minted: Minted, principal: Principal) -> bool:
        """Apply the rule to it; `cached` has found before that the verifier is level."""
        return minted.is_good(principal, live=site.view.live, now=site.view.time.now())


def _proxy_of(request: HttpRequest) -> tuple[bytes, str]:
    """Return what the proxy authenticates itself with, as it came, and which client it says that it is.

    Raises:
        Denied: `insufficient_scope` if nobody does; `bad_credentials` for what cannot be read.
    """
    values = request.all(b"x-keyfob-proxy")
    credentials = bearer.read_basic(values)
    if credentials is None:
        raise Denied(Cause.INSUFFICIENT_SCOPE, "mint is for a proxy that authenticates itself")
    return values[0], credentials.client_id


def _read(site: Gateway, text: str, *, audience: str, principal: Principal) -> Principal:
    """Read the minted token as the upstream will; one that it would refuse, or that is somebody else's, is no answer.

    Raises:
        AuthorityUnavailable: it is no answer.
    """
    try:
        said = check_access_token(
            text,
            keys=site.keys.access,
            issuer=site.verifier.issuer,
            audiences={audience},
            now=site.view.time.now(),
        )
    except Denied as denied:
        if denied.cause is Cause.UNKNOWN_KEY:
            site.keys.want()
        raise AuthorityUnavailable(f"the minted token does not hold here: {denied}") from None
    if (said.subject, said.session_id) != (principal.subject, principal.session_id):
        raise AuthorityUnavailable("the authority minted a token of another session")
    return said
