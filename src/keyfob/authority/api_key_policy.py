"""What a deployment decides about API keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from keyfob.base.errors import ConfigurationError, InvalidRequest
from keyfob.clients.scopes import checked_scopes

LONGEST_API_KEY = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyPolicy:
    """The defaults suit a deployment that says nothing.

    `scopes` are those that people may give to keys of their own; whoever administers may give any. `default_lifetime` and `max_lifetime`: a
    key always ends. `per_subject`: live keys of one subject; one more is refused. `max_auth_age`: how recently somebody must have signed in
    to make a key, so that a stolen session is no way to one.

    Raises:
        ConfigurationError: a bound is broken.
    """

    scopes: frozenset[str] = frozenset()
    default_lifetime: timedelta = timedelta(days=90)
    max_lifetime: timedelta = timedelta(days=365)
    per_subject: int = 100
    max_auth_age: timedelta = timedelta(minutes=15)

    def __post_init__(self) -> None:
        if not timedelta(0) < self.default_lifetime <= self.max_lifetime <= LONGEST_API_KEY:
            raise ConfigurationError(
                "api_keys.default_lifetime must be above 0 and at most api_keys.max_lifetime, that at most 3650 days"
            )
        if self.per_subject < 1 or self.max_auth_age <= timedelta(0):
            raise ConfigurationError("api_keys.per_subject must be at least 1, api_keys.max_auth_age above 0")
        try:
            checked_scopes(self.scopes)
        except InvalidRequest as error:
            raise ConfigurationError(f"api_keys.scopes: {error}") from None
        if any(scope.startswith("keyfob:") for scope in self.scopes):
            raise ConfigurationError("api_keys.scopes: those of keyfob: are given by administrators alone")
