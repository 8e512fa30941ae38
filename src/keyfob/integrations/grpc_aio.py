"""gRPC servers on an event loop: `grpc.aio.server(interceptors=[Auth(...).interceptor()])`.

As `keyfob.integrations.grpc`, for handlers that are coroutines or asynchronous generators.

    async with auth.lifespan():
        await server.start()
        await server.wait_for_termination()
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

import grpc.aio

from keyfob.authority.opening import Opening
from keyfob.base.errors import ConfigurationError, KeyfobError
from keyfob.base.principal import Principal
from keyfob.integrations.asgi import Auth as Opened
from keyfob.integrations.checks import Checks
from keyfob.integrations.grpc_methods import (
    CANNOT_BE_READ,
    CallDetails,
    Functions,
    Metadata,
    MethodHandler,
    Methods,
    authorization_of,
    calling,
    current_principal,
    refused,
    token_of,
)
from keyfob.integrations.requirement import Requirement, Rules
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from keyfob.authority.authority import Authority

__all__ = ["Auth", "Interceptor", "current_principal"]

_NO_RULES: Mapping[str, Rules] = {}


class Context(Protocol):
    """What is needed of `grpc.aio.ServicerContext`."""

    def invocation_metadata(self) -> Metadata | None:
        """Return what the client sent along."""
        ...

    def trailing_metadata(self) -> Metadata | None:
        """Return what the handler set so far."""
        ...

    async def write(self, message: object) -> None:
        """Send one message of a stream."""
        ...

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()
    ) -> NoReturn:
        """End the call."""
        ...


class Auth:
    """The checks of a gRPC server on an event loop.

    *source* is a verifier or an authority; *methods* and *public* are those of `keyfob.integrations.grpc.Auth`.

    Raises:
        ConfigurationError: a name or a rule does not fit.
    """

    def __init__(
        self,
        source: Verifier | Authority | Opening[Authority],
        *,
        methods: Mapping[str, Rules] = _NO_RULES,
        public: Collection[str] = (),
    ) -> None:
        self._opened = Opened(source)
        self.methods = Methods.of(methods, public)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Start the verifier, or open the authority, for as long as the server runs.

        Raises:
            ConfigurationError, Unavailable: it cannot be started.
        """
        async with self._opened.lifespan():
            yield

    @property
    def authority(self) -> Authority:
        """The authority of this server.

        Raises:
            ConfigurationError: it follows one.
            AuthorityUnavailable: it is not open yet.
        """
        return self._opened.authority

    @property
    def checks(self) -> Checks:
        """What checks.

        Raises:
            AuthorityUnavailable: the authority is not open yet.
        """
        return self._opened.admission.checks

    def interceptor(self) -> Interceptor:
        """Return the interceptor; the first of the server, so that nobody else sees a call that is refused."""
        return Interceptor(self)

    async def admit(self, context: Context, requirement: Requirement) -> Principal:
        """Return who is calling.

        Raises:
            Denied, Unavailable: the cause.
        """
        token = token_of(authorization_of(context.invocation_metadata()))
        principal = await self.checks.check(token, requirement)
        requirement.require_strategy(principal)
        return principal


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpcio has no types
    """Puts a check before every method that is not public."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    async def intercept_service(
        self,
        continuation: Callable[[CallDetails], Awaitable[MethodHandler | None]],
        handler_call_details: CallDetails,
    ) -> MethodHandler | None:
        """Return the handler of a call, guarded."""
        handler = await continuation(handler_call_details)
        requirement = self._auth.methods.requirement_of(handler_call_details.method)
        if handler is None or requirement is None:
            return handler
        return _Guarded(self._auth, requirement, Functions.of(handler)).handler()


class _Guarded:
    """A method behind its check."""

    def __init__(self, auth: Auth, requirement: Requirement, functions: Functions) -> None:
        self._auth = auth
        self._requirement = requirement
        self._functions = functions

    def handler(self) -> MethodHandler:
        """Return it as grpc takes it. A single request comes as bytes, and is parsed after the check."""
        functions = self._functions
        is_stream = functions.request_streaming or functions.response_streaming
        return functions.handler(self._stream if is_stream else self._response)

    async def _response(self, request: object, context: Context) -> object:
        async with self._answering(context):
            principal = await self._auth.admit(context, self._requirement)
            with calling(principal):
                return await self._handle(await self._parsed(request, context), context)

    async def _stream(self, argument: object, context: Context) -> object:
        """Handle a call with a stream in either direction; it is cancelled when its principal is covered, and answered with the cause."""
        async with self._answering(context):
            principal = await self._auth.admit(context, self._requirement)
            parsed = await self._parsed(argument, context)
            async with self._auth.checks.guard(principal, self._requirement):
                with calling(principal):
                    return await self._handle(parsed, context)

    async def _handle(self, argument: object, context: Context) -> object:
        behaviour = self._functions.behaviour
        called = behaviour if inspect.isroutine(behaviour) else getattr(behaviour, "__call__", None)  # noqa: B004
        if inspect.isasyncgenfunction(called):
            produced = cast("AsyncGenerator[object, None]", behaviour(argument, context))
            async with aclosing(produced) as pieces:
                async for piece in pieces:
                    await context.write(piece)
            return None
        if not asyncio.iscoroutinefunction(called):
            raise ConfigurationError(
                "a server on an event loop takes coroutines as handlers; grpc.server takes others"
            )
        return await cast("Awaitable[object]", behaviour(argument, context))

    async def _parsed(self, request: object, context: Context) -> object:
        try:
            return self._functions.parse(request)
        except Exception:  # noqa: BLE001 - a message that its parser does not take, whatever that raises
            await context.abort(grpc.StatusCode.INTERNAL, CANNOT_BE_READ)

    @asynccontextmanager
    async def _answering(self, context: Context) -> AsyncIterator[None]:
        """Answer whatever of ours is raised inside."""
        try:
            yield
        except KeyfobError as error:
            answer = refused(error, self._requirement, authorization_of(context.invocation_metadata()))
            already = tuple(context.trailing_metadata() or ())
            await context.abort(answer.code, answer.details, (*already, *answer.metadata))
