"""Counts of attempts at passwords in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.accounts.rules import FAMILIARITY, THROTTLE_MEMORY
from keyfob.base.clock import to_micros
from keyfob.stores.records import Kind
from keyfob.stores.redis import places
from keyfob.stores.redis.server import Server
from keyfob.stores.rows import span_micros

_COUNTS = (places.ATTEMPTS, places.ATTEMPTS_AT)


class RedisThrottleStore:
    """A `ThrottleStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def attempt(self, keys: Sequence[str], *, now: datetime) -> float:
        """Count an attempt, or return how long it must wait. A key that is given twice counts once."""
        if not keys:
            return 0.0
        return (
            int(await self._server.step("attempt", _COUNTS, {"now": to_micros(now), "keys": list(keys)}))
            / 1_000_000
        )

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget the attempts under *keys*."""
        if keys:
            await self._server.step("forget_attempts", _COUNTS, {"keys": list(keys)})

    async def remember(self, key: str, *, now: datetime) -> None:
        """Remember *key* from *now* on, or from when it is remembered already if that is later."""
        arguments = ("GT", str(to_micros(now)), key)
        await self._server.change(places.FAMILIAR, "ZADD", arguments, record=(Kind.FAMILIAR, key))

    async def is_remembered(self, key: str, *, now: datetime) -> bool:
        """Say whether *key* is still remembered: at exactly `FAMILIARITY` no longer."""
        since = await self._server.read(b"ZSCORE", places.FAMILIAR, key)
        return since is not None and to_micros(now) - int(float(since)) < (span_micros(FAMILIARITY) or 0)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* counts and familiar keys that are forgotten at *now*."""
        asked = {
            "counted": to_micros(now - THROTTLE_MEMORY),
            "familiar": to_micros(now - FAMILIARITY),
            "limit": limit,
        }
        return int(await self._server.step("drop_attempts", (*_COUNTS, places.FAMILIAR), asked))
