"""How much memory a session takes on a server with its own defaults: docs/reference/redis.md says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from keyfob.accounts.names import new_subject
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import Added
from keyfob.stores.opening import open_store
from keyfob.stores.redis import places
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_server import RedisServer
from keyfob.testing.store_contract import a_session, digest_of, found, put, revocation

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:132.0) Gecko/20100101 Firefox/132.0",
)
ADDRESSES = ("203.0.113.7", "198.51.100.241", "2001:db8:85a3:8d3:1319:8a2e:370:7348")
MOST = 500  # bytes, of everything that a login leaves but its line in the audit trail
SUBJECTS = 2_000


def typical(store: Store, clock: FrozenClock, subject: Subject, number: int) -> Session:
    """A login by a browser, of an account of Keyfob's own."""
    return replace(
        a_session(store, clock, subject),
        user_agent=BROWSERS[number % len(BROWSERS)],
        address=ADDRESSES[number % len(ADDRESSES)],
        audience=("https://auth.example",),
        amr=("pwd",),
    )


@pytest.mark.parametrize("devices", [1, 3, 20])
async def test_a_typical_session_takes_at_most_500_bytes(
    own_server: RedisServer, clock: FrozenClock, devices: int
) -> None:
    store = await open_store(own_server.url, clock=clock)
    async with Redis(port=own_server.port) as raw:
        subject = new_subject()
        for number in range(devices):
            assert await put(store, typical(store, clock, subject, number)) == Added()
        key = places.sessions_at(places.tag_of(store.salt, subject))
        assert await raw.object("ENCODING", key) == b"listpack"
        assert await raw.memory_usage(key, samples=0) / devices <= MOST
    await store.close()


async def test_a_session_with_all_that_can_come_to_it_still_lies_tightly(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    """Renewed at a change of the password, so that two secrets are good for a while; below a login of the browser; and ended."""
    parent = typical(store, clock, new_subject(), 2)
    renewed = replace(
        typical(store, clock, parent.subject, 2),
        parent_session_id=parent.session_id,
        scopes=("openid", "profile", "email", "offline_access"),
        previous_digest=digest_of(1),
        previous_until=clock.now(),
        rotated_at=clock.now(),
    )
    for session in (parent, renewed):
        assert await put(store, session) == Added()
    order = revocation(Scope.SUBJECT, parent.subject, clock.now())
    await store.sessions.end(order, now=clock.now())
    key = places.sessions_at(places.tag_of(store.salt, parent.subject))
    assert await raw.object("ENCODING", key) == b"listpack"
    assert await raw.memory_usage(key, samples=0) / 2 <= MOST


async def test_what_the_server_says_that_it_uses_grows_by_no_more(
    own_server: RedisServer, clock: FrozenClock
) -> None:
    """With everything that belongs to a key: its place in the tables of keys and of their ends, what the allocator rounds up."""
    store = await open_store(own_server.url, clock=clock)
    sessions = [typical(store, clock, new_subject(), number) for number in range(SUBJECTS)]
    async with Redis(port=own_server.port) as raw:
        await asyncio.gather(*(put(store, session) for session in sessions[:100]))
        before = await used(raw)
        for start in range(100, SUBJECTS, 100):
            await asyncio.gather(*(put(store, session) for session in sessions[start : start + 100]))
        assert (await used(raw) - before) / (SUBJECTS - 100) <= MOST
    await store.close()


async def used(raw: Any) -> int:
    """What is used beside the audit trail."""
    await raw.delete(places.EVENTS)
    return int((await raw.info("memory"))["used_memory"])


async def test_a_hundred_devices_still_lie_tightly(store: Store, raw: Any, clock: FrozenClock) -> None:
    """As many as a person may have; what they are in is looked through for each of them."""
    subject = new_subject()
    sessions = [typical(store, clock, subject, number) for number in range(100)]
    assert await asyncio.gather(*(put(store, session, limit=100) for session in sessions)) == [Added()] * 100
    key = places.sessions_at(places.tag_of(store.salt, subject))
    assert await raw.object("ENCODING", key) == b"listpack"
    assert await raw.memory_usage(key, samples=0) / 100 <= MOST
    assert [await found(store, session.session_id) for session in sessions] == sessions
