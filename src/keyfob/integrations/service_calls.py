"""What the client classes share: to whom a token may go, and when a refused call is worth another try."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from keyfob.base.errors import ConfigurationError
from keyfob.integrations.service_tokens import HELPED_BY_A_NEW_TOKEN

_PORTS: Final = {"http": 80, "https": 443}
_CAUSE = re.compile(r'error_description="([a-z_]+)"')

Origin = tuple[str, str, int]
"""Scheme, host in lower case, and port."""


class Origins:
    """The origins of the services that a token is for. It never goes to any other."""

    def __init__(self, origins: Iterable[str]) -> None:
        """Take URLs such as `https://orders.internal`, at least one.

        Raises:
            ConfigurationError: one is no origin, or there is none.
        """
        given = (origins,) if isinstance(origins, str) else tuple(origins)
        self._allowed = frozenset(map(_stated, given))
        if not self._allowed:
            raise ConfigurationError(
                'origins says to whom the token may go, such as origins="https://orders.internal"'
            )

    def require(self, url: str) -> None:
        """Refuse to send the token to *url*, before anything is sent.

        Raises:
            ConfigurationError: it is of none of these origins.
        """
        if not self.allows(url):
            raise ConfigurationError(
                f"{_shown(url)} is none of the origins that this token is for: add it to origins=, or call it without this auth"
            )

    def allows(self, url: str) -> bool:
        """Say whether *url* is of one of these origins."""
        return origin_of(url) in self._allowed


def origin_of(url: str) -> Origin | None:
    """Return the origin of *url*; None for what has none, or one that could be read in two ways."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or "\\" in url:
        return None
    return parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port


def is_worth_a_new_token(status: int, causes: Sequence[str], challenges: Sequence[str]) -> bool:
    """Say whether a call that was refused is to be made once more, with a new token.

    *causes* are the values of `X-Auth-Cause`, *challenges* those of `WWW-Authenticate`, which is asked where there is no cause.
    """
    if status != 401 or len(causes) > 1:
        return False
    named = list(causes) or _CAUSE.findall(", ".join(challenges))
    return len(named) == 1 and named[0] in HELPED_BY_A_NEW_TOKEN


def _stated(url: str) -> Origin:
    origin = origin_of(url)
    parts = urlsplit(url) if origin else None
    if origin is None or parts is None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigurationError(f"{_shown(url)} is no origin: it takes the form https://orders.internal")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("credentials do not belong into an origin")
    return origin


def _shown(url: str) -> str:
    """Return what may be shown of *url*: no query, no user."""
    origin = origin_of(url)
    return "an address that cannot be read" if origin is None else f"{origin[0]}://{origin[1]}:{origin[2]}"
