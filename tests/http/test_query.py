"""Queries and form posts are read strictly."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import InvalidRequest
from keyfob.http.query import MAX_FIELDS, MAX_QUERY, once, parse_fields, parse_query, whole_number


def test_pairs_come_in_their_order() -> None:
    assert parse_fields(b"a=1&b=x+y&a=%C3%BC&c&&=d") == (
        ("a", "1"),
        ("b", "x y"),
        ("a", "ü"),
        ("c", ""),
        ("", "d"),
    )


@pytest.mark.parametrize(
    "raw", [b"a=%", b"a=%4", b"a=%zz", b"a=%ff", b"a=\xff", b"a=%00", b"a=%0d%0a", b"%7f=1"]
)
def test_what_cannot_be_read_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_fields(raw)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("fields", "good"), [(MAX_FIELDS - 1, True), (MAX_FIELDS, True), (MAX_FIELDS + 1, False)]
)
def test_there_are_only_so_many_fields(fields: int, good: bool) -> None:
    raw = b"&".join([b"a=1"] * fields)
    if good:
        assert len(parse_fields(raw)) == fields
        return
    with pytest.raises(InvalidRequest):
        parse_fields(raw)


@pytest.mark.parametrize(
    ("length", "good"), [(MAX_QUERY - 1, True), (MAX_QUERY, True), (MAX_QUERY + 1, False)]
)
def test_a_query_has_a_longest_length(length: int, good: bool) -> None:
    raw = b"a=" + b"x" * (length - 2)
    if good:
        assert parse_query(raw)
        return
    with pytest.raises(InvalidRequest):
        parse_query(raw)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text(max_size=9)), max_size=9))
def test_what_is_written_by_the_rules_is_read_back(pairs: list[tuple[str, str]]) -> None:
    raw = "&".join(
        f"{quote_plus(name, errors='replace')}={quote_plus(value, errors='replace')}" for name, value in pairs
    )
    try:
        assert [name for name, _ in parse_fields(raw.encode())] == [
            name.encode("utf-8", "replace").decode() for name, _ in pairs
        ]
    except InvalidRequest:
        assert any(
            character < " " or character == "\x7f" for pair in pairs for text in pair for character in text
        )


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        once(parse_query(raw), allowed=frozenset({"a"}))
    except InvalidRequest as refused:
        assert refused.status == 400  # noqa: PT017 - either way is right, if it is this one


def test_a_parameter_is_known_and_there_once() -> None:
    allowed = frozenset({"a", "b"})
    assert once(parse_query(b"a=1&b=2"), allowed=allowed) == {"a": "1", "b": "2"}
    for raw in (b"a=1&a=1", b"c=1"):
        with pytest.raises(InvalidRequest):
            once(parse_query(raw), allowed=allowed)


@pytest.mark.parametrize("text", ["1", "7", "10"])
def test_a_whole_number_within_its_bounds_is_read(text: str) -> None:
    assert whole_number(text, name="limit", low=1, high=10) == int(text)


@pytest.mark.parametrize("text", ["0", "11", "", "-1", "+1", "1.0", " 1", "1_0", "٣", "1e1", "9" * 30])
def test_anything_else_is_no_whole_number(text: str) -> None:
    with pytest.raises(InvalidRequest):
        whole_number(text, name="limit", low=1, high=10)
