"""Races and histories on a cluster between processes, each with a journal of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.racers import ProcessRacers, Racers
from keyfob.testing.races import StoreRaces
from keyfob.testing.session_history import SpreadHistories


class BetweenProcesses:
    @pytest.fixture
    async def store(self, clock: FrozenClock, cluster_url: str) -> AsyncIterator[Store]:
        store = await open_store(cluster_url, clock=clock)
        yield store
        await store.close()

    @pytest.fixture
    def racers(self, store: Store, cluster_url: str, processes: ProcessRacers) -> Racers:
        processes.open(partial(open_store, cluster_url, clock=FrozenClock()))
        return processes


class TestRacesInAClusterBetweenProcesses(BetweenProcesses, StoreRaces):
    rounds = 4


class TestHistoriesInAClusterBetweenProcesses(BetweenProcesses, SpreadHistories):
    pass
