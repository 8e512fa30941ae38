"""Litestar: a plugin, guards for routes, controllers and routers, and the principal as a dependency.

    auth = Auth(verifier)

    @post("/payments", guards=[auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3))])
    async def pay(principal: CurrentPrincipal) -> dict[str, str]: ...

    app = Litestar([pay], plugins=[auth])

WebSockets and streams of such routes end within milliseconds of the revocation of whoever they are for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Unpack

from litestar import Litestar, Request, Response, WebSocket, di
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import WebSocketException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.spec import Components, SecurityScheme
from litestar.plugins import InitPlugin
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from keyfob.accounts.accounts import CheckPassword
from keyfob.authority.opening import Opening
from keyfob.base.errors import Cause, Denied, KeyfobError
from keyfob.base.principal import Principal
from keyfob.integrations import asgi
from keyfob.integrations.litestar_routes import account_routes, asgi_response
from keyfob.integrations.requirement import Requirement, Rules
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from keyfob.authority.authority import Authority

Connection = ASGIConnection[Any, Any, Any, Any]

# Litestar's mark of a dependency that goes by its name, which it wants since 2.23 and did not have before.
_NAMED: Final[object] = getattr(di, "Dependency", object)()
CurrentPrincipal = Annotated[Principal, _NAMED]
"""The parameter `principal` of a handler: who is calling."""
OptionalPrincipal = Annotated[Principal | None, _NAMED]
"""The parameter `optional_principal` of a handler: None for a stranger."""

TOKEN_SCHEME, COOKIE_SCHEME = "keyfob_token", "keyfob_cookie"
_SCHEMES = {
    TOKEN_SCHEME: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT or session token"),
    COOKIE_SCHEME: SecurityScheme(type="apiKey", name="__Host-session", security_scheme_in="cookie"),
}


class Refused(Exception):
    """A refused request, on its way to the answer."""

    def __init__(self, error: KeyfobError, requirement: Requirement) -> None:
        super().__init__(error.code)
        self.error = error
        self.requirement = requirement


class RouteGuard:
    """A guard of Litestar's: it lets in whoever meets a requirement, and strangers where it may."""

    def __init__(self, auth: asgi.Auth, requirement: Requirement, *, strangers: Iterable[Cause] = ()) -> None:
        self._auth = auth
        self._requirement = requirement
        self._passes = frozenset(strangers)

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Admit *connection*, or refuse it."""
        try:
            await self._auth.admit(connection.scope, self._requirement)  # type: ignore[arg-type] # a TypedDict of Litestar's
        except KeyfobError as error:
            if isinstance(error, Denied) and error.cause in self._passes:
                return
            if isinstance(connection, WebSocket):
                raise WebSocketException(detail=error.code, code=asgi.POLICY_VIOLATION) from error
            raise Refused(error, self._requirement) from error


class Auth(InitPlugin):
    """The checks of a Litestar application, and its plugin. Made once, beside the application.

    *source* is a verifier, or an authority in the same process. *origins* are the application's own, where they are others than the
    issuer's: pages that may send its session cookie. As a plugin it runs the verifier or the authority, answers every error of Keyfob
    as a problem document, ends what outlives its principal, gives the dependencies `principal` and `optional_principal`, and lists both
    credentials at the guarded routes of the OpenAPI schema.
    """

    def __init__(
        self, source: Verifier | Authority | Opening[Authority], *, origins: Iterable[str] = ()
    ) -> None:
        self._opened = asgi.Auth(source, origins=origins)

    @property
    def authority(self) -> Authority:
        """The authority of this application.

        Raises:
            ConfigurationError: it follows one.
            AuthorityUnavailable: it is not open yet.
        """
        return self._opened.authority

    def required(self, **rules: Unpack[Rules]) -> RouteGuard:
        """Return a guard that refuses whoever does not meet *rules*. HTTP and WebSocket routes alike.

        Raises:
            ConfigurationError: a rule does not fit.
        """
        return RouteGuard(self._opened, Requirement.of(**rules))

    def optional(self, **rules: Unpack[Rules]) -> RouteGuard:
        """Return a guard that lets in whoever has no credential at all too; one that is bad is refused, as by `required`."""
        return RouteGuard(self._opened, Requirement.of(**rules), strangers={Cause.NO_CREDENTIAL})

    def routes(
        self, *, check_password: CheckPassword | None = None, trusted_proxies: Iterable[str] = ()
    ) -> list[HTTPRouteHandler]:
        """Return login, refresh, logout, session, sessions and password of the authority, as route handlers.

        The arguments are those of `keyfob.integrations.fastapi.Auth.routes`.

        Raises:
            ConfigurationError: this application follows an authority, and holds none.
        """
        return account_routes(self._opened, check_password=check_password, trusted_proxies=trusted_proxies)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Take part in *app_config*."""
        app_config.lifespan.append(self._opened.lifespan)
        app_config.on_startup.append(_list_credentials)
        app_config.middleware.insert(0, self._guarding)
        app_config.exception_handlers[KeyfobError] = self._answer
        app_config.exception_handlers[Refused] = self._answer
        app_config.dependencies.setdefault("principal", Provide(provide_principal, sync_to_thread=False))
        app_config.dependencies.setdefault(
            "optional_principal", Provide(provide_optional_principal, sync_to_thread=False)
        )
        if app_config.openapi_config is not None:
            app_config.openapi_config.components = _with_schemes(app_config.openapi_config.components)
        return app_config

    def _guarding(self, app: ASGIApp) -> ASGIApp:
        guarded = self._opened.guarded(app)  # type: ignore[arg-type] # the messages of both are those of ASGI

        async def guarding(scope: Scope, receive: Receive, send: Send) -> None:
            await guarded(scope, receive, send)  # type: ignore[arg-type]

        return guarding

    def _answer(self, request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        requirement = error.requirement if isinstance(error, Refused) else None
        cause = error.error if isinstance(error, Refused) else error
        assert isinstance(cause, KeyfobError)
        response, headers = self._opened.answer(cause, request.scope, requirement=requirement)  # type: ignore[arg-type]
        return _Prepared(asgi_response(response, headers))


class _Prepared(Response[bytes]):
    """An answer whose headers are complete."""

    def __init__(self, answer: ASGIResponse) -> None:
        super().__init__(answer.body, status_code=answer.status_code)
        self._answer = answer

    def to_asgi_response(self, *_: object, **__: object) -> ASGIResponse:
        """Return it as it is."""
        return self._answer


def provide_principal(scope: Scope) -> Principal:
    """Return who is calling.

    Raises:
        Denied: `no_credential`: nothing guards this route.
    """
    return principal_of(scope)


def provide_optional_principal(scope: Scope) -> Principal | None:
    """Return who is calling, None for a stranger."""
    found: object = scope.get(asgi.PRINCIPAL)
    return found if isinstance(found, Principal) else None


def principal_of(scope: Scope | Mapping[str, object]) -> Principal:
    """Return who is calling, of the scope of a connection that was admitted.

    Raises:
        Denied: `no_credential`: nothing guards this route.
    """
    return asgi.principal_of(scope)


def _with_schemes(components: Components | list[Components]) -> Components | list[Components]:
    ours = Components(security_schemes=dict(_SCHEMES))
    if isinstance(components, list):
        return [*components, ours]
    return replace(components, security_schemes={**(components.security_schemes or {}), **_SCHEMES})


def _list_credentials(app: Litestar) -> None:
    """Say at every guarded route of the OpenAPI schema which credentials it takes: either."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and any(
                isinstance(guard, RouteGuard) for guard in handler.resolve_guards()
            ):
                handler.security = [*(handler.security or ()), {TOKEN_SCHEME: []}, {COOKIE_SCHEME: []}]
