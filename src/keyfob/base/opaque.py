"""Opaque tokens: session tokens, refresh tokens, API keys and the tokens of visitors.

    kfs_<base64url of the body>

    body, 73 bytes, big-endian:
        1   format version, 1
        4   key id: which pair of keys of the ring
        16  session id
        4   generation
        32  secret
        16  tag = first 16 bytes of HMAC-SHA-256(tag key, prefix "_" and all before it)

The tag is checked first, so a forged or mistyped token costs no store access and cannot make anything happen. A store holds only
the SHA-256 digest of the secret. The successor of a token is derived, HMAC-SHA-256(rotation key, secret), so that a repeated
rotation gives the same answer.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Self

import msgspec

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import SessionId

TokenDigest = NewType("TokenDigest", bytes)

_VERSION = 1
_KEY_ID, _SESSION_ID, _GENERATION, _SECRET, _TAG = 4, 16, 4, 32, 16
_BODY = 1 + _KEY_ID + _SESSION_ID + _GENERATION + _SECRET + _TAG
OPAQUE_TOKEN_LENGTH = 4 + -(-_BODY * 4 // 3)  # characters, prefix included: 102
MAX_GENERATION = 2 ** (8 * _GENERATION) - 1


class OpaqueKind(StrEnum):
    """What an opaque token is; the value is its prefix, so that secret scanners find it."""

    SESSION = "kfs"
    REFRESH = "kfr"
    API_KEY = "kfk"
    ANONYMOUS = "kfa"
    """The session of a visitor who has not signed in: it keeps an application's data, and is no credential anywhere."""


@dataclass(frozen=True, slots=True)
class OpaqueKeys:
    """The two keys behind opaque tokens. A chain of tokens keeps the pair of its login until it ends."""

    key_id: bytes
    tag_key: bytes = field(repr=False)
    rotation_key: bytes = field(repr=False)


class OpaqueToken(msgspec.Struct, frozen=True, kw_only=True):
    """One opaque token whose tag holds. `text` gives the secret away; nothing else of it does.

    One is made for every request with one: as a frozen dataclass that took four times as long as as a `Struct`.
    """

    kind: OpaqueKind
    session_id: SessionId
    generation: int
    keys: OpaqueKeys
    _secret: bytes

    @classmethod
    def mint(cls, kind: OpaqueKind, session_id: SessionId, keys: OpaqueKeys, *, generation: int = 0) -> Self:
        """Make a token with a fresh 256-bit secret of the operating system's CSPRNG."""
        return cls(
            kind=kind,
            session_id=session_id,
            generation=generation,
            keys=keys,
            _secret=os.urandom(_SECRET),
        )

    @classmethod
    def parse(cls, text: str, keys_of: Callable[[bytes], OpaqueKeys | None]) -> Self:
        """Read *text* as an opaque token and check its tag, without any I/O.

        *keys_of* gives the keys of a key id, or None.

        Raises:
            Denied: `malformed`, whatever is wrong with it.
        """
        kind = kind_of(text)
        if kind is None or len(text) != OPAQUE_TOKEN_LENGTH:
            raise Denied(Cause.MALFORMED, "not an opaque token")
        try:
            body = base64url.decode(text[4:].encode("ascii"))
        except ValueError:
            raise Denied(Cause.MALFORMED, "an opaque token that is not base64url") from None
        if body[0] != _VERSION:
            raise Denied(Cause.MALFORMED, "an opaque token of an unknown version")
        keys = keys_of(body[1:5])
        if keys is None or not hmac.compare_digest(body[-_TAG:], _tag(keys.tag_key, kind, body[:-_TAG])):
            raise Denied(Cause.MALFORMED, "an opaque token whose tag does not hold")
        return cls(
            kind=kind,
            session_id=SessionId(body[5:21].hex()),
            generation=int.from_bytes(body[21:25], "big"),
            keys=keys,
            _secret=body[25:57],
        )

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Return what `repr` shows, for printers that take structs apart."""
        return [
            ("kind", self.kind),
            ("session_id", self.session_id),
            ("generation", self.generation),
            ("keys", self.keys),
        ]

    def __repr__(self) -> str:
        return f"OpaqueToken({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @property
    def digest(self) -> TokenDigest:
        """What a store keeps: SHA-256 of the secret."""
        return TokenDigest(hashlib.sha256(self._secret).digest())

    def text(self) -> str:
        """Return the token as its holder carries it."""
        body = b"".join(
            (
                bytes((_VERSION,)),
                self.keys.key_id,
                bytes.fromhex(self.session_id),
                self.generation.to_bytes(_GENERATION, "big"),
                self._secret,
            )
        )
        return f"{self.kind.value}_{base64url.encode(body + _tag(self.keys.tag_key, self.kind, body))}"

    def successor(self) -> OpaqueToken:
        """Derive the next token of the chain: always the same one."""
        secret = hmac.digest(self.keys.rotation_key, self._secret, "sha256")
        return msgspec.structs.replace(self, generation=self.generation + 1, _secret=secret)

    def leads_to(self, digest: TokenDigest, *, generation: int) -> bool:
        """Say whether the chain of this token has *digest* at *generation*.

        About 1 µs a step; a *generation* below this token's own is never reached.
        """
        if generation < self.generation:
            return False
        secret = self._secret
        for _ in range(generation - self.generation):
            secret = hmac.digest(self.keys.rotation_key, secret, "sha256")
        return hmac.compare_digest(hashlib.sha256(secret).digest(), digest)


def kind_of(text: str) -> OpaqueKind | None:
    """Say by its prefix alone which kind of opaque token *text* claims to be, if any."""
    return _KINDS.get(text[:3]) if text[3:4] == "_" else None


def _tag(key: bytes, kind: OpaqueKind, body: bytes) -> bytes:
    return hmac.digest(key, kind.encode("ascii") + b"_" + body, "sha256")[:_TAG]


_KINDS = {kind.value: kind for kind in OpaqueKind}
