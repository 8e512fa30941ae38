"""The rules of accounts: pure."""

from __future__ import annotations

from datetime import timedelta

FREE_ATTEMPTS = 5
FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(minutes=5)
THROTTLE_MEMORY = timedelta(days=1)
"""A count whose last attempt is this long ago is forgotten."""

FAMILIARITY = timedelta(days=90)
"""How long an address that has logged in to an account is known as one of its own."""


def delay_after(attempts: int) -> timedelta:
    """Return how long to wait after the last of *attempts* unsuccessful attempts.

    None before the fifth; then 1 s, doubling, to at most 5 minutes.
    """
    if attempts < FREE_ATTEMPTS:
        return timedelta(0)
    doublings = min(attempts - FREE_ATTEMPTS, 16)
    return min(FIRST_DELAY * (1 << doublings), LONGEST_DELAY)
