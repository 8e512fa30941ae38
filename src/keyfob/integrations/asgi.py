"""Pure ASGI, for any application: `app = Auth(verifier).protect(app, roles={"payer"})`.

The application finds who is calling with `principal_of(scope)`. A WebSocket, and a response that goes on after its first piece, end within
milliseconds of the revocation of whoever they are for. What was answered to somebody who was let in is kept out of shared caches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from keyfob.authority.opening import Opening
from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied, KeyfobError
from keyfob.base.principal import Principal
from keyfob.http.headers import Header, SecurityHeaders
from keyfob.http.messages import HttpResponse
from keyfob.http.problem import problem
from keyfob.integrations.admission import Admission
from keyfob.integrations.checks import Checks, EmbeddedChecks, checks_of
from keyfob.integrations.refusals import refusal_of
from keyfob.integrations.request_head import RequestHead
from keyfob.integrations.requirement import Requirement, Rules
from keyfob.integrations.shared_caches import varied, varied_and_private
from keyfob.verifier.guard import Guard
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from keyfob.authority.authority import Authority

# As the ASGI specification types them.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PRINCIPAL = "keyfob.principal"
"""Where the principal lies in the scope of a connection that was admitted."""
REQUIREMENT = "keyfob.requirement"
"""Where it lies what was asked of whoever opened the connection, from the moment when it was asked."""
_SECURITY = SecurityHeaders("")  # HSTS is the business of whoever answers the other requests
WEBSOCKET = "WEBSOCKET"
"""Stands for the method of a handshake: not a safe one, since a page of another site can open a WebSocket with the browser's cookies."""
_GUARDED = frozenset({"http", "websocket"})
POLICY_VIOLATION = 1008
"""The code with which a WebSocket is closed (RFC 6455, section 7.4.1); the reason is the cause."""


class Auth:
    """Admits connections by a verifier, or by an authority in the same process. One for the whole application; every method may be called at once.

    *origins* are the application's own, where they are others than the issuer's: pages that may send its session cookie.
    """

    def __init__(
        self, source: Verifier | Authority | Opening[Authority], *, origins: Iterable[str] = ()
    ) -> None:
        self.origins = tuple(origins)
        self.source = source
        self._admission: Admission[Checks] | None = (
            None if isinstance(source, Opening) else Admission(checks_of(source), origins=self.origins)
        )

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start the verifier, or open the authority, for as long as the application runs: `FastAPI(lifespan=auth.lifespan)`.

        An authority that came open is left alone.

        Raises:
            ConfigurationError, Unavailable: it cannot be started.
        """
        if isinstance(self.source, Opening):
            async with self.source as authority:
                self._admission = Admission(checks_of(authority), origins=self.origins)
                yield
        elif isinstance(self.source, Verifier) and self.source.follows:
            async with self.source:
                yield
        else:
            yield

    @property
    def authority(self) -> Authority:
        """The authority of this application.

        Raises:
            ConfigurationError: it follows one.
            AuthorityUnavailable: it is not open yet.
        """
        checks = self.admission.checks
        if not isinstance(checks, EmbeddedChecks):
            raise ConfigurationError("this application follows an authority and holds none")
        return checks.authority

    @property
    def admission(self) -> Admission[Checks]:
        """What admits.

        Raises:
            AuthorityUnavailable: the authority is not open yet.
        """
        if self._admission is None:
            raise AuthorityUnavailable("the authority is not open: run the application with auth.lifespan")
        return self._admission

    def protect(self, app: App, **rules: Unpack[Rules]) -> App:
        """Return *app* behind a check: who has no credential that meets *rules* never reaches it.

        Raises:
            ConfigurationError: a rule does not fit.
        """
        return _Protected(app, self, Requirement.of(**rules))

    def guarded(self, app: App) -> App:
        """Return *app* with every WebSocket and stream ended when the principal that was admitted to it is revoked, and every answer that
        goes by who is calling kept out of shared caches.

        `protect` does so already; this is for applications whose routes call `admit` themselves.
        """
        return Guarded(app, self)

    async def admit(self, scope: Scope, requirement: Requirement) -> Principal:
        """Return who opened the connection of *scope*, and note it there.

        Raises:
            Denied, Unavailable: the cause; `refuse` answers it.
        """
        scope[REQUIREMENT] = requirement
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        head = RequestHead.of_asgi(method, scope["headers"])
        scope[PRINCIPAL] = principal = await self.admission.admit(head, requirement)
        return principal

    async def refuse(
        self, error: KeyfobError, scope: Scope, send: Send, *, requirement: Requirement | None = None
    ) -> None:
        """Answer *error*: a problem document, or for a WebSocket that is not open yet the same where the server can, else a refused handshake."""
        prefix = "http"
        if scope["type"] == "websocket":
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                await send(_closing(error))
                return
            prefix = "websocket.http"
        response, headers = self.answer(error, scope, requirement=requirement)
        await send({"type": f"{prefix}.response.start", "status": response.status, "headers": headers})
        body = b"" if scope.get("method") == "HEAD" else response.body
        await send({"type": f"{prefix}.response.body", "body": body})

    def answer(
        self, error: KeyfobError, scope: Scope, *, requirement: Requirement | None
    ) -> tuple[HttpResponse, list[Header]]:
        """Return the problem document of *error* for the request of *scope*, and all of its headers."""
        authorization = [value for name, value in scope["headers"] if name == b"authorization"]
        response = problem(error, refusal_of(requirement, error, authorization))
        return response, _SECURITY.complete(response)


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Return who is calling, of a connection that was admitted.

    Raises:
        Denied: `no_credential`: nothing protects this route.
    """
    principal = scope.get(PRINCIPAL)
    if not isinstance(principal, Principal):
        raise Denied(Cause.NO_CREDENTIAL, "no principal in the scope: the route is not protected")
    return principal


class Guarded:
    """An application as `Auth.guarded` returns it, in the form in which frameworks add middleware too."""

    def __init__(self, app: App, auth: Auth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, until the application is done with it, or its principal is."""
        if scope["type"] not in _GUARDED:
            await self._app(scope, receive, send)
            return
        connection = _Connection(self._auth, scope, send)
        try:
            async with connection:
                await self._app(scope, receive, connection.send)
        except Denied as denied:
            if not connection.has_ended:  # the application's own
                raise
            await connection.end(denied)


class _Protected:
    """An application behind a check."""

    def __init__(self, app: App, auth: Auth, requirement: Requirement) -> None:
        self._app = auth.guarded(app)
        self._auth = auth
        self._requirement = requirement

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            try:
                await self._auth.admit(scope, self._requirement)
            except KeyfobError as error:
                await self._auth.refuse(error, scope, send, requirement=self._requirement)
                return
        await self._app(scope, receive, send)


class _Connection:
    """One connection, ended with the principal that is admitted to it: a WebSocket from its opening, a response from the first piece that is not its last."""

    __slots__ = ("_auth", "_guard", "_headers", "_is_over", "_scope", "_send", "_task")

    def __init__(self, auth: Auth, scope: Scope, send: Send) -> None:
        self._auth = auth
        self._scope = scope
        self._send = send
        self._guard: Guard | None = None
        self._task = asyncio.current_task()
        self._headers: Sequence[Header] = ()
        self._is_over = False

    async def __aenter__(self) -> None:
        """Begin; whom to guard is found out later."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the guard, if one stands.

        Raises:
            Denied: it has ended what was inside.
        """
        if self._guard is not None:
            await self._guard.__aexit__(kind, error, traceback)

    @property
    def has_ended(self) -> bool:
        """Whether the connection was ended because its principal was."""
        return self._guard is not None and self._guard.cause is not None

    def send(self, message: Message) -> Awaitable[None]:
        """Send *message*; tell caches whom it is for, and notice that the connection goes on from here, or is over."""
        match message["type"]:
            case "http.response.start":
                message = self._kept_apart(message)
            case "http.response.body" if not message.get("more_body", False):
                self._leave()
            case "http.response.body" | "websocket.accept":
                return self._begin(message)
            case "websocket.close":
                self._leave()
        return self._send(message)

    async def end(self, denied: Denied) -> None:
        """Say why, where there is a way to: any other response is cut off, so that nobody takes a part of it for the whole."""
        if self._is_over:
            return
        if self._scope["type"] == "websocket":
            await self._send(_closing(denied))
        elif _is_event_stream(self._headers):
            await self._send({"type": "http.response.body", "body": b""})

    def _leave(self) -> None:
        """Guard nobody from now on: nothing is left to be sent."""
        self._is_over = True
        if self._guard is not None:
            self._guard.release()

    def _kept_apart(self, message: Message) -> Message:
        """Return the beginning of a response with what caches are told of it, if it was asked who is calling."""
        self._headers = headers = list(message.get("headers", ()))
        if REQUIREMENT not in self._scope:
            return message
        tell = varied_and_private if PRINCIPAL in self._scope else varied
        return {**message, "headers": tell(headers)}

    async def _begin(self, message: Message) -> None:
        """Guard the principal of the connection, if it has one, from now on, and send *message*."""
        principal = self._scope.get(PRINCIPAL)
        if self._guard is None and principal is not None:
            checks = self._auth.admission.checks
            self._guard = checks.guard(principal, self._scope[REQUIREMENT], task=self._task)
            await self._guard.__aenter__()
            if self._guard.cause is not None:
                await asyncio.sleep(0)  # the cancellation comes in here, before anything is sent
        await self._send(message)


def _closing(error: KeyfobError) -> Message:
    return {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.code}


def _is_event_stream(headers: Iterable[Header]) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
