"""Identifiers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keyfob.base.identifiers import MAX_IDENTIFIER, Subject, is_identifier, is_session_id, new_session_id

ENDS = datetime(2026, 3, 1, tzinfo=UTC)


def test_session_ids_of_one_subject_begin_alike_and_none_is_like_another() -> None:
    ids = {new_session_id(b"salt", Subject("alice"), ENDS) for _ in range(1000)}
    assert len(ids) == 1000
    assert len({session_id[:12] for session_id in ids}) == 1
    assert all(map(is_session_id, ids))


def test_the_shard_depends_on_subject_and_salt_and_the_bucket_on_the_day() -> None:
    alice = new_session_id(b"salt", Subject("alice"), ENDS)
    assert new_session_id(b"salt", Subject("bob"), ENDS)[:8] != alice[:8]
    assert new_session_id(b"other", Subject("alice"), ENDS)[:8] != alice[:8]
    assert new_session_id(b"salt", Subject("alice"), ENDS + timedelta(hours=23))[8:12] == alice[8:12]
    assert new_session_id(b"salt", Subject("alice"), ENDS + timedelta(days=1))[8:12] != alice[8:12]


@pytest.mark.parametrize("text", ["", "a" * 31, "a" * 33, "A" * 32, "g" * 32, " " + "a" * 31])
def test_what_is_no_session_id(text: str) -> None:
    assert not is_session_id(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("", False),
        ("a", True),
        ("a" * MAX_IDENTIFIER, True),
        ("a" * (MAX_IDENTIFIER + 1), False),
        ("a\nb", False),
        ("a\x7fb", False),
        ("\ud800", False),
        ("Zoë", True),
    ],
)
def test_what_is_an_identifier(text: str, good: bool) -> None:
    assert is_identifier(text) is good
