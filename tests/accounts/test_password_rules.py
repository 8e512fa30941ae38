"""Which passwords are taken."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.accounts.names import fold_name
from keyfob.accounts.password_rules import (
    CHARACTER_RULE,
    COMMON_RULE,
    LENGTH_RULE,
    MAX_PASSWORD,
    MIN_PASSWORD,
    checked_password,
    is_common,
    readable_password,
)
from keyfob.base.errors import InvalidRequest

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


def refused(password: str, *, name: str = "alice") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        checked_password(password, name=name)
    assert refusal.value.status == 422
    return refusal.value


def test_the_limits_of_length_are_taken_and_one_beyond_is_not() -> None:
    fit = "Zx9" * 50
    assert checked_password(fit[:MIN_PASSWORD], name="alice")
    assert checked_password(fit[:MAX_PASSWORD], name="alice")
    for length in (0, MIN_PASSWORD - 1, MAX_PASSWORD + 1, MAX_PASSWORD * 4, MAX_PASSWORD * 4 + 1):
        refusal = refused(("Zx9" * 200)[:length])
        assert (refusal.code, str(refusal)) == ("password_length", LENGTH_RULE)


def test_length_is_counted_after_composition() -> None:
    composed = "é" * MAX_PASSWORD + "x"
    decomposed = unicodedata.normalize("NFD", "é" * (MAX_PASSWORD - 1) + "x")
    assert len(decomposed) > MAX_PASSWORD
    assert checked_password(decomposed, name="alice") == "é" * (MAX_PASSWORD - 1) + "x"
    assert refused(composed).code == "password_length"


def test_the_character_that_decomposes_most_stays_within_the_raw_bound() -> None:
    longest = max(
        (chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) != "Cs"),
        key=lambda character: len(unicodedata.normalize("NFD", character)),
    )
    password = (longest + "a") * (MAX_PASSWORD // 2)
    normal = unicodedata.normalize("NFC", password)
    assert len(normal) > MAX_PASSWORD or readable_password(unicodedata.normalize("NFD", password)) == normal


@pytest.mark.parametrize("unfit", ["\x00", "\x1b", "\x7f", "\x85", "\n", "\udfff"])
def test_control_characters_and_lone_surrogates_are_refused(unfit: str) -> None:
    for password in (unfit + "correct horse", "correct horse" + unfit, "correct" + unfit + " horse"):
        refusal = refused(password)
        assert (refusal.code, str(refusal)) == ("password_characters", CHARACTER_RULE)
        assert readable_password(password) is None


@pytest.mark.parametrize(
    "common",
    [
        "password",
        "PassWord1",
        "12345678",
        "qwertyuiop",
        "aaaaaaaaaaaa",
        "        ",
        "correcthorsebatterystaple",
    ],
)
def test_what_anybody_would_guess_is_refused_whatever_its_case(common: str) -> None:
    refusal = refused(common)
    assert (refusal.code, str(refusal)) == ("password_common", COMMON_RULE)


def test_the_login_name_is_no_password() -> None:
    assert refused("Alice.Liddell", name="alice.liddell").code == "password_common"
    assert checked_password("alice.liddell!", name="alice.liddell")


def test_every_line_of_the_list_is_folded_composed_and_long_enough_to_matter() -> None:
    from importlib import resources

    text = resources.files("keyfob.accounts").joinpath("common_passwords.txt").read_text("utf-8")
    lines = text.splitlines()[1:]
    assert len(lines) > 400
    assert lines == sorted(set(lines))
    for line in lines:
        assert line == unicodedata.normalize("NFC", line.casefold())
        assert len(line) >= MIN_PASSWORD
        assert is_common(line.upper()) or line.upper().casefold() != line


@given(ANY_TEXT)
def test_any_text_is_taken_in_composed_form_or_refused_with_our_error(password: str) -> None:
    try:
        taken = checked_password(password, name="alice")
    except InvalidRequest as refusal:
        assert str(refusal) in {LENGTH_RULE, CHARACTER_RULE, COMMON_RULE}  # noqa: PT017
        return
    assert taken == unicodedata.normalize("NFC", password)
    assert readable_password(password) == taken == readable_password(taken)


@given(ANY_TEXT)
def test_the_same_password_typed_composed_or_decomposed_is_one(password: str) -> None:
    if readable_password(password) is not None:
        assert readable_password(unicodedata.normalize("NFD", password)) == readable_password(password)


def test_a_text_that_is_too_long_is_refused_before_it_is_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ordering a run of combining marks takes quadratic time: a megabyte of it would hold the caller for minutes.
    normalised: list[int] = []
    normalize = unicodedata.normalize

    def counted(form: Literal["NFC"], text: str) -> str:
        normalised.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", counted)
    hostile = "a" + "\u0316\u0301" * 3_000
    assert readable_password(hostile) is None
    assert refused(hostile).code == "password_length"
    assert fold_name(hostile) is None
    assert normalised == []
