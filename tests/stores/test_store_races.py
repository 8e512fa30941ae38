"""Races on the memory store, and on SQLite in threads and in processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.racers import ProcessRacers, Racers
from keyfob.testing.races import StoreRaces


class TestRacesInMemory(StoreRaces):
    @pytest.fixture
    async def store(self, clock: FrozenClock) -> AsyncIterator[Store]:
        store = await open_store("memory://", clock=clock)
        yield store
        await store.close()


class OnOneFile(StoreRaces):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/keyfob.db"

    @pytest.fixture
    async def store(self, clock: FrozenClock, url: str) -> AsyncIterator[Store]:
        store = await open_store(url, clock=clock)
        yield store
        await store.close()


class TestRacesInSqliteThreads(OnOneFile):
    pass


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessRacers]:
    processes = ProcessRacers()
    yield processes
    processes.close()


class TestRacesInSqliteProcesses(OnOneFile):
    @pytest.fixture
    def racers(self, store: Store, url: str, processes: ProcessRacers) -> Racers:
        processes.open(partial(open_store, url, clock=FrozenClock()))
        return processes
