"""JSON has one reading, or none."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keyfob.jwt import strict_json
from keyfob.jwt.strict_json import MAX_DEPTH, MAX_INTEGER, read_object


@dataclass(frozen=True)
class Members:
    """An object as it is written: names may stand twice."""

    pairs: tuple[tuple[str, object], ...]


_NAMES = st.sampled_from(["sub", "exp", "a", "", ":", '":', "é", 'q"', "\\", "\n", "{", "a:", "\u2028"])
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**66), 2**66),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from([":", '":', "{}", "[", "\\", '"', '":"', ","]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(st.tuples(_NAMES, inner), max_size=3).map(lambda pairs: Members(tuple(pairs))),
    ),
    max_leaves=8,
)
_OBJECTS = st.lists(st.tuples(_NAMES, _VALUES), max_size=5).map(lambda pairs: Members(tuple(pairs)))


def write(value: object, *, space: str, ascii_only: bool) -> str:
    match value:
        case Members(pairs):
            inside = f",{space}".join(
                f"{json.dumps(name, ensure_ascii=ascii_only)}{space}:{write(member, space=space, ascii_only=ascii_only)}"
                for name, member in pairs
            )
            return f"{{{inside}}}"
        case list():
            return f"[{f'{space},'.join(write(item, space=space, ascii_only=ascii_only) for item in value)}]"
        case _:
            return json.dumps(value, ensure_ascii=ascii_only)


def plain(value: object) -> object:
    match value:
        case Members(pairs):
            return {name: plain(member) for name, member in pairs}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


def is_acceptable(value: object, *, ascii_only: bool) -> bool:
    match value:
        case Members(pairs):
            names = [name for name, _ in pairs]
            return (
                len(set(names)) == len(names)
                and all("\\" not in json.dumps(name, ensure_ascii=ascii_only) for name in names)
                and all(is_acceptable(member, ascii_only=ascii_only) for _, member in pairs)
            )
        case list():
            return all(is_acceptable(item, ascii_only=ascii_only) for item in value)
        case bool():
            return True
        case int():
            return -MAX_INTEGER <= value <= MAX_INTEGER
        case _:
            return True


@settings(max_examples=600)
@given(_OBJECTS, st.sampled_from(["", " ", "\n", "\t \r\n"]), st.booleans())
@example(Members((("sub", "x"), ("sub", "x"))), "", False)
@example(Members((("a", 1), ("sub", "x"), ("sub", ":y"))), " ", False)
@example(Members((("a", Members((("sub", 1), ("sub", 1)))),)), "", False)
@example(Members((("a", [Members((("sub", 1), ("sub", 2)))]), ("a", 1))), "", False)
def test_an_object_is_read_as_it_stands_or_refused(written: Members, space: str, ascii_only: bool) -> None:
    raw = write(written, space=space, ascii_only=ascii_only).encode()
    if is_acceptable(written, ascii_only=ascii_only):
        assert read_object(raw) == plain(written)
    else:
        with pytest.raises(ValueError):
            read_object(raw)


@settings(max_examples=400)
@given(_OBJECTS, st.sampled_from(["", " "]))
def test_the_short_way_takes_nothing_that_the_slow_one_refuses(written: Members, space: str) -> None:
    raw = write(written, space=space, ascii_only=False).encode()
    try:
        fast = read_object(raw)
    except ValueError:
        with pytest.raises(ValueError):
            strict_json._read_slowly(raw)
        return
    slow = strict_json._read_slowly(raw)
    assert fast == slow
    assert json.dumps(fast) == json.dumps(slow)


@given(st.binary(max_size=80))
def test_any_octets_are_read_or_refused(raw: bytes) -> None:
    try:
        read_object(raw)
    except ValueError:
        return


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'["\\n"]',
        b'"\\n"',
        b'"a"',
        b"1",
        b"{",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1}{"a":1}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":NaN}',
        b'{"a":NaN,"b":"\\n"}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":-1e400}',
        b'{"a":1e400,"b":"\\n"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00x"}',
        b'{"a":["\\ud800"]}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',  # a surrogate in UTF-8
        b'{"a":"\xc0\xaf"}',  # an overlong slash
        b'{"a":"\x01"}',
        b'{"a":"tab\t"}',
        b'{"a":"\\x"}',
        b'{"a":"\\',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32"),
        b'{"a":1,"a":1}',
        b'{"a":1,"b":{"c":1,"c":1}}',
        b'{"a":1,"b":[{"c":1,"c":2}]}',
        b'{"alg":1,"\\u0061lg":2}',
        b'{"\\u0061lg":2}',
        b'{"a\\/b":2}',
        b'{"a" \n:1,"a":1}',
        b'{"a":9223372036854775808}',
        b'{"a":-9223372036854775808}',
        b'{"a":[{"b":18446744073709551616}]}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":-' + b"9" * 21 + b',"b":"\\n"}',
    ],
)
def test_what_has_no_single_reading_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        read_object(raw)


@pytest.mark.parametrize(
    "text", ['{"a":"\\ud83d\\ude00"}', '{"a":"\\u00e9"}', '{ "a" : 1 }', '{"a":"b\\"c\\\\"}']
)
def test_escapes_in_values_and_spaces_are_read(text: str) -> None:
    assert read_object(text.encode()) == json.loads(text)


def test_integers_are_read_up_to_64_bits() -> None:
    for number in (MAX_INTEGER, -MAX_INTEGER, 0):
        for ending in (b"}", b" }"):
            assert read_object(b'{"a":%d' % number + ending) == {"a": number}


@pytest.mark.parametrize("ending", ["", " "])
def test_levels_are_read_up_to_the_limit(ending: str) -> None:
    def nested(levels: int) -> bytes:
        return ('{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}" + ending).encode()

    for levels in (MAX_DEPTH - 1, MAX_DEPTH):
        read_object(nested(levels))
    with pytest.raises(ValueError, match="levels"):
        read_object(nested(MAX_DEPTH + 1))


def test_many_flat_lists_are_not_deep() -> None:
    raw = json.dumps({"a": [[] for _ in range(100)]}).encode()
    assert read_object(raw) == {"a": [[] for _ in range(100)]}


@pytest.mark.parametrize("level", [b'{"a":', b"["])
def test_a_hundred_thousand_levels_are_refused_and_not_walked(level: bytes) -> None:
    with pytest.raises(ValueError):
        read_object(b'{"a":' + level * 100_000)


def test_near_the_limit_of_recursion_a_text_is_refused_and_not_misread() -> None:
    def dive() -> object:
        try:
            return dive()
        except RecursionError:
            return read_object(b'{"a":[[[[[[[[[[[[[["b\\n"]]]]]]]]]]]]]]}')

    limit = sys.getrecursionlimit()
    try:
        assert read_object(b'{"a":1}') == {"a": 1}
        try:
            found = dive()
        except (ValueError, RecursionError):
            return
        assert isinstance(found, dict)
    finally:
        sys.setrecursionlimit(limit)


def test_a_string_without_an_end_takes_linear_time() -> None:
    with pytest.raises(ValueError):
        read_object(b'{"a":"' + b'\\"' * 200_000)
