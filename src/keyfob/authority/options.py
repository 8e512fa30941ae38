"""What an authority is opened with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Required, TypedDict
from urllib.parse import urlsplit

from keyfob.accounts.passwords import PasswordPolicy
from keyfob.authority.api_key_policy import ApiKeyPolicy
from keyfob.authority.claims import ClaimsSource
from keyfob.authority.logout_post import BackchannelPolicy
from keyfob.base.clock import Clock, SystemClock
from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Strategy
from keyfob.clients.client import Client
from keyfob.sessions.policy import SessionPolicy
from keyfob.tokens.rules import DEFAULT_ACCESS_LIFETIME, checked_lifetime

SHORTEST_CANARY, LONGEST_CANARY = timedelta(seconds=1), timedelta(minutes=1)
# The characters of a URL (RFC 3986, section 2) without those that begin a user, a query or a fragment.
_ISSUER = re.compile(r"https?://[A-Za-z0-9._~:/%\[\]!$&'()*+,;=-]+")


class OpenOptions(TypedDict, total=False):
    """The options of `Authority.open`, with the meaning and the defaults of `Options`."""

    issuer: Required[str]
    algorithm: str
    access_lifetime: timedelta
    policy: SessionPolicy
    passwords: PasswordPolicy
    api_keys: ApiKeyPolicy
    claims_source: ClaimsSource | None
    clock: Clock
    heartbeat: timedelta
    canary: timedelta
    cache_capacity: int
    followers: int
    accounts_store: str | None
    state_folder: Path | None
    backchannel: BackchannelPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an authority is opened with, besides its store and its master key.

    `issuer` is its URL. `algorithm` is ES256, ES384, EdDSA, PS256 or RS256. `access_lifetime` is 1 second to 24 hours. `claims_source`
    replaces the roles on the subjects' records. `cache_capacity` is how many checked credentials are remembered, `followers` how many may
    follow the feed of this process at once. `canary` is how often a canary is
    revoked while verifiers report: 1 second to 1 minute, or 0 for never. `accounts_store` is the URL of where accounts, clients and keys
    lie apart from a store in Redis. `state_folder` is where this server keeps, across its restarts,
    how far the feed of a store on another machine has come; None: nowhere. It is made where it is not there. Servers on several machines have
    one each; processes of one machine may share it. `backchannel` says to where logout tokens may be sent.

    Raises:
        ConfigurationError: a bound is broken, or the issuer is no URL.
    """

    issuer: str
    algorithm: str = "ES256"
    access_lifetime: timedelta = DEFAULT_ACCESS_LIFETIME
    policy: SessionPolicy = field(default_factory=SessionPolicy)
    passwords: PasswordPolicy = field(default_factory=PasswordPolicy)
    api_keys: ApiKeyPolicy = field(default_factory=ApiKeyPolicy)
    claims_source: ClaimsSource | None = None
    clock: Clock = field(default_factory=SystemClock)
    heartbeat: timedelta = timedelta(seconds=1)
    canary: timedelta = timedelta(0)
    cache_capacity: int = 100_000
    followers: int = 2_000
    accounts_store: str | None = None
    state_folder: Path | None = None
    backchannel: BackchannelPolicy = field(default_factory=BackchannelPolicy)

    def __post_init__(self) -> None:
        require_issuer(self.issuer)
        checked_lifetime(self.access_lifetime)
        if self.canary and not SHORTEST_CANARY <= self.canary <= LONGEST_CANARY:
            raise ConfigurationError("canary must be 0, or 1 second to 1 minute")

    def access_lifetime_of(self, client: Client, strategy: Strategy) -> timedelta:
        """Return how long access tokens of a login live: in the strategy `jwt` as long as the session itself."""
        if strategy is Strategy.JWT:
            return self.policy.lifetimes[Strategy.JWT].absolute
        return client.access_lifetime or self.access_lifetime


def require_issuer(issuer: str) -> None:
    """Refuse an issuer that is no URL.

    It is compared octet for octet, and stands in headers: so it has one spelling, in the characters of a URL alone.

    Raises:
        ConfigurationError: it is not an absolute http or https URL without user, query, fragment or trailing slash (RFC 8414, section 2).
    """
    try:
        parts = urlsplit(issuer)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or _ISSUER.fullmatch(issuer) is None or issuer.endswith("/"):
        shown = "one with a user" if "@" in issuer else repr(issuer)  # a password may stand there
        raise ConfigurationError(
            "issuer must be a URL such as https://auth.example, without user, query, fragment or trailing slash, "
            f"not {shown}"
        )
