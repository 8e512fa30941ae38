"""Cleaning: everything that is over, a little at a time, and for a share of the time."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.authority.cleaning import (
    BATCH,
    LARGEST_SHARE,
    LONGEST_PAUSE,
    PATIENCE,
    SHARE,
    Cleaning,
    pause_after,
)
from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Scope
from keyfob.stores.memory import open_memory_store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import put_new, revocation

SECONDS = st.floats(min_value=0, max_value=1e6)


class Slow:
    """Stands for a table with *rows* to delete, of which each step takes *took* seconds."""

    def __init__(self, clock: FrozenClock, rows: int, took: float) -> None:
        self._clock = clock
        self._took = took
        self.rows = rows
        self.limits: list[int] = []

    async def delete_expired(self, now: Any, limit: int) -> int:
        self.limits.append(limit)
        self._clock.advance(self._took)
        gone = min(limit, self.rows)
        self.rows -= gone
        return gone


class World:
    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.store = open_memory_store(self.clock)
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def cleaning(self, **tables: Slow) -> Cleaning:
        store: Any = dataclasses.replace(self.store, **tables)
        return Cleaning(store, clock=self.clock, pause=self.pause)


async def test_it_works_for_its_share_of_the_time_in_small_steps() -> None:
    world = World()
    table = Slow(world.clock, rows=20 * BATCH, took=0.004)
    begin = world.clock.elapsed()
    assert await world.cleaning(sessions=table).clean(world.clock.now()) == 20 * BATCH
    assert table.rows == 0
    assert set(table.limits) == {BATCH}
    took = world.clock.elapsed() - begin
    assert len(table.limits) * 0.004 / took == pytest.approx(SHARE)


async def test_what_does_not_get_done_is_given_more_time_rather_than_left_to_grow() -> None:
    world = World()
    table = Slow(world.clock, rows=10**9, took=0.01)
    cleaner = asyncio.ensure_future(world.cleaning(sessions=table).clean(world.clock.now()))
    while world.clock.elapsed() < 6 * PATIENCE:
        await asyncio.sleep(0)
    cleaner.cancel()
    await asyncio.gather(cleaner, return_exceptions=True)
    pauses = [pause for pause in world.pauses if pause > 0]
    assert pauses[0] == pytest.approx(0.01 / SHARE - 0.01)
    assert pauses[-1] == pytest.approx(0.01 / LARGEST_SHARE - 0.01)


async def test_a_large_table_does_not_keep_a_small_one_from_its_turn() -> None:
    world = World()
    large, small = Slow(world.clock, rows=10**6, took=0.001), Slow(world.clock, rows=1, took=0.001)
    cleaner = asyncio.ensure_future(world.cleaning(sessions=large, feed=small).clean(world.clock.now()))
    async with asyncio.timeout(10):
        while small.rows:
            await asyncio.sleep(0)
    assert large.rows > 10**6 - 10 * BATCH
    cleaner.cancel()
    await asyncio.gather(cleaner, return_exceptions=True)


async def test_all_that_is_over_goes_and_nothing_else() -> None:
    world = World()
    gone = [await put_new(world.store, world.clock) for _ in range(3)]
    await world.store.sessions.end(
        revocation(Scope.SUBJECT, "nobody", world.clock.now()),
        now=world.clock.now(),
    )
    world.clock.set(gone[0].expires_at)
    kept = await put_new(world.store, world.clock)
    cleaning = world.cleaning()
    assert await cleaning.clean(world.clock.now()) >= 3
    assert await world.store.sessions.find(kept.session_id) is not None
    assert [await world.store.sessions.find(one.session_id) for one in gone] == [None] * 3
    assert await cleaning.clean(world.clock.now()) == 0


async def test_a_store_that_fails_ends_it_and_what_went_is_counted() -> None:
    world = World()
    table = Slow(world.clock, rows=BATCH, took=0.0)

    async def away(now: Any, limit: int) -> int:
        raise StoreUnavailable("away")

    table_away: Any = Slow(world.clock, rows=1, took=0.0)
    table_away.delete_expired = away
    cleaning = world.cleaning(sessions=table, feed=table_away)
    with pytest.raises(StoreUnavailable):
        await cleaning.clean(world.clock.now())
    assert cleaning.deleted == BATCH


@given(took=SECONDS, working_for=SECONDS)
def test_a_pause_is_never_shorter_than_half_of_the_time_and_never_long(
    took: float, working_for: float
) -> None:
    pause = pause_after(took, working_for=working_for)
    assert min(took, LONGEST_PAUSE) * 0.999 <= pause <= LONGEST_PAUSE
    if took * (1 / SHARE) <= LONGEST_PAUSE:
        assert took / (took + pause) <= LARGEST_SHARE + 1e-9 if took else pause == 0


def test_at_its_patience_the_share_is_doubled() -> None:
    step = timedelta(milliseconds=1).total_seconds()
    before, at = (pause_after(step, working_for=PATIENCE + past) for past in (-0.001, 0.0))
    assert before == pytest.approx(step / SHARE - step)
    assert at == pytest.approx(step / (2 * SHARE) - step)
