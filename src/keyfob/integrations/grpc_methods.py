"""What gRPC servers of both kinds share: the policy of each method, the credential in the metadata, and how a refusal is answered.

| refusal | status |
|---|---|
| no credential, a bad one, one that is not enough by its login | `UNAUTHENTICATED` |
| `insufficient_role`, `insufficient_scope` | `PERMISSION_DENIED` |
| `verifier_stale`, and whatever could not be found out | `UNAVAILABLE` |
| too many attempts | `RESOURCE_EXHAUSTED` |

The trailing metadata say why: `x-auth-cause` is the cause, `x-auth-next` what helps (`refresh`, `login` or `retry`), and
`grpc-retry-pushback-ms` when to try again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol, Self, cast

import grpc
import msgspec

from keyfob.base.errors import Cause, ConfigurationError, Denied, KeyfobError, RateLimited, Unavailable
from keyfob.base.principal import Principal
from keyfob.http.bearer import read_bearer
from keyfob.http.problem import ProblemBody, problem
from keyfob.integrations.refusals import refusal_of
from keyfob.integrations.requirement import ANYBODY_SIGNED_IN, Requirement, Rules

_CURRENT: Final[ContextVar[Principal | None]] = ContextVar("keyfob.principal", default=None)
_CODES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}

CANNOT_BE_READ: Final = "The request cannot be read."

Metadata = Iterable[tuple[str, str | bytes]]


class CallDetails(Protocol):
    """What is known of a call before it is handled."""

    @property
    def method(self) -> str:
        """Its full name: `/package.Service/Method`."""
        ...


class MethodHandler(Protocol):
    """A method, as `grpc.RpcMethodHandler` describes it; its functions are of whatever types their author gave them."""

    @property
    def request_streaming(self) -> bool:
        """Whether several requests may come."""
        ...

    @property
    def response_streaming(self) -> bool:
        """Whether several responses may go."""
        ...


Behaviour = Callable[..., object]
"""What handles a call: it takes the request or the requests, and the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The functions of a method, by what they do."""

    request_streaming: bool
    response_streaming: bool
    behaviour: Behaviour
    deserialize: Callable[[object], object] | None
    serialize: Callable[[object], bytes] | None

    @classmethod
    def of(cls, handler: MethodHandler) -> Self:
        """Read them from *handler*."""
        kind = _kind(handler.request_streaming, handler.response_streaming)
        return cls(
            request_streaming=handler.request_streaming,
            response_streaming=handler.response_streaming,
            behaviour=getattr(handler, kind),
            deserialize=getattr(handler, "request_deserializer", None),
            serialize=getattr(handler, "response_serializer", None),
        )

    def handler(self, behaviour: Behaviour) -> MethodHandler:
        """Return a handler of this kind that calls *behaviour*. A single request is given to it as it came: `parse` is its care."""
        make = getattr(grpc, f"{_kind(self.request_streaming, self.response_streaming)}_rpc_method_handler")
        deserialize = self.deserialize if self.request_streaming else None
        return cast("MethodHandler", make(behaviour, deserialize, self.serialize))

    def parse(self, request: object) -> object:
        """Return a single request as its handler takes it; a stream of them as it is."""
        return request if self.request_streaming or self.deserialize is None else self.deserialize(request)


def _kind(request_streaming: object, response_streaming: object) -> str:
    return f"{'stream' if request_streaming else 'unary'}_{'stream' if response_streaming else 'unary'}"


def current_principal() -> Principal:
    """Return who is calling, inside a handler of a method that is not public.

    Raises:
        Denied: `no_credential`: no interceptor of ours admitted the call.
    """
    principal = _CURRENT.get()
    if principal is None:
        raise Denied(
            Cause.NO_CREDENTIAL, "no principal: the method is public, or the server has no interceptor"
        )
    return principal


@contextmanager
def calling(principal: Principal) -> Iterator[None]:
    """Let `current_principal` be *principal* inside the block: threads of a pool serve others after it."""
    token = _CURRENT.set(principal)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@dataclass(frozen=True, slots=True)
class Methods:
    """The policy of each method: that of its own name, else that of its service (`/package.Service/`), else anybody who has signed in."""

    named: Mapping[str, Requirement | None]

    @classmethod
    def of(cls, methods: Mapping[str, Rules], public: Collection[str]) -> Self:
        """Read the policies when the server is made; *public* are methods and services that strangers may call.

        Raises:
            ConfigurationError: a name that is none, one that is both, or a rule that does not fit.
        """
        if isinstance(public, str):
            raise ConfigurationError('public takes several names, such as public={"/grpc.health.v1.Health/"}')
        named: dict[str, Requirement | None] = {
            name: Requirement.of(**rules) for name, rules in methods.items()
        }
        for name in public:
            if name in named:
                raise ConfigurationError(f"{name} is public and has a policy")
            named[name] = None
        for name in named:
            if not name.startswith("/") or name.count("/") != 2:
                raise ConfigurationError(
                    f"{name!r} is neither a method (/package.Service/Method) nor a service (/package.Service/)"
                )
        return cls(named)

    def requirement_of(self, method: str) -> Requirement | None:
        """Return the policy of *method*; None if it is public."""
        for name in (method, method[: method.rfind("/") + 1]):
            if name in self.named:
                return self.named[name]
        return ANYBODY_SIGNED_IN


def authorization_of(metadata: Metadata | None) -> list[bytes]:
    """Return the values of `authorization` in the metadata of a call. Other names carry no credential."""
    return [
        value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        for name, value in metadata or ()
        if name == "authorization"
    ]


def token_of(authorization: list[bytes]) -> str:
    """Return the Bearer token of a call.

    Raises:
        Denied: `no_credential`, or `malformed`.
    """
    token = read_bearer(authorization)
    if token is None:
        raise Denied(Cause.NO_CREDENTIAL, "no authorization in the metadata")
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """How a refusal is answered. `details` are for the client and say no more than a problem document."""

    code: grpc.StatusCode
    details: str
    metadata: tuple[tuple[str, str], ...]


def refused(error: KeyfobError, requirement: Requirement | None, authorization: list[bytes]) -> Refused:
    """Return the answer to *error*."""
    response = problem(error, refusal_of(requirement, error, authorization))
    body = msgspec.json.decode(response.body, type=ProblemBody)
    metadata = [("x-auth-cause", body.code)]
    if body.next is not None:
        metadata.append(("x-auth-next", body.next.value))
    if response.status in {429, 503}:
        wait = error.retry_after if isinstance(error, RateLimited | Unavailable) else 1.0
        metadata.append(("grpc-retry-pushback-ms", str(math.ceil(wait * 1000))))
    code = getattr(grpc.StatusCode, _CODES.get(response.status, "INTERNAL"))
    return Refused(code=code, details=body.detail, metadata=tuple(metadata))
