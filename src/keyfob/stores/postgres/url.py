"""From a `postgresql://` URL to options. Strict: what is not known is refused. No message repeats the URL, which may hold a password."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from keyfob.base.errors import ConfigurationError
from keyfob.stores.postgres.options import Address, PostgresOptions

_PORT = 5432
_MAX_CONNECTIONS = 500
_KNOWN = {"host", "sslmode", "sslrootcert", "sslcert", "sslkey", "connections", "pooler"}
_TLS_MODES = {"disable", "require", "verify-ca", "verify-full"}
_TLS_FILES = {"sslrootcert", "sslcert", "sslkey"}
_FORM = "postgresql://user:password@host:port/database"


def read_url(url: str) -> PostgresOptions:
    """Read a URL: `postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=FILE`.

    Several hosts are separated by commas; `?host=FOLDER` is a Unix socket. `sslmode` is `verify-full` if it is not given, and `disable`
    on the loopback address and on Unix sockets; `prefer` and `allow`, which an attacker on the line can turn off, are refused.
    `pooler=HOST:PORT` says that host and port of the URL are a pooler's; HOST:PORT is the server itself, for LISTEN.

    Raises:
        ConfigurationError: it is malformed.
    """
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _refused(f"is malformed: use {_FORM}") from None
    query = dict(given)
    unknown = sorted(query.keys() - _KNOWN)
    if unknown or len(query) != len(given) or parts.fragment:
        raise _refused(f"takes each of {', '.join(sorted(_KNOWN))} at most once, and nothing else")
    user, password, hosts = _authority(parts.netloc)
    database = unquote(parts.path.removeprefix("/"))
    if not user or not database or "/" in database or _has_nul(user, password or "", database):
        raise _refused(f"names no user or no database: use {_FORM}")
    addresses = _addresses(hosts, query.get("host"))
    return PostgresOptions(
        addresses=addresses,
        database=database,
        user=user,
        password=password,
        tls=_tls(query, addresses),
        listen_at=_hosts(query["pooler"]) if "pooler" in query else None,
        connections=_connections(query.get("connections", "10")),
    )


def _authority(netloc: str) -> tuple[str, str | None, str]:
    credentials, _, hosts = netloc.rpartition("@")
    user, separator, password = credentials.partition(":")
    return unquote(user), unquote(password) if separator else None, hosts


def _addresses(hosts: str, folder: str | None) -> tuple[Address, ...]:
    if folder is None:
        return _hosts(hosts)
    host, _, port = hosts.rpartition(":")
    if host or not folder.startswith("/"):
        raise _refused("takes ?host= for the folder of a Unix socket alone, with no other host")
    return ((folder, _port(port) if port else _PORT),)


def _hosts(text: str) -> tuple[Address, ...]:
    return tuple(_address(one) for one in text.split(","))


def _address(text: str) -> Address:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else str(_PORT)
        if not bracket or (rest and not rest.startswith(":")):
            raise _refused(f"has a malformed host: use {_FORM}")
    else:
        host, separator, port = text.partition(":")
        port = port if separator else str(_PORT)
    if not host or not host.isprintable() or set(host) & set(" /@\\"):
        raise _refused(f"names no host: use {_FORM}")
    return unquote(host), _port(port)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65_536):
        raise _refused("has a port that is none")
    return int(text)


def _connections(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= _MAX_CONNECTIONS):
        raise _refused(f"takes ?connections= from 1 to {_MAX_CONNECTIONS}")
    return int(text)


def _tls(query: dict[str, str], addresses: tuple[Address, ...]) -> ssl.SSLContext | None:
    mode = query.get("sslmode")
    if mode is not None and mode not in _TLS_MODES:
        raise _refused(f"takes ?sslmode= {', '.join(sorted(_TLS_MODES))}")
    files = {name: value for name, value in query.items() if name in _TLS_FILES}
    if mode is None:
        mode = "disable" if not files and all(is_here(host) for host, _ in addresses) else "verify-full"
    if mode == "disable":
        if files:
            raise _refused("names TLS files although sslmode=disable")
        return None
    try:
        return _context(mode, files)
    except (OSError, ssl.SSLError) as error:
        raise _refused(f"names TLS files that cannot be used ({type(error).__name__})") from None


def _context(mode: str, files: dict[str, str]) -> ssl.SSLContext:
    root = files.get("sslrootcert")
    if root is not None and not Path(root).is_file():
        raise FileNotFoundError
    context = ssl.create_default_context(cafile=root)
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    if "sslcert" in files:
        context.load_cert_chain(files["sslcert"], files.get("sslkey"))
    return context


def is_here(host: str) -> bool:
    """Say whether *host* is this machine: a Unix socket, or the loopback address."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _has_nul(*texts: str) -> bool:
    return any("\0" in text for text in texts)


def _refused(what: str) -> ConfigurationError:
    return ConfigurationError(f"the store's postgresql:// URL {what}")
