"""Redirect URIs: which may be registered, and which one that is asked for is registered. Pure.

Nothing is parsed and put together again: a URI is compared as it stands (RFC 9700, section 4.1.3), and whatever two readers could read in
two ways cannot be registered.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

MAX_URI: Final = 1024  # characters
_VISIBLE: Final = re.compile(r"[!-~]+")
_UNFIT: Final = re.compile(r"[\\#\"<>^`{|}*]")
"""A fragment (RFC 6749, section 3.1.2), a wildcard, and what is no character of a URI and some readers mend."""
_HTTPS: Final = re.compile(r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?].*)?")
_LOOPBACK: Final = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(:[0-9]{1,5})?((?:[/?].*)?)")
_LOCALHOST: Final = re.compile(r"http://localhost(:[0-9]{1,5})?([/?].*)?")
_PRIVATE: Final = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+:[^:].*")
"""A scheme that is a domain name in reverse (RFC 8252, section 7.1): the dot is what tells it from those that do harm."""
_HIGHEST_PORT: Final = 65_535


def may_be_registered(uri: str, *, public: bool) -> bool:
    """Say whether *uri* may be a redirect URI of a client, *public* or not.

    An https URL; an http URL of a loopback address or of localhost; for public clients a private-use scheme as well.
    """
    if not 0 < len(uri) <= MAX_URI or _VISIBLE.fullmatch(uri) is None or _UNFIT.search(uri) is not None:
        return False
    if public and _PRIVATE.fullmatch(uri) is not None:
        return True
    return any(_has_place(pattern.fullmatch(uri)) for pattern in (_HTTPS, _LOOPBACK, _LOCALHOST))


def is_registered(uri: str, registered: Collection[str], *, public: bool) -> bool:
    """Say whether *uri* is one of those *registered*, octet for octet.

    For public clients the port of a loopback address is free, since a native app listens where it finds one free (RFC 8252, section 7.3).
    """
    if uri in registered:
        return True
    if not public or len(uri) > MAX_URI:
        return False
    asked = _LOOPBACK.fullmatch(uri)
    if asked is None or not _is_port(asked[2]):
        return False
    return any(_without_port(known) == (asked[1], asked[3]) for known in registered)


def is_claimed(uri: str) -> bool:
    """Say whether *uri* is one that only the owner of a domain can receive at: https, and no app of the same device (RFC 8252, section 8.6)."""
    return uri.startswith("https://")


def _without_port(uri: str) -> tuple[str, str] | None:
    found = _LOOPBACK.fullmatch(uri)
    return None if found is None else (found[1], found[3])


def _has_place(found: re.Match[str] | None) -> bool:
    """Say whether a match has a host with a port that can be one, or none, and nobody's name before it."""
    if found is None:
        return False
    port = re.match(r"https?://(?:\[[^\]]*\]|[^/?:]*)(:[0-9]+)?", found[0])
    assert port is not None
    return port[1] is None or _is_port(port[1])


def _is_port(text: str | None) -> bool:
    """Say whether *text* is nothing, or a colon and a port as it is written: no zero before it."""
    if text is None:
        return True
    return text[1] != "0" and int(text[1:]) <= _HIGHEST_PORT
