"""The one place where an error becomes a response.

Status by contract.md: 403 for `insufficient_*` and `cross_origin`; 503 with `Retry-After` for a stale verifier and for whatever could not be
found out; 429 with `Retry-After`; what is wrong with the request itself as its error says; every other refusal 401 with
`WWW-Authenticate`. The body is a problem document (RFC 9457). What the client is told stands in this file: the details of a `Denied` and of
an `Unavailable` are for the log.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import msgspec

from keyfob.base.errors import (
    Cause,
    Denied,
    GrantRefused,
    KeyfobError,
    RateLimited,
    RequestRefused,
    Unavailable,
)
from keyfob.http.headers import NO_STORE, Header
from keyfob.http.messages import HttpResponse

CONTENT_TYPE: Header = (b"content-type", b"application/problem+json")


class Next(StrEnum):
    """What the client can do about it."""

    REFRESH = "refresh"
    LOGIN = "login"
    RETRY = "retry"


class Challenge(StrEnum):
    """Which credentials a route takes, for `WWW-Authenticate`."""

    BEARER = "bearer"  # tokens of principals
    BASIC = "basic"  # a client's id and secret
    EITHER = "either"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What else a response about an error may say: which credentials the route takes, and whether a refresh would help the caller."""

    challenge: Challenge = Challenge.BEARER
    refreshable: bool = False
    scopes: tuple[str, ...] = ()
    max_auth_age: int | None = None


DEFAULT_REFUSAL = Refusal()


class MethodNotAllowed(RequestRefused):
    """The path is there, and the method is not. *allowed* are those that are."""

    status = 405

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__("method_not_allowed", f"Allowed here: {', '.join(allowed)}.")
        self.allowed = tuple(allowed)


class ProblemBody(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457). `code` is stable; `next` says what can help."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    next: Next | None


class OAuthErrorBody(msgspec.Struct, frozen=True):
    """An error of an OAuth endpoint (RFC 6749, section 5.2)."""

    error: str
    error_description: str


_FORBIDDEN = frozenset({Cause.INSUFFICIENT_ROLE, Cause.INSUFFICIENT_SCOPE, Cause.CROSS_ORIGIN})

_DETAILS: dict[Cause, str] = {
    Cause.NO_CREDENTIAL: "This needs a credential, and none was sent.",
    Cause.MALFORMED: "The credential cannot be read.",
    Cause.UNSUPPORTED_ALGORITHM: "The token is signed with an algorithm that is not accepted.",
    Cause.UNKNOWN_KEY: "The token is signed with a key that is not known here.",
    Cause.BAD_SIGNATURE: "The signature of the token does not hold.",
    Cause.WRONG_TYPE: "This is not the kind of token that is accepted here.",
    Cause.WRONG_ISSUER: "The token is of another issuer.",
    Cause.WRONG_AUDIENCE: "The credential is not for this audience.",
    Cause.EXPIRED: "The credential has expired.",
    Cause.NOT_YET_VALID: "The token is not valid yet.",
    Cause.REVOKED: "The credential was revoked.",
    Cause.REUSED: "A refresh token was used twice; the session was ended.",
    Cause.STALE_CLAIMS: "What the credential says has changed since it was issued.",
    Cause.VERIFIER_STALE: "Revocations cannot be told at the moment.",
    Cause.UNKNOWN_SESSION: "There is no such session.",
    Cause.IDLE: "The session was not used for too long.",
    Cause.BAD_CREDENTIALS: "These credentials are not accepted.",
    Cause.SESSION_LIMIT: "There are as many sessions as allowed; end one of them first.",
    Cause.CROSS_ORIGIN: "The request comes from another origin, or lacks the CSRF token of the session.",
    Cause.INSUFFICIENT_SCOPE: "The credential lacks a scope that this needs.",
    Cause.INSUFFICIENT_ROLE: "The credential lacks a role that this needs.",
    Cause.REAUTHENTICATION_REQUIRED: "The last login is too long ago for this.",
    Cause.PROOF_REQUIRED: "The credential is bound to a key, and no proof was sent.",
    Cause.BAD_PROOF: "The proof does not hold.",
}

# What is not here is helped by a login.
_NEXT: dict[Cause, Next | None] = {
    Cause.WRONG_AUDIENCE: None,  # the credential is good, elsewhere: the same login would give the same
    Cause.NOT_YET_VALID: Next.RETRY,
    Cause.VERIFIER_STALE: Next.RETRY,
    Cause.BAD_CREDENTIALS: None,
    Cause.SESSION_LIMIT: None,
    Cause.CROSS_ORIGIN: None,
    Cause.INSUFFICIENT_SCOPE: None,
    Cause.INSUFFICIENT_ROLE: None,
    Cause.PROOF_REQUIRED: None,
    Cause.BAD_PROOF: None,
}
HELPED_BY_REFRESH = frozenset({Cause.EXPIRED, Cause.STALE_CLAIMS, Cause.UNKNOWN_KEY})
"""Against these a refresh helps, where there is one: also when a key was declared compromised, for sessions outlive it."""

_UNFIT = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")
"""What an `error_description` may not hold (RFC 6749, section 5.2)."""
_UNAVAILABLE = "This cannot be found out at the moment; nothing is said about the credential."
_INTERNAL = "Something went wrong here. It is in the log."


def problem(error: Exception, refusal: Refusal = DEFAULT_REFUSAL) -> HttpResponse:
    """Return the problem document for *error*. Whatever is no error of Keyfob is a 500 that says nothing about it."""
    status, code, detail = _facts(error)
    body = ProblemBody(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        next=next_step(error, refreshable=refusal.refreshable),
    )
    return HttpResponse(
        status=status,
        headers=(CONTENT_TYPE, *_headers(error, status, code, refusal)),
        body=msgspec.json.encode(body),
    )


def oauth_error(error: Exception, refusal: Refusal = DEFAULT_REFUSAL) -> HttpResponse:
    """Return the answer of an OAuth endpoint to *error* (RFC 6749, section 5.2)."""
    status, code, detail = _facts(error)
    match error:
        case Denied(cause=Cause.INSUFFICIENT_SCOPE):
            name = "unauthorized_client"
        case Denied():
            status, name = 401, "invalid_client"
        case GrantRefused():
            name = error.code
        case Unavailable() | RateLimited():
            name = "temporarily_unavailable"
        case RequestRefused():
            status, name = (400 if status == 422 else status), "invalid_request"
        case _:
            name = "server_error"
    return HttpResponse(
        status=status,
        headers=((b"content-type", b"application/json"), *_headers(error, status, code, refusal)),
        body=msgspec.json.encode(OAuthErrorBody(name, _UNFIT.sub("'", detail))),
    )


def next_step(error: Exception, *, refreshable: bool) -> Next | None:
    """Say what can help against *error*; *refreshable* says whether the caller has a refresh token or can use one."""
    match error:
        case Denied(cause=cause) if refreshable and cause in HELPED_BY_REFRESH:
            return Next.REFRESH
        case Denied(cause=cause):
            return _NEXT.get(cause, Next.LOGIN)
        case Unavailable() | RateLimited():
            return Next.RETRY
        case _:
            return None


def _facts(error: Exception) -> tuple[int, str, str]:
    """Return status, code and what the client is told."""
    match error:
        case Denied(cause=Cause.VERIFIER_STALE):
            return 503, error.code, _DETAILS[error.cause]
        case Denied():
            return (403 if error.cause in _FORBIDDEN else 401), error.code, _DETAILS[error.cause]
        case RequestRefused():
            return error.status, error.code, str(error)
        case Unavailable():
            return 503, error.code, _UNAVAILABLE
        case _:
            return 500, "internal_error", _INTERNAL


def _headers(error: Exception, status: int, code: str, refusal: Refusal) -> Sequence[Header]:
    headers: list[Header] = [NO_STORE]
    if isinstance(error, KeyfobError):
        headers.append((b"x-auth-cause", code.encode("ascii")))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode("ascii")))
    if status == 401 or (isinstance(error, Denied) and error.cause is Cause.INSUFFICIENT_SCOPE):
        headers.extend((b"www-authenticate", value) for value in _challenges(error, refusal))
    if status in {429, 503}:
        wait = error.retry_after if isinstance(error, RateLimited | Unavailable) else 1.0
        headers.append((b"retry-after", b"%d" % math.ceil(max(wait, 1.0))))
    return headers


def _challenges(error: Exception, refusal: Refusal) -> list[bytes]:
    """Return the challenges (RFC 6750, section 3; RFC 9470, section 3). Without a credential there is no error to name."""
    challenges = []
    if refusal.challenge is not Challenge.BASIC:
        challenges.append(_bearer_challenge(error, refusal))
    if refusal.challenge is not Challenge.BEARER:
        challenges.append(b'Basic realm="keyfob", charset="UTF-8"')
    return challenges


def _bearer_challenge(error: Exception, refusal: Refusal) -> bytes:
    fields = ['realm="keyfob"']
    cause = error.cause if isinstance(error, Denied) else None
    if cause is Cause.INSUFFICIENT_SCOPE:
        fields.append('error="insufficient_scope"')
        if refusal.scopes:
            fields.append(f'scope="{" ".join(refusal.scopes)}"')
    elif cause is Cause.REAUTHENTICATION_REQUIRED:
        fields.append('error="insufficient_user_authentication"')
        if refusal.max_auth_age is not None:
            fields.append(f'max_age="{refusal.max_auth_age}"')
    elif cause is not None and cause is not Cause.NO_CREDENTIAL:
        fields.append(f'error="invalid_token", error_description="{cause.value}"')
    return f"Bearer {', '.join(fields)}".encode("ascii")
