"""Assertions as texts: whatever is presented is read or refused with our error, and no character of a good one can change."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.errors import Denied, InvalidRequest
from keyfob.base.identifiers import ClientId
from keyfob.clients.assertion import (
    MAX_ASSERTION,
    MAX_CLIENT_KEYS,
    check_assertion,
    checked_keys,
    claimed_client,
    keys_of,
)
from keyfob.clients.client import Client
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set

ISSUER = "https://auth.example"
NOW = 1_800_000_000
KEY = PrivateKey.generate(Algorithm.ES256)
CLIENT = Client(
    client_id=ClientId("robot"),
    created_at=datetime.fromtimestamp(NOW, UTC),
    public_keys=checked_keys(json.dumps(jwk_set([KEY.public])).encode()),
)


def an_assertion(**claims: object) -> str:
    members = {"iss": "robot", "sub": "robot", "aud": ISSUER, "exp": NOW + 60, "jti": "1", **claims}
    return jws.sign(json.dumps(members).encode(), KEY, typ="client-authentication+jwt")


def check(text: str) -> bool:
    try:
        check_assertion(text, CLIENT, issuer=ISSUER, now=float(NOW))
    except Denied:
        return False
    return True


def test_a_good_one_names_its_client_and_its_jti() -> None:
    text = an_assertion()
    assert claimed_client(text) == "robot"
    used = check_assertion(text, CLIENT, issuer=ISSUER, now=float(NOW))
    assert used == check_assertion(an_assertion(exp=NOW + 60), CLIENT, issuer=ISSUER, now=float(NOW))
    other = check_assertion(an_assertion(jti="2"), CLIENT, issuer=ISSUER, now=float(NOW))
    assert used.digest != other.digest
    assert used.until.timestamp() > NOW + 60  # remembered for longer than it is good


def test_no_character_of_it_can_change() -> None:
    text = an_assertion()
    for place, character in enumerate(text):
        other = "A" if character != "A" else "B"
        assert not check(text[:place] + other + text[place + 1 :]), place
        assert not check(text[:place] + text[place + 1 :]), place
    for more in (text + "A", text + ".", " " + text, text + "\n", text.replace(".", "..")):
        assert not check(more)
    assert check(text)


def test_it_is_read_up_to_its_limit() -> None:
    def of_length(length: int) -> str:
        """Return one whose payload was filled up; three octets are four characters."""
        padding = ""
        while len(text := an_assertion(x=padding)) < length:
            padding += "x" * max(1, (length - len(text)) * 3 // 4 - 3)
        return text

    longest = of_length(MAX_ASSERTION - 3)
    assert len(longest) <= MAX_ASSERTION
    assert check(longest)
    too_long = of_length(MAX_ASSERTION + 1)
    assert not check(too_long)
    assert claimed_client(too_long) is None


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="abAB01._-", max_size=60), st.binary().map(repr)))
def test_any_text_is_read_or_refused_with_our_error(text: str) -> None:
    assert claimed_client(text) is None or isinstance(claimed_client(text), str)
    assert not check(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_keys_or_refused_with_our_error(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked_keys(raw)
    assert refused.value.code == "invalid_keys"


def test_a_client_has_one_to_eight_keys() -> None:
    keys = [PrivateKey.generate(Algorithm.EDDSA).public for _ in range(MAX_CLIENT_KEYS + 1)]
    assert len(keys_of(checked_keys(json.dumps(jwk_set(keys[:-1])).encode()))) == MAX_CLIENT_KEYS
    for wrong in ([], keys):
        with pytest.raises(InvalidRequest):
            checked_keys(json.dumps(jwk_set(wrong)).encode())
    with pytest.raises(InvalidRequest):
        checked_keys(json.dumps({"keys": [keys[0].to_jwk(), {"kty": "EC", "crv": "P-521"}]}).encode())
    one = checked_keys(json.dumps(keys[0].to_jwk()).encode())
    assert set(keys_of(one)) == {"", keys[0].key_id}
    assert keys_of(b"") == {}
