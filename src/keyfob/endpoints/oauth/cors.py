"""Scripts of other origins at the endpoints of OAuth: whoever is on a client's list, exactly, and nobody else (Fetch, section 3.3).

A preflight, which does not say whose request it is about, is granted to an origin that is on the list of any client. The answer itself is
shown to a script only if its origin is on the list of the client that the request names; at `/oauth/userinfo`, where a token says who it is
for, on any. No credentials of the browser ever take part (`Access-Control-Allow-Credentials` is never sent), and no answer is for every
origin. Key sets and metadata are documents for all (`headers.PUBLIC`). There is nothing of this at `/oauth/authorize`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from keyfob.base.errors import KeyfobError
from keyfob.clients.assertion import claimed_client
from keyfob.clients.client import Client
from keyfob.endpoints.bodies import read_oauth_fields
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http import bearer
from keyfob.http.headers import NO_STORE, Header
from keyfob.http.messages import HttpRequest, HttpResponse

BY_NAME: Final = frozenset({"/oauth/token", "/oauth/revoke", "/oauth/device_authorization"})
BY_TOKEN: Final = frozenset({"/oauth/userinfo"})
_VARY: Final[Header] = (b"vary", b"Origin")
_HEADERS: Final[Header] = (b"access-control-allow-headers", b"authorization, content-type")
_EXPOSED: Final[Header] = (b"access-control-expose-headers", b"www-authenticate, retry-after")
_MAX_AGE: Final[Header] = (b"access-control-max-age", b"600")


def with_cors(routes: Iterable[Route[Site]]) -> tuple[Route[Site], ...]:
    """Return *routes*, those here open to scripts of clients' origins, with a preflight each."""
    methods: dict[str, list[str]] = {}
    shown: list[Route[Site]] = []
    for route in routes:
        if route.path in BY_NAME | BY_TOKEN:
            methods.setdefault(route.path, []).append(route.method)
            finish = _for_named if route.path in BY_NAME else _for_any
            route = replace(route, finish=finish)
        shown.append(route)
    return (*shown, *(_preflight_route(path, allowed) for path, allowed in methods.items()))


def _preflight_route(path: str, methods: Iterable[str]) -> Route[Site]:
    return Route(
        method="OPTIONS",
        path=path,
        endpoint=partial(_preflight, methods=", ".join(sorted(methods)).encode("ascii")),
        summary="Ask whether a script may ask (CORS)",
        status=204,
        public=True,
    )


async def _preflight(site: Site, request: HttpRequest, *, methods: bytes) -> HttpResponse:
    """Answer a preflight: 204 in any case, with a permission where there is one."""
    origin = _origin(request)
    allowed: tuple[Header, ...] = ()
    if origin is not None and await _is_on_any_list(site, origin):
        allowed = (_allow(origin), (b"access-control-allow-methods", methods), _HEADERS, _MAX_AGE)
    return HttpResponse(status=204, headers=(NO_STORE, _VARY, *allowed))


async def _for_named(site: Site, request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Let the script see *response* if its origin is on the list of the client that *request* names."""
    origin = _origin(request)
    client = None if origin is None else await _named_client(site, request)
    is_allowed = client is not None and origin in client.cors_origins
    return _shown(response, origin if is_allowed else None)


async def _for_any(site: Site, request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Let the script see *response* if its origin is on the list of any client."""
    origin = _origin(request)
    is_allowed = origin is not None and await _is_on_any_list(site, origin)
    return _shown(response, origin if is_allowed else None)


def _shown(response: HttpResponse, origin: str | None) -> HttpResponse:
    allowed = () if origin is None else (_allow(origin), _EXPOSED)
    return replace(response, headers=(*response.headers, _VARY, *allowed))


def _allow(origin: str) -> Header:
    return (b"access-control-allow-origin", origin.encode("ascii"))


def _origin(request: HttpRequest) -> str | None:
    """Return the origin of the script; None where there is none, or two."""
    values = request.all(b"origin")
    return values[0].decode("latin-1") if len(values) == 1 else None


async def _is_on_any_list(site: Site, origin: str) -> bool:
    try:
        clients = await site.authority.store.clients.list()
    except KeyfobError:
        return False
    return any(origin in client.cors_origins for client in clients)


async def _named_client(site: Site, request: HttpRequest) -> Client | None:
    """Return the client that *request* says it comes from, unchecked: only whether a script may read the answer goes by it."""
    try:
        header = bearer.read_basic(request.all(b"authorization"))
        fields = {} if header is not None else await read_oauth_fields(request)
        assertion = fields.get("client_assertion")
        named = header.client_id if header is not None else fields.get("client_id")
        if named is None and assertion is not None:
            named = claimed_client(assertion)
        return None if named is None else await site.authority.clients.find(named)
    except KeyfobError:
        return None
