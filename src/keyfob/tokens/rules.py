"""The rules of access tokens: pure."""

from __future__ import annotations

from datetime import timedelta

from keyfob.base.errors import ConfigurationError

DEFAULT_ACCESS_LIFETIME = timedelta(minutes=10)
RECOMMENDED_ACCESS_LIFETIME = timedelta(minutes=15)  # a lint warns past it
MAX_ACCESS_LIFETIME = timedelta(hours=24)


def checked_lifetime(lifetime: timedelta, *, name: str = "tokens.access_lifetime") -> timedelta:
    """Return *lifetime* if an access token may live so long: 1 s to 24 h, both allowed.

    Raises:
        ConfigurationError: it may not.
    """
    if not timedelta(seconds=1) <= lifetime <= MAX_ACCESS_LIFETIME:
        raise ConfigurationError(f"{name} must be 1 second to 24 hours, not {lifetime}")
    return lifetime


def access_lifetime(issued_at: int, ends_at: int, lifetime: timedelta) -> int:
    """Return the seconds that an access token issued at *issued_at* lives (both times in seconds since the epoch).

    It never outlives *ends_at*; at or past *ends_at* the answer is 0 or less, and nothing may be issued.
    """
    return min(int(lifetime.total_seconds()), ends_at - issued_at)
