"""The account routes of an authority inside somebody's own Litestar application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from keyfob.accounts.accounts import CheckPassword
from keyfob.base.errors import ConfigurationError, KeyfobError
from keyfob.endpoints import login, logout, password, refresh, session, sessions
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.cross_origin import own_origins
from keyfob.http.forwarded import TrustedProxies
from keyfob.http.headers import Header, SecurityHeaders
from keyfob.http.messages import HttpRequest, HttpResponse, ReadChunk
from keyfob.http.refresh_hint import with_hint
from keyfob.integrations.asgi import Auth
from keyfob.verifier.verifier import Verifier

_OF_ANY_USERS: Final = (login, refresh, logout, session, sessions)


def account_routes(
    auth: Auth, *, check_password: CheckPassword | None, trusted_proxies: Iterable[str]
) -> list[HTTPRouteHandler]:
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
    return [_handler(route, site, proxies) for module in modules for route in module.ROUTES]


def _handler(route: Route[Site], find_site: Callable[[], Site], proxies: TrustedProxies) -> HTTPRouteHandler:
    handler = HTTPRouteHandler(
        _litestar_path(route.path),
        http_method=route.method,  # type: ignore[arg-type] # one of the words that it takes
        summary=route.summary,
        status_code=200,  # what the schema says; the answer has its own
    )
    return handler(_endpoint(route, find_site, proxies))


def _endpoint(
    route: Route[Site], find_site: Callable[[], Site], proxies: TrustedProxies
) -> Callable[..., Awaitable[ASGIResponse]]:
    async def endpoint(request: Request[Any, Any, Any]) -> ASGIResponse:
        asked = HttpRequest(
            request.method,
            request.scope["path"],
            headers=list(request.scope["headers"]),
            query=request.scope["query_string"],
            peer=request.client.host if request.client else "",
            proxies=proxies if proxies.networks else None,
            chunks=_chunks(request.stream()),
            parameters={name: str(value) for name, value in request.path_params.items()},
        )
        security = SecurityHeaders("")
        try:
            site = find_site()
            security = SecurityHeaders(site.authority.issuer)
            response = await route.endpoint(site, asked)
        except KeyfobError as error:
            response = route.render_error(error, with_hint(route.refusal, error, asked.all(b"authorization")))
        return asgi_response(response, security.complete(response))

    return endpoint


def _chunks(stream: AsyncIterator[bytes]) -> ReadChunk:
    async def chunk() -> bytes | None:
        return await anext(stream, None)

    return chunk


def _litestar_path(path: str) -> str:
    """Return *path* with its parameters as Litestar writes them: `{name:str}`."""
    return path.replace("}", ":str}")


def asgi_response(response: HttpResponse, headers: Iterable[Header]) -> ASGIResponse:
    """Return *response* as Litestar takes it, with *headers*, which are all of it."""
    texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return ASGIResponse(body=response.body, status_code=response.status, headers=texts)
