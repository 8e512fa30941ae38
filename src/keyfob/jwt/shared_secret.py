"""HS256, for one process that both signs and checks. Whoever can check with a shared secret can also sign, so it never leaves it."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import NoReturn, Self

from cryptography.exceptions import InvalidSignature

from keyfob.base import base64url
from keyfob.base.identifiers import KeyId

HS256 = "HS256"
MIN_SECRET = 32  # bytes: as long as the hash (RFC 7518, section 3.2)
_MIN_DISTINCT = (
    12  # distinct octets; 32 random ones have 30 on average, and fewer than 12 less than once in 2^80 times
)
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")
_PUBLISHED = frozenset(
    bytes.fromhex(digest)
    for digest in (
        "c8ecc9361a05e285f04c26f9572131a6deab07e9e2b865053c6f75a4d8bd2b32",  # RFC 7515, appendix A.1
        "73ec74458059c70cae3f0ade8663fe0da1dc4b114ed8cdac75364140b4458a4c",  # RFC 7520, section 3.5
    )
)


def mac(secret: bytes, signing_input: bytes) -> bytes:
    """Return HMAC-SHA-256, the signature of HS256."""
    return hmac.digest(secret, signing_input, "sha256")


class SharedSecret:
    """The secret of the explicit `shared_secret` mode. Its repr shows the key id alone, and it cannot be pickled or published."""

    __slots__ = ("_secret", "key_id")

    def __init__(self, secret: bytes, *, key_id: KeyId | None = None) -> None:
        """Take *secret*, raw octets of a random generator; `SharedSecret.generate` is the way to make one.

        Raises:
            ValueError: shorter than 32 bytes, printable text (a password, or octets that were never decoded), hardly any distinct
                octets, or a secret that stands in a specification.
        """
        if len(secret) < MIN_SECRET:
            raise ValueError(f"a shared secret has at least {MIN_SECRET} bytes, not {len(secret)}")
        if _PRINTABLE.issuperset(secret):
            raise ValueError("a shared secret is random octets, never text: decode it, or generate one")
        if len(set(secret)) < _MIN_DISTINCT or hashlib.sha256(secret).digest() in _PUBLISHED:
            raise ValueError("a shared secret that anybody could guess")
        self._secret = secret
        # A key id that says nothing about the secret: a hash of it could be tried offline, a keyed one under another label cannot.
        self.key_id = key_id or KeyId(base64url.encode(mac(secret, b"keyfob shared secret key id")[:16]))

    @classmethod
    def generate(cls) -> Self:
        """Make a secret of 32 octets of the operating system's CSPRNG."""
        return cls(os.urandom(MIN_SECRET))

    @property
    def algorithm(self) -> str:
        """HS256, and nothing else."""
        return HS256

    def sign(self, signing_input: bytes) -> bytes:
        """Return the tag of *signing_input*."""
        return mac(self._secret, signing_input)

    def verify(self, signature: bytes, signing_input: bytes) -> None:
        """Compare in constant time; a shortened tag is refused.

        Raises:
            InvalidSignature: it is not the tag of *signing_input*.
        """
        if not hmac.compare_digest(signature, mac(self._secret, signing_input)):
            raise InvalidSignature

    def __repr__(self) -> str:
        return f"SharedSecret(key_id={self.key_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a shared secret does not leave its process")
