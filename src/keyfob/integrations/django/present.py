"""The request that is being answered, for what Django tells nothing of it: a password that changes spares the session it is changed in."""

from __future__ import annotations

from contextvars import ContextVar, Token

from django.http import HttpRequest

_present: ContextVar[HttpRequest | None] = ContextVar("keyfob_present_request", default=None)


def enter(request: HttpRequest) -> Token[HttpRequest | None]:
    """Make *request* the present one, until `leave`: in this thread or task, and in what they call."""
    return _present.set(request)


def leave(token: Token[HttpRequest | None]) -> None:
    """Make what was present before `enter` gave *token* the present one again."""
    _present.reset(token)


def present_request() -> HttpRequest | None:
    """Return the request that is being answered, None outside of one."""
    return _present.get()
