"""Counts of attempts at passwords in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.accounts.rules import FAMILIARITY, THROTTLE_MEMORY
from keyfob.stores.memory.state import Attempts, State
from keyfob.stores.throttling import remembered, seconds_to_wait


class MemoryThrottleStore:
    """A `ThrottleStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def attempt(self, keys: Sequence[str], *, now: datetime) -> float:
        """Count an attempt, or return how long it must wait. A key that is given twice counts once."""
        with self._state.step():
            table = self._state.attempts
            known = [table[key] for key in keys if key in table]
            for one in known:
                one.last_at = min(one.last_at, now)
            wait = max((seconds_to_wait(one.count, one.last_at, now) for one in known), default=0.0)
            if wait > 0:
                return wait
            for key in dict.fromkeys(keys):
                present = table.get(key, Attempts(0, now))
                count = remembered(present.count, present.last_at, now) + 1
                table[key] = Attempts(count, now)
            return 0.0

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget the attempts under *keys*."""
        with self._state.step():
            for key in keys:
                self._state.attempts.pop(key, None)

    async def remember(self, key: str, *, now: datetime) -> None:
        """Remember *key* from *now* on, or from when it is remembered already if that is later."""
        with self._state.step():
            table = self._state.familiar
            table[key] = max(table.get(key, now), now)

    async def is_remembered(self, key: str, *, now: datetime) -> bool:
        """Say whether *key* is still remembered: at exactly `FAMILIARITY` no longer."""
        with self._state.step():
            since = self._state.familiar.get(key)
            return since is not None and now - since < FAMILIARITY

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* counts and familiar keys that are forgotten at *now*."""
        with self._state.step():
            counts, familiar = self._state.attempts, self._state.familiar
            old = [key for key, one in counts.items() if one.last_at <= now - THROTTLE_MEMORY][:limit]
            for key in old:
                del counts[key]
            unused = [key for key, since in familiar.items() if since <= now - FAMILIARITY][
                : limit - len(old)
            ]
            for key in unused:
                del familiar[key]
            return len(old) + len(unused)
