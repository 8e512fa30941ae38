"""When an attempt at a password must wait. Pure, and the same for every store."""

from __future__ import annotations

from datetime import datetime

from keyfob.accounts.rules import THROTTLE_MEMORY, delay_after


def remembered(attempts: int, last_at: datetime, now: datetime) -> int:
    """Return how many of *attempts* still count at *now*: none once the last was a day ago."""
    return 0 if now - last_at >= THROTTLE_MEMORY else attempts


def seconds_to_wait(attempts: int, last_at: datetime, now: datetime) -> float:
    """Return how long an attempt at *now* must wait; 0 at exactly the end of the delay.

    *last_at* is not behind *now*: a store that finds it there (a clock was set back) puts it to *now*, or the delay would last as long
    as the clock is behind.
    """
    delay = delay_after(remembered(attempts, last_at, now))
    return max((last_at + delay - now).total_seconds(), 0.0)
