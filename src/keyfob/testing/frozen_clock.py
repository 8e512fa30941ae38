"""A clock that moves only when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class FrozenClock:
    """A `Clock` for tests: begins at *start*, stands still until `advance` or `set`."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        """Return the frozen moment."""
        return self._now

    def time(self) -> float:
        """Return the frozen moment in seconds since the epoch."""
        return self._now.timestamp()

    def elapsed(self) -> float:
        """Return the seconds by which the clock was advanced; `set` does not count."""
        return self._elapsed

    def advance(self, by: timedelta | float) -> datetime:
        """Move on by *by* (a timedelta, or seconds) and return the new moment."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        self._now += step
        self._elapsed += step.total_seconds()
        return self._now

    def set(self, moment: datetime) -> None:
        """Set the wall clock alone, as an administrator or NTP would."""
        self._now = moment
