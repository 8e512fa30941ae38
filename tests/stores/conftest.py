"""What makes a soak test of the races and the histories."""

from __future__ import annotations

import pytest

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
