"""Opaque tokens: the tag before anything else, digests alone in a store, successors derived."""

from __future__ import annotations

import dataclasses
import string
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import Denied
from keyfob.base.identifiers import Subject, new_session_id
from keyfob.base.opaque import OPAQUE_TOKEN_LENGTH, OpaqueKeys, OpaqueKind, OpaqueToken, TokenDigest, kind_of

KEYS = OpaqueKeys(b"\x00\x01\x02\x03", b"t" * 32, b"r" * 32)
OTHER = OpaqueKeys(b"\x00\x01\x02\x04", b"u" * 32, b"s" * 32)
SESSION_ID = new_session_id(b"salt", Subject("alice"), datetime(2026, 1, 1, tzinfo=UTC))


def keys_of(key_id: bytes) -> OpaqueKeys | None:
    return {KEYS.key_id: KEYS, OTHER.key_id: OTHER}.get(key_id)


def mint(kind: OpaqueKind = OpaqueKind.SESSION, generation: int = 0) -> OpaqueToken:
    return OpaqueToken.mint(kind, SESSION_ID, KEYS, generation=generation)


@pytest.mark.parametrize("kind", list(OpaqueKind))
@pytest.mark.parametrize("generation", [0, 1, 2**32 - 1])
def test_what_is_minted_is_read_back(kind: OpaqueKind, generation: int) -> None:
    token = mint(kind, generation)
    assert len(token.text()) == OPAQUE_TOKEN_LENGTH
    assert OpaqueToken.parse(token.text(), keys_of) == token
    assert kind_of(token.text()) is kind


@pytest.mark.meets("OA-27")
def test_every_change_of_every_character_is_refused() -> None:
    text = mint().text()
    alphabet = string.ascii_letters + string.digits + "-_ ="
    for index in range(len(text)):
        for character in alphabet:
            if character == text[index]:
                continue
            with pytest.raises(Denied) as caught:
                OpaqueToken.parse(text[:index] + character + text[index + 1 :], keys_of)
            assert caught.value.cause == "malformed"


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "A", lambda t: "", lambda t: t[4:], lambda t: t * 2]
)
def test_a_truncated_or_lengthened_token_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Denied):
        OpaqueToken.parse(change(mint().text()), keys_of)


def test_a_refresh_token_cannot_be_relabelled_as_a_session_token() -> None:
    with pytest.raises(Denied, match="tag"):
        OpaqueToken.parse("kfs" + mint(OpaqueKind.REFRESH).text()[3:], keys_of)


def test_a_token_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(Denied, match="tag"):
        OpaqueToken.parse(mint().text(), lambda key_id: None)


def test_a_token_under_another_key_id_is_refused() -> None:
    relabelled = dataclasses.replace(OTHER, key_id=KEYS.key_id)
    with pytest.raises(Denied, match="tag"):
        OpaqueToken.parse(mint().text(), lambda key_id: relabelled)


def test_an_unknown_version_is_refused() -> None:
    text = mint().text()
    with pytest.raises(Denied, match="version"):
        OpaqueToken.parse(text[:4] + "Ag" + text[6:], keys_of)


@given(st.text(max_size=130))
def test_any_text_is_refused_with_our_error(text: str) -> None:
    with pytest.raises(Denied):
        OpaqueToken.parse(text, keys_of)
    assert kind_of(text) is None or text.startswith("kf")


@given(st.text(min_size=98, max_size=98))
def test_any_body_of_the_right_length_is_refused_with_our_error(body: str) -> None:
    with pytest.raises(Denied):
        OpaqueToken.parse("kfs_" + body, keys_of)


def test_two_tokens_are_never_alike() -> None:
    assert len({mint().text() for _ in range(1000)}) == 1000


def test_the_successor_is_always_the_same_and_of_the_next_generation() -> None:
    token = mint(OpaqueKind.REFRESH)
    assert token.successor() == token.successor()
    assert token.successor().generation == 1
    assert token.successor().digest != token.digest


def test_the_successor_needs_the_rotation_key() -> None:
    token = mint(OpaqueKind.REFRESH)
    other = msgspec.structs.replace(token, keys=OTHER)
    assert other.successor().digest != token.successor().digest


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_token_leads_to_every_later_secret_of_its_chain_and_to_no_earlier(start: int, steps: int) -> None:
    token = mint(OpaqueKind.REFRESH, generation=start)
    later = token
    for _ in range(steps):
        later = later.successor()
    assert token.leads_to(later.digest, generation=start + steps)
    assert not token.leads_to(later.digest, generation=start + steps + 1)
    assert later.leads_to(token.digest, generation=start) is (steps == 0)
    assert not token.leads_to(TokenDigest(b"x" * 32), generation=start + steps)


def test_no_repr_shows_a_secret() -> None:
    token = mint()
    shown = repr(token) + str(token) + repr(KEYS) + str(token.__rich_repr__())
    assert token.text() not in shown
    assert "secret" not in shown
    assert "tttt" not in shown
    assert "rrrr" not in shown
