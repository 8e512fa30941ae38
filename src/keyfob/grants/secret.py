"""Secrets of one-time records: 256 random bits, of which a store keeps the digest.

Not opaque tokens: there is no session behind them, and whatever server of the deployment one comes to must know it, whichever keys it has
loaded.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from typing import Final

from keyfob.base import base64url

_BYTES: Final = 32
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """Make a secret with 256 bits of the operating system's CSPRNG. It is given to one party and never stored."""
    return base64url.encode(os.urandom(_BYTES))


def digest_of(secret: str) -> bytes:
    """Return what a store keeps of *secret*: SHA-256 of the whole text."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def derived(secret: str, purpose: str) -> str:
    """Return the secret that follows from *secret* for *purpose*: always the same one, which does not lead back."""
    return base64url.encode(hmac.digest(secret.encode(), purpose.encode(), "sha256"))


def is_secret(text: str) -> bool:
    """Say whether *text* has the form of a secret, so that it is worth looking for."""
    return _SECRET.fullmatch(text) is not None
