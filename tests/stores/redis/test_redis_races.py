"""Races on Redis and histories of it: between processes, each with connections of its own, and between threads on one store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.grant_races import GrantRaces
from keyfob.testing.racers import ProcessRacers, Racers
from keyfob.testing.races import StoreRaces
from keyfob.testing.session_history import SessionHistories

PATIENCE = 20  # seconds


class OnOneServer:
    @pytest.fixture
    async def store(self, clock: FrozenClock, redis_url: str) -> AsyncIterator[Store]:
        store = await open_store(redis_url, clock=clock)
        yield store
        await store.close()

    @pytest.fixture
    def racers(self, store: Store, redis_url: str, processes: ProcessRacers) -> Racers:
        processes.open(partial(open_store, redis_url, clock=FrozenClock()))
        return processes


@pytest.fixture
def store_of_threads(clock: FrozenClock, redis_url: str) -> Iterator[Store]:
    """A store whose event loop runs in a thread of its own, so that every racer asks it from another loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        store = asyncio.run_coroutine_threadsafe(open_store(redis_url, clock=clock), loop).result(PATIENCE)
        yield store
        asyncio.run_coroutine_threadsafe(store.close(), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


class BetweenThreads:
    @pytest.fixture
    def store(self, store_of_threads: Store) -> Store:
        return store_of_threads


class TestRacesInRedisThreads(BetweenThreads, StoreRaces):
    rounds = 3


class TestHistoriesInRedisThreads(BetweenThreads, SessionHistories):
    pass


class TestRacesInRedisProcesses(OnOneServer, StoreRaces):
    rounds = 6


class TestHistoriesInRedisProcesses(OnOneServer, SessionHistories):
    pass


class TestGrantRacesInRedisProcesses(OnOneServer, GrantRaces):
    rounds = 4
