"""From a `redis://` URL to options. Strict: what is not known is refused. No message repeats the URL, which may hold a password."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from keyfob.base.errors import ConfigurationError
from keyfob.stores.redis.options import Address, RedisOptions, Tls, Topology

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_MAX_CONNECTIONS: Final = 64
_MAX_REPLICAS: Final = 5
_MAX_DATABASE: Final = 9_999
_TLS_QUERY: Final = {"tls_ca", "tls_cert", "tls_key", "tls_verify"}
_KNOWN: Final = {"connections", "replicas"} | _TLS_QUERY
_VERIFY: Final = {"full", "ca"}
_FORM: Final = "redis://user:password@host:port/0"
_SENTINEL_FORM: Final = "redis+sentinel://user:password@host1:port,host2:port/primary-name"
_CLUSTER_FORM: Final = "redis+cluster://user:password@host1:port,host2:port"
SCHEMES: Final = {
    "redis": (Topology.SINGLE, False),
    "rediss": (Topology.SINGLE, True),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
    "valkey": (Topology.SINGLE, False),
    "valkeys": (Topology.SINGLE, True),
}
"""What may stand before `://`: how the servers are arranged, and whether by TLS."""


def read_url(url: str) -> RedisOptions:
    """Read a URL: `rediss://user:password@host:port/0?tls_ca=FILE`, or with sentinels `redis+sentinel://:password@h1,h2,h3/NAME`,
    or of a cluster `redis+cluster://:password@h1,h2,h3`.

    `rediss` and `rediss+sentinel` are TLS, which is asked for wherever the server is not on the loopback address or in the same machine:
    a URL without it must say `?tls_verify=off` there. `tls_verify=ca` does not compare the name in the certificate. `replicas=N`:
    a write counts when N replicas have it.

    Raises:
        ConfigurationError: it is malformed.
    """
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _refused(f"is malformed: use {_FORM}") from None
    topology, has_tls = SCHEMES[parts.scheme]
    query = dict(given)
    known = _KNOWN | {"db", "sentinel_password"} if topology is Topology.SENTINEL else _KNOWN
    if query.keys() - known or len(query) != len(given) or parts.fragment:
        raise _refused(f"takes each of {', '.join(sorted(known))} at most once, and nothing else")
    user, password, hosts = _authority(parts.netloc)
    path = unquote(parts.path.removeprefix("/"))
    is_sentinel = topology is Topology.SENTINEL
    if is_sentinel and not (path and path.isprintable() and "/" not in path):
        raise _refused(f"names no primary: use {_SENTINEL_FORM}")
    addresses = tuple(_address(one, is_sentinel=is_sentinel) for one in hosts.split(","))
    if topology is Topology.SINGLE and len(addresses) > 1:
        raise _refused(
            "names several hosts; with sentinels it begins with redis+sentinel://, with a cluster redis+cluster://"
        )
    if topology is Topology.CLUSTER and path not in {"", "0"}:
        raise _refused(f"names a database, of which a cluster has none: use {_CLUSTER_FORM}")
    if not has_tls:
        _check_plain(query, addresses)
    return RedisOptions(
        topology=topology,
        addresses=addresses,
        primary=path if is_sentinel else None,
        user=user or None,
        password=password,
        sentinel_password=query.get("sentinel_password"),
        database=_number(
            query.get("db", "0") if is_sentinel else path or "0", "a database", 0, _MAX_DATABASE
        ),
        tls=_tls(query) if has_tls else None,
        connections=_number(query.get("connections", "3"), "?connections=", 1, _MAX_CONNECTIONS),
        replicas=_number(query.get("replicas", "0"), "?replicas=", 0, _MAX_REPLICAS),
    )


def _authority(netloc: str) -> tuple[str, str | None, str]:
    credentials, _, hosts = netloc.rpartition("@")
    user, separator, password = credentials.partition(":")
    return unquote(user), unquote(password) if separator else None, hosts


def _address(text: str, *, is_sentinel: bool) -> Address:
    standard = str(_SENTINEL_PORT if is_sentinel else _PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else standard
        if not bracket or (rest and not rest.startswith(":")):
            raise _refused(f"has a malformed host: use {_FORM}")
    else:
        host, separator, port = text.partition(":")
        port = port if separator else standard
    if not host or not host.isprintable() or set(host) & set(" /@\\"):
        raise _refused(f"names no host: use {_FORM}")
    return unquote(host), _number(port, "a port", 1, 65_535)


def _number(text: str, what: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text[:6]) <= most):
        raise _refused(f"takes {what} from {least} to {most}")
    return int(text)


def _check_plain(query: dict[str, str], addresses: tuple[Address, ...]) -> None:
    if query.keys() & (_TLS_QUERY - {"tls_verify"}) or query.get("tls_verify", "off") != "off":
        raise _refused("names TLS files or checks, but no TLS: begin it with rediss")
    if "tls_verify" not in query and not all(_is_here(host) for host, _ in addresses):
        raise _refused(
            "leads to another machine without TLS: begin it with rediss, or say ?tls_verify=off on a network where nobody else listens"
        )


def _tls(query: dict[str, str]) -> Tls:
    verify = query.get("tls_verify", "full")
    files = [query.get(name) for name in ("tls_ca", "tls_cert", "tls_key")]
    if verify not in _VERIFY:
        raise _refused(f"takes ?tls_verify= {', '.join(sorted(_VERIFY))}")
    if any(name is not None and not Path(name).is_file() for name in files):
        raise _refused("names TLS files that are not there")
    if (files[1] is None) != (files[2] is None):
        raise _refused("names tls_cert or tls_key without the other")
    return Tls(ca_file=files[0], certificate_file=files[1], key_file=files[2], checks_name=verify == "full")


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(what: str) -> ConfigurationError:
    return ConfigurationError(f"the store's redis:// URL {what}")
