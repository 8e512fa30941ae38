"""Posting a logout token to a client's server (OpenID Connect Back-Channel Logout 1.0, section 2.5).

1. The URL is read; the name in it is resolved once.
2. Of its addresses the first that may be reached is connected to (`http.destinations`), and no other.
3. TLS with the name of the URL, whatever the address; without TLS only to this machine, where that is allowed.
4. One request. A redirect is an answer like any other that is not 200 or 204: it is not followed.

All of it takes `DEADLINE` at most, however slowly the other side answers, and no more than the head of the answer is read.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from keyfob.base.errors import ConfigurationError
from keyfob.http.destinations import BadDestination, Destination, Reachable

DEADLINE: Final = timedelta(seconds=10)
_MAX_LINE: Final = 8192  # bytes of one line of the answer's head
_MAX_LINES: Final = 256  # of interim answers, which come before the one that counts
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_ACCEPTED: Final = frozenset({200, 204})  # 204: what some frameworks make of an empty 200 (section 2.8)


class NotDelivered(Exception):
    """The client's server has not taken it. The message says why, for the log."""


class PostLogoutToken(Protocol):
    """Posts a logout token."""

    async def __call__(self, url: str, token: str, /) -> None:
        """Post *token* to *url*.

        Raises:
            NotDelivered: it was not taken, as far as is known.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BackchannelPolicy:
    """To where logout tokens are sent, beside public addresses: `networks` such as 10.0.0.0/8; and by which `ca` file besides the machine's."""

    networks: tuple[str, ...] = ()
    ca: Path | None = None

    def __post_init__(self) -> None:
        """Refuse networks that are none.

        Raises:
            ConfigurationError: one is none.
        """
        Reachable(self.networks)


class LogoutPost:
    """Posts logout tokens over connections of its own, one each."""

    def __init__(self, policy: BackchannelPolicy) -> None:
        self._policy = policy
        self._reachable = Reachable(policy.networks)

    async def __call__(self, url: str, token: str, /) -> None:
        """Post *token* to *url*, within `DEADLINE`."""
        try:
            async with asyncio.timeout(DEADLINE.total_seconds()):
                status = await self._status(Destination.of(url), token)
        except TimeoutError:
            raise NotDelivered(f"no answer within {DEADLINE.total_seconds():.0f} s") from None
        except BadDestination as error:
            raise NotDelivered(str(error)) from None
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
            raise NotDelivered(f"no answer: {type(error).__name__}") from None
        if 300 <= status < 400:
            raise NotDelivered(f"answered {status}, and a redirect is not followed")
        if status not in _ACCEPTED:
            raise NotDelivered(f"answered {status}")

    async def _status(self, destination: Destination, token: str) -> int:
        address = await self._address_of(destination)
        reader, writer = await asyncio.open_connection(
            address,
            destination.port,
            ssl=self._tls if destination.is_tls else None,
            server_hostname=destination.host if destination.is_tls else None,
            limit=_MAX_LINE,
        )
        try:
            writer.write(_request(destination, token))
            await writer.drain()
            return await _read_status(reader)
        finally:
            writer.transport.abort()

    async def _address_of(self, destination: Destination) -> str:
        found = await asyncio.get_running_loop().getaddrinfo(
            destination.host, destination.port, type=socket.SOCK_STREAM
        )
        for *_, place in found:
            address = str(place[0])
            if self._reachable.allows(address, is_tls=destination.is_tls):
                return address
        raise NotDelivered("its name leads to no address that may be reached; see backchannel.networks")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._policy.ca is not None:
            try:
                context.load_verify_locations(cafile=self._policy.ca)
            except OSError as error:  # among them SSLError
                raise ConfigurationError(
                    f"backchannel.ca: {self._policy.ca} cannot be used: {error}"
                ) from None
        return context


def _request(destination: Destination, token: str) -> bytes:
    body = f"logout_token={quote(token, safe='')}"
    return (
        f"POST {destination.target} HTTP/1.1\r\n"
        f"Host: {destination.authority}\r\n"
        "User-Agent: keyfob\r\n"
        "Accept: */*\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
        f"{body}"
    ).encode("ascii")


async def _read_status(reader: asyncio.StreamReader) -> int:
    """Return the status of the final answer. Interim ones (1xx) are passed over (RFC 9110, section 15.2)."""
    is_interim = False
    for _ in range(_MAX_LINES):
        line = await reader.readuntil(b"\n")
        if is_interim:  # up to the empty line
            is_interim = line not in {b"\r\n", b"\n"}
            continue
        match = _STATUS.fullmatch(line)
        if match is None:
            raise ValueError("no answer of HTTP/1.1")
        status = int(match[1])
        if status >= 200:
            return status
        is_interim = True
    raise ValueError("interim answers without end")
