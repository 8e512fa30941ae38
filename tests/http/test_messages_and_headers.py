"""Bodies are bounded, headers are unambiguous, and every answer carries what it must."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from keyfob.base.errors import InvalidRequest
from keyfob.http.headers import NO_STORE, PUBLIC, PreparedHeaders, SecurityHeaders
from keyfob.http.messages import MAX_BODY, HttpRequest, HttpResponse

SECURITY = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}


def chunks_of(*pieces: bytes) -> Callable[[], Awaitable[bytes | None]]:
    left = list(pieces)

    async def chunks() -> bytes | None:
        return left.pop(0) if left else None

    return chunks


def request(*headers: tuple[bytes, bytes], pieces: tuple[bytes, ...] = ()) -> HttpRequest:
    return HttpRequest("POST", "/", headers=headers, chunks=chunks_of(*pieces))


@pytest.mark.parametrize(("length", "good"), [(MAX_BODY - 1, True), (MAX_BODY, True), (MAX_BODY + 1, False)])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_has_a_longest_length(length: int, good: bool, declared: bool) -> None:
    headers = ((b"content-length", b"%d" % length),) if declared else ()
    asked = request(*headers, pieces=(b"x" * 1000, b"x" * (length - 1000)))
    if good:
        assert len(await asked.body()) == length
        return
    with pytest.raises(InvalidRequest) as refused:
        await asked.body()
    assert refused.value.status == 413


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"", b"9999999999", b"\xb2"])
async def test_a_length_that_is_none_is_too_large(length: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await request((b"content-length", length)).body()


async def test_a_request_without_a_body_has_an_empty_one() -> None:
    assert await HttpRequest("GET", "/", headers=()).body() == b""


def test_a_header_that_is_there_twice_is_no_header() -> None:
    asked = request((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    assert asked.all(b"a") == [b"1", b"3"]
    assert asked.one(b"b") == b"2"
    assert asked.one(b"c") is None
    with pytest.raises(InvalidRequest, match="twice"):
        asked.one(b"a")


def test_every_answer_carries_the_security_headers() -> None:
    headers = dict(SecurityHeaders("http://auth.example").complete(HttpResponse(status=404, body=b"abc")))
    assert headers == {**SECURITY, b"content-length": b"3"}


def test_https_adds_hsts_by_the_configured_issuer() -> None:
    headers = dict(SecurityHeaders("https://auth.example").complete(HttpResponse(status=204)))
    assert headers == {**SECURITY, b"strict-transport-security": b"max-age=63072000; includeSubDomains"}


def test_what_an_answer_states_itself_is_left_alone() -> None:
    headers = SecurityHeaders("http://a.example").complete(HttpResponse(status=200, headers=PUBLIC))
    assert [value for name, value in headers if name == b"cache-control"] == [b"public, max-age=300"]
    assert [value for name, value in headers if name == b"cross-origin-resource-policy"] == [b"cross-origin"]


async def test_a_stream_has_no_length() -> None:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield b""

    pieces = stream()
    headers = dict(SecurityHeaders("http://a.example").complete(HttpResponse(status=200, stream=pieces)))
    await pieces.aclose()
    assert b"content-length" not in headers


def test_an_answer_does_not_show_its_body() -> None:
    assert "hush" not in repr(HttpResponse(status=200, body=b"hush"))


@pytest.mark.parametrize(
    "header",
    [
        (b"x-a", b"b\r\nset-cookie: c"),
        (b"x-a", b"b\n"),
        (b"x-a", b"b\0"),
        (b"x-a\r\n", b"b"),
        (b"x a", b"b"),
        (b"X-A", b"b"),
        (b"", b"b"),
    ],
)
def test_headers_that_would_not_stay_one_line_are_not_prepared(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="one line"):
        PreparedHeaders.of((NO_STORE, header))


def test_prepared_headers_are_their_lines() -> None:
    prepared = PreparedHeaders.of((NO_STORE, (b"x-a", b"")))
    assert prepared.lines == b"cache-control: no-store\r\nx-a: \r\n"
