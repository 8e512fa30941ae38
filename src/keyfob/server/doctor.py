"""What is unsafe about a deployment, and how to mend it.

`examine` reads the settings and looks around (`surroundings`) without changing anything; the checks themselves are pure functions of
what was found. The ids of findings are stable.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from keyfob.base.clock import Clock, SystemClock
from keyfob.base.errors import ConfigurationError
from keyfob.clients.scopes import ADMIN
from keyfob.server import doctor_postgres, doctor_redis, values
from keyfob.server.finding import Finding, Severity, consider, unsafe
from keyfob.server.settings import RECOMMENDED_ACCESS_LIFETIME, Settings
from keyfob.server.surroundings import Found, look

LONGEST_RECOMMENDED_WINDOW = timedelta(seconds=60)
LEAST_FREE = 64 * 1024 * 1024  # bytes of disk below which writes may fail at any moment
LEAST_FREE_PART = 0.05
CERTIFICATE_NOTICE = timedelta(days=14)
TOLD_WITHIN = timedelta(minutes=15)  # what a client's restart may take, and the longest retry after it
FIRST_RELEASE = datetime(2026, 11, 1, tzinfo=UTC)  # no clock that is right shows an earlier moment
TOLERATED_LEAP = timedelta(seconds=5)  # by which the store may be ahead of the clock: another machine's clock

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


Check = Callable[[Settings, Found], Iterator[Finding]]


def examine(
    *, config: Path | None = None, store: str | None = None, clock: Clock | None = None
) -> list[Finding]:
    """Read the settings, look around, and return what is not as it should be: what is unsafe first."""
    try:
        settings = Settings.load(config=config, flags={"store": store})
        found = asyncio.run(look(settings, clock or SystemClock()))
    except ConfigurationError as error:
        return [
            unsafe("configuration", str(error), "mend it as it says; until then the server does not start")
        ]
    return check(settings, found)


def check(settings: Settings, found: Found) -> list[Finding]:
    """Return every finding about *settings* and what was *found*: what is unsafe first."""
    findings = [finding for each in _CHECKS for finding in each(settings, found)]
    return sorted(findings, key=lambda finding: finding.severity is Severity.CONSIDER)


# The checks


def _issuer(settings: Settings, _found: Found) -> Iterator[Finding]:
    if settings.issuer is None:
        yield consider(
            "issuer-not-set",
            "the issuer is where the server happens to listen; with another host or port, every token before is refused",
            "set issuer to the URL at which browsers and services reach the server",
        )
        return
    parts = urlsplit(settings.issuer)
    if parts.scheme == "http":
        yield consider(
            "issuer-http",
            f"{settings.issuer} is for this machine alone, and not every browser takes Secure cookies from it",
            "for others, set issuer to an https URL",
        )
    if parts.path:
        yield consider(
            "cookie-path",
            f"cookies belong to the whole host {parts.hostname}, and so to every application beside {parts.path}",
            "give the authority a host of its own",
        )


def _listening(settings: Settings, _found: Found) -> Iterator[Finding]:
    if settings.tls is None and not values.is_loopback(settings.host):
        yield consider(
            "listening-without-tls",
            f"the server answers plain HTTP on {settings.host}, where more than this machine may reach it",
            "set tls.cert and tls.key, or listen on 127.0.0.1 behind a proxy that ends TLS on this machine",
        )
    if settings.tls is None and not settings.trusted_proxies and _is_https(settings.issuer):
        yield consider(
            "proxy-not-trusted",
            "TLS ends before the server, at a proxy, and trusted_proxies is empty: every request seems to come from the proxy, "
            "so whoever guesses passwords slows everybody's logins down, and devices show its address",
            "list the addresses of your proxies in trusted_proxies, such as 127.0.0.1",
        )
    for network in map(ip_network, settings.trusted_proxies):
        if network.prefixlen == 0:
            yield unsafe(
                "trusted-proxies-everyone",
                f"{network} trusts everybody's X-Forwarded-For: whoever guesses passwords chooses the address that is slowed down",
                "list only the addresses of your proxies in trusted_proxies",
            )


def _lifetimes(settings: Settings, _found: Found) -> Iterator[Finding]:
    if settings.access_lifetime > RECOMMENDED_ACCESS_LIFETIME:
        yield unsafe(
            "access-lifetime",
            f"an access token lives {values.shown(settings.access_lifetime)}; a verifier without the feed accepts it as long",
            "set access_lifetime to 5m to 15m",
        )
    window = settings.policy.replay_window
    if window == timedelta(0):
        yield consider(
            "replay-window-zero",
            "a lost response to a refresh, or two tabs that refresh at once, end the session as theft",
            "set refresh.replay_window to 10s to 60s",
        )
    if window > LONGEST_RECOMMENDED_WINDOW:
        yield consider(
            "replay-window-long",
            f"a stolen refresh token can be played along for {values.shown(window)} after the owner's refresh",
            "set refresh.replay_window to at most 60s; 300s is for mobile networks",
        )


def _rewrap(settings: Settings, found: Found) -> Iterator[Finding]:
    if found.next_key_file is not None:
        yield consider(
            "rewrap-interrupted",
            f"{found.next_key_file} was left by a rewrap that did not end: some keys may be sealed under it",
            "run it again, which goes on or goes back by itself: keyfob keys rewrap",
        )


def _master_key(settings: Settings, found: Found) -> Iterator[Finding]:
    if settings.master_key is None and (found.postgres is not None or found.redis is not None):
        yield unsafe(
            "master-key-missing",
            "a store in PostgreSQL or Redis needs a master key, and there is none: the server refuses to start",
            "set KEYFOB_MASTER_KEY to 32 bytes in base64url, from a place of your secrets",
        )
    if settings.master_key is not None or found.key_file is None:
        return
    if found.key_file_mode is not None and found.key_file_mode & _OTHERS:
        yield unsafe(
            "master-key-readable",
            f"{found.key_file} can be read by others of this machine, and unseals every private key",
            f"chmod 600 {found.key_file}, then rotate the keys: keyfob keys rotate",
        )
    if found.key_file_mode is not None:
        yield consider(
            "master-key-beside-database",
            f"{found.key_file} lies beside the database: one copy of the folder holds both lock and key",
            "set KEYFOB_MASTER_KEY to its content from a place of your secrets, then remove the file",
        )


def _files(settings: Settings, found: Found) -> Iterator[Finding]:
    if found.database_mode is not None and found.database_mode & _OTHERS:
        yield unsafe(
            "database-readable",
            f"{found.database} can be read by others of this machine: password hashes, addresses, the audit trail",
            f"chmod 600 {found.database}",
        )
    if found.config_mode is not None and found.config_mode & _OTHERS_WRITE:
        yield unsafe(
            "config-writable",
            f"{settings.config} can be changed by others of this machine",
            f"chmod go-w {settings.config}",
        )
    if settings.tls is not None and found.tls_key_mode is not None and found.tls_key_mode & stat.S_IRWXO:
        yield unsafe(
            "tls-key-readable",
            f"{settings.tls.key} can be read by everybody of this machine",
            f"chmod o-rwx {settings.tls.key}",
        )


def _certificate(settings: Settings, found: Found) -> Iterator[Finding]:
    if settings.tls is None:
        return
    if found.certificate_fault is not None:
        yield unsafe(
            "tls-certificate",
            f"{settings.tls.cert} holds no certificate that can be read: {found.certificate_fault}",
            "give the certificate chain in PEM as tls.cert",
        )
    if found.certificate_ends is None:
        return
    day = f"{found.certificate_ends:%Y-%m-%d %H:%M}Z"
    if found.certificate_ends <= found.now:
        yield unsafe(
            "tls-certificate-expired", f"the certificate of {settings.tls.cert} ended {day}", "renew it"
        )
    elif found.certificate_ends - found.now <= CERTIFICATE_NOTICE:
        yield consider(
            "tls-certificate-ends", f"the certificate of {settings.tls.cert} ends {day}", "renew it"
        )


def _store(settings: Settings, found: Found) -> Iterator[Finding]:
    if found.store_fault is not None:
        yield unsafe(
            "store", found.store_fault, "mend that first; what lies in the store could not be looked at"
        )
    if settings.store.startswith("memory:"):
        yield consider(
            "store-memory",
            "everything is forgotten when the server stops: accounts, sessions, revocations, keys",
            "give a store that lasts, such as sqlite:///keyfob.db",
        )
    if (
        found.schema is not None
        and found.current_schema is not None
        and 0 < found.schema < found.current_schema
    ):
        yield consider(
            "schema-older",
            f"{found.database} has schema {found.schema}, this version {found.current_schema}; the next start migrates it",
            "back it up, then run: keyfob migrate",
        )
    if "synchronous=normal" in settings.store:
        yield unsafe(
            "synchronous-not-full",
            "a loss of power may undo revocations that were acknowledged",
            "take ?synchronous=normal out of the store's URL",
        )


def _state_folder(settings: Settings, _found: Found) -> Iterator[Finding]:
    if settings.state_folder is None and not settings.store.startswith(("sqlite:", "memory:")):
        yield consider(
            "state-not-kept",
            "there is no folder to keep anything in across restarts: a store that went back meanwhile would not be noticed",
            "set state_folder to a folder that outlives restarts, one for each server",
        )


def _postgres(_settings: Settings, found: Found) -> Iterator[Finding]:
    if found.postgres is not None:
        yield from doctor_postgres.check(found.postgres, found.now)


def _redis(_settings: Settings, found: Found) -> Iterator[Finding]:
    if found.redis is not None:
        yield from doctor_redis.check(found.redis)


def _disk(_settings: Settings, found: Found) -> Iterator[Finding]:
    if found.free_bytes is None or found.disk_bytes is None:
        return
    mebibytes = found.free_bytes // (1024 * 1024)
    if found.free_bytes < LEAST_FREE:
        yield unsafe(
            "disk-full",
            f"{mebibytes} MiB are left where the database lies; logins and revocations fail when it is full",
            "make room, or move the database",
        )
    elif found.free_bytes < found.disk_bytes * LEAST_FREE_PART:
        yield consider(
            "disk-nearly-full",
            f"{mebibytes} MiB, less than a twentieth, are left where the database lies",
            "make room, or move the database",
        )


def _workers(settings: Settings, found: Found) -> Iterator[Finding]:
    if settings.workers > found.cores:
        yield consider(
            "workers-over-cores",
            f"{settings.workers} workers share {found.cores} cores, and slow each other down",
            f"set workers to {found.cores} or fewer",
        )


def _administrator(_settings: Settings, found: Found) -> Iterator[Finding]:
    if found.has_administrator is False:
        yield consider(
            "no-administrator",
            f"nobody has the role {ADMIN}: the administration API is closed to everybody",
            f"keyfob user add NAME --role {ADMIN}",
        )


def _backchannel(_settings: Settings, found: Found) -> Iterator[Finding]:
    if found.told_late > TOLD_WITHIN:
        yield consider(
            "backchannel-stuck",
            f"a client has not taken a logout token for {values.shown(_whole_minutes(found.told_late))}: its users are still signed in there",
            "look for backchannel_logout_failed in the log: it says which client, and why; after a day nobody tries any more",
        )


def _clock(_settings: Settings, found: Found) -> Iterator[Finding]:
    if found.now < FIRST_RELEASE:
        yield unsafe(
            "clock-behind",
            f"the clock shows {found.now:%Y-%m-%d}, before this software was written",
            "set the clock, and let NTP keep it",
        )
    elif found.latest is not None and found.latest - found.now > TOLERATED_LEAP:
        yield unsafe(
            "clock-went-back",
            f"the store has something of {found.latest:%Y-%m-%d %H:%M:%S}Z, and the clock shows {found.now:%Y-%m-%d %H:%M:%S}Z",
            "set the clock, and let NTP keep it; sessions live longer than they should while it is behind",
        )


_CHECKS: tuple[Check, ...] = (
    _issuer,
    _listening,
    _lifetimes,
    _master_key,
    _rewrap,
    _files,
    _certificate,
    _store,
    _state_folder,
    _postgres,
    _redis,
    _disk,
    _workers,
    _administrator,
    _backchannel,
    _clock,
)


def _whole_minutes(length: timedelta) -> timedelta:
    return timedelta(minutes=length // timedelta(minutes=1))


def _is_https(issuer: str | None) -> bool:
    return issuer is not None and urlsplit(issuer).scheme == "https"
