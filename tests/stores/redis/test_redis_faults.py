"""A server that is slow, full, cut off, demoted or gone is never a wrong answer, and is used again as soon as it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace as changed
from redis.asyncio import Redis

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.identifiers import Position, SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, AlreadyEnded, Ended, Rotated
from keyfob.stores.redis import RedisOptions, open_redis_store, read_url
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.line import Line
from keyfob.testing.redis_server import RedisServer
from keyfob.testing.remote_store_contract import (
    WITHIN,
    RemoteStoreContract,
    answers_again,
    every_connection_works,
)
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    a_session,
    found,
    is_live,
    position,
    put,
    put_new,
    revocation,
)


@pytest.fixture
def options(redis_url: str) -> RedisOptions:
    return replace(
        read_url(redis_url), connect_timeout=timedelta(milliseconds=800), deadline=timedelta(seconds=1.5)
    )


@pytest.fixture
async def line(options: RedisOptions) -> AsyncIterator[Line]:
    line = Line(options.addresses[0][1])
    await line.open()
    yield line
    await line.close()


@pytest.fixture
async def remote(options: RedisOptions, line: Line, clock: FrozenClock) -> AsyncIterator[Store]:
    store = await open_redis_store(replace(options, addresses=(("127.0.0.1", line.port),)), clock=clock)
    yield store
    await store.close()


@pytest.fixture
async def on_own(own_server: RedisServer, clock: FrozenClock) -> AsyncIterator[Store]:
    """A store on a server that the test may kill."""
    impatient = replace(read_url(own_server.url), deadline=timedelta(seconds=1.5))
    store = await open_redis_store(impatient, clock=clock)
    yield store
    await store.close()


async def refused(store: Store, session_id: SessionId, clock: FrozenClock, match: str) -> None:
    """See that nothing is written, and that nobody is told anything else."""
    for step in (
        rotate(store, session_id, 0, clock.now()),
        store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now()),
        put(store, a_session(store, clock)),
    ):
        with pytest.raises(StoreUnavailable, match=match):
            await step


class TestRedisFromAfar(RemoteStoreContract):
    """Silent, gone, asked from elsewhere, closed."""


async def test_connections_that_were_cut_are_replaced_without_an_error(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    session = await put_new(store, clock)
    await every_connection_works(store)
    for verb in ("find", "rotate", "end"):
        await raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.15)  # past the time within which a connection counts as used just now
        if verb == "find":
            assert await found(store, session.session_id) == session
        elif verb == "rotate":
            assert isinstance(await rotate(store, session.session_id, 0, clock.now()), Rotated)
        else:
            order = revocation(Scope.SESSION, session.session_id, clock.now())
            assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)
    assert await position(store) == 1


async def test_resets_in_the_middle_of_load_lose_nothing_that_was_acknowledged(
    remote: Store, line: Line, clock: FrozenClock
) -> None:
    acknowledged: list[SessionId] = []

    async def log_in(number: int) -> None:
        session = a_session(remote, clock, Subject(f"subject-{number}"))
        with suppress(StoreUnavailable):
            assert await put(remote, session) == Added()
            acknowledged.append(session.session_id)

    for turn in range(8):
        logins = [asyncio.create_task(log_in(turn * 30 + number)) for number in range(30)]
        while not any(login.done() for login in logins):
            await asyncio.sleep(0)
        line.hang_up()
        await asyncio.gather(*logins)
    await answers_again(remote)
    assert acknowledged
    for session_id in acknowledged:
        assert await is_live(remote, session_id, clock.now())


async def test_a_replica_is_never_written_to_and_a_primary_again_is(
    store: Store, raw: Any, clock: FrozenClock, own_server: RedisServer
) -> None:
    session = await put_new(store, clock)
    await raw.execute_command("REPLICAOF", "127.0.0.1", str(own_server.port))
    try:
        await refused(store, session.session_id, clock, "replica|demoted|does not answer")
    finally:
        await raw.execute_command("REPLICAOF", "NO", "ONE")
    await answers_again(store)


async def test_a_full_server_refuses_and_changes_nothing(store: Store, raw: Any, clock: FrozenClock) -> None:
    session = await put_new(store, clock)
    await raw.config_set("maxmemory", "1mb")
    try:
        await refused(store, session.session_id, clock, "out of memory")
        assert await found(store, session.session_id) == session
        assert await position(store) == 0
    finally:
        await raw.config_set("maxmemory", "0")
    assert isinstance(await rotate(store, session.session_id, 0, clock.now()), Rotated)


async def test_too_few_replicas_refuse(store: Store, raw: Any, clock: FrozenClock) -> None:
    session = await put_new(store, clock)
    await raw.config_set("min-replicas-to-write", "1")
    try:
        await refused(store, session.session_id, clock, "too few replicas")
    finally:
        await raw.config_set("min-replicas-to-write", "0")
    assert await found(store, session.session_id) == session


async def test_a_write_that_no_replica_confirms_is_not_acknowledged(
    redis_url: str, clock: FrozenClock
) -> None:
    options = replace(read_url(f"{redis_url}?replicas=1"), deadline=timedelta(seconds=1))
    store = await open_redis_store(options, clock=clock)
    try:
        with pytest.raises(StoreUnavailable, match="did not confirm"):
            await put_new(store, clock)
        assert await position(store) == 0, "reading needs no replica"
    finally:
        await store.close()


async def test_scripts_that_the_server_has_forgotten_are_sent_again(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    sessions = [await put_new(store, clock, Subject(f"subject-{number}")) for number in range(20)]
    await raw.script_flush()
    outcomes = await asyncio.gather(
        *(rotate(store, session.session_id, 0, clock.now()) for session in sessions)
    )
    assert all(isinstance(outcome, Rotated) for outcome in outcomes)
    await raw.script_flush()
    assert await found(store, sessions[0].session_id)


async def test_what_was_acknowledged_survives_that_the_server_is_killed(
    on_own: Store, own_server: RedisServer, clock: FrozenClock
) -> None:
    session, other = await put_new(on_own, clock), await put_new(on_own, clock)
    assert isinstance(await rotate(on_own, session.session_id, 0, clock.now()), Rotated)
    order = revocation(Scope.SESSION, other.session_id, clock.now())
    ended = await on_own.sessions.end(order, now=clock.now())
    assert isinstance(ended, Ended)
    own_server.stop()
    with pytest.raises(StoreUnavailable):
        await on_own.feed.head()
    own_server.start()
    await answers_again(on_own)
    assert (await found(on_own, session.session_id)).generation == 1
    assert await on_own.sessions.end(order, now=clock.now()) == AlreadyEnded(ended.entry.position)


async def test_a_server_that_stands_still_answers_nobody_and_goes_on(
    on_own: Store, own_server: RedisServer, clock: FrozenClock
) -> None:
    session = await put_new(on_own, clock)
    own_server.pause()
    try:
        with pytest.raises(StoreUnavailable, match="in time"):
            await on_own.sessions.find(session.session_id)
    finally:
        own_server.resume()
    await answers_again(on_own)
    assert await is_live(on_own, session.session_id, clock.now())


async def test_a_server_without_its_data_is_no_empty_store(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    session = await put_new(store, clock)
    await raw.flushall()
    for step in (
        store.feed.head(),
        store.sessions.find(session.session_id),
        rotate(store, session.session_id, 0, clock.now()),
        put(store, a_session(store, clock)),
        store.sessions.list(ALICE, now=clock.now(), after=None, limit=1),
        store.sessions.read_data(session.session_id),
    ):
        with pytest.raises(StoreUnavailable):
            await step


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
async def test_a_server_that_may_drop_a_revocation_is_refused(
    redis_url: str, raw: Any, clock: FrozenClock, policy: str
) -> None:
    await raw.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(ConfigurationError, match="set maxmemory-policy noeviction"):
            await open_redis_store(read_url(redis_url), clock=clock)
    finally:
        await raw.config_set("maxmemory-policy", "noeviction")


async def test_a_policy_that_changes_later_is_seen_with_the_next_connection(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    await put_new(store, clock)
    await raw.config_set("maxmemory-policy", "allkeys-lru")
    try:
        await raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(StoreUnavailable, match="noeviction"):
            await every_connection_works(store)
    finally:
        await raw.config_set("maxmemory-policy", "noeviction")
    await answers_again(store)


async def test_a_replica_is_refused_at_the_start(
    redis_url: str, clock: FrozenClock, own_server: RedisServer
) -> None:
    async with Redis(port=own_server.port) as other:
        await other.execute_command("REPLICAOF", "127.0.0.1", redis_url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(ConfigurationError, match="is a replica"):
        await open_redis_store(read_url(own_server.url), clock=clock)


async def test_a_wrong_password_is_a_mistake_of_the_configuration(
    own_server: RedisServer, clock: FrozenClock
) -> None:
    async with Redis(port=own_server.port) as other:
        await other.config_set("requirepass", "hunter2")
    wrong = own_server.url.replace("://", "://:hunter3@")
    for url in (own_server.url, wrong):
        with pytest.raises(ConfigurationError, match="password") as raised:
            await open_redis_store(read_url(url), clock=clock)
        assert "hunter" not in str(raised.value)
    store = await open_redis_store(read_url(own_server.url.replace("://", "://:hunter2@")), clock=clock)
    assert await position(store) == 0
    await store.close()


async def test_a_mistake_in_a_batch_is_nobody_elses(store: Store, clock: FrozenClock) -> None:
    good = [a_session(store, clock, Subject(f"subject-{number}")) for number in range(6)]
    wrong = [
        changed(a_session(store, clock, Subject("no-id")), session_id=SessionId("x" * 32)),
        changed(a_session(store, clock, Subject("ahead")), as_of=Position(9)),
        changed(a_session(store, clock, Subject("one")), subject=Subject("another")),
    ]
    outcomes = await asyncio.gather(*(put(store, one) for one in (*good, *wrong)), return_exceptions=True)
    assert outcomes[: len(good)] == [Added()] * len(good)
    assert [type(outcome) for outcome in outcomes[len(good) :]] == [ValueError] * len(wrong)


async def test_a_text_that_cannot_be_written_is_not_found_and_harms_nobody(
    store: Store, clock: FrozenClock
) -> None:
    session = await put_new(store, clock)
    for text in ("n\0ul", "\ud800"):
        answers = await asyncio.gather(
            store.accounts.find_by_name(text),
            store.accounts.find_subject(Subject(text)),
            store.sessions.find(session.session_id),
        )
        assert answers[:2] == [None, None]
        assert answers[2] is not None
        assert (await store.sessions.list(Subject(text), now=clock.now(), after=None, limit=5)).sessions == []
        assert (await store.audit.list(subject=Subject(text), limit=5)).events == []


async def test_what_was_sent_is_done_though_its_caller_is_gone(
    remote: Store, line: Line, clock: FrozenClock
) -> None:
    await position(remote)
    line.fall_silent()
    order = revocation(Scope.TOKEN, "jti", clock.now())
    caller = asyncio.create_task(remote.sessions.end(order, now=clock.now()))
    await asyncio.sleep(0.05)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled()
    line.speak()
    async with asyncio.timeout(WITHIN):
        while await position(remote) == 0:
            await asyncio.sleep(0.01)
