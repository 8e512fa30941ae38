"""Where the server may be made to send a request: never to what only the server can reach."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.errors import ConfigurationError
from keyfob.http.destinations import BadDestination, Destination, Reachable

PRIVATE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "2002:a00:1::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "", "localhost", "127.1", "0x7f.1", "2130706433", "1.2.3.4.5",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_not_reached(address: str) -> None:
    """K-02, O-38: the metadata service of a cloud, a neighbour, this machine, in every way to write them."""
    assert not Reachable().allows(address, is_tls=True)
    assert not Reachable().allows(address, is_tls=False)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_what_is_public_is_reached_by_tls_alone(address: str) -> None:
    assert Reachable().allows(address, is_tls=True)
    assert not Reachable(["0.0.0.0/0", "::/0"]).allows(address, is_tls=False)


def test_a_network_that_is_named_is_reached() -> None:
    reachable = Reachable(["10.1.0.0/16", "127.0.0.0/8"])
    assert reachable.allows("10.1.255.255", is_tls=True)
    assert not reachable.allows("10.2.0.0", is_tls=True)
    assert not reachable.allows("10.1.0.1", is_tls=False)
    assert reachable.allows("127.0.0.1", is_tls=False)
    assert not reachable.allows("::ffff:10.1.0.1", is_tls=True)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Reachable(["10.1.0.1/16"])


def test_a_destination_is_read() -> None:
    plain = Destination.of("https://shop.example/logout?a=1")
    assert (plain.is_tls, plain.host, plain.port, plain.authority, plain.target) == (
        True, "shop.example", 443, "shop.example", "/logout?a=1",
    )  # fmt: skip
    other = Destination.of("http://[::1]:8080")
    assert (other.is_tls, other.host, other.port, other.authority, other.target) == (
        False, "::1", 8080, "[::1]:8080", "/",
    )  # fmt: skip
    assert Destination.of("https://shop.example:443/").authority == "shop.example"


@pytest.mark.parametrize(
    "url",
    [
        "", "shop.example", "ftp://shop.example/", "file:///etc/passwd", "https:///x", "https://user@shop.example/",
        "https://shop.example:0/", "https://shop.example:99999/", "https://shop.example/#x", "https://shop.example/a b",
        "https://shop.example/\r\nHost: evil", "https://shop.example/é", "https://shöp.example/", "https://a:b@c/",
        "gopher://127.0.0.1:6379/_FLUSHALL", "https://evil.example\\@shop.example/", "https://[::1/", "https://a b/",
    ],
)  # fmt: skip
def test_what_is_no_destination_is_refused(url: str) -> None:
    with pytest.raises(BadDestination):
        Destination.of(url)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_writes_no_line_of_its_own(text: str) -> None:
    for url in (text, "https://shop.example/" + text, "https://" + text):
        try:
            destination = Destination.of(url)
        except BadDestination:
            continue
        written = destination.authority + destination.target
        assert written.isascii()
        assert written.isprintable()
        assert " " not in written
