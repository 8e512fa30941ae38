"""A shared secret is random octets, and stays in its process."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest

from keyfob.base import base64url
from keyfob.base.identifiers import KeyId
from keyfob.jwt.shared_secret import MIN_SECRET, SharedSecret

RFC_7515 = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
RFC_7520 = "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"


def test_a_secret_is_as_long_as_the_hash_or_longer() -> None:
    raw = bytes(range(128, 128 + MIN_SECRET + 1))
    for length in (MIN_SECRET, MIN_SECRET + 1):
        SharedSecret(raw[:length])
    with pytest.raises(ValueError, match="32 bytes"):
        SharedSecret(raw[: MIN_SECRET - 1])


@pytest.mark.parametrize(
    "secret",
    [
        b"correct horse battery staple, and so on for ever",
        b"a-string-secret-at-least-256-bits-long",
        hashlib.sha256(b"of no use").hexdigest().encode(),
        base64url.encode(hashlib.sha256(b"of no use").digest()).encode(),
        bytes(32),
        b"\xff" * 64,
        bytes(range(11)) * 3,
        base64url.decode(RFC_7515.encode()),
        base64url.decode(RFC_7520.encode()),
    ],
)
def test_what_can_be_guessed_is_no_secret(secret: bytes) -> None:
    with pytest.raises(ValueError):
        SharedSecret(secret)


def test_it_gives_itself_away_to_nobody() -> None:
    secret = SharedSecret(raw := bytes(range(100, 132)), key_id=KeyId("k"))
    assert repr(secret) == "SharedSecret(key_id='k')"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)
    own = SharedSecret(raw).key_id
    assert own == SharedSecret(raw).key_id
    assert own != SharedSecret.generate().key_id
