"""Client secrets: `kfc_` and 256 random bits.

Not an opaque token: there is no session behind it, and a client that has only its secret must be able to use it on any authority of the
deployment, whatever keys that one has loaded.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from keyfob.base import base64url

SECRET_PREFIX = "kfc_"
_SECRET = 32  # bytes
_NO_DIGEST = bytes(32)  # compared with where a client has fewer secrets than two, and never right
_DIGESTS = 2  # of one client at most: the secret of today and the one it replaces


def new_secret() -> str:
    """Make a secret with 256 bits of the operating system's CSPRNG. It is shown once and never stored."""
    return SECRET_PREFIX + base64url.encode(os.urandom(_SECRET))


def digest_of(secret: str) -> bytes:
    """Return what a store keeps of *secret*: SHA-256 of the whole text. It is random enough to need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def is_one_of(secret: str, digests: tuple[bytes, ...]) -> bool:
    """Say whether *secret* belongs to one of *digests*, in a time that tells neither how many there are nor which one it was."""
    presented = digest_of(secret)
    places = digests + (_NO_DIGEST,) * (_DIGESTS - len(digests))
    outcomes = [hmac.compare_digest(presented, digest) for digest in places]
    return any(outcomes[: len(digests)])
