"""What `keyfob doctor` says of a store in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from keyfob.server.doctor_redis import ENOUGH_LEFT, check
from keyfob.server.finding import Severity
from keyfob.stores.condition import ClusterCondition, RedisCondition
from keyfob.stores.opening import inspect_redis

WELL = RedisCondition(
    policy="noeviction",
    has_append_file=True,
    appendfsync="always",
    replicas=2,
    least_replicas=1,
    used_memory=80,
    most_memory=100,
)


@pytest.fixture
async def raw(redis_server: Any) -> AsyncIterator[Any]:
    async with Redis(port=redis_server.port) as client:
        yield client


def ids(condition: RedisCondition) -> list[tuple[str, Severity]]:
    return [(finding.id, finding.severity) for finding in check(condition)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"fault": "away"}, [("redis", Severity.UNSAFE)]),
        ({"policy": "allkeys-lru"}, [("redis-evicts", Severity.UNSAFE)]),
        ({"has_append_file": False}, [("redis-forgets", Severity.UNSAFE)]),
        ({"is_behind_on_disk": True}, [("redis-disk", Severity.UNSAFE)]),
        ({"appendfsync": "everysec"}, [("redis-fsync", Severity.CONSIDER)]),
        ({"appendfsync": None}, []),
        ({"least_replicas": 0}, [("redis-split", Severity.CONSIDER)]),
        ({"least_replicas": 0, "replicas": 0}, []),
        ({"used_memory": 81}, [("redis-memory", Severity.CONSIDER)]),
        ({"used_memory": 81, "most_memory": 0}, []),
    ],
)
def test_each_is_found_and_nothing_else(change: Any, expected: Any) -> None:
    assert ENOUGH_LEFT == 0.8
    assert ids(replace(WELL, **change)) == expected


async def test_a_real_server_is_seen_as_it_is(redis_url: str, raw: Any) -> None:
    found = await inspect_redis(redis_url)
    assert found is not None
    assert (found.fault, found.has_append_file, found.appendfsync) == (None, True, "no")
    assert await raw.dbsize() == 0, "nothing was made"
    await raw.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        found = await inspect_redis(redis_url)
        assert found is not None
        assert found.evicts
        assert "noeviction" in (found.fault or "")
    finally:
        await raw.config_set("maxmemory-policy", "noeviction")


async def test_a_server_that_is_away_is_a_fault() -> None:
    found = await inspect_redis("redis://127.0.0.1:1")
    assert found is not None
    assert "does not answer" in (found.fault or "")
    assert await inspect_redis("memory://") is None


def test_of_a_cluster_every_node_is_looked_at_and_the_same_is_said_once() -> None:
    evicts = replace(WELL, policy="allkeys-lru")
    cluster = ClusterCondition(
        nodes={"a:1": evicts, "b:2": WELL, "c:3": evicts, "d:4": RedisCondition(fault="d:4 is away")},
        uncovered=5,
        without_replica=["a:1"],
        needs_all_slots=True,
    )
    found = list(check(RedisCondition(cluster=cluster)))
    assert [finding.id for finding in found] == [
        "redis-slots",
        "redis-replicas",
        "redis-coverage",
        "redis-evicts",
        "redis",
    ]
    assert found[3].what.startswith("a:1, c:3: maxmemory-policy is allkeys-lru")
    assert found[4].what == "d:4 is away"
    well = ClusterCondition(nodes={"a:1": WELL}, uncovered=0, without_replica=(), needs_all_slots=False)
    assert list(check(RedisCondition(cluster=well))) == []
