"""The one credential of a request: a Bearer token or the session cookie.

With both, two readers could take different ones, so it is refused. `__Host-refresh` is no credential here; it is one
for `/refresh` and `/logout` alone. Nor is the token of a visitor who has not signed in, which applications keep in the session cookie.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.http import bearer, cookies


class Presented(msgspec.Struct, frozen=True):
    """The credential of a request, not checked yet. Its repr shows no token."""

    token: str
    by_cookie: bool

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Return what `repr` shows, for printers that take structs apart."""
        return [("by_cookie", self.by_cookie)]

    def __repr__(self) -> str:
        return f"Presented(by_cookie={self.by_cookie!r})"


def read_credential(*, authorization: Sequence[bytes], cookie: Sequence[bytes]) -> Presented:
    """Return the one credential in the values of a request's `Authorization` and `Cookie` headers.

    Raises:
        Denied: `no_credential`; `malformed` for one that cannot be read, and for two; `wrong_type` for an API key in the cookie.
    """
    token = bearer.read_bearer(authorization) if authorization else None
    from_cookie = cookies.read(cookie, cookies.SESSION_COOKIE) if cookie else None
    kind = None if from_cookie is None else kind_of(from_cookie)
    if from_cookie is None or kind is OpaqueKind.ANONYMOUS:
        if token is None:
            raise Denied(Cause.NO_CREDENTIAL, "neither a session cookie nor an Authorization header")
        return Presented(token, by_cookie=False)
    if token is not None:
        raise Denied(Cause.MALFORMED, "a session cookie and an Authorization header at once")
    if kind is OpaqueKind.API_KEY:
        raise Denied(
            Cause.WRONG_TYPE, "an API key in a cookie: a browser would send it for whoever asks it to"
        )
    return Presented(from_cookie, by_cookie=True)
