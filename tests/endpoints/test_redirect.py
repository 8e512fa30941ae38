"""A form goes on to a page of our own, and to no other."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import InvalidRequest
from keyfob.endpoints.redirect import same_origin_path, see_other


@pytest.mark.parametrize("path", ["/", "/account", "/a/b?c=d&e=%20#f", "/a//b", "/?next=//evil.example"])
def test_a_path_of_ours_is_gone_on_to(path: str) -> None:
    assert same_origin_path(path) == path


def test_no_path_is_the_root() -> None:
    assert same_origin_path("") == "/"


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/a\\b",
        "https://evil.example",
        "javascript:alert(1)",
        "account",
        "?a",
        "/\t/evil.example",
        "/\n/evil.example",
        "/a\r\nset-cookie: x=y",
        "/a b",
        "/é",
        " /a",
        "/\x00",
    ],
)
def test_anything_else_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        same_origin_path(path)
    assert refused.value.status == 422


@pytest.mark.meets("9700-2.1b", "9700-4.11.1")
@given(
    st.text(max_size=12)
    | st.lists(st.sampled_from(["/", "\\", ".", ":", "a", "@", "?", "\t", "%2f"]), max_size=8).map("".join)
)
def test_whatever_is_taken_stays_on_our_origin(path: str) -> None:
    try:
        onward = same_origin_path(path)
    except InvalidRequest:
        return
    assert urlsplit(urljoin("https://auth.example/login", onward)).netloc == "auth.example"
    assert see_other(onward).headers[0] == (b"location", onward.encode())
