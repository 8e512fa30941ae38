"""Login names, subjects and roles."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.accounts.names import (
    MAX_NAME,
    MAX_ROLE,
    MAX_ROLES,
    checked_name,
    checked_roles,
    fold_name,
    is_account_subject,
    new_subject,
)
from keyfob.base.errors import InvalidRequest

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


def test_a_subject_is_usr_and_26_base32_characters_and_never_the_same() -> None:
    subjects = {new_subject() for _ in range(500)}
    assert len(subjects) == 500
    for subject in subjects:
        assert is_account_subject(subject)
        assert subject.startswith("usr_")
        assert len(subject) == 30
    # Every place takes every character of the alphabet: no place is thinner than the 130 bits say.
    for place in range(4, 30):
        assert len({subject[place] for subject in subjects}) == 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        "usr_",
        "usr_" + "a" * 25,
        "usr_" + "a" * 27,
        "usr_" + "A" * 26,
        "usr-" + "a" * 26,
        "usr_" + "1" * 26,
        "a" * 26,
        "a" * 30,
    ],
)
def test_what_only_resembles_a_subject_is_none(text: str) -> None:
    assert not is_account_subject(text)


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Alice", "alice"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("Zoë", "zoë"),
        ("Zoe\u0308", "zoë"),
        ("ALICE@Example.COM", "alice@example.com"),
        ("Mary Ann", "mary ann"),
        ("a" * MAX_NAME, "a" * MAX_NAME),
    ],
)
def test_names_are_compared_composed_and_case_folded(name: str, folded: str) -> None:
    assert fold_name(name) == folded == checked_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " alice",
        "alice ",
        "\u00a0alice",
        "ali\u200bce",  # zero width
        "ali\u202ece",  # right to left
        "ali\nce",
        "ali\x00ce",
        "ali\u2028ce",
        "\ud800",
        "usr_alice",
        "USR_alice",  # would be taken for a subject
        "a" * (MAX_NAME + 1),
        "ß" * (MAX_NAME // 2 + 1),  # folds to two characters each
        "a" * 100_000,
    ],
)
def test_a_name_that_deceives_or_is_too_long_is_nobodys(name: str) -> None:
    assert fold_name(name) is None
    with pytest.raises(InvalidRequest) as refusal:
        checked_name(name)
    assert refusal.value.code == "invalid_name"


@given(ANY_TEXT)
def test_folding_is_stable_and_never_fails(name: str) -> None:
    folded = fold_name(name)
    if folded is not None:
        assert fold_name(folded) == folded
        assert unicodedata.is_normalized("NFC", folded)
        assert 0 < len(folded) <= MAX_NAME


def test_folding_is_stable_for_every_single_character() -> None:
    for point in range(0x110000):
        folded = fold_name(chr(point))
        if folded is not None:
            assert fold_name(folded) == folded, hex(point)


def test_roles_are_a_set_within_bounds() -> None:
    assert checked_roles(["b", "a", "b"]) == frozenset({"a", "b"})
    assert checked_roles(["r" * MAX_ROLE])
    assert checked_roles(f"r{number}" for number in range(MAX_ROLES))
    assert checked_roles([]) == frozenset()


@pytest.mark.parametrize(
    "roles",
    [
        [""],
        ["a b"],
        ["a\u00a0b"],
        ["a\nb"],
        ["a\u200b"],
        ["\ud800"],
        ["r" * (MAX_ROLE + 1)],
        [f"r{n}" for n in range(MAX_ROLES + 1)],
        "admin",
    ],
)
def test_roles_that_would_break_a_header_or_a_token_are_refused(roles: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        checked_roles(roles)
    assert refusal.value.code == "invalid_role"
