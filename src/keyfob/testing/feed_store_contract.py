"""What a `FeedStore` must do."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace

from keyfob.base.identifiers import Position
from keyfob.revocation.entry import CHAIN_START, Entry, Reach, Scope
from keyfob.revocation.store import RETENTION_MARGIN
from keyfob.sessions.store import Ended
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    PLENTY,
    TICK,
    Store,
    StoreContract,
    a_session,
    assert_chained,
    entries,
    position,
    put,
    put_new,
    revocation,
)

HOUR = timedelta(hours=1)
DEADLINE = 5.0  # seconds: how long a test waits for what comes from another thread


async def append(store: Store, clock: FrozenClock, scope: Scope = Scope.TOKEN, id: str = "jti") -> Entry:  # noqa: A002
    """Append an entry, and return it."""
    outcome = await store.sessions.end(revocation(scope, id, clock.now()), now=clock.now())
    assert isinstance(outcome, Ended)
    return outcome.entry


class FeedStoreContract(StoreContract):
    """The head, the entries, their retention, and being told."""

    async def test_a_feed_begins_at_nothing(self, store: Store, clock: FrozenClock) -> None:
        head = await store.feed.head()
        assert (head.position, head.chain) == (0, CHAIN_START)
        assert head.timeline
        assert list(await store.feed.read_after(Position(0), 10)) == []
        assert await store.feed.live(clock.now()) == (head, [])

    async def test_positions_are_consecutive_and_chained(self, store: Store, clock: FrozenClock) -> None:
        appended = []
        for scope in (Scope.TOKEN, Scope.SESSION, Scope.SUBJECT, Scope.CLIENT, Scope.KEY):
            appended.append(await append(store, clock, scope))
            clock.advance(1)
        order = revocation(Scope.SUBJECT, ALICE, clock.now(), reach=Reach.CLAIMS)
        await store.sessions.end(order, now=clock.now())
        spared = (await put_new(store, clock)).session_id
        await store.sessions.end(
            revocation(Scope.EVERYTHING, "", clock.now(), spared=spared), now=clock.now()
        )
        found = await entries(store)
        assert found[:5] == appended
        assert len(found) == 7
        assert_chained(found)
        head = await store.feed.head()
        assert (head.position, head.chain) == (7, found[-1].chain)

    async def test_what_failed_takes_no_position(self, store: Store, clock: FrozenClock) -> None:
        await append(store, clock)
        with pytest.raises(ValueError, match="past the head"):
            await put(store, replace(a_session(store, clock), as_of=Position(9)))
        assert (await append(store, clock)).position == 2

    async def test_a_moment_never_goes_back(self, store: Store, clock: FrozenClock) -> None:
        first = await append(store, clock)
        clock.set(clock.now() - HOUR)
        second = await append(store, clock)
        assert second.at == first.at
        clock.set(first.at + TICK)
        assert (await append(store, clock)).at == first.at + TICK

    async def test_reading_goes_on_after_a_position(self, store: Store, clock: FrozenClock) -> None:
        appended = [await append(store, clock) for _ in range(5)]
        for after in range(7):
            for limit in range(1, 7):
                found = await store.feed.read_after(Position(after), limit)
                assert list(found) == appended[after : after + limit]

    async def test_the_timeline_stays(self, store: Store, clock: FrozenClock) -> None:
        before = await store.feed.head()
        await append(store, clock)
        assert (await store.feed.head()).timeline == before.timeline

    # retention

    async def test_an_entry_outlives_the_longest_credential(self, store: Store, clock: FrozenClock) -> None:
        assert (await append(store, clock)).until == clock.now() + RETENTION_MARGIN
        await store.feed.extend_retention(credential=HOUR, session=timedelta(0))
        assert (await append(store, clock)).until == clock.now() + HOUR + RETENTION_MARGIN

    async def test_retention_only_rises(self, store: Store, clock: FrozenClock) -> None:
        for credential in (HOUR, HOUR, HOUR - TICK, timedelta(0)):
            await store.feed.extend_retention(credential=credential, session=credential)
            assert (await append(store, clock)).until == clock.now() + HOUR + RETENTION_MARGIN
        await store.feed.extend_retention(credential=timedelta(0), session=2 * HOUR)
        assert (await append(store, clock)).until == clock.now() + HOUR + RETENTION_MARGIN
        await store.feed.extend_retention(credential=HOUR + TICK, session=timedelta(0))
        assert (await append(store, clock)).until == clock.now() + HOUR + TICK + RETENTION_MARGIN

    async def test_a_key_is_revoked_for_good(self, store: Store, clock: FrozenClock) -> None:
        entry = await append(store, clock, Scope.KEY, "kid")
        assert entry.until is None
        far = clock.now() + timedelta(days=3650)
        assert await store.feed.delete_expired(far, PLENTY) == 0
        assert (await store.feed.live(far))[1] == [entry]

    async def test_the_live_are_those_that_can_still_cover(self, store: Store, clock: FrozenClock) -> None:
        first, key = await append(store, clock), await append(store, clock, Scope.KEY)
        clock.advance(1)
        second = await append(store, clock)
        head = await store.feed.head()
        assert first.until is not None
        assert await store.feed.live(first.until - TICK) == (head, [first, key, second])
        assert await store.feed.live(first.until) == (head, [key, second])
        assert await store.feed.live(first.until + HOUR) == (head, [key])

    async def test_the_expired_are_dropped_and_the_head_stays(self, store: Store, clock: FrozenClock) -> None:
        appended = [await append(store, clock) for _ in range(4)]
        key = await append(store, clock, Scope.KEY)
        clock.advance(1)
        last = await append(store, clock)
        head = await store.feed.head()
        until = appended[0].until
        assert until is not None
        assert await store.feed.delete_expired(until - TICK, PLENTY) == 0
        assert await store.feed.delete_expired(until, 0) == 0
        assert await store.feed.delete_expired(until, 3) == 3
        assert list(await store.feed.read_after(Position(0), PLENTY)) == [appended[3], key, last]
        assert await store.feed.delete_expired(until, PLENTY) == 1
        assert await store.feed.delete_expired(until + HOUR, PLENTY) == 1
        assert await store.feed.head() == head
        assert list(await store.feed.read_after(Position(0), PLENTY)) == [key]
        assert (await append(store, clock)).position == head.position + 1

    async def test_a_read_never_spans_a_gap(self, store: Store, clock: FrozenClock) -> None:
        key = await append(store, clock, Scope.KEY)
        await append(store, clock)
        clock.advance(HOUR)
        assert await store.feed.delete_expired(clock.now(), PLENTY) == 1
        last = await append(store, clock)
        assert list(await store.feed.read_after(Position(0), PLENTY)) == [key]
        assert list(await store.feed.read_after(key.position, PLENTY)) == [last]

    async def test_cut_offs_are_dropped_with_the_entries(self, store: Store, clock: FrozenClock) -> None:
        await append(store, clock, Scope.SUBJECT, ALICE)
        await append(store, clock, Scope.SUBJECT, ALICE)
        await append(store, clock, Scope.EVERYTHING, "")
        clock.advance(HOUR)
        dropped = 0
        while step := await store.feed.delete_expired(clock.now(), 2):
            assert step <= 2
            dropped += step
        assert dropped == 5

    # being told

    async def test_a_follower_is_woken(self, store: Store, clock: FrozenClock) -> None:
        woken = threading.Event()
        stop = store.feed.subscribe(woken.set)
        try:
            for _ in range(3):
                woken.clear()
                await append(store, clock)
                assert woken.wait(DEADLINE)
        finally:
            stop()
            stop()

    async def test_each_verb_that_appends_wakes(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        woken = threading.Event()
        stop = store.feed.subscribe(woken.set)
        order = revocation(Scope.SUBJECT, session.subject, clock.now())
        assert await store.accounts.set_disabled(session.subject, now=clock.now(), revocation=order)
        assert woken.wait(DEADLINE)
        stop()

    async def test_a_follower_that_fails_harms_nobody(self, store: Store, clock: FrozenClock) -> None:
        woken = threading.Event()

        def fail() -> None:
            raise RuntimeError("a follower")

        stops = [store.feed.subscribe(fail), store.feed.subscribe(woken.set)]
        assert (await append(store, clock)).position == 1
        assert woken.wait(DEADLINE)
        for stop in stops:
            stop()
        assert await position(store) == 1

    async def test_whoever_has_left_is_not_woken(self, store: Store, clock: FrozenClock) -> None:
        left, stays = threading.Event(), threading.Event()
        stop, stop_other = store.feed.subscribe(left.set), store.feed.subscribe(stays.set)
        stop()
        left.clear()
        await append(store, clock)
        assert stays.wait(DEADLINE)
        assert not left.is_set()
        stop_other()
