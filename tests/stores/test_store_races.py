"""Races on the memory store, and on SQLite in threads and in processes."""

from __future__ import annotations

import pytest

from keyfob.stores.store import Store
from keyfob.testing.grant_races import GrantRaces
from keyfob.testing.racers import Racers
from keyfob.testing.races import StoreRaces


class TestRacesInMemory(StoreRaces):
    @pytest.fixture
    def store(self, memory_store: Store) -> Store:
        return memory_store


class OnOneFile(StoreRaces):
    @pytest.fixture
    def store(self, sqlite_store: Store) -> Store:
        return sqlite_store


class TestRacesInSqliteThreads(OnOneFile):
    pass


class TestRacesInSqliteProcesses(OnOneFile):
    @pytest.fixture
    def racers(self, sqlite_racers: Racers) -> Racers:
        return sqlite_racers


class TestGrantRacesInMemory(GrantRaces):
    @pytest.fixture
    def store(self, memory_store: Store) -> Store:
        return memory_store


class TestGrantRacesInSqliteThreads(GrantRaces):
    rounds = 4

    @pytest.fixture
    def store(self, sqlite_store: Store) -> Store:
        return sqlite_store


class TestGrantRacesInSqliteProcesses(TestGrantRacesInSqliteThreads):
    @pytest.fixture
    def racers(self, sqlite_racers: Racers) -> Racers:
        return sqlite_racers
