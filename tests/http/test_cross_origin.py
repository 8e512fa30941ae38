"""The whole matrix of the cross-origin guard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import Cause, Denied
from keyfob.http.cross_origin import is_vouched_for, own_origins

OWN = own_origins("https://auth.example")


def guard(method: str, site: list[bytes], origin: list[bytes]) -> str:
    try:
        vouched = is_vouched_for(method, site=site, origin=origin, own_origins=OWN)
    except Denied as denied:
        assert denied.cause is Cause.CROSS_ORIGIN  # noqa: PT017 - either way is right, if it is this one
        return "refused"
    return "vouched" if vouched else "token"


SITES: dict[bytes | None, bool] = {
    None: True,
    b"same-origin": True,
    b"none": True,
    b"same-site": False,
    b"cross-site": False,
    b"": False,
    b"Same-Origin": False,
    b"same-origin ": False,
    b"nonsense": False,
}
ORIGINS: dict[bytes | None, bool] = {
    None: True,
    b"https://auth.example": True,
    b"null": False,
    b"": False,
    b"https://evil.example": False,
    b"http://auth.example": False,
    b"https://auth.example:8443": False,
    b"https://auth.example.evil": False,
    b"https://sub.auth.example": False,
    b"https://auth.example/": False,
    b"HTTPS://AUTH.EXAMPLE": False,
    b"https://auth.example, https://evil.example": False,
}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "get", "", "UNKNOWN"])
def test_what_changes_something_is_vouched_for_or_refused(
    method: str, site: bytes | None, origin: bytes | None
) -> None:
    sites, origins = ([] if site is None else [site]), ([] if origin is None else [origin])
    if not (SITES[site] and ORIGINS[origin]):
        expected = "refused"
    elif site is None and origin is None:
        expected = "token"
    else:
        expected = "vouched"
    assert guard(method, sites, origins) == expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_methods_pass(method: str) -> None:
    assert guard(method, [b"cross-site"], [b"https://evil.example"]) == "vouched"


@pytest.mark.parametrize(
    ("site", "origin"),
    [
        ([b"same-origin", b"same-origin"], []),
        ([], [b"https://auth.example", b"https://auth.example"]),
    ],
)
def test_a_header_that_is_there_twice_refuses(site: list[bytes], origin: list[bytes]) -> None:
    assert guard("POST", site, origin) == "refused"


@given(st.lists(st.binary(max_size=30), max_size=2), st.lists(st.binary(max_size=30), max_size=2))
def test_no_bytes_vouch_but_those_of_a_browser_on_our_own_page(
    site: list[bytes], origin: list[bytes]
) -> None:
    verdict = guard("POST", site, origin)
    good = site in ([], [b"same-origin"], [b"none"]) and origin in ([], [b"https://auth.example"])
    assert (verdict != "refused") is good


@pytest.mark.parametrize(
    ("url", "origins"),
    [
        ("https://auth.example", {b"https://auth.example"}),
        ("https://auth.example:443/path", {b"https://auth.example"}),
        ("https://auth.example:8443", {b"https://auth.example:8443"}),
        ("http://auth.example:80", {b"http://auth.example"}),
        (
            "http://127.0.0.1:8080",
            {b"http://127.0.0.1:8080", b"http://localhost:8080", b"http://[::1]:8080"},
        ),
        ("http://[::1]", {b"http://127.0.0.1", b"http://localhost", b"http://[::1]"}),
        ("http://[2001:db8::1]:81", {b"http://[2001:db8::1]:81"}),
    ],
)
def test_origins_are_written_as_browsers_do(url: str, origins: set[bytes]) -> None:
    assert own_origins(url) == origins
