"""What a deployment decides about its keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from keyfob.base.errors import ConfigurationError
from keyfob.keys.store import KeyPurpose

MARGIN = timedelta(minutes=5)
"""How much longer than what it signed a key stays: clocks of several authorities that do not agree."""

_DURATIONS = (
    "rotate_every", "jwks_max_age", "reload_every", "token_lifetime", "session_lifetime", "api_key_lifetime",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """When keys come and go.

    `rotate_every`: how long a key is the active one. `jwks_max_age`: how long a verifier may cache the key set; `reload_every`: how often
    each authority reads the store anew; a new key is published for the sum of the two before its first use. `token_lifetime`,
    `session_lifetime` and `api_key_lifetime`: the longest that anything signed or tagged lives; the old key stays for so long.

    Raises:
        ConfigurationError: a duration that is not above 0, or keys that would be replaced before they were published long enough.
    """

    rotate_every: timedelta = timedelta(days=30)
    jwks_max_age: timedelta = timedelta(hours=1)
    reload_every: timedelta = timedelta(minutes=1)
    token_lifetime: timedelta = timedelta(hours=24)
    session_lifetime: timedelta = timedelta(days=30)
    api_key_lifetime: timedelta = timedelta(days=365)

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            if getattr(self, name) <= timedelta(0):
                raise ConfigurationError(f"keys.{name} must be above 0")
        if self.rotate_every <= self.publish_ahead:
            raise ConfigurationError("keys.rotate_every must be above keys.jwks_max_age + keys.reload_every")

    @property
    def publish_ahead(self) -> timedelta:
        """How long a key is published before its first use: every verifier has it by then."""
        return self.jwks_max_age + self.reload_every

    def overlap(self, purpose: KeyPurpose) -> timedelta:
        """Return how long a key of *purpose* is still needed once another has taken over."""
        match purpose:
            case KeyPurpose.ACCESS | KeyPurpose.FEED:
                return self.token_lifetime + MARGIN
            case KeyPurpose.OPAQUE:
                return max(self.session_lifetime, self.api_key_lifetime) + MARGIN
            case KeyPurpose.CSRF:
                return self.session_lifetime + MARGIN
            case _:
                assert_never(purpose)
