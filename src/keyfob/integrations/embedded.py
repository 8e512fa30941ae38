"""The account routes of an authority inside somebody's own Starlette or FastAPI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from keyfob.base.errors import KeyfobError
from keyfob.endpoints import login, logout, password, refresh, session, sessions
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.body_chunks import BodyChunks
from keyfob.http.forwarded import TrustedProxies
from keyfob.http.headers import SecurityHeaders
from keyfob.http.messages import HttpRequest
from keyfob.http.refresh_hint import with_hint

FindSite = Callable[[], Site]

_OF_ANY_USERS: Final = (login, refresh, logout, session, sessions)


def account_routes(
    find_site: FindSite, *, with_password: bool, proxies: TrustedProxies
) -> list[StarletteRoute]:
    """Return login, refresh, logout, session and sessions, and `/password` where the passwords are the authority's."""
    modules = (*_OF_ANY_USERS, password) if with_password else _OF_ANY_USERS
    return [
        StarletteRoute(route.path, _endpoint(route, find_site, proxies), methods=[route.method])
        for module in modules
        for route in module.ROUTES
    ]


def _endpoint(
    route: Route[Site], find_site: FindSite, proxies: TrustedProxies
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        asked = HttpRequest(
            request.method,
            request.url.path,
            headers=request.scope["headers"],
            query=request.scope["query_string"],
            peer=request.client.host if request.client else "",
            proxies=proxies if proxies.networks else None,
            chunks=BodyChunks(request.receive),
            parameters=request.path_params,
        )
        security = SecurityHeaders("")
        try:
            site = find_site()
            security = SecurityHeaders(site.authority.issuer)
            response = await route.endpoint(site, asked)
        except KeyfobError as error:
            response = route.render_error(error, with_hint(route.refusal, error, asked.all(b"authorization")))
        answer = Response(response.body, response.status)
        answer.raw_headers = security.complete(response)
        return answer

    return endpoint
