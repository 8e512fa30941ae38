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

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import quote

from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import is_identifier
from keyfob.base.opaque import OpaqueKind
from keyfob.base.principal import Principal
from keyfob.clients.client import is_scope
from keyfob.endpoints import machine
from keyfob.endpoints.caller import Presented, require_csrf_of
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http import bearer, cookies, cross_origin
from keyfob.http.headers import NO_STORE, Header
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import parse_query, whole_number

PATH: Final = "/check"
MAX_SECONDS = 10 * 366 * 86_400  # the longest `max_auth_age` or `max_staleness`
MAX_KEPT = 10_000
"""Queries and principals whose reading is kept; past that all are read anew. About 1 KB each at most."""

K = TypeVar("K")
V = TypeVar("V")

_WANTED = frozenset({b"authorization", b"cookie"})
_REPEATABLE, _SINGLE = ("role", "scope"), ("max_auth_age", "max_staleness", "mint")
# Visible ASCII but for `%`, which escapes; the space separates.
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the query asks of the principal."""

    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    max_auth_age: timedelta | None = None
    max_staleness: timedelta | None = None
    mint: str | None = None


_NO_RULES = Rules()


class Check:
    """The endpoint. It keeps what it read of recent queries and what it wrote for recent principals."""

    def __init__(self) -> None:
        self._rules: dict[tuple[bytes, bool], Rules] = {}
        self._identities: dict[str, tuple[Principal, tuple[Header, ...]]] = {}

    async def __call__(self, site: Site, request: HttpRequest) -> HttpResponse:
        """Answer 204 with who it is, or refuse."""
        credential = _presented(request)
        if credential.by_cookie:
            _guard(site, request, credential.token)
        rules = self._read_rules(request) if request.query else _NO_RULES
        authority = site.authority
        if rules is _NO_RULES:
            principal = await authority.authenticate(credential.token)
            return HttpResponse(status=204, headers=self._identity(principal), bare=True)
        principal = await authority.authenticate(
            credential.token, roles=rules.roles, scopes=rules.scopes, max_auth_age=rules.max_auth_age
        )
        if rules.max_staleness is not None:
            _require_fresh(site, rules.max_staleness)
        if rules.mint is None:
            return HttpResponse(status=204, headers=self._identity(principal), bare=True)
        return HttpResponse(
            status=204,
            headers=(*self._identity(principal), await _minted(site, request, principal, rules.mint)),
            bare=True,
        )

    def _read_rules(self, request: HttpRequest) -> Rules:
        key = (request.query, request.path == PATH)
        rules = self._rules.get(key)
        if rules is None:
            rules = read_rules(request.query, strict=key[1])
            _keep(self._rules, key, rules)
        return rules

    def _identity(self, principal: Principal) -> tuple[Header, ...]:
        key = principal.session_id or principal.token_id or ""
        kept = self._identities.get(key)
        if kept is not None and kept[0] is principal:
            return kept[1]
        headers = identity_headers(principal)
        _keep(self._identities, key, (principal, headers))
        return headers


def read_rules(query: bytes, *, strict: bool) -> Rules:
    """Read what a query asks. *strict* refuses unknown parameters; otherwise they are the original request's, and are passed over.

    Raises:
        InvalidRequest: a parameter that is unknown, twice where it may not be, or out of bounds; an empty or impossible role or scope.
    """
    many: dict[str, set[str]] = {name: set() for name in _REPEATABLE}
    single: dict[str, str] = {}
    for name, value in parse_query(query):
        if name in many:
            many[name].add(_one_name(name, value))
        elif name in _SINGLE and name not in single:
            single[name] = value
        elif name in single or strict:
            raise InvalidRequest(
                "invalid_request",
                f"Unknown parameter, or one twice; known are {', '.join((*_REPEATABLE, *_SINGLE))}.",
            )
    return Rules(
        roles=frozenset(many["role"]),
        scopes=frozenset(many["scope"]),
        max_auth_age=_seconds(single, "max_auth_age"),
        max_staleness=_seconds(single, "max_staleness"),
        mint=_one_name("mint", single["mint"]) if "mint" in single else None,
    )


def identity_headers(principal: Principal) -> tuple[Header, ...]:
    """Return who *principal* is, for the upstream: lists are separated by spaces, everything else but visible ASCII is percent-encoded."""
    return (
        NO_STORE,
        (b"x-auth-subject", _encoded((principal.subject,))),
        (b"x-auth-session", _encoded((principal.session_id or "",))),
        (b"x-auth-roles", _encoded(sorted(principal.roles))),
        (b"x-auth-scopes", _encoded(sorted(principal.scopes))),
    )


def _presented(request: HttpRequest) -> Presented:
    """Find the credential in one pass over the headers: this is the hot path."""
    authorization: list[bytes] = []
    cookie: list[bytes] = []
    for name, value in request.headers:
        if name in _WANTED:
            (cookie if name == b"cookie" else authorization).append(value)
    session = cookies.read(cookie, cookies.SESSION_COOKIE) if cookie else None
    if session is not None and authorization:
        raise Denied(Cause.MALFORMED, "a session cookie and an Authorization header at once")
    if session is not None:
        return Presented(session, by_cookie=True)
    token = bearer.read_bearer(authorization)
    if token is None:
        raise Denied(Cause.NO_CREDENTIAL, "neither a session cookie nor an Authorization header")
    return Presented(token, by_cookie=False)


def _guard(site: Site, request: HttpRequest, token: str) -> None:
    """Apply the cross-origin guard to the original request.

    Raises:
        Denied: `cross_origin`.
    """
    if cross_origin.is_vouched_for(
        _original_method(request),
        site=request.all(b"sec-fetch-site"),
        origin=request.all(b"origin"),
        own_origins=site.own_origins,
    ):
        return
    session_id = site.authority.sessions.parse(token, OpaqueKind.SESSION).session_id
    require_csrf_of(site, request, session_id)


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


def _one_name(parameter: str, value: str) -> str:
    possible = is_scope(value) if parameter == "scope" else is_identifier(value)
    if not possible:
        raise InvalidRequest("invalid_request", f"{parameter} has a value that none can have.")
    return value


def _seconds(single: dict[str, str], name: str) -> timedelta | None:
    if name not in single:
        return None
    return timedelta(seconds=whole_number(single[name], name=name, low=0, high=MAX_SECONDS))


def _encoded(names: Sequence[str]) -> bytes:
    return " ".join(quote(name, safe=_SAFE) for name in names).encode("ascii")


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[key] = value


def routes() -> tuple[Route, ...]:
    """Return the routes of `/check`; their method `*` is any."""
    check = Check()
    return tuple(
        Route(
            method="*",
            path=path,
            endpoint=check,
            summary="Check a request, for a proxy",
            status=204,
            query=_PARAMETERS,
        )
        for path in (PATH, PATH + "/{rest}")
    )


_PARAMETERS = (
    Parameter(name="role", summary="a role that the principal must have", repeatable=True),
    Parameter(name="scope", summary="a scope that the principal must have", repeatable=True),
    Parameter(name="max_auth_age", summary="seconds since the login, at most"),
    Parameter(name="max_staleness", summary="seconds that this process may be behind the feed, at most"),
    Parameter(name="mint", summary="audience of an access token for the upstream; for authenticated proxies"),
)
