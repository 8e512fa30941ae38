"""Measuring several contestants side by side: A B C, B C A, C A B, ..., so that whatever the machine does hits them all.

What is measured is the processor time of this thread: none of the contestants waits for anything, and what other processes take is not theirs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Tell = Callable[[str, float], None]
"""Told what is being measured, and how far that is (0 to 1)."""
FEWEST_ROUNDS = 3


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """`batch` does `operations` of them, and is timed; `prepare` runs before each batch, and is not."""

    name: str
    operations: int
    batch: Callable[[], None]
    prepare: Callable[[], None] = _nothing


def interleave(
    contestants: Sequence[Contestant], *, seconds: float, tell: Tell, title: str
) -> dict[str, list[float]]:
    """Return microseconds per operation of each contestant, one value a round, after one round that does not count.

    Rounds go on for *seconds*, and there are at least three. Each begins with the contestant that was second in the one before.
    """
    measured: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    gc.collect()
    gc.freeze()  # what stands here is nobody's garbage
    for contestant in contestants:
        _time(contestant)
    begin, number = time.perf_counter(), 0
    while number < FEWEST_ROUNDS or time.perf_counter() - begin < seconds:
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            measured[contestant.name].append(_time(contestant))
        number += 1
        tell(title, min(1.0, (time.perf_counter() - begin) / max(seconds, 1e-9)))
    gc.unfreeze()
    return measured


def _time(contestant: Contestant) -> float:
    contestant.prepare()
    gc.collect()  # so that nobody pays for the garbage of another
    begin = time.thread_time_ns()
    contestant.batch()
    return (time.thread_time_ns() - begin) / contestant.operations / 1e3
