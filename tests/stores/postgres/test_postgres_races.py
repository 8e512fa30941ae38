"""Races on PostgreSQL between processes, each with a pool of connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.racers import ProcessRacers, Racers
from keyfob.testing.races import StoreRaces


class TestRacesInPostgresProcesses(StoreRaces):
    rounds = 6

    @pytest.fixture
    async def store(self, clock: FrozenClock, postgres_url: str) -> AsyncIterator[Store]:
        store = await open_store(postgres_url, clock=clock)
        yield store
        await store.close()

    @pytest.fixture
    def racers(self, store: Store, postgres_url: str, processes: ProcessRacers) -> Racers:
        processes.open(partial(open_store, postgres_url, clock=FrozenClock()))
        return processes
