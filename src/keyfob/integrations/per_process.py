"""One authority or verifier for each process of a server that forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Opens something when it is first used, and again in every forked child, which has none of the threads of its parent.

    Safe to call from any thread: one of several that come first at once opens, the others wait.
    """

    def __init__(self, open_one: Callable[[], T]) -> None:
        self._open_one = open_one
        self._lock = threading.Lock()
        self._opened: tuple[int, T] | None = None
        os.register_at_fork(after_in_child=self._renew_lock)

    def __call__(self) -> T:
        """Return what this process has; whatever opening it raises passes, and the next call tries again."""
        opened, pid = self._opened, os.getpid()
        if opened is not None and opened[0] == pid:
            return opened[1]
        with self._lock:
            if self._opened is None or self._opened[0] != pid:
                self._opened = (pid, self._open_one())
            return self._opened[1]

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
