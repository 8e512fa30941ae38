"""A connection that is lost in the middle of a step, and answers that are none: done whole or not at all, and safe to ask again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import AlreadyEnded, Ended, EndOutcome, Replayed, Rotated
from keyfob.stores.redis import open_redis_store, read_url
from keyfob.stores.redis.scripts import read_script
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.line import Cut, Line
from keyfob.testing.remote_store_contract import answers_again, every_connection_works
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    PLENTY,
    WINDOW,
    a_session,
    assert_chained,
    entries,
    found,
    is_live,
    put,
    put_new,
    revocation,
)

PATIENCE = 20  # seconds
ERRORS = (
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-BUSY Redis is busy running a script\r\n",
    b"-MISCONF Errors writing to the AOF file\r\n",
    b"-MASTERDOWN Link with MASTER is down\r\n",
    b"-CLUSTERDOWN The cluster is down\r\n",
    b"-MOVED 3999 127.0.0.1:1\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-NOPERM this user has no permissions to run the command\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-ERR max number of clients reached\r\n",
    b"-ERR unknown command 'EVALSHA'\r\n",
    b"-WHAT nobody knows\r\n",
)
NO_ANSWERS = (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\0", b"$-7\r\n", b"+OK\r\n+OK\r\n")


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[Line]:
    line = Line(read_url(redis_url).addresses[0][1])
    await line.open()
    yield line
    await line.close()


@pytest.fixture
async def store(redis_url: str, raw: Any, line: Line, clock: FrozenClock) -> AsyncIterator[Store]:
    """A store behind the line, on a server that knows its scripts: else the first answer of each asks for its text."""
    for name in ("add", "find", "rotate", "end"):
        await raw.script_load(read_script(name).text)
    options = replace(read_url(redis_url), addresses=(("127.0.0.1", line.port),))
    store = await open_redis_store(options, clock=clock)
    yield store
    await store.close()


def of(session_id: SessionId) -> bytes:
    """What every message about a session holds."""
    return bytes.fromhex(session_id)


async def end(store: Store, session_id: SessionId, clock: FrozenClock) -> EndOutcome:
    now = clock.now()
    order = revocation(Scope.SESSION, session_id, now)
    return await asyncio.wait_for(store.sessions.end(order, now=now), PATIENCE)


@pytest.mark.parametrize("cut", Cut)
async def test_a_revocation_whose_line_is_cut_is_refused_and_stands_whole_or_not_at_all(
    store: Store, line: Line, clock: FrozenClock, cut: Cut
) -> None:
    session = await put_new(store, clock)
    line.cut_at(of(session.session_id), cut)
    with pytest.raises(StoreUnavailable):
        await end(store, session.session_id, clock)
    assert not line.is_armed
    stands = cut is not Cut.BEFORE
    assert [entry.id for entry in await entries(store)] == [session.session_id] * stands
    assert await is_live(store, session.session_id, clock.now()) is not stands
    assert len((await store.audit.list(code="revoked", limit=PLENTY)).events) == stands
    again = await end(store, session.session_id, clock)
    assert isinstance(again, AlreadyEnded if stands else Ended)
    assert_chained(await entries(store))
    assert len(await entries(store)) == 1


@pytest.mark.parametrize("cut", Cut)
async def test_a_rotation_whose_line_is_cut_can_be_asked_for_again(
    store: Store, line: Line, clock: FrozenClock, cut: Cut
) -> None:
    session = await put_new(store, clock)
    line.cut_at(of(session.session_id), cut)
    with pytest.raises(StoreUnavailable):
        await rotate(store, session.session_id, 0, clock.now())
    again = await rotate(store, session.session_id, 0, clock.now())
    assert isinstance(again, Rotated if cut is Cut.BEFORE else Replayed)
    assert (await found(store, session.session_id)).generation == 1
    clock.advance(WINDOW)
    assert isinstance(await rotate(store, session.session_id, 1, clock.now()), Rotated)


@pytest.mark.parametrize("cut", Cut)
async def test_a_login_whose_line_is_cut_stands_whole_or_not_at_all(
    store: Store, line: Line, clock: FrozenClock, cut: Cut
) -> None:
    session = a_session(store, clock)
    await store.feed.head()
    line.cut_at(of(session.session_id), cut)
    with pytest.raises(StoreUnavailable):
        await put(store, session)
    stands = await store.sessions.find(session.session_id) is not None
    assert stands == (cut is not Cut.BEFORE) == (len((await store.audit.list(limit=PLENTY)).events) == 1)


@pytest.mark.parametrize("cut", Cut)
async def test_a_look_up_whose_line_is_cut_is_answered_on_another(
    store: Store, line: Line, clock: FrozenClock, cut: Cut
) -> None:
    session = await put_new(store, clock)
    line.cut_at(of(session.session_id), cut)
    assert await found(store, session.session_id) == session
    assert not line.is_armed


async def test_of_a_batch_that_is_cut_within_its_answer_each_is_told_only_what_came(
    store: Store, line: Line, clock: FrozenClock
) -> None:
    """Those whose answers had come have them; of the others nobody says yes or no, and the rows decide."""
    sessions = [await put_new(store, clock, Subject(f"subject-{number}")) for number in range(40)]
    line.cut_at(of(sessions[0].session_id), Cut.WITHIN)
    outcomes = await asyncio.gather(
        *(rotate(store, session.session_id, 0, clock.now()) for session in sessions), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {Rotated, StoreUnavailable}
    for session, outcome in zip(sessions, outcomes, strict=True):
        now = await found(store, session.session_id)
        assert now.generation == 1, "the whole batch had reached the server"
        if isinstance(outcome, Rotated):
            assert outcome.session.session_id == session.session_id
            assert outcome.session == now


@pytest.mark.parametrize("answer", ERRORS + NO_ANSWERS, ids=lambda answer: str(answer[:12]))
async def test_an_answer_that_is_none_is_never_a_yes(
    store: Store, line: Line, clock: FrozenClock, answer: bytes
) -> None:
    session = await put_new(store, clock)
    line.answer_with(answer, to=of(session.session_id))
    with pytest.raises(StoreUnavailable):
        await end(store, session.session_id, clock)
    assert not line.is_armed
    await answers_again(store)
    assert await is_live(store, session.session_id, clock.now()), "the server has not heard of it"
    line.answer_with(answer, to=of(session.session_id))
    with suppress(StoreUnavailable):
        assert await found(store, session.session_id) == session
    assert isinstance(await end(store, session.session_id, clock), Ended)
    await every_connection_works(store)


async def test_a_server_that_is_slow_answers_everybody_rightly(
    store: Store, line: Line, clock: FrozenClock
) -> None:
    sessions = [await put_new(store, clock, Subject(f"subject-{number}")) for number in range(20)]
    line.latency = 0.05
    outcomes = await asyncio.gather(
        *(rotate(store, session.session_id, 0, clock.now()) for session in sessions),
        *(found(store, session.session_id) for session in sessions),
    )
    for session, rotated, read in zip(sessions, outcomes[:20], outcomes[20:], strict=True):
        assert isinstance(rotated, Rotated)
        assert rotated.session.session_id == read.session_id == session.session_id


async def test_whoever_waited_for_a_line_is_told_by_his_own_deadline(
    redis_url: str, line: Line, clock: FrozenClock
) -> None:
    """One connection, which is held up: what waits behind it is refused in its own time, and never sent afterwards."""
    address = ("127.0.0.1", line.port)
    options = replace(
        read_url(redis_url), addresses=(address,), connections=1, deadline=timedelta(seconds=0.5)
    )
    store = await open_redis_store(options, clock=clock)
    try:
        session = await put_new(store, clock)
        line.fall_silent()
        first = asyncio.ensure_future(store.feed.head())
        for _ in range(10):  # turns of the loop: it is on its way before anybody else asks
            await asyncio.sleep(0)
        behind = asyncio.ensure_future(end(store, session.session_id, clock))
        answers = await asyncio.gather(first, behind, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
        line.speak()
        await answers_again(store)
        assert await is_live(store, session.session_id, clock.now())
    finally:
        line.speak()
        await store.close()
