"""gRPC servers on threads: `grpc.server(pool, interceptors=[Auth(...).interceptor()])`.

    auth = Auth(
        Verifier.follow("https://auth.example", audience="orders", credentials=(...)),
        methods={"/orders.Orders/Pay": {"roles": {"payer"}, "max_staleness": timedelta(seconds=3)}},
        public={"/grpc.health.v1.Health/"},
    )

A call brings `authorization: Bearer ...` in its metadata. Handlers ask `current_principal()`. A method that is not named takes whoever has
signed in. Streams end within milliseconds of the revocation of whoever called, with the status that a new call would get. Nothing of
a request is parsed before the caller is admitted. `grpc_aio` is the same for servers on an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

import grpc

from keyfob.base.errors import Cause, KeyfobError, RateLimited
from keyfob.base.principal import Principal
from keyfob.integrations.checks import BlockingChecks, blocking_checks_of, started
from keyfob.integrations.grpc_handoff import Handoff
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
from keyfob.integrations.per_process import PerProcess
from keyfob.integrations.requirement import Requirement, Rules
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from keyfob.sync import Authority

__all__ = ["Auth", "Interceptor", "current_principal"]

_NO_RULES: Mapping[str, Rules] = {}
SEND_PATIENCE = 1.0
"""Seconds that a cut stream may still be busy with a client that does not read, before the call is cancelled in place of being refused."""


class Context(Protocol):
    """What is needed of `grpc.ServicerContext`."""

    def invocation_metadata(self) -> Metadata | None:
        """Return what the client sent along."""
        ...

    def trailing_metadata(self) -> Metadata | None:
        """Return what the handler set so far."""
        ...

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str | bytes], ...], /) -> None:
        """Say what goes along with the status."""
        ...

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call."""
        ...

    def cancel(self) -> None:
        """End the call without a status of ours."""
        ...

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call *callback* when the call is over; False if it is."""
        ...


class Auth:
    """The checks of a gRPC server on threads; every method may be called from any thread.

    *source* is a verifier, or a function that opens one or a `keyfob.sync.Authority`: it is called once in each process, when first needed.
    *methods* gives the policy of a method (`/package.Service/Method`) or of a service (`/package.Service/`), *public* names those that
    strangers may call. *streams* is how many handlers of streams may run at once, those included that have not noticed yet that their call
    is over; more calls are refused.

    Raises:
        ConfigurationError: a name or a rule does not fit.
    """

    def __init__(
        self,
        source: Verifier | Callable[[], Verifier | Authority],
        *,
        methods: Mapping[str, Rules] = _NO_RULES,
        public: Collection[str] = (),
        streams: int = 1_000,
    ) -> None:
        opened = (lambda: source) if isinstance(source, Verifier) else source
        self._source = PerProcess(lambda: started(opened()))
        self._checks = PerProcess(lambda: blocking_checks_of(self._source()))
        self.methods = Methods.of(methods, public)
        self.seats = threading.BoundedSemaphore(streams)
        """One for each handler of a stream."""

    @property
    def source(self) -> Verifier | Authority:
        """The verifier or the authority of this process."""
        return self._source()

    @property
    def checks(self) -> BlockingChecks:
        """What checks in this process."""
        return self._checks()

    def interceptor(self) -> Interceptor:
        """Return the interceptor; the first of the server, so that nobody else sees a call that is refused."""
        return Interceptor(self)

    def admit(self, context: Context, requirement: Requirement) -> Principal:
        """Return who is calling.

        Raises:
            Denied, Unavailable: the cause.
        """
        token = token_of(authorization_of(context.invocation_metadata()))
        principal = self.checks.check(token, requirement)
        requirement.require_strategy(principal)
        return principal


class Interceptor(grpc.ServerInterceptor):  # type: ignore[misc] # grpcio has no types
    """Puts a check before every method that is not public."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def intercept_service(
        self, continuation: Callable[[CallDetails], MethodHandler | None], handler_call_details: CallDetails
    ) -> MethodHandler | None:
        """Return the handler of a call, guarded."""
        handler = continuation(handler_call_details)
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
        if functions.response_streaming:
            return functions.handler(self._responses)
        return functions.handler(self._response_to_many if functions.request_streaming else self._response)

    def _response(self, request: object, context: Context) -> object:
        with self._answering(context):
            principal = self._auth.admit(context, self._requirement)
            with calling(principal):
                return self._functions.behaviour(self._parsed(request, context), context)

    def _response_to_many(self, requests: object, context: Context) -> object:
        with self._answering(context):
            principal = self._auth.admit(context, self._requirement)
            produced = self._pieces(
                principal, lambda: [self._functions.behaviour(requests, context)], context
            )
            return next(produced, None)

    def _responses(self, argument: object, context: Context) -> Iterator[object]:
        with self._answering(context):
            principal = self._auth.admit(context, self._requirement)
            parsed = self._parsed(argument, context)

            def produce() -> Iterable[object]:
                return cast("Iterable[object]", self._functions.behaviour(parsed, context))

            yield from self._pieces(principal, produce, context)

    def _pieces(
        self, principal: Principal, produce: Callable[[], Iterable[object]], context: Context
    ) -> Iterator[object]:
        """Give what the handler produces in a thread of its own, until *principal* is covered: then refuse, whatever it waits for."""
        handoff: Handoff[object] = Handoff()

        def ended(cause: Cause) -> None:
            handoff.cut(cause)
            with suppress(RuntimeError):  # the loop itself ends: nothing is left to wait with
                asyncio.get_running_loop().call_later(SEND_PATIENCE, _cancel_unless_told, handoff, context)

        with self._auth.checks.guard(principal, self._requirement, ended=ended):
            if not context.add_callback(handoff.leave):
                return
            if not self._auth.seats.acquire(blocking=False):
                raise RateLimited(1.0, "Too many streams at once.")
            with calling(principal):
                handoff.begin(produce, done=self._auth.seats.release)
            try:
                yield from handoff.pieces()
            finally:
                handoff.leave()

    def _parsed(self, request: object, context: Context) -> object:
        try:
            return self._functions.parse(request)
        except Exception:  # noqa: BLE001 - a message that its parser does not take, whatever that raises
            context.abort(grpc.StatusCode.INTERNAL, CANNOT_BE_READ)

    @contextmanager
    def _answering(self, context: Context) -> Iterator[None]:
        """Answer whatever of ours is raised inside."""
        try:
            yield
        except KeyfobError as error:
            authorization = authorization_of(context.invocation_metadata())
            answer = refused(error, self._requirement, authorization)
            context.set_trailing_metadata((*(context.trailing_metadata() or ()), *answer.metadata))
            context.abort(answer.code, answer.details)


def _cancel_unless_told(handoff: Handoff[object], context: Context) -> None:
    """Cancel a call whose thread is still busy sending to a client that does not read."""
    if not handoff.knows:
        context.cancel()
