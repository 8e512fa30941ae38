"""PKCE (RFC 7636): a code is worth nothing without the verifier whose hash the request held. Pure.

`S256` alone: with `plain` whoever reads the request has the verifier, and a request without a method means `plain` (section 4.3).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from keyfob.base import base64url

METHOD: Final = "S256"
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # section 4.1
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # section 4.2: SHA-256, base64url without padding


def is_challenge(text: str) -> bool:
    """Say whether *text* can be the hash of a verifier."""
    return _CHALLENGE.fullmatch(text) is not None


def is_verifier(text: str) -> bool:
    """Say whether *text* can be a verifier: 43 to 128 unreserved characters."""
    return _VERIFIER.fullmatch(text) is not None


def challenge_of(verifier: str) -> str:
    """Return the challenge of *verifier*, as `S256` makes it."""
    return base64url.encode(hashlib.sha256(verifier.encode("ascii")).digest())


def fits(verifier: str, challenge: str) -> bool:
    """Say, in constant time, whether *challenge* is that of *verifier*."""
    return is_verifier(verifier) and hmac.compare_digest(challenge_of(verifier).encode(), challenge.encode())
