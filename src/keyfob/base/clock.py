"""Time, as everything else asks for it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Tells the time. Only `SystemClock` reads it from the machine."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def time(self) -> float:
        """Return the wall-clock time in seconds since the epoch: `now()` for hot paths."""
        ...

    def elapsed(self) -> float:
        """Return seconds since an arbitrary start, never going back and counting sleep."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)

    time = staticmethod(time.time)

    def elapsed(self) -> float:
        """Return the boot-time clock, which also counts while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if _HAS_BOOTTIME else time.monotonic()


_HAS_BOOTTIME = hasattr(time, "CLOCK_BOOTTIME")


def to_micros(moment: datetime) -> int:
    """Return *moment* in whole microseconds since the epoch, exactly.

    Raises:
        TypeError: *moment* is naive.
    """
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the aware UTC datetime of *micros* microseconds since the epoch, exactly."""
    return _EPOCH + timedelta(microseconds=micros)


def to_seconds(moment: datetime) -> int:
    """Return *moment* in whole seconds since the epoch, rounded down."""
    return to_micros(moment) // 1_000_000
