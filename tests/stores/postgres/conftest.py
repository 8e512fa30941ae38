"""What the tests of the PostgreSQL store share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

PATIENCE = 20  # seconds


@pytest.fixture
async def outsider(postgres_url: str) -> AsyncIterator[Any]:
    """Give a connection of somebody else."""
    connection = await asyncpg.connect(postgres_url, ssl=False)
    yield connection
    await connection.close()


@pytest.fixture
def until_listening(outsider: Any) -> Callable[[int], Awaitable[None]]:
    """Give what waits until so many stores listen to this database."""

    async def wait(count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while (
                await outsider.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN %'"
                )
                < count
            ):
                await asyncio.sleep(0)

    return wait
