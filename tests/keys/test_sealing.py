"""A sealed secret opens for its own key, under its own master key, and for nothing else."""

from __future__ import annotations

import os
import pickle

import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import KeyId
from keyfob.keys.sealing import MASTER_KEY, Sealing, derive
from keyfob.keys.store import KeyPurpose

MASTER = bytes(range(MASTER_KEY))
SECRET = b"the secret of a key"
KEY = KeyId("k")


def sealed(sealing: Sealing) -> bytes:
    return sealing.seal(SECRET, purpose=KeyPurpose.ACCESS, algorithm="ES256", key_id=KEY)


def test_what_is_sealed_opens_again() -> None:
    for sealing in (Sealing(MASTER), Sealing(MASTER)):
        assert (
            Sealing(MASTER).open(sealed(sealing), purpose=KeyPurpose.ACCESS, algorithm="ES256", key_id=KEY)
            == SECRET
        )


def test_a_secret_is_sealed_differently_each_time_and_shows_nothing() -> None:
    sealing = Sealing(MASTER)
    texts = {sealed(sealing) for _ in range(100)}
    assert len(texts) == 100
    assert all(SECRET not in text and MASTER not in text for text in texts)


@pytest.mark.parametrize(
    ("purpose", "algorithm", "key_id"),
    [
        (KeyPurpose.FEED, "ES256", "k"),
        (KeyPurpose.OPAQUE, "ES256", "k"),
        (KeyPurpose.ACCESS, "RS256", "k"),
        (KeyPurpose.ACCESS, "ES256", "other"),
        (KeyPurpose.ACCESS, "ES256", ""),
    ],
)
def test_a_sealed_secret_cannot_be_given_to_another_key(
    purpose: KeyPurpose, algorithm: str, key_id: str
) -> None:
    sealing = Sealing(MASTER)
    with pytest.raises(ConfigurationError, match="KEYFOB_MASTER_KEY"):
        sealing.open(sealed(sealing), purpose=purpose, algorithm=algorithm, key_id=KeyId(key_id))


def test_another_master_key_does_not_open_and_the_message_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Sealing(os.urandom(MASTER_KEY)).open(
            sealed(Sealing(MASTER)), purpose=KeyPurpose.ACCESS, algorithm="ES256", key_id=KEY
        )
    message = str(caught.value)
    assert "\n" not in message
    assert "KEYFOB_MASTER_KEY" in message
    assert "access key k" in message


def test_any_change_of_what_is_sealed_is_seen() -> None:
    sealing = Sealing(MASTER)
    good = sealed(sealing)
    broken = [good[:place] + bytes((good[place] ^ 1,)) + good[place + 1 :] for place in range(len(good))]
    for text in [*broken, b"", good[:1], good[:12], good[:13], good[:-1], good + b"\0"]:
        with pytest.raises(ConfigurationError):
            sealing.open(text, purpose=KeyPurpose.ACCESS, algorithm="ES256", key_id=KEY)


@pytest.mark.parametrize("length", [0, 16, MASTER_KEY - 1, MASTER_KEY + 1, 64])
def test_a_master_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        Sealing(bytes(length))


def test_labels_give_different_keys() -> None:
    assert derive(MASTER, "one") != derive(MASTER, "other")
    assert derive(MASTER, "one") == derive(MASTER, "one")
    assert len(derive(MASTER, "one")) == 32


def test_a_master_key_cannot_be_pickled_or_printed() -> None:
    sealing = Sealing(MASTER)
    with pytest.raises(TypeError):
        pickle.dumps(sealing)
    assert MASTER.hex() not in repr(sealing)
