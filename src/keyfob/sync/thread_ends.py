"""The end of threads, to their last instruction.

Before Python 3.13 `Thread.join` returns while the system's thread is only about to end. Then libraries take away what they keep for it, under locks of
their own; a process that is forked in that very moment has such a lock for good, held by a thread that it does not have. OpenSSL has one: on a busy
machine a thread that had made a signature, was joined, and was followed by a fork left one child in forty that could not so much as hash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TASKS = Path("/proc/self/task")
_STEP = 0.001  # seconds
_STEPS = 1_000
"""How often it is looked: a thread that takes longer than a second to end is not waited for, since something else keeps it."""


@contextmanager
def waiting_for_ends() -> Iterator[None]:
    """Wait, after the block, until every thread that it has ended is gone. Without `/proc` that cannot be seen, and a moment must do."""
    before = _running()
    try:
        yield
    finally:
        wait_until_gone(before - _running())


def wait_until_gone(threads: set[int]) -> None:
    """Wait until none of *threads*, by the system's ids, is there any more; for a second at most."""
    if not _TASKS.exists():
        time.sleep(10 * _STEP)
        return
    for _ in range(_STEPS):
        if not any((_TASKS / str(thread)).exists() for thread in threads):
            return
        time.sleep(_STEP)


def _running() -> set[int]:
    return {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}
