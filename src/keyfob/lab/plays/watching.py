"""Moments, and waiting for them."""

from __future__ import annotations

import time


class Beginning:
    """A moment from which seconds are counted."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def since(self) -> float:
        """Return the seconds since this moment, to a tenth of a millisecond."""
        return round(time.perf_counter() - self._at, 4)

    def wait_until(self, seconds: float) -> None:
        """Return when *seconds* have passed since this moment; at once if they have."""
        time.sleep(max(0.0, seconds - self.since()))
