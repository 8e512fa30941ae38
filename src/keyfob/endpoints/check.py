"""`/check`: one request checked for a proxy, with any method; `/check/...` too, for proxies that append the original path.

In order:

1. A session cookie or a Bearer token, never both.
2. With a cookie, the cross-origin guard on the original method, which the proxy names; a method that nobody names is taken for unsafe.
3. The credential, and the rules of the query: roles, scopes, the age of the login. On `/check` an unknown parameter is refused, so that a
   misspelt rule is not a rule unchecked; after `/check/` the query is the original request's and only known parameters count.
4. How far behind the feed this process may be.
5. `mint`: for a proxy that authenticates itself, and the audiences on its list. After `/check/` it is passed over: the client would choose.

Who knows whether a credential is good is a `CheckSource`: the authority with its store, or a gateway with a verifier.

All four `X-Auth-` headers are always there: a proxy copies them over what the client sent, and one that is left out might leave the
client's standing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Generic, TypeVar
from urllib.parse import quote

from keyfob.base.at_once import at_once
from keyfob.base.errors import KeyfobError
from keyfob.base.principal import FROM_MEMORY, Principal
from keyfob.endpoints.authority_checks import AuthorityChecks
from keyfob.endpoints.caller import presented
from keyfob.endpoints.check_rules import PARAMETERS, Rules, read_rules
from keyfob.endpoints.check_source import CheckSource
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.endpoints.warm_checks import WarmChecks
from keyfob.http import cross_origin
from keyfob.http.headers import NO_STORE, Header, PreparedHeaders
from keyfob.http.messages import HttpRequest, HttpResponse, RawHeaders

PATH: Final = "/check"
S = TypeVar("S")

# Visible ASCII but for `%`, which escapes; the space separates.
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_PLAIN = re.compile(r"[!-$&-~]*").fullmatch  # what `quote` would give back as it is


class Check(Generic[S]):
    """The endpoint. What it found good by *source* it lets *warm* remember."""

    def __init__(self, source: CheckSource[S], warm: WarmChecks[S]) -> None:
        self._source = source
        self._warm = warm

    def at_once(self, site: S, headers: RawHeaders, query: bytes) -> PreparedHeaders | None:
        """Return a yes that memory gives, or a source that need not wait; None, whatever the reason, leaves it to a call.

        What the client is, and how it authenticates itself, takes no part: so nothing is minted here.
        """
        answer = self._warm.answer(site, headers, query)
        if answer is not None or not self._source.answers_at_once(site):
            return answer
        rules = self._warm.rules(query) if query else Rules()
        if rules is None or rules.is_special:
            return None
        try:
            response = at_once(self(site, HttpRequest("*", PATH, headers=headers, query=query)))
        except KeyfobError:
            return None
        return None if response is None else PreparedHeaders.of(response.headers, status=response.status)

    async def __call__(self, site: S, request: HttpRequest) -> HttpResponse:
        """Answer 204 (or 200, where that is asked for) with who it is, or refuse."""
        credential = presented(request)
        vouched = not credential.by_cookie or self._is_vouched_for(site, request)
        if not vouched:
            await self._source.require_csrf(site, request, token=credential.token)
        rules = self._read_rules(request)
        principal = await self._source.check(site, request, token=credential.token, rules=rules)
        headers = identity_headers(principal)
        is_remembered = (
            vouched and principal.path in FROM_MEMORY
        )  # what was asked once may never be asked again
        if is_remembered:
            self._warm.remember(request.headers, token=credential.token, principal=principal, answer=headers)
        minted = None
        if rules.mint is not None:
            minted = await self._source.mint(
                site, request, token=credential.token, principal=principal, audience=rules.mint
            )
            headers = (*headers, minted.header)
        if rules.status != 204:
            headers = (*headers, (b"content-length", b"0"))
        # Below /check/ the same query asks for something else.
        if is_remembered and rules.is_special and request.path == PATH:
            self._warm.remember_special(
                request,
                principal=principal,
                minted=minted,
                answer=PreparedHeaders.of(headers, status=rules.status),
            )
        return HttpResponse(status=rules.status, headers=headers, bare=True)

    def _is_vouched_for(self, site: S, request: HttpRequest) -> bool:
        """Apply the cross-origin guard to the original request; False where a CSRF token must vouch for it.

        Raises:
            Denied: `cross_origin`.
        """
        return cross_origin.is_vouched_for(
            _original_method(request),
            site=request.all(b"sec-fetch-site"),
            origin=request.all(b"origin"),
            own_origins=self._source.own_origins(site),
        )

    def _read_rules(self, request: HttpRequest) -> Rules:
        if request.path != PATH:
            return replace(read_rules(request.query, strict=False), mint=None)
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


def _original_method(request: HttpRequest) -> str:
    """Return the method that the proxy names; unsafe if it names none, or two that differ."""
    named = {*request.all(b"x-forwarded-method"), *request.all(b"x-original-method")}
    return named.pop().decode("latin-1") if len(named) == 1 else "UNKNOWN"


def _encoded(names: Sequence[str]) -> bytes:
    return " ".join([name if _PLAIN(name) else quote(name, safe=_SAFE) for name in names]).encode("ascii")


def routes() -> tuple[Route[Site], ...]:
    """Return the routes of `/check` at an authority, with a memory of their own."""
    return routes_of(AuthorityChecks())


def routes_of(source: CheckSource[S]) -> tuple[Route[S], ...]:
    """Return the routes of `/check`, answered by *source*; their method `*` is any."""
    warm = WarmChecks(source)
    check = Check(source, warm)
    return (
        Route(
            method="*",
            path=PATH,
            endpoint=check,
            summary="Check a request, for a proxy",
            status=204,
            query=PARAMETERS,
            warm=check.at_once,
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
