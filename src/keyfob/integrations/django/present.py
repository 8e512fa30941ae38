"""The request that is being answered, for what Django tells nothing of it: a password that changes spares the session it is changed in."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

from django.http import HttpRequest

_present: ContextVar[HttpRequest | None] = ContextVar("keyfob_present_request", default=None)


class Present:
    """Makes a request the present one, for as long as it is entered: in this thread or task, and in what they call."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._token: Token[HttpRequest | None] | None = None

    def __enter__(self) -> None:
        self._token = _present.set(self._request)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        _present.reset(self._token)


def present_request() -> HttpRequest | None:
    """Return the request that is being answered, None outside of one."""
    return _present.get()
