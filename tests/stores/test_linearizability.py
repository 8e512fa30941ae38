"""Histories of the stores under load, and what the checker says of stores that are broken on purpose."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.linearizability import Call, Undecided, explain
from keyfob.testing.racers import Racers, ThreadRacers
from keyfob.testing.session_history import SessionHistories, play, record
from keyfob.testing.session_model import End, Find, Order, SessionModel, Touch
from keyfob.testing.store_contract import a_session


class TestHistoriesInMemory(SessionHistories):
    @pytest.fixture
    def store(self, memory_store: Store) -> Store:
        return memory_store


class OnOneFile(SessionHistories):
    @pytest.fixture
    def store(self, sqlite_store: Store) -> Store:
        return sqlite_store


class TestHistoriesInSqliteThreads(OnOneFile):
    pass


class TestHistoriesInSqliteProcesses(OnOneFile):
    @pytest.fixture
    def racers(self, sqlite_racers: Racers) -> Racers:
        return sqlite_racers


class Register:
    """A model of one number: `read` answers it, a number is written."""

    def start(self) -> int:
        return 0

    def step(self, state: int, order: int | None) -> tuple[int, int]:
        return (state, state) if order is None else (order, order)


def call(order: int | None, answer: int, began: float, ended: float | None) -> Call[int | None, int]:
    return Call(order=order, answer=answer, began=began, ended=ended)


def test_calls_one_after_another_have_one_order() -> None:
    assert explain(Register(), [call(1, 1, 0, 1), call(None, 1, 2, 3)]) is not None
    assert explain(Register(), [call(1, 1, 0, 1), call(None, 0, 2, 3)]) is None


def test_calls_that_overlap_or_touch_may_go_either_way() -> None:
    for answer in (0, 1):
        assert explain(Register(), [call(1, 1, 0, 2), call(None, answer, 1, 3)]) is not None
        assert explain(Register(), [call(1, 1, 0, 2), call(None, answer, 2, 3)]) is not None


def test_what_was_read_as_new_is_never_old_again() -> None:
    write = call(1, 1, 0, 10)
    assert explain(Register(), [write, call(None, 0, 1, 2), call(None, 1, 3, 4)]) is not None
    assert explain(Register(), [write, call(None, 1, 1, 2), call(None, 0, 3, 4)]) is None


def test_a_call_without_an_end_may_or_may_not_have_happened() -> None:
    lost = call(1, 0, 0, None)
    for answer in (0, 1):
        assert explain(Register(), [lost, call(None, answer, 5, 6)]) is not None
    assert explain(Register(), [lost, call(None, 1, 5, 6), call(None, 0, 7, 8)]) is None
    assert explain(Register(), [call(None, 1, -2, -1), lost]) is None


def test_a_search_that_is_too_wide_is_no_verdict() -> None:
    history = [call(number, number, 0, 100) for number in range(20)]
    with pytest.raises(Undecided):
        explain(Register(), [*history, call(None, 99, 0, 100)], max_states=1000)


class ReadThenWrite:
    """A double of a session store that is broken on purpose: it reads, lets others in, and writes what follows from what it read."""

    def __init__(self, sessions: Any, transfer: Any, clock: FrozenClock) -> None:
        self._sessions, self._transfer, self._clock = sessions, transfer, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sessions, name)

    async def _row(self, session_id: str) -> Any:
        from keyfob.stores.records import Kind

        async with self._transfer.snapshot(self._clock.now()) as snapshot:
            rows = await snapshot.read(Kind.SESSIONS, after=None, limit=99)
        return next((row for row in rows if row.key == session_id), None)

    async def touch(self, seen: Any) -> int:
        row = await self._row(seen[0].session_id)
        moved = await self._sessions.touch(seen)
        await asyncio.sleep(0.002)  # where another caller's end or rotation is lost
        if row is not None and moved:
            from msgspec.structs import replace as changed

            await self._transfer.load([changed(row, session=changed(row.session, last_seen_at=seen[0].at))])
        return moved


async def test_a_store_that_reads_and_then_writes_is_found_out(clock: FrozenClock) -> None:
    found = 0
    for seed in range(30):
        store = await open_store("memory://", clock=clock)
        broken = replace(store, sessions=ReadThenWrite(store.sessions, store.transfer, clock))
        history = record(broken, clock, ThreadRacers(broken), seed=seed)
        found += explain(SessionModel(0), history) is None
        await store.close()
    assert found > 0


async def test_a_revival_by_a_late_touch_is_found_out(clock: FrozenClock) -> None:
    store = await open_store("memory://", clock=clock)
    broken = replace(store, sessions=ReadThenWrite(store.sessions, store.transfer, clock))
    session = a_session(store, clock)
    plans: list[list[Order]] = [[Touch(session.session_id, 5)], [End(session.session_id)]]
    from keyfob.testing.session_model import Add

    history = await play(broken, ([Add(session)], clock.now()))
    for part in await asyncio.gather(*(play(broken, (plan, clock.now())) for plan in plans)):
        history += part
    history += await play(broken, ([Find(session.session_id)], clock.now()))
    assert explain(SessionModel(0), history) is None
    await store.close()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()
