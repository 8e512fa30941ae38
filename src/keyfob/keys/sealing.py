"""Secrets of keys at rest: AES-256-GCM under a key derived from the master key.

    sealed, in bytes:  1 format version | 12 nonce | ciphertext | 16 tag

The purpose, the algorithm and the id of the key are authenticated with it, so a sealed key cannot be given another purpose, nor take the
place of another. Nonces are random: a store would need 2^32 keys before two being the same were a concern.
"""

from __future__ import annotations

import os
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import KeyId
from keyfob.keys.store import KeyPurpose

MASTER_KEY = 32  # bytes
DERIVED_KEY = 32  # bytes
_VERSION = b"\x01"
_NONCE = 12  # bytes (NIST SP 800-38D, section 8.2)
_SEALING_LABEL = "keyfob key sealing v1"


def derive(secret: bytes, label: str) -> bytes:
    """Return the 32-byte key that HKDF-SHA-256 gives for *secret* and *label* (RFC 5869); *secret* is random, so there is no salt."""
    return HKDF(algorithm=SHA256(), length=DERIVED_KEY, salt=None, info=label.encode()).derive(secret)


class Sealing:
    """Seals and opens the secrets of keys under one master key. It shows nothing of it, and cannot be pickled."""

    __slots__ = ("_cipher",)

    def __init__(self, master_key: bytes) -> None:
        """Take the master key, 32 random bytes.

        Raises:
            ConfigurationError: another length.
        """
        if len(master_key) != MASTER_KEY:
            raise ConfigurationError(
                f"the master key has {MASTER_KEY} bytes, not {len(master_key)}: set KEYFOB_MASTER_KEY"
            )
        self._cipher = AESGCM(derive(master_key, _SEALING_LABEL))

    def seal(self, secret: bytes, *, purpose: KeyPurpose, algorithm: str, key_id: KeyId) -> bytes:
        """Return *secret* sealed; twice the same secret gives two texts."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, _context(purpose, algorithm, key_id))

    def open(self, sealed: bytes, *, purpose: KeyPurpose, algorithm: str, key_id: KeyId) -> bytes:
        """Return the secret of *sealed*.

        Raises:
            ConfigurationError: it was sealed under another master key, or is not what was sealed for this key.
        """
        nonce, rest = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        if sealed[:1] == _VERSION and len(nonce) == _NONCE:
            try:
                return self._cipher.decrypt(nonce, rest, _context(purpose, algorithm, key_id))
            except InvalidTag:
                pass
        raise ConfigurationError(
            f"the master key does not fit the {purpose.value} key {key_id} of this store: set KEYFOB_MASTER_KEY to the one that the "
            "store was made with or last rewrapped to, or put the file <database>.key back beside the database"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("the master key does not leave its process")


def _context(purpose: KeyPurpose, algorithm: str, key_id: KeyId) -> bytes:
    """Return the associated data; neither a purpose nor an algorithm holds a NUL, so no two contexts look alike."""
    return b"\0".join((_VERSION, purpose.value.encode(), algorithm.encode(), key_id.encode()))
