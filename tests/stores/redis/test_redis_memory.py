"""How much memory a session takes: docs/reference/redis.md says so."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from keyfob.sessions.store import Added
from keyfob.stores.redis import places
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import a_session, put

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
MOST = 500  # bytes


@pytest.mark.parametrize(("devices", "listpack"), [(3, 64), (1, 1024), (3, 1024)])
async def test_a_typical_session_takes_at_most_500_bytes(
    store: Store, raw: Any, clock: FrozenClock, devices: int, listpack: int
) -> None:
    await raw.config_set("hash-max-listpack-value", listpack)
    try:
        for _ in range(devices):
            session = replace(
                a_session(store, clock),
                user_agent=CHROME,
                address="203.0.113.7",
                audience=("https://auth.example",),
                amr=("pwd",),
            )
            assert await put(store, session) == Added()
        key = places.sessions_at(places.tag_of(store.salt, session.subject))
        assert await raw.memory_usage(key, samples=0) / devices <= MOST
    finally:
        await raw.config_set("hash-max-listpack-value", 64)
