"""Our cookies, read and written strictly.

Only the exact names `__Host-session` and `__Host-refresh` are ours (a browser lets no other host, path or plain-http page set them). A value
is taken as it stands: quotes, `$Version` and escapes of RFC 2109 mean nothing here, since servers that honour them can be made to read
one cookie as part of another. Whatever is not exactly ours is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from keyfob.base.errors import Cause, Denied

SESSION_COOKIE = b"__Host-session"
REFRESH_COOKIE = b"__Host-refresh"
MAX_COOKIE = 4096
"""Bytes of name and value: browsers drop a longer cookie (RFC 6265bis, section 5.6)."""

_NAMES = frozenset({SESSION_COOKIE, REFRESH_COOKIE})
_ATTRIBUTES = b"; Path=/; Secure; HttpOnly; SameSite=Lax"
_VALUE = re.compile(rb"[A-Za-z0-9_.~-]+")
_ODD = re.compile(rb"[\x00-\x1f\x7f]")

SetCookie = tuple[bytes, bytes]


def read(headers: Sequence[bytes], name: bytes) -> str | None:
    """Return the value of our cookie *name* in the `Cookie` header lines *headers*; None if it is not there.

    Raises:
        Denied: `malformed`: it is there twice, has a value that none of our tokens can have, or the header holds control bytes.
    """
    found: bytes | None = None
    for header in headers:
        if name not in header:
            continue
        if _ODD.search(header):
            raise Denied(Cause.MALFORMED, "control bytes in the Cookie header")
        for index, pair in enumerate(header.split(b";")):
            key, equals, value = (pair[1:] if index and pair[:1] == b" " else pair).partition(b"=")
            if key != name or not equals:
                continue
            if found is not None:
                raise Denied(Cause.MALFORMED, f"the cookie {name.decode('ascii')} is there twice")
            found = value
    if found is None:
        return None
    if len(found) > MAX_COOKIE or _VALUE.fullmatch(found) is None:
        raise Denied(Cause.MALFORMED, f"the cookie {name.decode('ascii')} has a value that is none of ours")
    return found.decode("ascii")


def write(name: bytes, value: str, *, max_age: timedelta | None = None) -> SetCookie:
    """Return the header that sets our cookie *name*: for the browser's session, or for *max_age* if the client asked for it to last.

    Raises:
        ValueError: a name that is not ours, a value with other characters than tokens have, or more than `MAX_COOKIE` bytes.
    """
    raw = value.encode("utf-8", "surrogatepass")
    if name not in _NAMES:
        raise ValueError("not a name of our cookies")
    if _VALUE.fullmatch(raw) is None or len(name) + len(raw) > MAX_COOKIE:
        raise ValueError("not a value for a cookie")
    lasting = b"" if max_age is None else b"; Max-Age=%d" % max(0, int(max_age.total_seconds()))
    return b"set-cookie", name + b"=" + raw + _ATTRIBUTES + lasting


def clear(name: bytes) -> SetCookie:
    """Return the header that makes the browser forget our cookie *name*, with the attributes that it was set with."""
    return b"set-cookie", name + b"=" + _ATTRIBUTES + b"; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
