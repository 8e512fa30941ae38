"""Coroutines that have nothing to wait for."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Run *coroutine* as far as it goes without waiting; return its result, or None if it began to wait: then it was closed.

    Whatever it raises, this raises. For coroutines that only read: one that is closed may be begun anew.
    """
    try:
        coroutine.send(None)
    except StopIteration as over:
        result: T = over.value
        return result
    coroutine.close()
    return None
