"""Which node has what, which nodes are refused, and what everybody else may do with a store in a cluster."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Ended, Rotated
from keyfob.stores.opening import inspect_redis, open_joined_store, open_store
from keyfob.stores.redis import RedisOptions, read_url
from keyfob.stores.redis.cluster.keys import FEED_SLOT
from keyfob.stores.redis.cluster.slots import COUNT, slot_of, tags
from keyfob.stores.redis.cluster.topology import Topology, read_nodes
from keyfob.stores.redis.options import Tls
from keyfob.stores.redis.options import Topology as Arrangement
from keyfob.stores.store import Store
from keyfob.testing.account_store_contract import AccountStoreContract
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_cluster import RedisCluster, binary_command, command
from keyfob.testing.redis_cluster_faults import subject_on, until, without_the_feed
from keyfob.testing.redis_server import RedisServer
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import found, is_live, put_new, revocation

WITHIN = 10.0  # seconds: a deadline, not an expectation
VIEW = """a 10.0.0.1:7000@17000,one.example,shard-id=x myself,master - 0 0 3 connected 0-5 7 [9->-b]
b 10.0.0.2:7001@17001 slave a 0 0 3 connected
c :0@0 master,noaddr - 0 0 9 disconnected 8
d 10.0.0.4:7003@17003 master,fail - 0 0 2 connected 5-6
"""


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_a_slot_is_where_the_server_says(redis_cluster: RedisCluster, key: bytes) -> None:
    text = key.decode("latin-1")
    assert slot_of(text.encode()) == int(command(redis_cluster.nodes[0], "CLUSTER", "KEYSLOT", text))


def test_every_slot_has_a_tag_of_its_own() -> None:
    assert [slot_of(b"kf:{%b}:x" % tag) for tag in tags()] == list(range(COUNT))


def test_what_nodes_say_is_read_and_the_later_one_is_right() -> None:
    nodes = read_nodes(VIEW, asked=("here", 1), by_name=False)
    assert [node.address for node in nodes] == [
        ("10.0.0.1", 7000),
        ("10.0.0.2", 7001),
        ("here", 0),
        ("10.0.0.4", 7003),
    ]
    topology = Topology()
    topology.learn(nodes)
    owners = [topology.owner(slot) for slot in range(10)]
    assert owners[:8] == [("10.0.0.1", 7000)] * 6 + [("10.0.0.4", 7003), ("10.0.0.1", 7000)]
    assert owners[8:] == [None, None]
    earlier = VIEW.replace("0 0 3", "0 0 1")
    topology.learn(read_nodes(earlier.replace("7000", "7099"), asked=("here", 1), by_name=True))
    assert topology.owner(0) == ("10.0.0.1", 7000)
    later = read_nodes(VIEW.replace("0 0 3", "0 0 4"), asked=("here", 1), by_name=True)
    topology.learn(later)
    assert topology.owner(0) == ("one.example", 7000)
    with pytest.raises(ValueError, match="no line"):
        read_nodes("+OK", asked=("here", 1), by_name=False)


def test_a_url_names_some_nodes(tmp_path: Path) -> None:
    assert read_url("redis+cluster://u:p@localhost:1,127.0.0.1/?replicas=1&connections=5") == RedisOptions(
        topology=Arrangement.CLUSTER,
        addresses=(("localhost", 1), ("127.0.0.1", 6379)),
        user="u",
        password="p",
        connections=5,
        replicas=1,
    )
    assert read_url("rediss+cluster://cache.example").tls == Tls()
    for url, why in (
        ("redis+cluster://localhost/1", "of which a cluster has none"),
        ("redis+cluster://localhost?db=1", "nothing else"),
        ("redis+cluster://cache.example", "without TLS"),
        ("redis+cluster://", "names no host"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            read_url(url)


@pytest.fixture
def evicting(own_cluster: RedisCluster) -> Iterator[RedisServer]:
    """Give a node without the feed that drops what it likes when its memory is full."""
    node = without_the_feed(own_cluster)[0]
    command(node, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    yield node
    command(node, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_any_node_that_may_drop_a_revocation_is_refused(
    own_cluster: RedisCluster, evicting: RedisServer, clock: FrozenClock
) -> None:
    with pytest.raises(ConfigurationError, match="set maxmemory-policy noeviction"):
        await open_store(own_cluster.url, clock=clock)
    seen = await inspect_redis(own_cluster.url)
    assert seen is not None
    assert seen.cluster is not None
    faults = {name: node.fault for name, node in seen.cluster.nodes.items() if node.fault}
    assert list(faults) == [f"127.0.0.1:{evicting.port}"]


async def test_a_cluster_is_seen_as_it_is(redis_cluster: RedisCluster) -> None:
    seen = await inspect_redis(redis_cluster.url)
    assert seen is not None
    assert seen.cluster is not None
    assert len(seen.cluster.nodes) == 6
    assert (seen.cluster.uncovered, list(seen.cluster.without_replica)) == (0, [])
    assert not seen.cluster.needs_all_slots
    away = await inspect_redis("redis+cluster://127.0.0.1:1")
    assert away is not None
    assert away.fault is not None


async def test_one_kind_of_server_is_not_taken_for_the_other(
    redis_cluster: RedisCluster, redis_url: str, clock: FrozenClock
) -> None:
    with pytest.raises(ConfigurationError, match=r"use redis\+cluster://"):
        await open_store(f"redis://127.0.0.1:{redis_cluster.nodes[0].port}", clock=clock)
    with pytest.raises((ConfigurationError, StoreUnavailable)):
        await open_store(redis_url.replace("redis://", "redis+cluster://").removesuffix("/0"), clock=clock)


async def test_one_node_is_enough_to_find_the_others(
    redis_cluster: RedisCluster, cluster_url: str, opened: Any, clock: FrozenClock
) -> None:
    for node in redis_cluster.nodes:  # a replica too
        store = await opened(f"redis+cluster://127.0.0.1:{node.port}")
        for other in redis_cluster.owners():
            session = await put_new(store, clock, subject_on(store, redis_cluster, other))
            assert await is_live(store, session.session_id, clock.now())


async def test_another_event_loop_may_use_it(store: Store, clock: FrozenClock) -> None:
    session = await put_new(store, clock)
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(type(await rotate(store, session.session_id, 0, clock.now())))
        order = revocation(Scope.SUBJECT, session.subject, clock.now())
        answers.append(type(await store.sessions.end(order, now=clock.now())))
        answers.append((await found(store, session.session_id)).ended_position)

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    await asyncio.to_thread(thread.join, WITHIN)
    assert answers == [Rotated, Ended, 1]


async def test_a_closed_store_refuses(store: Store) -> None:
    await store.close()
    await store.close()
    for attempt in (store.feed.head(), store.sessions.find(SessionId("0" * 32))):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt
    with pytest.raises(StoreUnavailable, match="closed"):
        store.feed.subscribe(lambda: None)


async def test_what_one_process_revokes_another_knows_at_once(
    store: Store, opened: Any, cluster_url: str, clock: FrozenClock
) -> None:
    other = await opened(cluster_url)
    woken = threading.Event()
    stop = other.feed.subscribe(woken.set)
    session = await put_new(store, clock)
    woken.clear()
    order = revocation(Scope.SESSION, session.session_id, clock.now())
    assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)
    assert not await is_live(other, session.session_id, clock.now())
    assert await asyncio.to_thread(woken.wait, WITHIN)
    stop()


class _Apart:
    @pytest.fixture
    async def store(self, clock: FrozenClock, cluster_url: str, tmp_path: Path) -> Any:
        store = await open_joined_store(cluster_url, f"sqlite:///{tmp_path}/accounts.db", clock=clock)
        yield store
        await store.close()


class TestAccountsApartFromACluster(_Apart, AccountStoreContract):
    pass


async def test_a_node_that_stands_still_is_given_up_by_the_deadline_and_used_again(
    on_own: Store, own_cluster: RedisCluster, clock: FrozenClock
) -> None:
    node = without_the_feed(own_cluster)[0]
    session = await put_new(on_own, clock, subject_on(on_own, own_cluster, node))
    other = await put_new(
        on_own, clock, subject_on(on_own, own_cluster, own_cluster.owner(FEED_SLOT), number=1)
    )
    node.pause()
    try:
        answers = await asyncio.wait_for(
            asyncio.gather(
                on_own.sessions.find(session.session_id),
                rotate(on_own, session.session_id, 0, clock.now()),
                rotate(on_own, other.session_id, 0, clock.now()),
                return_exceptions=True,
            ),
            WITHIN,
        )
    finally:
        node.resume()
    assert [type(answer) for answer in answers[:2]] == [StoreUnavailable] * 2
    assert isinstance(answers[2], Rotated)
    await until(lambda: on_own.sessions.find(session.session_id))
    assert await is_live(on_own, session.session_id, clock.now())


async def test_a_wrong_password_is_a_mistake_of_the_configuration(
    own_cluster: RedisCluster, clock: FrozenClock
) -> None:
    for node in own_cluster.nodes:
        command(node, "CONFIG", "SET", "requirepass", "hunter2")
    try:
        wrong = own_cluster.url.replace("://", "://:hunter3@")
        with pytest.raises(ConfigurationError, match="password") as raised:
            await open_store(wrong, clock=clock)
        assert "hunter" not in str(raised.value)
        store = await open_store(own_cluster.url.replace("://", "://:hunter2@"), clock=clock)
        assert await is_live(store, (await put_new(store, clock)).session_id, clock.now())
        await store.close()
    finally:
        for node in own_cluster.nodes:
            binary_command(node, b"AUTH", b"hunter2", after=(b"CONFIG", b"SET", b"requirepass", b""))
