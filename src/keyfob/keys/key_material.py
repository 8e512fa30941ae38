"""The secrets of one stored key, made and read by purpose: each purpose has its own type, so no key can do another's work."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import KeyId
from keyfob.base.opaque import OpaqueKeys
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey
from keyfob.keys.phases import Due
from keyfob.keys.sealing import Sealing, derive
from keyfob.keys.store import KeyPurpose, StoredKey

FEED_ALGORITHM = Algorithm.EDDSA
OPAQUE_KEY_ID = 4  # bytes: what an opaque token has room for
_SEED_ALGORITHM = "HMAC-SHA-256"
_SEED = 32  # bytes
_TAG_LABEL = "keyfob opaque tag v1"
_ROTATION_LABEL = "keyfob opaque rotation v1"
_CSRF_LABEL = "keyfob csrf v1"


@dataclass(frozen=True, slots=True)
class CsrfKey:
    """The key that binds CSRF tokens to sessions."""

    key: bytes = field(repr=False)


Material = PrivateKey | OpaqueKeys | CsrfKey


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A stored key with its secrets opened."""

    stored: StoredKey
    material: Material = field(repr=False)


def make(
    purpose: KeyPurpose, algorithm: Algorithm, due: Due, *, sealing: Sealing, now: datetime
) -> StoredKey:
    """Make a key for *purpose*, sealed. *algorithm* is that of access keys; the other purposes have their own.

    Signing keys have their thumbprint as id (RFC 7638), the others 32 random bits.
    """
    match purpose:
        case KeyPurpose.ACCESS | KeyPurpose.FEED:
            chosen = algorithm if purpose is KeyPurpose.ACCESS else FEED_ALGORITHM
            key = PrivateKey.generate(chosen)
            name, secret, key_id = chosen.value, key.to_bytes(), key.key_id
        case KeyPurpose.OPAQUE | KeyPurpose.CSRF:
            name, secret = _SEED_ALGORITHM, os.urandom(_SEED)
            key_id = KeyId(os.urandom(OPAQUE_KEY_ID).hex())
        case _:
            assert_never(purpose)
    return StoredKey(
        purpose=purpose,
        key_id=key_id,
        algorithm=name,
        sealed=sealing.seal(secret, purpose=purpose, algorithm=name, key_id=key_id),
        created_at=now,
        activates_at=due.activates_at,
    )


def load(stored: StoredKey, sealing: Sealing) -> LoadedKey:
    """Open the secrets of *stored*.

    Raises:
        ConfigurationError: the master key does not fit, or the store holds something that is no key of its purpose.
    """
    secret = sealing.open(
        stored.sealed, purpose=stored.purpose, algorithm=stored.algorithm, key_id=stored.key_id
    )
    try:
        return LoadedKey(stored, _material(stored, secret))
    except ValueError:
        raise ConfigurationError(
            f"the store holds a {stored.purpose.value} key {stored.key_id} of algorithm {stored.algorithm} that this version of Keyfob "
            "cannot use: was it written by a newer one?"
        ) from None


def _material(stored: StoredKey, secret: bytes) -> Material:
    match stored.purpose:
        case KeyPurpose.ACCESS | KeyPurpose.FEED:
            return PrivateKey.from_bytes(secret, Algorithm(stored.algorithm), key_id=stored.key_id)
        case KeyPurpose.OPAQUE:
            key_id = bytes.fromhex(_checked_seed(stored, secret).key_id)
            return OpaqueKeys(key_id, derive(secret, _TAG_LABEL), derive(secret, _ROTATION_LABEL))
        case KeyPurpose.CSRF:
            _checked_seed(stored, secret)
            return CsrfKey(derive(secret, _CSRF_LABEL))
        case _:
            assert_never(stored.purpose)


def _checked_seed(stored: StoredKey, secret: bytes) -> StoredKey:
    if stored.algorithm != _SEED_ALGORITHM or len(secret) != _SEED or len(stored.key_id) != 2 * OPAQUE_KEY_ID:
        raise ValueError("no seed of this version")
    return stored
