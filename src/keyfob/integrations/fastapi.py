"""FastAPI and Starlette: a route states its policy in one place.

    auth = Auth(verifier)
    app = FastAPI()
    auth.install(app)

    @app.post("/payments")
    async def pay(user: Annotated[Principal, Depends(auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3)))]): ...

WebSockets and event streams of such routes end within milliseconds of the revocation of whoever they are for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Unpack

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.models import APIKey, HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketState

from keyfob.accounts.accounts import CheckPassword
from keyfob.base.errors import Cause, ConfigurationError, Denied, KeyfobError
from keyfob.base.principal import Principal
from keyfob.endpoints.site import Site
from keyfob.http.cross_origin import own_origins
from keyfob.http.forwarded import TrustedProxies
from keyfob.http.problem import problem
from keyfob.integrations import asgi
from keyfob.integrations.embedded import account_routes
from keyfob.integrations.refusals import refusal_of
from keyfob.integrations.requirement import Requirement, Rules
from keyfob.verifier.verifier import Verifier

Dependency = Callable[..., Awaitable[Principal]]
OptionalDependency = Callable[..., Awaitable[Principal | None]]


class _Documented(SecurityBase):
    """A security scheme of the API's documentation. It checks nothing."""

    def __init__(self, name: str, model: HTTPBearer | APIKey) -> None:
        self.scheme_name = name
        self.model = model

    async def __call__(self) -> None:
        """Do nothing: a dependency that FastAPI lists."""


_BEARER = _Documented("keyfob_token", HTTPBearer(bearerFormat="JWT or session token"))
_COOKIE = _Documented("keyfob_cookie", APIKey.model_validate({"in": "cookie", "name": "__Host-session"}))


class Refused(HTTPException):
    """A refused request. Without `Auth.install` FastAPI answers its status and headers; with it, the whole problem document."""

    def __init__(self, error: KeyfobError, requirement: Requirement) -> None:
        response = problem(error, refusal_of(requirement, error))
        super().__init__(
            response.status,
            detail=error.code,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers},
        )
        self.error = error
        self.requirement = requirement


class Auth(asgi.Auth):
    """The checks of a FastAPI application. Made once, beside the application."""

    def required(self, **rules: Unpack[Rules]) -> Dependency:
        """Return a dependency that gives the `Principal`, and refuses whoever does not meet *rules*. HTTP and WebSocket routes alike.

        Raises:
            ConfigurationError: a rule does not fit.
        """
        requirement = Requirement.of(**rules)

        async def principal(
            connection: HTTPConnection,
            bearer: Annotated[None, Depends(_BEARER)],
            cookie: Annotated[None, Depends(_COOKIE)],
        ) -> Principal:
            try:
                return await self.admit(connection.scope, requirement)
            except KeyfobError as error:
                raise Refused(error, requirement) from error

        return principal

    def optional(self, **rules: Unpack[Rules]) -> OptionalDependency:
        """Return a dependency that gives the `Principal`, or None to whoever has no credential at all. One that is bad is refused, as by `required`."""
        required = self.required(**rules)

        async def principal(
            connection: HTTPConnection,
            bearer: Annotated[None, Depends(_BEARER)],
            cookie: Annotated[None, Depends(_COOKIE)],
        ) -> Principal | None:
            try:
                return await required(connection, None, None)
            except Refused as refused:
                if isinstance(refused.error, Denied) and refused.error.cause is Cause.NO_CREDENTIAL:
                    return None
                raise

        return principal

    def install(self, app: FastAPI) -> None:
        """Let *app* answer every error of Keyfob as a problem document, and end its streams with their principals. Before it starts, once."""
        app.add_exception_handler(KeyfobError, self._answer)
        app.add_exception_handler(Refused, self._answer)
        app.add_middleware(_Guarding, auth=self)

    def routes(
        self, *, check_password: CheckPassword | None = None, trusted_proxies: Iterable[str] = ()
    ) -> APIRouter:
        """Return login, refresh, logout, session, sessions and password of the authority, for `app.include_router(auth.routes())`.

        *check_password* says whose name and password these are where the application has users of its own; without it the accounts of the
        authority are asked (`keyfob user add`), and only then is there `/password`.

        Raises:
            ConfigurationError: this application follows an authority, and holds none.
        """
        if isinstance(self.source, Verifier):
            raise ConfigurationError(
                "these routes need the authority in this process: Auth(Authority.open(...))"
            )
        origins: frozenset[bytes] | None = None

        def site() -> Site:
            nonlocal origins
            authority = self.authority
            origins = origins or own_origins(authority.issuer, *self.origins)
            return Site(authority=authority, own_origins=origins, check_password=check_password)

        router = APIRouter()
        router.routes.extend(
            account_routes(
                site,
                with_password=check_password is None,
                proxies=TrustedProxies.parse(trusted_proxies),
            )
        )
        return router

    async def _answer(self, connection: Request | WebSocket, error: Exception) -> Response:
        """Answer a request that was refused; a WebSocket is closed, or its handshake refused."""
        requirement = error.requirement if isinstance(error, Refused) else None
        cause = error.error if isinstance(error, Refused) else error
        assert isinstance(cause, KeyfobError)
        if isinstance(connection, WebSocket):
            return _Closed(self, connection, cause, requirement=requirement)
        response, headers = self.answer(cause, connection.scope, requirement=requirement)
        answer = Response(response.body, response.status)
        answer.raw_headers = headers
        return answer


class _Closed(Response):
    """Closes a WebSocket that is open, or refuses its handshake."""

    def __init__(
        self, auth: asgi.Auth, websocket: WebSocket, error: KeyfobError, *, requirement: Requirement | None
    ) -> None:
        super().__init__()
        self._auth = auth
        self._websocket = websocket
        self._error = error
        self._requirement = requirement

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._websocket.application_state is WebSocketState.CONNECTED:
            await self._websocket.close(asgi.POLICY_VIOLATION, self._error.code)
        else:
            await self._auth.refuse(self._error, scope, send, requirement=self._requirement)


class _Guarding:
    """`asgi.Auth.guarded` in the form in which Starlette adds middleware."""

    def __init__(self, app: ASGIApp, auth: asgi.Auth) -> None:
        self._app = auth.guarded(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)
