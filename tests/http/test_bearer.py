"""Exactly one Authorization header, exactly Bearer; Basic credentials of clients are form-decoded."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import Cause, Denied
from keyfob.http import bearer
from keyfob.http.bearer import MAX_TOKEN, BasicCredentials


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize("line", [b"Bearer abc", b"bearer abc", b"BEARER abc", b"Bearer   abc"])
def test_the_scheme_is_bearer_in_any_case_of_letters(line: bytes) -> None:
    assert bearer.read_bearer([line]) == "abc"


def test_no_header_is_no_token() -> None:
    assert bearer.read_bearer([]) is None


@pytest.mark.parametrize(
    "lines",
    [
        [b"Bearer a", b"Bearer a"],
        [b"Bearer a", b"Basic b"],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [b" Bearer a"],
        [b"Bearer\ta"],
        [b"Bearer a b"],
        [b"Bearer a,b"],
        [b"Bearer a "],
        [b"Bearer a\n"],
        [b"Bearer =a"],
        [b"Bearer \xc3\xa9"],
        [b"Basic YTpi"],
        [b"Bearertoken a"],
        [b"Token a"],
        [b"DPoP a"],
    ],
)
def test_anything_else_is_malformed(lines: list[bytes]) -> None:
    with pytest.raises(Denied) as denied:
        bearer.read_bearer(lines)
    assert denied.value.cause is Cause.MALFORMED


@pytest.mark.parametrize(("over", "good"), [(-1, True), (0, True), (1, False)])
def test_a_token_has_a_longest_length(over: int, good: bool) -> None:
    line = b"Bearer " + b"a" * (MAX_TOKEN - 7 + over)
    if good:
        assert bearer.read_bearer([line]) == line[7:].decode()
        return
    with pytest.raises(Denied):
        bearer.read_bearer([line])


def test_basic_credentials_are_form_decoded_after_the_base64() -> None:
    assert bearer.read_basic([basic("a%20b+c:x%3Ay%2B")]) == BasicCredentials("a b c", "x:y+")


@pytest.mark.parametrize("secret", ["kfc_abc-_~.", "a:b", "ü%C3%BC"])
def test_a_secret_may_hold_what_a_form_may(secret: str) -> None:
    if secret.startswith("ü"):
        with pytest.raises(Denied):
            bearer.read_basic([basic(f"id:{secret}")])
        return
    credentials = bearer.read_basic([basic(f"id:{secret}")])
    assert credentials is not None
    assert credentials.secret == secret


def test_no_header_is_no_credentials() -> None:
    assert bearer.read_basic([]) is None


@pytest.mark.parametrize(
    "lines",
    [
        [basic("a:b"), basic("a:b")],
        [b"Bearer abc"],
        [b"Basic"],
        [b"Basic !!!"],
        [b"Basic YTpi=YTpi"],
        [b"Basic YT"],
        [basic("nocolon")],
        [basic(":secret")],
        [basic("id:")],
        [basic("id:%zz")],
        [basic("id:%ff")],
        [basic("id:a\x00b")],
        [basic("id:" + "x" * 3000)],
        [b"Basic " + base64.b64encode(b"id:\xff")],
    ],
)
def test_credentials_that_cannot_be_read_are_bad_credentials(lines: list[bytes]) -> None:
    with pytest.raises(Denied) as denied:
        bearer.read_basic(lines)
    assert denied.value.cause is Cause.BAD_CREDENTIALS


@given(
    st.lists(
        st.binary(max_size=80) | st.binary(max_size=40).map(lambda raw: b"Basic " + base64.b64encode(raw)),
        max_size=2,
    )
)
def test_any_bytes_are_read_or_refused(lines: list[bytes]) -> None:
    for read in (bearer.read_bearer, bearer.read_basic):
        try:
            read(lines)
        except Denied:
            continue
    assert bearer.is_basic(lines) in {True, False}


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(BasicCredentials("id", "hush"))
