"""What an `OutboxStore` must do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import ClientId, Position, Timeline
from keyfob.grants.delivery import MAX_DELIVERY_BODY, Cursor, Delivery, Waiting
from keyfob.grants.rules import READ_WITHIN
from keyfob.revocation.entry import Scope
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import SHOP, TICK, Store, StoreContract, entries, revocation

LOGOUT = "logout"
LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)
SOMEWHERE = Timeline("0123456789abcdef")


def at(position: int) -> Cursor:
    """Return a cursor in a timeline of nobody."""
    return Cursor(timeline=SOMEWHERE, position=Position(position))


def a_delivery(clock: FrozenClock, name: str = "one") -> Delivery:
    """Return a delivery that is due, for an hour."""
    now = clock.now()
    return Delivery(
        delivery_id=name,
        kind="logout",
        client_id=SHOP,
        body=b'{"sid":"\xc3\xbc"}',
        created_at=now,
        due_at=now,
        expires_at=now + HOUR,
    )


async def queue(store: Store, *deliveries: Delivery) -> None:
    """Queue *deliveries*, whatever the cursor is."""
    before = await store.outbox.cursor(LOGOUT)
    after = at(1 if before is None else before.position + 1)
    assert await store.outbox.enqueue(LOGOUT, deliveries, cursor_from=before, cursor_to=after)


async def lease(store: Store, clock: FrozenClock, limit: int = 10) -> list[Delivery]:
    """Lease what is due for half a minute."""
    now = clock.now()
    return list(await store.outbox.lease(now, until=now + LEASE, limit=limit))


class OutboxStoreContract(StoreContract):
    """`enqueue`, `cursor`, `lease`, `delivered`, `failed`, cleaning up, and what the feed keeps for it."""

    async def test_a_cursor_moves_from_where_it_is(self, store: Store, clock: FrozenClock) -> None:
        assert await store.outbox.cursor(LOGOUT) is None
        one = a_delivery(clock)
        assert not await store.outbox.enqueue(LOGOUT, [one], cursor_from=at(1), cursor_to=at(2))
        assert await store.outbox.enqueue(LOGOUT, [], cursor_from=None, cursor_to=at(5))
        assert not await store.outbox.enqueue(LOGOUT, [one], cursor_from=None, cursor_to=at(6))
        assert not await store.outbox.enqueue(LOGOUT, [one], cursor_from=at(4), cursor_to=at(6))
        elsewhere = Cursor(timeline=Timeline("other"), position=Position(5))
        assert not await store.outbox.enqueue(LOGOUT, [one], cursor_from=elsewhere, cursor_to=at(6))
        assert await lease(store, clock) == []
        assert await store.outbox.enqueue(LOGOUT, [one], cursor_from=at(5), cursor_to=elsewhere)
        assert await store.outbox.cursor(LOGOUT) == elsewhere
        assert await store.outbox.cursor("other") is None
        assert [each.delivery_id for each in await lease(store, clock)] == ["one"]

    async def test_of_many_that_turn_the_same_entries_one_queues(
        self, store: Store, clock: FrozenClock
    ) -> None:
        before: Cursor | None = None
        for number in range(10):
            after = at(number)
            outcomes = await asyncio.gather(
                *(
                    store.outbox.enqueue(
                        LOGOUT, [a_delivery(clock, f"{number}-{racer}")], cursor_from=before, cursor_to=after
                    )
                    for racer in range(5)
                )
            )
            assert sorted(outcomes) == [False] * 4 + [True]
            before = after
        assert len(await lease(store, clock, 100)) == 10

    async def test_what_is_queued_already_is_passed_over(self, store: Store, clock: FrozenClock) -> None:
        await queue(store, a_delivery(clock))
        (leased,) = await lease(store, clock)
        await queue(store, replace(a_delivery(clock), body=b"again"), a_delivery(clock, "two"))
        assert [each.delivery_id for each in await lease(store, clock)] == ["two"]
        clock.advance(LEASE)
        again = {each.delivery_id: each for each in await lease(store, clock)}
        assert again["one"].body == leased.body
        assert again["one"].attempts == 2

    async def test_what_nobody_makes_is_refused(self, store: Store, clock: FrozenClock) -> None:
        good = a_delivery(clock)
        for wrong in (
            replace(good, body=b"x" * (MAX_DELIVERY_BODY + 1)),
            replace(good, expires_at=good.due_at),
            replace(good, attempts=1),
        ):
            with pytest.raises(ValueError, match="delivery"):
                await store.outbox.enqueue(LOGOUT, [wrong], cursor_from=None, cursor_to=at(1))
        assert await store.outbox.cursor(LOGOUT) is None

    async def test_texts_that_cannot_be_kept_are_refused_and_not_found(
        self, store: Store, clock: FrozenClock
    ) -> None:
        good = a_delivery(clock)
        for bad in ("n\0ul", "half \ud800"):
            wrong = (replace(good, delivery_id=bad), replace(good, client_id=ClientId(bad)))
            for one in (*wrong, replace(good, kind=bad)):
                with pytest.raises(InvalidRequest):
                    await store.outbox.enqueue(LOGOUT, [one], cursor_from=None, cursor_to=at(1))
            with pytest.raises(InvalidRequest):
                await store.outbox.enqueue(bad, [], cursor_from=None, cursor_to=at(1))
            assert await store.outbox.cursor(bad) is None
            assert not await store.outbox.delivered(bad)
            assert not await store.outbox.failed(bad, attempts=1, due_at=clock.now())
        assert await store.outbox.cursor(LOGOUT) is None

    async def test_a_lease_is_for_one_until_it_runs_out(self, store: Store, clock: FrozenClock) -> None:
        one = a_delivery(clock)
        await queue(store, one)
        assert await lease(store, clock) == [replace(one, due_at=clock.now() + LEASE, attempts=1)]
        assert await lease(store, clock) == []
        clock.advance(LEASE - TICK)
        assert await lease(store, clock) == []
        clock.advance(TICK)
        assert await lease(store, clock) == [replace(one, due_at=clock.now() + LEASE, attempts=2)]

    async def test_what_is_longest_due_is_leased_first(self, store: Store, clock: FrozenClock) -> None:
        now = clock.now()
        due = [replace(a_delivery(clock, f"d{n}"), due_at=now + n * TICK) for n in (3, 1, 4, 2)]
        await queue(store, *due)
        assert await lease(store, clock) == []
        clock.advance(3 * TICK)
        assert [each.delivery_id for each in await lease(store, clock, 2)] == ["d1", "d2"]
        assert [each.delivery_id for each in await lease(store, clock, 0)] == []
        assert [each.delivery_id for each in await lease(store, clock, 2)] == ["d3"]

    async def test_what_is_over_is_not_leased_however_much_of_it_there_is(
        self, store: Store, clock: FrozenClock
    ) -> None:
        now = clock.now()
        over = [replace(a_delivery(clock, f"over-{n:03}"), expires_at=now + 2 * TICK) for n in range(120)]
        await queue(store, *over, replace(a_delivery(clock, "last"), due_at=now + TICK))
        clock.advance(2 * TICK)
        assert [each.delivery_id for each in await lease(store, clock, 1)] == ["last"]
        assert await lease(store, clock, 1) == []

    async def test_what_waits_is_counted_whenever_it_is_due(self, store: Store, clock: FrozenClock) -> None:
        assert await store.outbox.waiting() == Waiting()
        first = a_delivery(clock, "first")
        clock.advance(1)
        await queue(store, first, a_delivery(clock, "second"))
        everything = Waiting(deliveries=2, first_ends=first.expires_at)
        assert await store.outbox.waiting() == everything
        await lease(store, clock)
        assert await store.outbox.waiting() == everything
        await store.outbox.delivered("first")
        assert await store.outbox.waiting() == Waiting(
            deliveries=1, first_ends=first.expires_at + timedelta(seconds=1)
        )

    async def test_what_is_delivered_is_gone(self, store: Store, clock: FrozenClock) -> None:
        await queue(store, a_delivery(clock))
        await lease(store, clock)
        assert await store.outbox.delivered("one")
        assert not await store.outbox.delivered("one")
        clock.advance(LEASE)
        assert await lease(store, clock) == []

    async def test_a_failure_is_tried_again_when_it_says(self, store: Store, clock: FrozenClock) -> None:
        await queue(store, a_delivery(clock))
        (leased,) = await lease(store, clock)
        due_at = clock.now() + timedelta(minutes=5)
        assert await store.outbox.failed("one", attempts=leased.attempts, due_at=due_at)
        assert not await store.outbox.failed("other", attempts=1, due_at=due_at)
        clock.advance(LEASE)
        assert await lease(store, clock) == []
        clock.set(due_at)
        assert [each.attempts for each in await lease(store, clock)] == [2]

    async def test_who_lost_a_lease_does_not_shorten_the_next_ones(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await queue(store, a_delivery(clock))
        (slow,) = await lease(store, clock)
        clock.advance(LEASE)
        assert len(await lease(store, clock)) == 1
        assert not await store.outbox.failed("one", attempts=slow.attempts, due_at=clock.now())
        assert await lease(store, clock) == []
        assert await store.outbox.delivered("one")  # it did get there, whoever says so

    async def test_cleaning_up_deletes_what_is_over_and_no_more_than_asked(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await queue(store, *(a_delivery(clock, f"d{n}") for n in range(3)))
        end = clock.now() + HOUR
        assert await store.outbox.delete_expired(end - TICK, 10) == 0
        assert await store.outbox.delete_expired(end, 2) == 2
        assert await store.outbox.delete_expired(end, 2) == 1
        assert await store.outbox.delete_expired(end, 2) == 0

    async def test_the_feed_keeps_what_a_consumer_has_not_read(
        self, store: Store, clock: FrozenClock
    ) -> None:
        for number in range(4):
            await store.sessions.end(revocation(Scope.TOKEN, f"t{number}", clock.now()), now=clock.now())
        found = await entries(store)
        until = found[0].until
        assert until is not None
        timeline = (await store.feed.head()).timeline
        first, second = (Cursor(timeline=timeline, position=Position(n)) for n in (1, 3))
        await store.outbox.enqueue(LOGOUT, [], cursor_from=None, cursor_to=first)
        await store.outbox.enqueue("other", [], cursor_from=None, cursor_to=second)
        await store.outbox.enqueue("of-another-timeline", [], cursor_from=None, cursor_to=at(0))
        assert await store.feed.delete_expired(until, 10) == 1
        assert list(await entries(store)) == list(found[1:])
        assert (await store.feed.live(until))[1] == []
        await store.outbox.enqueue(LOGOUT, [], cursor_from=first, cursor_to=second)
        assert await store.feed.delete_expired(until, 10) == 2
        assert await store.feed.delete_expired(until + READ_WITHIN - TICK, 10) == 0
        assert await store.feed.delete_expired(until + READ_WITHIN, 10) == 1
        assert list(await entries(store)) == []
