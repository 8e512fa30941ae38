"""Where this server may send requests of its own: to addresses that anybody could reach, and to networks that the deployment names.

A URL that others choose (a client's `backchannel_logout_uri`) must not make the server speak to what only the server can reach: itself,
its neighbours, the metadata service of its cloud (CWE-918). So the name is resolved once, each address is judged, and the connection is
made to a judged address and to no other. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self
from urllib.parse import urlsplit

from keyfob.base.errors import ConfigurationError

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_TARGET: Final = re.compile(r"/[!-~]*")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_NAT64: Final = ip_network("64:ff9b::/96")  # (RFC 6052, section 2.1): an IPv4 address in its last 32 bits
_LOCAL_NAT64: Final = ip_network("64:ff9b:1::/48")

Address = IPv4Address | IPv6Address


class BadDestination(ValueError):
    """A URL to which nothing is sent. The message says why, and holds nothing of the URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where one request goes. `authority` is the value of `Host`, `target` the path and query."""

    is_tls: bool
    host: str
    port: int
    authority: str
    target: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Read *url*.

        Raises:
            BadDestination: it is no https or http URL of visible ASCII, or names a user or a fragment.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise BadDestination("no URL") from None
        default = _DEFAULT_PORTS.get(parts.scheme)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if default is None or "@" in parts.netloc or "#" in url or port == 0:
            raise BadDestination("no https URL without user and fragment")
        if _HOST.fullmatch(host) is None or _TARGET.fullmatch(target) is None or not url.isascii():
            raise BadDestination("a host or a path that no URL has")
        shown = f"[{host}]" if ":" in host else host
        return cls(
            is_tls=parts.scheme == "https",
            host=host,
            port=port or default,
            authority=shown if port in {None, default} else f"{shown}:{port}",
            target=target,
        )


class Reachable:
    """Which addresses may be connected to: the public ones, and those in *networks*."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Take *networks* in the form `10.0.0.0/8`.

        Raises:
            ConfigurationError: one is none.
        """
        try:
            self._networks: list[IPv4Network | IPv6Network] = [ip_network(one) for one in networks]
        except ValueError as error:
            raise ConfigurationError(
                f"networks must be a list of networks, such as 10.0.0.0/8: {error}"
            ) from None

    def allows(self, text: str, *, is_tls: bool) -> bool:
        """Say whether the address *text* may be connected to. Without TLS only an own loopback address may, where it is named."""
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        is_named = any(address in network for network in self._networks)
        if not is_tls:
            return is_named and address.is_loopback
        return is_named or is_public(address)


def is_public(address: Address) -> bool:
    """Say whether anybody on the internet could connect to *address*, and it is no group of receivers.

    An IPv6 address that stands for an IPv4 address is as public as that.
    """
    inner = _inner(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_loopback or address.is_unspecified
    )


def _inner(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that *address* leads to: mapped, of a translator or of a tunnel."""
    if not isinstance(address, IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return IPv4Address(0)  # a tunnel to anywhere: nowhere
    if address in _LOCAL_NAT64:
        return IPv4Address(0)
    if address in _NAT64 or int(address) < 2**32:  # the second: compatible addresses, given up long ago
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
