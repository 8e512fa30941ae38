"""How the values of settings are read: each takes what TOML or a text gives, and says in one line what it wanted. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keyfob.base.identifiers import Issuer
from keyfob.clients.client import is_scope

Reader = Callable[[Any], Any]
"""Returns the value, or raises `ValueError` whose text goes on after the name of the setting."""

LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain"})
MAX_ISSUER = 255  # characters

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


def text(value: object) -> str:
    """Read a text that is not empty and has no control characters."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be a text")
    return value


def one_of(*choices: str) -> Reader:
    """Read one of *choices*."""

    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return read


def whole(least: int, most: int) -> Reader:
    """Read a whole number from *least* to *most*."""

    def read(value: object) -> int:
        wanted = f"must be a whole number from {least} to {most}"
        if isinstance(value, str):
            # No sign, no underscore, no digits but ASCII's; 12 digits are more than any bound here.
            if re.fullmatch(r"[0-9]{1,12}", value) is None:
                raise ValueError(wanted)
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(wanted)
        return value

    return read


def duration(least: timedelta, most: timedelta) -> Reader:
    """Read a duration from *least* to *most*, both allowed: seconds, or a number with a unit (`250ms`, `30s`, `10m`, `12h`, `14d`)."""

    def read(value: object) -> timedelta:
        seconds = _seconds(value)
        wanted = f"must be a duration from {shown(least)} to {shown(most)}, such as 90, 30s, 10m, 12h or 14d"
        if seconds is None or not least.total_seconds() <= seconds <= most.total_seconds():
            raise ValueError(wanted)
        return timedelta(seconds=seconds)

    return read


def off_or_duration(least: timedelta, most: timedelta) -> Reader:
    """Read 0, which is off, or a duration from *least* to *most*."""
    read_duration = duration(least, most)

    def read(value: object) -> timedelta:
        if _seconds(value) == 0:
            return timedelta(0)
        try:
            return read_duration(value)  # type: ignore[no-any-return]  # what `duration` reads
        except ValueError as error:
            raise ValueError(f"{error}; or 0, which is off") from None

    return read


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or len(value) > 20:
        return None
    match = _DURATION.fullmatch(value)
    if match is None or not value.isascii():
        return None
    return float(match[1]) * _UNITS[match[2] or "s"]


def shown(length: timedelta) -> str:
    """Return *length* as a duration is written: in the largest unit that holds it in whole numbers."""
    milliseconds = length // timedelta(milliseconds=1)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def file_path(value: object) -> Path:
    """Read the path of a file that is there and can be read."""
    path = Path(text(value))
    if not path.is_file():
        raise ValueError(f"must be a file, and {path} is none")
    return path


def absolute_folder(value: object) -> Path:
    """Read the absolute path of a folder, which need not be there yet."""
    path = Path(text(value))
    if not path.is_absolute() or os.path.isfile(path):  # noqa: PTH113 - what may not be looked at is no error here
        raise ValueError(f"must be the absolute path of a folder, and {path} is none")
    return path


def networks(value: object) -> tuple[str, ...]:
    """Read addresses and networks: a list, or a text with commas."""
    items = value.split(",") if isinstance(value, str) else value
    wanted = "must be a list of addresses or networks, such as 10.0.0.0/8 or ::1"
    if not isinstance(items, list | tuple):
        raise ValueError(wanted)  # noqa: TRY004 - what a reader raises
    read = []
    for item in items:
        try:
            read.append(str(ip_network(str(item).strip())))
        except ValueError as error:
            raise ValueError(f"{wanted}: {error}") from None
    return tuple(read)


def scopes(value: object) -> frozenset[str]:
    """Read scopes: a list, or text with commas or spaces between them."""
    wanted = (
        "must be a list of scopes: visible ASCII characters without quotes or backslash, such as orders:read"
    )
    parts = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(wanted)
    found = frozenset(part for part in parts if part)
    if not all(map(is_scope, found)):
        raise ValueError(wanted)
    return found


def host(value: object) -> str:
    """Read an address or a host name to listen on."""
    name = text(value)
    if is_address(name) or (len(name) <= 253 and _HOST_NAME.fullmatch(name)):
        return name
    raise ValueError("must be an address or a host name")


def issuer(value: object) -> Issuer:
    """Read the issuer: an https URL without query, fragment or slash at its end (RFC 8414, section 2); http on loopback hosts alone."""
    url = text(value)
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be a URL") from None
    name = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not name or not port_is_one or len(url) > MAX_ISSUER:
        raise ValueError("must be an http or https URL, such as https://auth.example")
    if (
        "?" in url
        or "#" in url
        or url.endswith("/")
        or "@" in parts.netloc
        or not url.isascii()
        or " " in url
    ):
        raise ValueError("must be a URL without user, query, fragment or slash at its end")
    if url != url[: len(url) - len(parts.path)].lower() + parts.path:
        raise ValueError("must have its scheme and host in lower case")
    if not (is_address(name) or _HOST_NAME.fullmatch(name)):
        raise ValueError("must name a host")
    if parts.scheme == "http" and not is_loopback(name):
        raise ValueError(
            f"must be https, since {name} is not this machine alone: anybody on the way could read tokens"
        )
    return Issuer(url)


def is_address(name: str) -> bool:
    """Say whether *name* is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Say whether *name*, an address or a host name, is this machine and nothing else."""
    if is_address(name):
        return ip_address(name).is_loopback
    return name.lower() in LOOPBACK_NAMES or name.lower().endswith(".localhost")
