"""`/check`: one request checked for a proxy, with any method; `/check/...` too, for proxies that append the original path.

In order:

1. A session cookie or a Bearer token, never both.
2. With a cookie, the cross-origin guard on the original method, which the proxy names; a method that nobody names is taken for unsafe.
3. The credential, and the rules of the query: roles, scopes, the age of the login. On `/check` an unknown parameter is refused, so that a
   misspelt rule is not a rule unchecked; after `/check/` the query is the original request's and only known parameters count.
4. How far behind the feed this process may be.
5. `mint`: for a proxy that authenticates itself, and the audiences on its list.

All four `X-Auth-` headers are always there: a proxy copies them over what the client sent, and one that is left out might leave the
client's standing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import OpaqueKind
from keyfob.base.principal import FROM_MEMORY, Principal
from keyfob.endpoints import machine
from keyfob.endpoints.caller import presented, require_csrf_of
from keyfob.endpoints.check_rules import PARAMETERS, Rules, read_rules
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.endpoints.warm_checks import WarmChecks
from keyfob.http import cross_origin
from keyfob.http.headers import NO_STORE, Header
from keyfob.http.messages import HttpRequest, HttpResponse

PATH: Final = "/check"

# Visible ASCII but for `%`, which escapes; the space separates.
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_PLAIN = re.compile(r"[!-$&-~]*").fullmatch  # what `quote` would give back as it is


class Check:
    """The endpoint. What it found good it lets *warm* remember."""

    def __init__(self, warm: WarmChecks) -> None:
        self._warm = warm

    async def __call__(self, site: Site, request: HttpRequest) -> HttpResponse:
        """Answer 204 with who it is, or refuse."""
        credential = presented(request)
        vouched = not credential.by_cookie or _is_vouched_for(site, request)
        if not vouched:
            session_id = site.authority.sessions.parse(credential.token, OpaqueKind.SESSION).session_id
            require_csrf_of(site, request, session_id)
        rules = self._read_rules(request)
        principal = await site.authority.authenticate(
            credential.token, roles=rules.roles, scopes=rules.scopes, max_auth_age=rules.max_auth_age
        )
        if rules.max_staleness is not None:
            _require_fresh(site, rules.max_staleness)
        headers = identity_headers(principal)
        if vouched and principal.path in FROM_MEMORY:  # what was asked once may never be asked again
            self._warm.remember(request.headers, token=credential.token, principal=principal, answer=headers)
        if rules.mint is not None:
            headers = (*headers, await _minted(site, request, principal, rules.mint))
        return HttpResponse(status=204, headers=headers, bare=True)

    def _read_rules(self, request: HttpRequest) -> Rules:
        if request.path != PATH:
            return read_rules(request.query, strict=False)
        rules = self._warm.rules(request.query)
        if rules is None:
            rules = read_rules(request.query, strict=True)
            self._warm.remember_rules(request.query, rules)
        return rules


def identity_headers(principal: Principal) -> tuple[Header, ...]:
    """Return who *principal* is, for the upstream: lists are separated by spaces, everything else but visible ASCII is percent-encoded."""
    return (
        NO_STORE,
        (b"x-auth-subject", _encoded((principal.subject,))),
        (b"x-auth-session", _encoded((principal.session_id or "",))),
        (b"x-auth-roles", _encoded(sorted(principal.roles))),
        (b"x-auth-scopes", _encoded(sorted(principal.scopes))),
    )


def _is_vouched_for(site: Site, request: HttpRequest) -> bool:
    """Apply the cross-origin guard to the original request; False where a CSRF token must vouch for it.

    Raises:
        Denied: `cross_origin`.
    """
    return cross_origin.is_vouched_for(
        _original_method(request),
        site=request.all(b"sec-fetch-site"),
        origin=request.all(b"origin"),
        own_origins=site.own_origins,
    )


def _original_method(request: HttpRequest) -> str:
    """Return the method that the proxy names; unsafe if it names none, or two that differ."""
    named = {*request.all(b"x-forwarded-method"), *request.all(b"x-original-method")}
    return named.pop().decode("latin-1") if len(named) == 1 else "UNKNOWN"


def _require_fresh(site: Site, max_staleness: timedelta) -> None:
    """Refuse while this process is further behind the feed; at exactly *max_staleness* it is not.

    Raises:
        Denied: `verifier_stale`.
    """
    if site.authority.feed.staleness() > max_staleness.total_seconds():
        raise Denied(Cause.VERIFIER_STALE, "this process is behind the feed")


async def _minted(site: Site, request: HttpRequest, principal: Principal, audience: str) -> Header:
    """Mint an access token for the upstream.

    Only for a proxy: with its cookie alone, a script in the page could fetch tokens here.

    Raises:
        Denied: `insufficient_scope` for a caller that is no proxy, or an audience that is not on its list; `bad_credentials`.
    """
    client = await machine.proxy(site, request)
    if audience not in client.audiences:
        raise Denied(Cause.INSUFFICIENT_SCOPE, "an audience that is not on the list of the proxy's client")
    minted = await site.authority.mint(principal, audience)
    return b"authorization", b"Bearer " + minted.text.encode("ascii")


def _encoded(names: Sequence[str]) -> bytes:
    return " ".join([name if _PLAIN(name) else quote(name, safe=_SAFE) for name in names]).encode("ascii")


def routes() -> tuple[Route[Site], ...]:
    """Return the routes of `/check`; their method `*` is any."""
    warm = WarmChecks()
    check = Check(warm)
    return (
        Route(
            method="*",
            path=PATH,
            endpoint=check,
            summary="Check a request, for a proxy",
            status=204,
            query=PARAMETERS,
            warm=warm.answer,
        ),
        Route(
            method="*",
            path=PATH + "/{rest}",
            endpoint=check,
            summary="Check a request, for a proxy that appends the original path",
            status=204,
            query=PARAMETERS,
        ),
    )
