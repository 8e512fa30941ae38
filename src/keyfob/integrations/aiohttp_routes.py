"""The account routes of an authority inside somebody's own aiohttp application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from keyfob.accounts.accounts import CheckPassword
from keyfob.base.errors import ConfigurationError, KeyfobError
from keyfob.endpoints import login, logout, password, refresh, session, sessions
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.cross_origin import own_origins
from keyfob.http.forwarded import TrustedProxies
from keyfob.http.headers import SecurityHeaders
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.refresh_hint import with_hint
from keyfob.integrations.asgi import Auth
from keyfob.verifier.verifier import Verifier

_OF_ANY_USERS: Final = (login, refresh, logout, session, sessions)


def account_routes(
    auth: Auth, *, check_password: CheckPassword | None, trusted_proxies: Iterable[str]
) -> list[web.RouteDef]:
    """Return login, refresh, logout, session and sessions, and `/password` where the passwords are the authority's.

    Raises:
        ConfigurationError: *auth* follows an authority, and holds none.
    """
    if isinstance(auth.source, Verifier):
        raise ConfigurationError("these routes need the authority in this process: Auth(Authority.open(...))")
    proxies = TrustedProxies.parse(trusted_proxies)

    def site() -> Site:
        authority = auth.authority
        return Site(
            authority=authority,
            own_origins=own_origins(authority.issuer, *auth.origins),
            check_password=check_password,
        )

    modules = (*_OF_ANY_USERS, password) if check_password is None else _OF_ANY_USERS
    return [
        web.RouteDef(route.method, route.path, _handler(route, site, proxies), {})
        for module in modules
        for route in module.ROUTES
    ]


def _handler(
    route: Route[Site], find_site: Callable[[], Site], proxies: TrustedProxies
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        async def chunk() -> bytes | None:
            return await request.content.readany() or None

        asked = HttpRequest(
            request.method,
            request.path,
            headers=[(name.lower(), value) for name, value in request.raw_headers],
            query=request.rel_url.raw_query_string.encode("ascii"),
            peer=request.remote or "",
            proxies=proxies if proxies.networks else None,
            chunks=chunk,
            parameters=dict(request.match_info),
        )
        security = SecurityHeaders("")
        try:
            site = find_site()
            security = SecurityHeaders(site.authority.issuer)
            response = await route.endpoint(site, asked)
        except KeyfobError as error:
            response = route.render_error(error, with_hint(route.refusal, error, asked.all(b"authorization")))
        return web_response(response, security)

    return handler


def web_response(response: HttpResponse, security: SecurityHeaders) -> web.Response:
    """Return *response* as aiohttp takes it, which counts its length itself."""
    headers = CIMultiDict(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in security.complete(response)
        if name != b"content-length"
    )
    return web.Response(body=response.body, status=response.status, headers=headers)
