"""The reader takes exactly our cookies and nothing that only looks like them; the writer writes exactly the attributes of the contract."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import Cause, Denied
from keyfob.http import cookies
from keyfob.http.cookies import MAX_COOKIE, REFRESH_COOKIE, SESSION_COOKIE

TOKEN = "kfs_" + "Ab9-_" * 19


def read(*lines: bytes, name: bytes = SESSION_COOKIE) -> str | None:
    return cookies.read(lines, name)


def refused(*lines: bytes) -> Cause:
    with pytest.raises(Denied) as denied:
        read(*lines)
    return denied.value.cause


@pytest.mark.parametrize(
    "line",
    [
        b"__Host-session=%s",
        b"a=1; __Host-session=%s",
        b"__Host-session=%s; b=2",
        b"a=1; __Host-session=%s; b=2; =nameless; odd",
        b"a=1;__Host-session=%s",
        b"bytes=\xff\xfe; __Host-session=%s",
    ],
)
def test_our_cookie_is_found_among_others(line: bytes) -> None:
    assert read(line % TOKEN.encode()) == TOKEN


def test_a_cookie_header_in_two_lines_is_one_header() -> None:
    assert read(b"a=1", b"__Host-session=" + TOKEN.encode()) == TOKEN


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"a=1",
        b"__host-session=x",  # C-07: another case of letters is another name
        b"__HOST-SESSION=x",
        b"__Host-Session=x",
        b"  __Host-session=x",
        b"\xa0__Host-session=x",
        b"a=1;  __Host-session=x",
        b"a=1; \xe2\x80\x83__Host-session=x",
        b"=__Host-session=x",
        b"__Host-session =x",
        b"__Host-session",
        b"x__Host-session=x",
        b"__Host-session2=x",
        b"__Secure-session=x",
        b"session=x",
        b"a=__Host-session=x",
        b"__Host-refresh=x",
        b"__Host-session%3Dx=y",
    ],
)
def test_what_only_looks_like_our_cookie_is_not_looked_at(line: bytes) -> None:
    assert read(line) is None


@pytest.mark.parametrize(
    "lines",
    [
        (b"__Host-session=a; __Host-session=a",),  # C-08
        (b"__Host-session=a; x=1; __Host-session=b",),
        (b"__Host-session=a", b"__Host-session=b"),
        (b"__Host-session=; __Host-session=b",),
    ],
)
def test_our_cookie_twice_is_refused(lines: tuple[bytes, ...]) -> None:
    assert refused(*lines) is Cause.MALFORMED


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b'"quoted"',  # C-09: quotes mean nothing here
        b"a b",
        b"a,b",
        b"a=b",
        b"a%20b",
        b"\xff",
        b" x",
        b"x ",
        b"x\t",
        b"a\\073",
    ],
)
def test_a_value_that_no_token_of_ours_can_have_is_refused(value: bytes) -> None:
    assert refused(b"__Host-session=" + value) is Cause.MALFORMED


@pytest.mark.parametrize("byte", [0, 9, 10, 13, 31, 127])
def test_control_bytes_beside_our_cookie_are_refused(byte: int) -> None:
    assert refused(b"a=%c; __Host-session=x" % byte) is Cause.MALFORMED


def test_a_cookie_sandwich_gives_our_cookie_and_nothing_around_it() -> None:
    line = b'$Version=1; a="x; __Host-session=' + TOKEN.encode() + b'; z=y"'
    assert read(line) == TOKEN


@pytest.mark.parametrize(
    ("length", "good"), [(MAX_COOKIE - 1, True), (MAX_COOKIE, True), (MAX_COOKIE + 1, False)]
)
def test_a_value_has_a_longest_length(length: int, good: bool) -> None:
    line = b"__Host-session=" + b"a" * length
    if good:
        assert read(line) == "a" * length
    else:
        assert refused(line) is Cause.MALFORMED


@given(st.lists(st.binary(max_size=60), max_size=3), st.sampled_from([SESSION_COOKIE, REFRESH_COOKIE]))
def test_any_bytes_are_read_or_refused(lines: list[bytes], name: bytes) -> None:
    try:
        value = cookies.read(lines, name)
    except Denied as denied:
        assert denied.cause is Cause.MALFORMED  # noqa: PT017 - either way is right, if it is this one
    else:
        assert value is None or value.encode() in b"".join(lines)


@given(
    st.lists(st.sampled_from([b"__Host-session", b"=", b";", b" ", b"x", b'"', b"\t", b"\xa0"]), max_size=12)
)
def test_near_misses_are_read_or_refused(pieces: list[bytes]) -> None:
    line = b"".join(pieces)
    try:
        value = read(line)
    except Denied:
        return
    if value is not None:
        pairs = [pair.removeprefix(b" ") if index else pair for index, pair in enumerate(line.split(b";"))]
        assert pairs.count(b"__Host-session=" + value.encode()) == 1


@pytest.mark.meets("OA-35")
@pytest.mark.parametrize("name", [SESSION_COOKIE, REFRESH_COOKIE])
def test_a_cookie_is_written_with_exactly_these_attributes(name: bytes) -> None:
    header, value = cookies.write(name, TOKEN)
    assert header == b"set-cookie"
    assert value == name + b"=" + TOKEN.encode() + b"; Path=/; Secure; HttpOnly; SameSite=Lax"


def test_a_lasting_cookie_has_a_max_age() -> None:
    _, value = cookies.write(SESSION_COOKIE, "x", max_age=timedelta(days=30))
    assert value == b"__Host-session=x; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=2592000"


def test_clearing_repeats_the_attributes() -> None:
    _, value = cookies.clear(REFRESH_COOKIE)
    assert value == (
        b"__Host-refresh=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    )


@pytest.mark.parametrize("value", ["", "a;b", "a\r\nb", "a b", "é", "\ud800", "a" * (MAX_COOKIE - 13)])
def test_a_value_that_would_not_survive_is_not_written(value: str) -> None:
    with pytest.raises(ValueError, match="value"):
        cookies.write(SESSION_COOKIE, value)


def test_the_longest_cookie_that_browsers_keep_is_written() -> None:
    cookies.write(SESSION_COOKIE, "a" * (MAX_COOKIE - len(SESSION_COOKIE)))


def test_another_name_is_not_written() -> None:
    with pytest.raises(ValueError, match="name"):
        cookies.write(b"session", "x")
