"""The one credential of a request: a Bearer token or the session cookie.

With both, two readers could take different ones, so it is refused. `__Host-refresh` is no credential here; it is one
for `/refresh` and `/logout` alone. Nor is the token of a visitor who has not signed in, which applications keep in the session cookie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.http import bearer, cookies


@dataclass(frozen=True, slots=True)
class Presented:
    """The credential of a request, not checked yet."""

    token: str = field(repr=False)
    by_cookie: bool


def read_credential(*, authorization: Sequence[bytes], cookie: Sequence[bytes]) -> Presented:
    """Return the one credential in the values of a request's `Authorization` and `Cookie` headers.

    Raises:
        Denied: `no_credential`; `malformed` for one that cannot be read, and for two; `wrong_type` for an API key in the cookie.
    """
    token = bearer.read_bearer(authorization)
    from_cookie = cookies.read(cookie, cookies.SESSION_COOKIE)
    if from_cookie is not None and kind_of(from_cookie) is OpaqueKind.ANONYMOUS:
        from_cookie = None
    if token is not None and from_cookie is not None:
        raise Denied(Cause.MALFORMED, "a session cookie and an Authorization header at once")
    if from_cookie is not None and kind_of(from_cookie) is OpaqueKind.API_KEY:
        raise Denied(
            Cause.WRONG_TYPE, "an API key in a cookie: a browser would send it for whoever asks it to"
        )
    if from_cookie is not None:
        return Presented(from_cookie, by_cookie=True)
    if token is not None:
        return Presented(token, by_cookie=False)
    raise Denied(Cause.NO_CREDENTIAL, "neither a session cookie nor an Authorization header")
