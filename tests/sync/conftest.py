"""Options of the tests of the synchronous authority."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--forks-under-load N` forks N times three children while threads are calling."""
    parser.addoption(
        "--forks-under-load", type=int, default=0, help="how often processes are forked under load"
    )
