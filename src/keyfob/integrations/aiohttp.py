"""aiohttp: decorators for handlers, a middleware for whole applications, and `principal_of(request)` inside.

    auth = Auth(Verifier.follow("https://auth.example", audience="orders", credentials=(...)))
    app = web.Application()
    auth.install(app)

    @routes.post("/payments")
    @auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3))
    async def pay(request): return web.json_response({"paid": principal_of(request).subject})

WebSockets, and responses that go on after their first piece, end within milliseconds of the revocation of whoever they are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Final, ParamSpec, Self, Unpack

from aiohttp import web
from aiohttp.payload import Payload
from aiohttp.typedefs import Handler, Middleware

from keyfob.accounts.accounts import CheckPassword
from keyfob.authority.opening import Opening
from keyfob.base.errors import Cause, ConfigurationError, Denied, KeyfobError
from keyfob.base.principal import Principal
from keyfob.http.headers import SecurityHeaders
from keyfob.http.problem import problem
from keyfob.integrations.aiohttp_routes import account_routes, web_response
from keyfob.integrations.asgi import POLICY_VIOLATION, WEBSOCKET
from keyfob.integrations.asgi import Auth as Opened
from keyfob.integrations.refusals import refusal_of
from keyfob.integrations.request_head import RequestHead
from keyfob.integrations.requirement import ANYBODY_SIGNED_IN, Requirement, Rules
from keyfob.integrations.shared_caches import kept_private, varying
from keyfob.verifier.guard import Guard
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from keyfob.authority.authority import Authority

P = ParamSpec("P")

# Keys of requests have types since aiohttp 3.14, which warns of plain ones.
_CONNECTION: Final[str] = getattr(web, "RequestKey", lambda name, _: name)("keyfob.connection", object)

_SECURITY = SecurityHeaders("")  # HSTS is the business of whoever answers the other requests


class Auth:
    """The checks of an aiohttp application. Made once, beside the application; every method may be called at once.

    *source* is a verifier, or an authority in the same process. *origins* are the application's own, where they are others than the
    issuer's: pages that may send its session cookie.
    """

    def __init__(
        self, source: Verifier | Authority | Opening[Authority], *, origins: Iterable[str] = ()
    ) -> None:
        self._opened = Opened(source, origins=origins)

    @property
    def authority(self) -> Authority:
        """The authority of this application.

        Raises:
            ConfigurationError: it follows one.
            AuthorityUnavailable: it is not open yet.
        """
        return self._opened.authority

    def install(self, app: web.Application) -> None:
        """Let *app* run the verifier or the authority, answer every error of Keyfob, end what outlives its principal, and keep what goes by
        who is calling out of shared caches. Before it starts, once.
        """
        app.middlewares.insert(0, self._middleware())
        app.on_response_prepare.append(_notice)
        app.cleanup_ctx.append(self._running)

    def required(
        self, **rules: Unpack[Rules]
    ) -> Callable[[Callable[P, Awaitable[web.StreamResponse]]], Callable[P, Awaitable[web.StreamResponse]]]:
        """Return a decorator that lets in whoever meets *rules*: for handlers, and for the methods of a `web.View`.

        Raises:
            ConfigurationError: a rule does not fit.
        """
        requirement = Requirement.of(**rules)

        def decorate(
            handler: Callable[P, Awaitable[web.StreamResponse]],
        ) -> Callable[P, Awaitable[web.StreamResponse]]:
            @wraps(handler)
            async def protected(*args: P.args, **kwargs: P.kwargs) -> web.StreamResponse:
                await self.admit(_request_of(args), requirement)
                return await handler(*args, **kwargs)

            return protected

        return decorate

    def optional(
        self, **rules: Unpack[Rules]
    ) -> Callable[[Callable[P, Awaitable[web.StreamResponse]]], Callable[P, Awaitable[web.StreamResponse]]]:
        """Return a decorator that lets in strangers too: then `find_principal(request)` is None. A credential that is bad is refused."""
        requirement = Requirement.of(**rules)

        def decorate(
            handler: Callable[P, Awaitable[web.StreamResponse]],
        ) -> Callable[P, Awaitable[web.StreamResponse]]:
            @wraps(handler)
            async def protected(*args: P.args, **kwargs: P.kwargs) -> web.StreamResponse:
                try:
                    await self.admit(_request_of(args), requirement)
                except Denied as denied:
                    if denied.cause is not Cause.NO_CREDENTIAL:
                        raise
                return await handler(*args, **kwargs)

            return protected

        return decorate

    def protect(self, **rules: Unpack[Rules]) -> Middleware:
        """Return a middleware that lets in whoever meets *rules*, for an application of its own: `web.Application(middlewares=[...])`.

        The application that it is a part of must be the one of `install`.

        Raises:
            ConfigurationError: a rule does not fit.
        """
        requirement = Requirement.of(**rules)

        @web.middleware
        async def protecting(request: web.Request, handler: Handler) -> web.StreamResponse:
            await self.admit(request, requirement)
            return await handler(request)

        return protecting

    async def admit(self, request: web.Request, requirement: Requirement) -> Principal:
        """Return who sent *request*, and note it there.

        Raises:
            Denied, Unavailable: the cause.
            ConfigurationError: nothing would end what outlives the principal: `install` was not called.
        """
        connection = _connection_of(request)
        if connection is None:
            raise ConfigurationError("call auth.install(app) for the application of this route")
        connection.requirement, connection.is_asked = requirement, True
        connection.principal = await self._opened.admission.admit(_head_of(request), requirement)
        return connection.principal

    def routes(
        self, *, check_password: CheckPassword | None = None, trusted_proxies: Iterable[str] = ()
    ) -> list[web.RouteDef]:
        """Return login, refresh, logout, session, sessions and password of the authority, for `app.add_routes(auth.routes())`.

        The arguments are those of `keyfob.integrations.fastapi.Auth.routes`.

        Raises:
            ConfigurationError: this application follows an authority, and holds none.
        """
        return account_routes(self._opened, check_password=check_password, trusted_proxies=trusted_proxies)

    def guard(self, principal: Principal, requirement: Requirement) -> Guard:
        """Return what ends the task under way with *principal*."""
        return self._opened.admission.checks.guard(principal, requirement, task=asyncio.current_task())

    async def _running(self, app: web.Application) -> AsyncIterator[None]:
        async with self._opened.lifespan(app):
            yield

    def _middleware(self) -> Middleware:
        @web.middleware
        async def answering(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = request[_CONNECTION] = _Connection(self, request)
            try:
                return await connection.run(handler)
            except KeyfobError as error:
                return await connection.answer(error)

        return answering


def find_principal(request: web.Request) -> Principal | None:
    """Return who sent *request*, None for a stranger."""
    connection = _connection_of(request)
    return None if connection is None else connection.principal


def principal_of(request: web.Request) -> Principal:
    """Return who sent *request*, which was admitted.

    Raises:
        Denied: `no_credential`: nothing protects this route.
    """
    principal = find_principal(request)
    if principal is None:
        raise Denied(Cause.NO_CREDENTIAL, "no principal: the handler is not protected")
    return principal


class _Connection:
    """One request, ended with the principal that is admitted to it: from the moment when an answer begins that is not sent at once."""

    def __init__(self, auth: Auth, request: web.Request) -> None:
        self._auth = auth
        self._request = request
        self.principal: Principal | None = None
        self.requirement = ANYBODY_SIGNED_IN
        self.is_asked = False
        self._guard: Guard | None = None
        self._response: web.StreamResponse | None = None

    async def run(self, handler: Handler) -> web.StreamResponse:
        """Answer, to the last piece where there are several."""
        async with self:
            response = await handler(self._request)
            if _is_lasting(response) and not response.prepared:
                await response.prepare(self._request)
            if self._guard is not None and not isinstance(response, web.WebSocketResponse):
                await response.write_eof()
            return response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._guard is not None:
            await self._guard.__aexit__(kind, error, traceback)

    def keep_apart(self, response: web.StreamResponse) -> None:
        """Tell caches whom *response* is for, if it was asked who is calling."""
        if not self.is_asked:
            return
        headers = response.headers
        headers["Vary"] = varying(", ".join(headers.getall("Vary", [])))
        if self.principal is not None:
            headers["Cache-Control"] = kept_private(", ".join(headers.getall("Cache-Control", [])))

    async def begin(self, response: web.StreamResponse) -> None:
        """Guard the principal, if there is one, from now on."""
        if self._guard is not None or self.principal is None or not _is_lasting(response):
            return
        self._guard = self._auth.guard(self.principal, self.requirement)
        await self._guard.__aenter__()
        if self._guard.cause is not None:
            await asyncio.sleep(0)  # the cancellation comes in here, before anything is sent
        self._response = response

    async def answer(self, error: KeyfobError) -> web.StreamResponse:
        """Answer *error*; where the answer has begun, end it in a way that nobody takes for its end."""
        response = self._response
        if response is None and self._guard is None:
            return _refusal(self._request, error, self.requirement)
        if self._guard is None or self._guard.cause is None:  # the application's own
            raise error
        if response is None:  # the answer was about to begin, and cannot be taken back for another
            self._cut_off()
            raise asyncio.CancelledError
        if isinstance(response, web.WebSocketResponse):
            await response.close(code=POLICY_VIOLATION, message=error.code.encode("ascii"))
        elif response.content_type == "text/event-stream":
            await response.write_eof()
        else:
            self._cut_off()
        return response

    def _cut_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


async def _notice(request: web.Request, response: web.StreamResponse) -> None:
    """Tell caches of an answer that is about to begin, and begin to guard it."""
    connection = _connection_of(request)
    if connection is not None:
        connection.keep_apart(response)
        await connection.begin(response)


def _connection_of(request: web.Request) -> _Connection | None:
    connection = request.get(_CONNECTION)
    return connection if isinstance(connection, _Connection) else None


def _is_lasting(response: web.StreamResponse) -> bool:
    """Say whether *response* goes on after its first piece."""
    if isinstance(response, web.Response):
        return isinstance(response.body, Payload)
    return True


def _request_of(args: tuple[object, ...]) -> web.Request:
    """Return the request of a handler's arguments: the last of a function's, or that of the view."""
    if args and isinstance(args[0], web.View):
        return args[0].request
    if args and isinstance(args[-1], web.Request):
        return args[-1]
    raise ConfigurationError("auth.required stands at a handler of requests, or at a method of a web.View")


def _head_of(request: web.Request) -> RequestHead:
    is_websocket = request.headers.get("Upgrade", "").strip().lower() == "websocket"
    headers = [(name.lower(), value) for name, value in request.raw_headers]
    return RequestHead.of_asgi(WEBSOCKET if is_websocket else request.method, headers)


def _refusal(request: web.Request, error: KeyfobError, requirement: Requirement) -> web.Response:
    authorization = [value for name, value in request.raw_headers if name.lower() == b"authorization"]
    return web_response(problem(error, refusal_of(requirement, error, authorization)), _SECURITY)
