"""Compact JWS, signed and checked (RFC 7515, sections 3.1, 5.1 and 5.2).

A check, in this order; the first that fails names the cause (contract.md):

1. size and form: three canonical base64url segments, a strict header    `malformed`
2. `typ` is the one expected                                              `wrong_type`
3. `alg` is known                                                         `unsupported_algorithm`
4. `kid` is there and known                                               `unknown_key`
5. `alg` is that of the key                                               `unsupported_algorithm`
6. the signature                                                          `bad_signature`

Only then is the payload given to anybody. There is no way to read one without a check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidSignature

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import KeyId
from keyfob.jwt.algorithms import ALGORITHMS
from keyfob.jwt.header import read_header, write_header
from keyfob.jwt.jwk import PublicKey
from keyfob.jwt.shared_secret import HS256, SharedSecret

MAX_TOKEN = 8192  # characters: what fits a header line of every server in use; ours have about 800
_SHARED = {HS256: HS256}


class SigningKey(Protocol):
    """What signs. `PrivateKey` is one; a KMS or a PKCS#11 token can be another (ADR 8)."""

    @property
    def key_id(self) -> KeyId: ...
    @property
    def algorithm(self) -> str: ...
    def sign(self, signing_input: bytes) -> bytes: ...


class VerifyingKey(Protocol):
    """What checks a signature: `PublicKey`, or the shared secret of one process."""

    @property
    def key_id(self) -> KeyId: ...
    @property
    def algorithm(self) -> str: ...
    def verify(self, signature: bytes, signing_input: bytes) -> None: ...


def sign(payload: bytes, key: SigningKey, *, typ: str) -> str:
    """Sign *payload* and return the compact JWS, whose header is `alg`, `typ` and `kid`, and nothing else."""
    signing_input = f"{write_header(key.algorithm, typ, key.key_id)}.{base64url.encode(payload)}"
    return f"{signing_input}.{base64url.encode(key.sign(signing_input.encode('ascii')))}"


def verify(token: str, keys: Mapping[KeyId, PublicKey], *, typ: str | None, limit: int = MAX_TOKEN) -> bytes:
    """Check *token* and return its payload.

    *typ* is the expected type in lower case and without `application/`; None takes only a token without any. At exactly *limit*
    characters a token is read; past it nothing of it is looked at. There is no way to name an algorithm: it is the key's.

    Raises:
        Denied: with the cause of the first check that fails; see the module.
    """
    return _checked(token, keys, ALGORITHMS, typ=typ, limit=limit)[0]


def verify_signed(
    token: str, keys: Mapping[KeyId, PublicKey], *, typ: str, limit: int = MAX_TOKEN
) -> tuple[bytes, KeyId]:
    """Do as `verify`, and also say by which key.

    Raises:
        Denied: as `verify`.
    """
    return _checked(token, keys, ALGORITHMS, typ=typ, limit=limit)


def verify_shared(
    token: str, secret: SharedSecret, *, typ: str | None, limit: int = MAX_TOKEN
) -> tuple[bytes, KeyId]:
    """Do as `verify_signed` with the shared secret of this process; HS256 is the only algorithm that it knows.

    Raises:
        Denied: as `verify`.
    """
    return _checked(token, {secret.key_id: secret}, _SHARED, typ=typ, limit=limit)


def _checked(
    token: str,
    keys: Mapping[KeyId, PublicKey] | Mapping[KeyId, SharedSecret],
    algorithms: Mapping[str, str],
    *,
    typ: str | None,
    limit: int,
) -> tuple[bytes, KeyId]:
    # 1. Size and form. The payload becomes octets here, and stays unread.
    if len(token) > limit:
        raise Denied(Cause.MALFORMED, "a token that is too long")
    try:
        raw = token.encode("ascii")
        head, body, tail = raw.split(b".")
        header = read_header(head)
        payload, signature = base64url.decode(body), base64url.decode(tail)
    except ValueError:
        raise Denied(Cause.MALFORMED, "no compact JWS of ours") from None
    # 2. The type.
    if header.media_type != (typ or ""):
        raise Denied(Cause.WRONG_TYPE, f"not of type {typ or 'none'}")
    # 3. The algorithm.
    algorithm = algorithms.get(header.alg)
    if algorithm is None:
        raise Denied(Cause.UNSUPPORTED_ALGORITHM, "an algorithm that is not known here")
    # 4. The key.
    key = keys.get(header.key_id)
    if key is None:
        raise Denied(Cause.UNKNOWN_KEY, f"key id {header.key_id!r}" if header.key_id else "no key id")
    # 5. The key's algorithm.
    if key.algorithm != algorithm:
        raise Denied(Cause.UNSUPPORTED_ALGORITHM, f"key {key.key_id} is for {key.algorithm} alone")
    # 6. The signature.
    try:
        key.verify(signature, raw[: -1 - len(tail)])
    except InvalidSignature:
        raise Denied(Cause.BAD_SIGNATURE, f"by key {key.key_id}") from None
    return payload, key.key_id
