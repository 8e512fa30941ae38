"""FastAPI and Starlette: a route states its policy in one place.

    auth = Auth(verifier)
    app = FastAPI()
    auth.install(app)

    @app.post("/payments")
    async def pay(user: Annotated[Principal, Depends(auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3)))]): ...

WebSockets and event streams of such routes end within milliseconds of the revocation of whoever they are for.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Unpack

from fastapi import APIRouter, FastAPI
from fastapi.openapi.models import APIKey, HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
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


TOKEN_SCHEME, COOKIE_SCHEME = "keyfob_token", "keyfob_cookie"
_TOKEN = HTTPBearer(bearerFormat="JWT or session token")
_COOKIE = APIKey.model_validate({"in": "cookie", "name": "__Host-session"})
_PASSED = inspect.Parameter("connection", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=HTTPConnection)


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


class Required(SecurityBase):
    """A dependency that gives the `Principal`, and refuses whoever does not meet a requirement. It is a security scheme of the documentation too.

    One dependency without any below it: FastAPI takes longer over each than the check does.
    """

    scheme_name = TOKEN_SCHEME
    model = _TOKEN
    __signature__ = inspect.Signature([_PASSED])  # what FastAPI passes: annotations are text here

    def __init__(self, auth: asgi.Auth, requirement: Requirement) -> None:
        self._auth = auth
        self._requirement = requirement

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Return who is calling.

        Raises:
            Refused: it is nobody, or not enough.
        """
        try:
            return await self._auth.admit(connection.scope, self._requirement)
        except KeyfobError as error:
            raise Refused(error, self._requirement) from error


class Optional(SecurityBase):
    """A dependency that gives the `Principal`, or None to whoever has no credential at all. One that is bad is refused, as by `Required`."""

    scheme_name = TOKEN_SCHEME
    model = _TOKEN
    __signature__ = inspect.Signature([_PASSED])

    def __init__(self, auth: asgi.Auth, requirement: Requirement) -> None:
        self._auth = auth
        self._requirement = requirement

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Return who is calling, None for a stranger.

        Raises:
            Refused: a credential is there and is no good, or not enough.
        """
        try:
            return await self._auth.admit(connection.scope, self._requirement)
        except KeyfobError as error:
            if isinstance(error, Denied) and error.cause is Cause.NO_CREDENTIAL:
                return None
            raise Refused(error, self._requirement) from error


class Auth(asgi.Auth):
    """The checks of a FastAPI application. Made once, beside the application."""

    def required(self, **rules: Unpack[Rules]) -> Dependency:
        """Return a dependency that gives the `Principal`, and refuses whoever does not meet *rules*. HTTP and WebSocket routes alike.

        Raises:
            ConfigurationError: a rule does not fit.
        """
        return Required(self, Requirement.of(**rules))

    def optional(self, **rules: Unpack[Rules]) -> OptionalDependency:
        """Return a dependency that gives the `Principal`, or None to whoever has no credential at all. One that is bad is refused, as by `required`."""
        return Optional(self, Requirement.of(**rules))

    def install(self, app: FastAPI) -> None:
        """Let *app* answer every error of Keyfob as a problem document, end its streams with their principals, keep what goes by who is calling
        out of shared caches, and list both credentials in its documentation. Before it starts, once.
        """
        app.add_exception_handler(KeyfobError, self._answer)
        app.add_exception_handler(Refused, self._answer)
        app.add_middleware(asgi.Guarded, auth=self)
        app.openapi = partial(_with_cookies, app.openapi)  # type: ignore[method-assign]  # as FastAPI says to

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


def _with_cookies(document: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of an application in which every guarded operation takes the session cookie as well."""
    schema = document()
    operations = [
        operation
        for path in schema.get("paths", {}).values()
        for operation in path.values()
        if isinstance(operation, dict) and _takes(operation, TOKEN_SCHEME)
    ]
    for operation in operations:
        if not _takes(operation, COOKIE_SCHEME):  # the schema is kept, and comes again
            operation["security"].append({COOKIE_SCHEME: []})
    if operations:
        schemes = schema["components"]["securitySchemes"]
        schemes[COOKIE_SCHEME] = _COOKIE.model_dump(by_alias=True, exclude_none=True, mode="json")
    return schema


def _takes(operation: dict[str, Any], scheme: str) -> bool:
    return any(scheme in requirement for requirement in operation.get("security", ()))
