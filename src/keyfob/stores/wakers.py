"""Who wants to know that the feed may have moved, in this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable


class Wakers:
    """The subscriptions of one store. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: tuple[Callable[[], None], ...] = ()

    def add(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Add *wake*; return what removes it again, which may be called more than once."""

        def once() -> None:
            wake()

        def remove() -> None:
            with self._lock:
                self._wakers = tuple(present for present in self._wakers if present is not once)

        with self._lock:
            self._wakers = (*self._wakers, once)
        return remove

    def clear(self) -> None:
        """Remove all."""
        with self._lock:
            self._wakers = ()

    def wake(self) -> None:
        """Call each once. What one raises is logged: it is no fault of the step that was just made durable, nor of the others."""
        for wake in self._wakers:
            try:
                wake()
            except Exception:
                logging.getLogger(__name__).exception("a follower of the feed failed when it was woken")
