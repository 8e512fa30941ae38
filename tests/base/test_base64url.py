"""base64url: one text for the same bytes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base import base64url


@given(st.binary(max_size=200))
def test_what_is_encoded_is_decoded(raw: bytes) -> None:
    assert base64url.decode(base64url.encode(raw).encode()) == raw


@given(st.binary(max_size=200))
def test_the_text_is_that_of_the_standard_library_without_padding(raw: bytes) -> None:
    assert base64url.encode(raw) == base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(st.binary(max_size=60))
def test_any_text_is_the_one_encoding_of_its_bytes_or_refused(text: bytes) -> None:
    try:
        raw = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(raw).encode() == text


@pytest.mark.parametrize(
    "text",
    [
        b"A",
        b"AAAAA",
        b"AB",
        b"AAB",
        b"A=",
        b"AA==",
        b"AA=",
        b" AAA",
        b"AAA\n",
        b"A+AA",
        b"A/AA",
        b"\xff\xff\xff\xff",
    ],
)
def test_what_is_not_canonical_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="base64url"):
        base64url.decode(text)


def test_every_last_character_with_set_low_bits_is_refused() -> None:
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for length, good in ((2, 4), (3, 16)):
        accepted = 0
        for last in alphabet:
            try:
                base64url.decode(b"A" * (length - 1) + bytes((last,)))
                accepted += 1
            except ValueError:
                pass
        assert accepted == good
