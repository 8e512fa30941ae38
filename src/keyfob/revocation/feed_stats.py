"""Where a feed stands, as plain numbers: for whatever exports metrics."""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.base.identifiers import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStats:
    """Where a feed stands. `staleness` is in seconds since it was last level with the store; `overflows` counts followers too slow."""

    position: Position
    live: int
    followers: int
    overflows: int
    failures: int
    staleness: float
