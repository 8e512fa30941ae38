"""The longest lifetimes ever granted: entries outlive whatever they may cover, also after a failover that lost them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from keyfob.revocation.entry import Scope
from keyfob.revocation.store import RETENTION_MARGIN
from keyfob.sessions.store import CutOff, Ended
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import ALICE, LIFETIME, a_session, put, revocation

PATIENCE = 20  # seconds
LOCK_META = "SELECT position FROM keyfob.meta FOR UPDATE"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def until_waiting(raw: Any) -> None:
    """Wait until somebody waits for a lock."""
    async with asyncio.timeout(PATIENCE):
        while not await raw.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0)


async def longest(raw: Any) -> tuple[timedelta, timedelta]:
    row = await raw.fetchrow("SELECT longest_credential, longest_session FROM keyfob.meta")
    return timedelta(microseconds=row[0]), timedelta(microseconds=row[1])


async def test_what_is_long_enough_already_waits_for_nobody(store: Store, raw: Any) -> None:
    """No lock is needed: what was read is committed, and lifetimes only grow."""
    await raw.execute(
        "UPDATE keyfob.meta SET longest_credential = 86400000000, longest_session = 86400000000"
    )
    async with raw.transaction():
        await raw.execute(LOCK_META)
        await asyncio.wait_for(store.feed.extend_retention(credential=HOUR, session=HOUR), PATIENCE)
    assert await longest(raw) == (DAY, DAY)


async def test_what_somebody_else_is_about_to_raise_is_not_relied_upon(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    transaction = raw.transaction()
    await transaction.start()
    await raw.execute(
        "UPDATE keyfob.meta SET longest_credential = 86400000000, longest_session = 86400000000"
    )
    raising = asyncio.ensure_future(store.feed.extend_retention(credential=HOUR, session=HOUR))
    await until_waiting(raw)
    assert not raising.done()
    await transaction.rollback()
    await asyncio.wait_for(raising, PATIENCE)
    assert await longest(raw) == (HOUR, HOUR)
    ended = await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())
    assert isinstance(ended, Ended)
    assert ended.entry.until == clock.now() + HOUR + RETENTION_MARGIN


@pytest.mark.parametrize("lost", ["longest_credential", "longest_session"])
async def test_what_a_failover_lost_is_raised_again_when_the_head_is_read(
    store: Store, raw: Any, lost: str
) -> None:
    await store.feed.extend_retention(credential=DAY, session=LIFETIME)
    await store.feed.extend_retention(credential=HOUR, session=HOUR)
    # As on a replica that had not received it.
    await raw.execute(f"UPDATE keyfob.meta SET {lost} = 1")
    await store.feed.head()
    assert await longest(raw) == (DAY, LIFETIME)
    before = await raw.fetchval("SELECT xmin::text FROM keyfob.meta")
    await store.feed.head()
    assert await raw.fetchval("SELECT xmin::text FROM keyfob.meta") == before, (
        "nothing is written for nothing"
    )


async def test_a_cut_off_that_comes_while_a_longer_life_is_granted_voids_it(
    store: Store, clock: FrozenClock, raw: Any
) -> None:
    await store.feed.extend_retention(credential=LIFETIME / 2, session=LIFETIME / 2)
    now = clock.now()
    # The cut-off of a shorter life has the head; the login has looked already, and waits to raise the longest one.
    async with raw.transaction():
        await raw.execute(LOCK_META)
        login = asyncio.ensure_future(put(store, a_session(store, clock)))
        await until_waiting(raw)
        await raw.execute("UPDATE keyfob.meta SET position = 1")
        await raw.execute(
            "INSERT INTO keyfob.cut_offs (scope, id, position, at, until) VALUES ('subject', $1, 1, 0, 1)",
            ALICE,
        )
    assert await asyncio.wait_for(login, PATIENCE) == CutOff()
    listed = await store.sessions.list(ALICE, now=now, after=None, limit=10)
    assert not listed.sessions
