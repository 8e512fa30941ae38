"""Bodies are decoded into the shape that the route states, or refused with the status of what is wrong first."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from keyfob.base.errors import InvalidRequest
from keyfob.endpoints.bodies import MAX_DEPTH, RequestBody, is_form, read_form, read_json, read_json_if_any
from keyfob.http.messages import MAX_BODY, HttpRequest

JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"


class Sample(RequestBody, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=5)]
    kind: Literal["a", "b"] = "a"
    nested: dict[str, object] | list[object] | None = None
    lasting: bool = False


class Optional(RequestBody, frozen=True, kw_only=True):
    kind: Literal["a", "b"] = "a"


def request(body: bytes, content_type: bytes | None = JSON) -> HttpRequest:
    left = [body]

    async def chunks() -> bytes | None:
        return left.pop() if left else None

    headers = () if content_type is None else ((b"content-type", content_type),)
    return HttpRequest("POST", "/", headers=headers, chunks=chunks)


async def status_of(body: bytes, content_type: bytes | None = JSON) -> int:
    try:
        await read_json(request(body, content_type), Sample)
    except InvalidRequest as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    "content_type", [JSON, b"application/json; charset=utf-8", b'Application/JSON;charset="UTF-8"']
)
async def test_json_is_read(content_type: bytes) -> None:
    assert await status_of(b'{"name":"x"}', content_type) == 200


@pytest.mark.parametrize(
    "content_type",
    [None, b"", b"text/plain", FORM, b"application/json; charset=latin-1", b"application/jsonx", b"\xff"],
)
async def test_another_content_type_is_415(content_type: bytes | None) -> None:
    assert await status_of(b'{"name":"x"}', content_type) == 415


async def test_two_content_types_are_415() -> None:
    asked = HttpRequest("POST", "/", headers=((b"content-type", JSON), (b"content-type", JSON)))
    with pytest.raises(InvalidRequest) as refused:
        await read_json(asked, Sample)
    assert refused.value.status == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[",
        b"nul",
        b'{"name":"x"',
        b'{"name":"x"}}',
        b'{"name":"\xff"}',
        b'{"name":1',
        b'{"name":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"\x00",
    ],
)
async def test_what_is_no_json_is_400(body: bytes) -> None:
    assert await status_of(body) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b"{}",
        b'{"name":1}',
        b'{"name":"toolong"}',
        b'{"name":"x","kind":"c"}',
        b'{"name":"x","more":1}',
    ],
)
async def test_json_of_another_shape_is_422(body: bytes) -> None:
    assert await status_of(body) == 422


async def test_a_body_that_is_too_long_is_413() -> None:
    assert await status_of(b'"' + b"x" * MAX_BODY) == 413


@pytest.mark.parametrize(("depth", "status"), [(MAX_DEPTH - 1, 200), (MAX_DEPTH, 200), (MAX_DEPTH + 1, 400)])
async def test_json_nests_only_so_deep(depth: int, status: int) -> None:
    inner = depth - 1
    assert await status_of(b'{"name":"x","nested":' + b"[" * inner + b"]" * inner + b"}") == status


@pytest.mark.parametrize("text", [b"[" * 50, b'\\"[[[[[[[[[[', b"\\\\", b"{[" * 20])
async def test_brackets_inside_strings_do_not_nest(text: bytes) -> None:
    assert await status_of(b'{"name":"x","nested":["' + text + b'"]}') == 200


async def test_siblings_do_not_nest() -> None:
    assert await status_of(b'{"name":"x","nested":[' + b"[]," * 100 + b"[]]}") == 200


async def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    for body in (b'{"name":"x","kind":"hushhush"}', b'{"name":"x","hushhush":1}', b'{"name":["hushhush"]}'):
        with pytest.raises(InvalidRequest) as refused:
            await read_json(request(body), Sample)
        assert "hush" not in str(refused.value)


async def test_an_empty_body_stands_for_an_empty_object_where_it_may() -> None:
    for content_type in (None, b"text/plain", JSON):
        assert (await read_json_if_any(request(b"", content_type), Optional)).kind == "a"
    assert (await read_json_if_any(request(b'{"kind":"b"}'), Optional)).kind == "b"
    with pytest.raises(InvalidRequest) as refused:
        await read_json_if_any(request(b"{}", b"text/plain"), Optional)  # C-12
    assert refused.value.status == 415


async def test_a_form_is_read() -> None:
    asked = request(b"name=%C3%BC+x&kind=b&lasting=true", FORM)
    assert is_form(asked)
    sample = await read_form(asked, Sample)
    assert (sample.name, sample.kind, sample.lasting) == ("ü x", "b", True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"name=a&name=b", 422),
        (b"name=a&more=1", 422),
        (b"name=toolong", 422),
        (b"name=%zz", 400),
        (b"", 422),
    ],
)
async def test_a_form_of_another_shape_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await read_form(request(body, FORM), Sample)
    assert refused.value.status == status


@given(st.binary(max_size=200), st.sampled_from([JSON, FORM, b"text/plain", None]))
async def test_any_bytes_are_read_or_refused(body: bytes, content_type: bytes | None) -> None:
    for read in (read_json, read_json_if_any, read_form):
        try:
            await read(request(body, content_type), Sample)
        except InvalidRequest as refused:
            assert refused.status in {400, 413, 415, 422}  # noqa: PT017 - either way is right, if it is this one


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=40,
    )
)
async def test_depth_is_counted_as_a_decoder_would(value: object) -> None:
    import msgspec

    def depth(node: object) -> int:
        return 1 + max(map(depth, node), default=0) if isinstance(node, list) else 0

    body = b'{"name":"x","nested":' + msgspec.json.encode([value]) + b"}"
    assert (await status_of(body) == 200) is (depth([value]) + 1 <= MAX_DEPTH)
