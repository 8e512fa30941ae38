"""Nobody is believed about an address but the proxies that are trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import ConfigurationError
from keyfob.http.forwarded import MAX_HOPS, TrustedProxies

PROXIES = TrustedProxies.parse(["10.0.0.0/8", "::1"])


def test_by_default_nobody_is_believed() -> None:
    assert TrustedProxies().client_address("203.0.113.9", [b"198.51.100.1"]) == "203.0.113.9"


@pytest.mark.meets("9700-4.13a")
@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [b"198.51.100.1"], "203.0.113.9"),  # the peer is no proxy of ours: D-07
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        (
            "10.0.0.1",
            [b"1.1.1.1, 198.51.100.1"],
            "198.51.100.1",
        ),  # what the client itself wrote stands further left
        ("10.0.0.1", [b"1.1.1.1", b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", [b"10.0.0.3,10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [b"198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("::1", [b"198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"\xff"], "10.0.0.1"),
        ("not an address", [b"198.51.100.1"], "not an address"),
    ],
)
def test_the_nearest_address_that_no_proxy_has_is_the_clients(
    peer: str, forwarded: list[bytes], client: str
) -> None:
    assert PROXIES.client_address(peer, forwarded) == client


def test_only_so_many_hops_are_read() -> None:
    hops = b",".join([b"198.51.100.1", *([b"10.0.0.2"] * MAX_HOPS)])
    assert PROXIES.client_address("10.0.0.1", [hops]) == "10.0.0.2"


@pytest.mark.parametrize("network", ["10.0.0.0/33", "proxy.example", "10.0.0.1/8", ""])
def test_what_is_no_network_refuses_to_start(network: str) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        TrustedProxies.parse([network])


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_any_bytes_give_an_address(forwarded: list[bytes]) -> None:
    assert PROXIES.client_address("10.0.0.1", forwarded)
