"""Races and histories on Redis between processes, each with connections of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.grant_races import GrantRaces
from keyfob.testing.racers import ProcessRacers, Racers
from keyfob.testing.races import StoreRaces
from keyfob.testing.session_history import SessionHistories


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


class TestRacesInRedisProcesses(OnOneServer, StoreRaces):
    rounds = 6


class TestHistoriesInRedisProcesses(OnOneServer, SessionHistories):
    pass


class TestGrantRacesInRedisProcesses(OnOneServer, GrantRaces):
    rounds = 4
