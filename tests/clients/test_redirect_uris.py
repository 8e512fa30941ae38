"""Which redirect URIs may be registered, and which one that is asked for is registered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.errors import InvalidRequest
from keyfob.clients.redirect_uri import MAX_URI, is_claimed, is_registered, may_be_registered
from keyfob.clients.registration import MAX_NAME, MAX_URIS, Registration, is_origin

CB = "https://shop.example/cb"
NATIVE = "http://127.0.0.1/cb"


@pytest.mark.parametrize(
    "uri",
    [
        CB,
        "https://shop.example",
        "https://shop.example:8443/cb?from=keyfob",
        "https://[2001:db8::1]/cb",
        "http://127.0.0.1:3000/cb",
        "http://[::1]/cb",
        "http://localhost:3000/cb",
        "https://shop.example/" + "x" * (MAX_URI - len("https://shop.example/")),
    ],
)
def test_what_may_be_registered_by_any_client(uri: str) -> None:
    assert may_be_registered(uri, public=False)
    assert may_be_registered(uri, public=True)


@pytest.mark.meets("OA-06")
@pytest.mark.parametrize("uri", ["com.example.app:/cb", "com.example.app://cb", "com.example.my-app:cb"])
def test_a_private_use_scheme_is_for_public_clients(uri: str) -> None:
    assert may_be_registered(uri, public=True)
    assert not may_be_registered(uri, public=False)


@pytest.mark.meets("OA-01", "OA-03", "OA-06", "9700-2.6d")
@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/cb",
        "//shop.example/cb",
        "shop.example/cb",
        "http://shop.example/cb",
        "http://127.0.0.1.evil/cb",
        "http://127.0.0.1@evil/cb",
        "http://localhost.evil/cb",
        "http://[::1]evil/cb",
        "http://0x7f.1/cb",
        "http://127.1/cb",
        "http://2130706433/cb",
        "https://user@shop.example/cb",
        "https://shop.example@evil/cb",
        "https:///cb",
        "https:shop.example/cb",
        "https://*.shop.example/cb",
        "https://shop.example/*",
        "https://shop.example/cb#x",
        "https://shop.example/cb#",
        "https://shop.example\\@evil/cb",
        "https://shop.example/c b",
        "https://shop.example/c\tb",
        "https://shop.example/cb\n",
        " https://shop.example/cb",
        "https://shöp.example/cb",
        "https://shop.example:0/cb",
        "https://shop.example:080/cb",
        "https://shop.example:65536/cb",
        "https://shop.example:/cb",
        "myapp:/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "com.example.app:",
        "COM.example.app:/cb",
        ".app:/cb",
        "com.:/cb",
        "file:///etc/passwd",
        "urn:ietf:wg:oauth:2.0:oob",
        "https://shop.example/" + "x" * MAX_URI,
    ],
)
def test_what_may_not_be_registered(uri: str) -> None:
    assert not may_be_registered(uri, public=True)
    assert not may_be_registered(uri, public=False)


@pytest.mark.meets("10.4.1", "OA-02", "9700-2.1a", "9700-4.1.3a")
@pytest.mark.parametrize(
    "asked",
    [
        "https://shop.example/cb/",
        "https://shop.example/cb/../cb",
        "https://shop.example/./cb",
        "https://shop.example/%63b",
        "https://shop.example/cb%00",
        "https://shop.example/cb?",
        "https://shop.example/cb?x=1",
        "https://shop.example/cb#",
        "https://shop.example/cb;x",
        "https://shop.example//cb",
        "https://shop.example\\cb",
        "https://shop.example:443/cb",
        "https://SHOP.example/cb",
        "HTTPS://shop.example/cb",
        "http://shop.example/cb",
        "https://shop.example.evil/cb",
        "https://evil.shop.example/cb",
        "https://shop.example@evil/cb",
        "https://user@shop.example/cb",
        "https://evil/cb",
        "https://shop.example/c",
        "",
    ],
)
def test_a_registered_uri_is_met_octet_for_octet(asked: str) -> None:
    assert is_registered(CB, {CB}, public=True)
    for public in (True, False):
        assert not is_registered(asked, {CB, NATIVE}, public=public)


@pytest.mark.meets("OA-02", "9700-2.1a")
@pytest.mark.parametrize("port", ["", ":1", ":3000", ":65535"])
def test_the_port_of_a_loopback_address_is_free_for_public_clients_alone(port: str) -> None:
    for known in ("http://127.0.0.1/cb?x=1", "http://127.0.0.1:7/cb?x=1"):
        asked = f"http://127.0.0.1{port}/cb?x=1"
        assert is_registered(asked, {known}, public=True)
        assert is_registered(asked, {known}, public=False) is (asked == known)
    assert is_registered(f"http://[::1]{port}/cb", {"http://[::1]/cb"}, public=True)


@pytest.mark.meets("OA-02")
@pytest.mark.parametrize(
    "asked",
    [
        "http://127.0.0.1:3000/other",
        "http://127.0.0.1:3000/cb/",
        "http://127.0.0.1:3000/cb?x",
        "http://127.0.0.1:3000",
        "http://[::1]:3000/cb",
        "http://localhost:3000/cb",
        "http://127.0.0.2:3000/cb",
        "https://127.0.0.1:3000/cb",
        "http://127.0.0.1:3000@evil/cb",
        "http://127.0.0.1:/cb",
        "http://127.0.0.1:0/cb",
        "http://127.0.0.1:03000/cb",
        "http://127.0.0.1:65536/cb",
        "http://127.0.0.1:3x/cb",
        "http://127.0.0.1:3000\\@evil/cb",
    ],
)
def test_nothing_else_of_a_loopback_address_is_free(asked: str) -> None:
    assert not is_registered(asked, {NATIVE}, public=True)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.booleans())
def test_any_text_is_registered_or_not_and_never_an_error(text: str, public: bool) -> None:
    for uri in (text, CB + text, NATIVE + text, "http://127.0.0.1:" + text):
        may_be_registered(uri, public=public)
        if is_registered(uri, {CB, NATIVE}, public=public):
            assert uri in {CB, NATIVE} or (public and uri.startswith("http://127.0.0.1:"))


def test_only_https_is_claimed_by_the_owner_of_a_domain() -> None:
    assert is_claimed(CB)
    assert not is_claimed(NATIVE)
    assert not is_claimed("com.example.app:/cb")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"redirect_uris": ["http://evil/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": CB}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"{CB}{n}" for n in range(MAX_URIS + 1)]}, "invalid_redirect_uri"),
        ({"post_logout_redirect_uris": ["javascript:x"]}, "invalid_redirect_uri"),
        ({"backchannel_logout_uri": "http://evil/"}, "invalid_logout_uri"),
        ({"backchannel_logout_uri": "com.example.app:/x", "public": True}, "invalid_logout_uri"),
        ({"cors_origins": ["*"]}, "invalid_origin"),
        ({"cors_origins": ["null"]}, "invalid_origin"),
        ({"name": "a\nb"}, "invalid_name"),
        ({"name": "gro\u202elive"}, "invalid_name"),
        ({"name": " a"}, "invalid_name"),
        ({"name": "x" * (MAX_NAME + 1)}, "invalid_name"),
    ],
)
def test_what_a_client_states_has_rules(fields: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        Registration(**fields)  # type: ignore[arg-type]  # of many kinds
    assert (refusal.value.code, refusal.value.status) == (code, 422)


def test_as_many_uris_as_are_allowed_are_taken() -> None:
    assert (
        len(set(Registration(redirect_uris=[f"{CB}{n}" for n in range(MAX_URIS)]).redirect_uris)) == MAX_URIS
    )


@pytest.mark.parametrize(
    ("origin", "is_one"),
    [
        ("https://shop.example", True),
        ("https://shop.example:8443", True),
        ("http://localhost:3000", True),
        ("http://[::1]:3000", True),
        ("https://shop.example:443", False),
        ("http://localhost:80", False),
        ("https://shop.example/", False),
        ("https://SHOP.example", False),
        ("http://shop.example", False),
        ("https://shop.example:08", False),
        ("https://shop.example:99999", False),
        ("https://u@shop.example", False),
        ("null", False),
        ("*", False),
        ("", False),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(origin: str, is_one: bool) -> None:
    assert is_origin(origin) is is_one
