"""Races on PostgreSQL and histories of it: between processes, each with a pool of connections, and between threads on one store."""

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
from keyfob.testing.session_history import LooseHistories

PATIENCE = 20  # seconds


@pytest.fixture
async def shared_store(clock: FrozenClock, postgres_url: str) -> AsyncIterator[Store]:
    """A store of this process, beside those of the racers."""
    store = await open_store(postgres_url, clock=clock)
    yield store
    await store.close()


@pytest.fixture
def postgres_racers(shared_store: Store, postgres_url: str, processes: ProcessRacers) -> Racers:
    """Processes that have the same database open."""
    processes.open(partial(open_store, postgres_url, clock=FrozenClock()))
    return processes


@pytest.fixture
def store_of_threads(clock: FrozenClock, postgres_url: str) -> Iterator[Store]:
    """A store whose event loop runs in a thread of its own, so that every racer asks it from another loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        store = asyncio.run_coroutine_threadsafe(open_store(postgres_url, clock=clock), loop).result(PATIENCE)
        yield store
        asyncio.run_coroutine_threadsafe(store.close(), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


class BetweenProcesses:
    @pytest.fixture
    def store(self, shared_store: Store) -> Store:
        return shared_store

    @pytest.fixture
    def racers(self, postgres_racers: Racers) -> Racers:
        return postgres_racers


class BetweenThreads:
    @pytest.fixture
    def store(self, store_of_threads: Store) -> Store:
        return store_of_threads


class TestRacesInPostgresProcesses(BetweenProcesses, StoreRaces):
    rounds = 6


class TestRacesInPostgresThreads(BetweenThreads, StoreRaces):
    rounds = 3


class TestHistoriesInPostgresProcesses(BetweenProcesses, LooseHistories):
    pass


class TestHistoriesInPostgresThreads(BetweenThreads, LooseHistories):
    pass


class TestGrantRacesInPostgresProcesses(BetweenProcesses, GrantRaces):
    rounds = 4


class TestGrantRacesInPostgresThreads(BetweenThreads, GrantRaces):
    rounds = 2
