"""What a following verifier is told at construction."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypedDict
from urllib.parse import urlsplit

from keyfob.base.errors import ConfigurationError

OnStale = Literal["deny", "accept", "introspect"]
HEARTBEATS = 3  # the fewest that `max_staleness` must span: less would deny whenever one comes late
MAX_CACHE_AGE = timedelta(minutes=5)  # no session is cached longer (design.md, precondition 6)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowSettings:
    """How a verifier follows its authority, and what it does when it cannot.

    `issuer` is also the address. `audiences` are those that the service answers to; None takes any of the issuer, as only its gateway does. `feed_url` is where the feed itself is read, if not there: a relay. `credentials` are those of a client
    with scope `keyfob:feed`. `ca` is a file of certificates to trust in place of the system's. `accept_within` is the bound that
    `on_stale="accept"` needs. `heartbeat` is that of the authority. `start_timeout` is how long entering the context waits.
    `state_file` is where what this verifier knows is kept over a restart; with `start="stale"` it begins with that where the authority does not
    answer, as stale as it then is, and `on_stale="accept"` within its bound lets it serve.
    `report_as` is the name under which this verifier reports to the authority where it stands and when it began to deny each canary; None:
    it does not. Each process of the name is told apart.

    Raises:
        ConfigurationError: something does not fit; the message says how to mend it.
    """

    issuer: str
    audiences: frozenset[str] | None
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    feed_url: str | None = None
    ca: str | None = None
    max_staleness: timedelta = timedelta(seconds=5)
    on_stale: OnStale = "deny"
    accept_within: timedelta | None = None
    heartbeat: timedelta = timedelta(seconds=1)
    max_cache_age: timedelta = MAX_CACHE_AGE
    touch_interval: timedelta = timedelta(seconds=60)
    start_timeout: timedelta = timedelta(seconds=10)
    request_timeout: timedelta = timedelta(seconds=5)
    verdicts: int = 20_000
    sessions: int = 20_000
    report_as: str | None = None
    state_file: str | Path | None = None
    start: Literal["level", "stale"] = "level"

    def __post_init__(self) -> None:
        for url in (self.issuer, self.feed_url):
            if url is not None:
                require_safe_url(url)
        if self.audiences is not None:
            require_audiences(self.audiences)
        if self.max_staleness < HEARTBEATS * self.heartbeat:
            raise ConfigurationError(
                f"max_staleness is {self.max_staleness.total_seconds():g} s: "
                f"it must be at least three heartbeats, {HEARTBEATS * self.heartbeat.total_seconds():g} s"
            )
        require_on_stale(self.on_stale, self.accept_within)
        if self.accept_within is not None and self.accept_within < self.max_staleness:
            raise ConfigurationError("accept_within must be at least max_staleness")
        if not timedelta(0) < self.max_cache_age <= MAX_CACHE_AGE:
            raise ConfigurationError("max_cache_age must be above 0 and at most 5 minutes")
        if min(self.touch_interval, self.start_timeout, self.request_timeout, self.heartbeat) <= timedelta(0):
            raise ConfigurationError(
                "touch_interval, start_timeout, request_timeout and heartbeat must be above 0"
            )
        require_state_file(self)
        if self.report_as is not None and _NAME.fullmatch(self.report_as) is None:
            raise ConfigurationError(
                f"report_as is {self.report_as!r}: a name has 1 to 64 ASCII letters, digits and . _ : -, "
                "and begins with a letter or a digit"
            )


class FollowOptions(TypedDict, total=False):
    """What `Verifier.follow` takes besides issuer and audience; `FollowSettings` says what each is."""

    credentials: tuple[str, str] | None
    feed_url: str | None
    ca: str | None
    max_staleness: timedelta
    on_stale: OnStale
    accept_within: timedelta | None
    heartbeat: timedelta
    max_cache_age: timedelta
    touch_interval: timedelta
    start_timeout: timedelta
    request_timeout: timedelta
    verdicts: int
    sessions: int
    report_as: str | None
    state_file: str | Path | None
    start: Literal["level", "stale"]


def require_state_file(settings: FollowSettings) -> None:
    """Refuse a way to start that there is not, `stale` without a file, and a file without the secret that authenticates it.

    Raises:
        ConfigurationError: one of these.
    """
    if settings.start not in {"level", "stale"}:
        raise ConfigurationError(f"start is {settings.start!r}: it takes level or stale")
    if settings.start == "stale" and settings.state_file is None:
        raise ConfigurationError('start="stale" needs a file to start from: say state_file="/var/lib/..."')
    if settings.state_file is not None and settings.credentials is None:
        raise ConfigurationError(
            "state_file needs credentials: their secret tells the file from a forged one"
        )


def require_audiences(audiences: Collection[str]) -> None:
    """Refuse no audience at all: a verifier without one would take every token of the issuer.

    Raises:
        ConfigurationError: none, or an empty one.
    """
    if not audiences or not all(audiences):
        raise ConfigurationError(
            'a verifier needs the audience that it answers to, such as audience="orders"'
        )


def require_on_stale(on_stale: str, accept_within: timedelta | None) -> None:
    """Refuse an unknown word, and `accept` without the bound that it needs.

    Raises:
        ConfigurationError: one of these.
    """
    if on_stale not in {"deny", "accept", "introspect"}:
        raise ConfigurationError(f"on_stale is {on_stale!r}: it takes deny, accept or introspect")
    if on_stale == "accept" and accept_within is None:
        raise ConfigurationError(
            'on_stale="accept" needs an upper bound: say accept_within=timedelta(...) at construction'
        )


def audiences_of(audience: str | Collection[str]) -> frozenset[str]:
    """Return one audience or several as a set."""
    return frozenset({audience} if isinstance(audience, str) else audience)


def require_safe_url(url: str) -> None:
    """Refuse an address at which no authority can be asked safely: over http anywhere but on this machine, or with credentials in it.

    Raises:
        ConfigurationError: it is one.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{url!r} is no address of an authority: it takes the form https://auth.example"
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"{url!r}: keys fetched over http are anybody's; use https (http is for localhost)"
        )
    if parts.username is not None:
        raise ConfigurationError(
            "credentials do not belong into the address: say credentials=(client_id, secret)"
        )
