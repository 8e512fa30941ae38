"""What makes a soak test of the races and the histories, and the stores that both run on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.racers import ProcessRacers
from keyfob.testing.races import StoreRaces
from keyfob.testing.session_history import SessionHistories

ROUNDS_A_STORE = 100  # more would meet the limits of the tests' subjects, which live as long as the store


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--race-rounds N` races and records N times in each test, a hundred times on each store."""
    parser.addoption("--race-rounds", type=int, default=None, help="how often each race is run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat races and histories on as many fresh stores as their rounds take."""
    rounds = metafunc.config.getoption("--race-rounds", default=None)
    if rounds is None or metafunc.cls is None or not issubclass(metafunc.cls, StoreRaces | SessionHistories):
        return
    metafunc.cls.rounds = min(rounds, ROUNDS_A_STORE)
    metafunc.fixturenames.append("repetition")
    metafunc.parametrize("repetition", range(-(-rounds // ROUNDS_A_STORE)))


@pytest.fixture
async def memory_store(clock: FrozenClock) -> AsyncIterator[Store]:
    """A store in memory."""
    store = await open_store("memory://", clock=clock)
    yield store
    await store.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Where a SQLite store of this test lies."""
    return f"sqlite:///{tmp_path}/keyfob.db"


@pytest.fixture
async def sqlite_store(clock: FrozenClock, sqlite_url: str) -> AsyncIterator[Store]:
    """A store in a SQLite file."""
    store = await open_store(sqlite_url, clock=clock)
    yield store
    await store.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessRacers]:
    """Processes that stay for the tests of a module."""
    processes = ProcessRacers()
    yield processes
    processes.close()


@pytest.fixture
def sqlite_racers(sqlite_store: Store, sqlite_url: str, processes: ProcessRacers) -> ProcessRacers:
    """Processes that have the same SQLite file open."""
    processes.open(partial(open_store, sqlite_url, clock=FrozenClock()))
    return processes
