"""Whose address a request comes from, behind proxies.

`X-Forwarded-For` is believed only as far as trusted proxies wrote it: read from the right, the first address that is no trusted proxy's is
the client's. By default nobody is trusted and the connection's address counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from keyfob.base.errors import ConfigurationError

MAX_HOPS = (
    16  # entries of X-Forwarded-For that are read, from the right; nobody has more proxies of their own
)


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks whose `X-Forwarded-For` counts."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, networks: Iterable[str]) -> Self:
        """Read addresses and networks (`10.0.0.0/8`, `::1`).

        Raises:
            ConfigurationError: one of them is neither.
        """
        try:
            return cls(tuple(ip_network(network) for network in networks))
        except ValueError as error:
            raise ConfigurationError(f"trusted_proxies: {error}; give addresses or networks") from None

    def client_address(self, peer: str, forwarded: Iterable[bytes]) -> str:
        """Return the address of the client: *peer*, or the nearest address in *forwarded* that no trusted proxy has.

        Something that is no address ends the search: the proxy that wrote it is the last one known.
        """
        if not self.networks or not self._trusts(_address(peer)):
            return peer
        known = peer
        hops = b",".join(forwarded).split(b",")
        for hop in reversed(hops[-MAX_HOPS:]):
            address = _address(hop.strip(b" \t").decode("latin-1"))
            if address is None:
                return known
            known = str(address)
            if not self._trusts(address):
                return known
        return known

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
