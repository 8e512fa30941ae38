"""CSRF tokens: bound to a session by a key of the key ring. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from keyfob.base import base64url

_LABEL = b"keyfob csrf "


def token_of(key: bytes, session_id: str) -> str:
    """Return the CSRF token of a session under *key*."""
    return base64url.encode(hmac.digest(key, _LABEL + session_id.encode(), "sha256"))


def matches(keys: Iterable[bytes], session_id: str, token: str) -> bool:
    """Say, in constant time, whether *token* is that of the session under one of *keys*."""
    given = token.encode("utf-8", "surrogatepass")
    return any(hmac.compare_digest(token_of(key, session_id).encode(), given) for key in keys)
