"""A server that is slow, locked, cut off or gone is never a wrong answer, and is used again as soon as it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace as changed

from keyfob.base.errors import InvalidRequest, StoreUnavailable
from keyfob.base.identifiers import Position, SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, Ended, Rotated
from keyfob.stores.postgres import open_postgres_store, read_url
from keyfob.stores.postgres.options import PostgresOptions
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.line import Line
from keyfob.testing.remote_store_contract import (
    WITHIN,
    RemoteStoreContract,
    every_connection_works,
)
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import a_session, found, position, put, put_new, revocation

CONNECTIONS = 3


@pytest.fixture
def options(postgres_url: str) -> PostgresOptions:
    return replace(
        read_url(postgres_url),
        connections=CONNECTIONS,
        lock_timeout=timedelta(milliseconds=200),
        statement_timeout=timedelta(milliseconds=400),
        connect_timeout=timedelta(milliseconds=800),
        deadline=timedelta(seconds=1.5),
    )


@pytest.fixture
async def line(options: PostgresOptions) -> AsyncIterator[Line]:
    line = Line(options.addresses[0][1])
    await line.open()
    yield line
    await line.close()


@pytest.fixture
async def impatient(options: PostgresOptions, clock: FrozenClock) -> AsyncIterator[Store]:
    store = await open_postgres_store(options, clock=clock)
    yield store
    await store.close()


@pytest.fixture
async def remote(options: PostgresOptions, line: Line, clock: FrozenClock) -> AsyncIterator[Store]:
    store = await open_postgres_store(replace(options, addresses=(("127.0.0.1", line.port),)), clock=clock)
    yield store
    await store.close()


class TestPostgresFromAfar(RemoteStoreContract):
    """Silent, gone, asked from elsewhere, closed."""


async def test_connections_that_were_cut_are_replaced_without_an_error(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    session = await put_new(store, clock)
    await every_connection_works(store)
    for verb in ("find", "rotate", "end"):
        await raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if verb == "find":
            assert await found(store, session.session_id) == session
        elif verb == "rotate":
            assert isinstance(await rotate(store, session.session_id, 0, clock.now()), Rotated)
        else:
            order = revocation(Scope.SESSION, session.session_id, clock.now())
            assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)
    assert await position(store) == 1


async def test_one_that_waits_for_a_row_holds_nobody_up(
    impatient: Store, raw: Any, clock: FrozenClock
) -> None:
    sessions = [await put_new(impatient, clock, Subject(f"subject-{number}")) for number in range(20)]
    async with raw.transaction():
        await raw.execute(
            "SELECT 1 FROM keyfob.sessions WHERE session_id = $1 FOR UPDATE",
            bytes.fromhex(sessions[7].session_id),
        )
        outcomes = await asyncio.gather(
            *(rotate(impatient, session.session_id, 0, clock.now()) for session in sessions),
            return_exceptions=True,
        )
    assert isinstance(outcomes.pop(7), StoreUnavailable)
    assert all(isinstance(outcome, Rotated) for outcome in outcomes)
    assert isinstance(await rotate(impatient, sessions[7].session_id, 0, clock.now()), Rotated)
    await every_connection_works(impatient)


async def test_a_table_that_is_locked_is_waited_for_only_so_long(
    impatient: Store, raw: Any, clock: FrozenClock
) -> None:
    session = await put_new(impatient, clock)
    async with raw.transaction():
        await raw.execute("LOCK TABLE keyfob.sessions")
        began = time.monotonic()
        answers = await asyncio.gather(
            *(impatient.sessions.find(session.session_id) for _ in range(20)), return_exceptions=True
        )
        assert time.monotonic() - began < WITHIN
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert await found(impatient, session.session_id) == session
    await every_connection_works(impatient)


async def test_what_was_begun_is_done_though_its_caller_is_gone(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    order = revocation(Scope.TOKEN, "jti", clock.now())
    async with raw.transaction():
        await raw.execute("SELECT 1 FROM keyfob.meta FOR UPDATE")
        caller = asyncio.create_task(store.sessions.end(order, now=clock.now()))
        async with asyncio.timeout(WITHIN):
            while not await raw.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert caller.cancelled()
    async with asyncio.timeout(WITHIN):
        while await position(store) == 0:
            await asyncio.sleep(0.01)
    assert [entry.id for entry in await store.feed.read_after(Position(0), 9)] == ["jti"]


async def test_a_mistake_in_a_batch_is_nobody_elses(store: Store, clock: FrozenClock) -> None:
    good = [a_session(store, clock, Subject(f"subject-{number}")) for number in range(6)]
    wrong = [
        changed(a_session(store, clock, Subject("no-id")), session_id=SessionId("x" * 32)),
        changed(a_session(store, clock, Subject("ahead")), as_of=Position(9)),
        a_session(store, clock, Subject("n\0ul")),
    ]
    outcomes = await asyncio.gather(*(put(store, one) for one in (*good, *wrong)), return_exceptions=True)
    assert outcomes[: len(good)] == [Added()] * len(good)
    assert [type(outcome) for outcome in outcomes[len(good) :]] == [
        ValueError,
        ValueError,
        type(outcomes[-1]),
    ]
    assert isinstance(outcomes[-1], InvalidRequest)


async def test_a_text_that_cannot_be_kept_is_not_found(store: Store, clock: FrozenClock) -> None:
    for text in ("n\0ul", "\ud800"):
        assert await store.accounts.find_by_name(text) is None
        assert await store.accounts.find_subject(Subject(text)) is None
        assert (await store.sessions.list(Subject(text), now=clock.now(), after=None, limit=5)).sessions == []
        assert (await store.audit.list(subject=Subject(text), limit=5)).events == []
