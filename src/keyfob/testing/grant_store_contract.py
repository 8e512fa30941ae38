"""What a `GrantStore` must do."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from keyfob.base.identifiers import Position
from keyfob.grants.one_time import MAX_BODY, OneTime, OneTimeKind
from keyfob.grants.rules import KEPT
from keyfob.grants.store import Amended, Missing, Outdated, Taken, TakenBefore
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import TICK, Store, StoreContract

CODE = OneTimeKind.CODE
DEVICE = OneTimeKind.DEVICE
MINUTE = timedelta(minutes=1)


def numbered(number: int) -> bytes:
    """Return a digest."""
    return number.to_bytes(32, "big")


def a_record(clock: FrozenClock, number: int = 1, kind: OneTimeKind = CODE) -> OneTime:
    """Return an open record that lasts a minute."""
    now = clock.now()
    return OneTime(
        kind=kind,
        digest=numbered(number),
        body=b'{"n":%d}' % number,
        as_of=Position(7),
        created_at=now,
        expires_at=now + MINUTE,
    )


def a_device(clock: FrozenClock, number: int = 1, alias: int = 100) -> OneTime:
    """Return an open record that a second secret finds."""
    return replace(a_record(clock, number, DEVICE), alias=numbered(alias))


class GrantStoreContract(StoreContract):
    """`add`, `find`, `find_by_alias`, `take`, `amend`, cleaning up."""

    async def test_a_record_is_found_as_it_was_added(self, store: Store, clock: FrozenClock) -> None:
        for record in (a_record(clock), a_device(clock), replace(a_record(clock, 2), body=b"x" * MAX_BODY)):
            assert await store.grants.add(record)
            assert await store.grants.find(record.kind, record.digest, now=clock.now()) == record
        assert await store.grants.find(CODE, numbered(3), now=clock.now()) is None

    async def test_a_secret_of_one_kind_is_none_of_another(self, store: Store, clock: FrozenClock) -> None:
        assert await store.grants.add(a_record(clock))
        for kind in set(OneTimeKind) - {CODE}:
            assert await store.grants.find(kind, numbered(1), now=clock.now()) is None
            assert await store.grants.take(kind, numbered(1), now=clock.now()) == Missing()
        assert await store.grants.add(a_device(clock))
        assert isinstance(await store.grants.take(CODE, numbered(1), now=clock.now()), Taken)

    async def test_a_digest_is_added_once(self, store: Store, clock: FrozenClock) -> None:
        assert await store.grants.add(a_record(clock))
        assert not await store.grants.add(replace(a_record(clock), body=b"{}"))
        assert await store.grants.find(CODE, numbered(1), now=clock.now()) == a_record(clock)
        await store.grants.take(CODE, numbered(1), now=clock.now())
        assert not await store.grants.add(a_record(clock))

    async def test_what_no_service_makes_is_refused(self, store: Store, clock: FrozenClock) -> None:
        good = a_record(clock)
        for wrong in (
            replace(good, digest=b"short"),
            replace(good, alias=b"short"),
            replace(good, body=b"x" * (MAX_BODY + 1)),
            replace(good, taken_at=clock.now()),
            replace(good, expires_at=clock.now()),
        ):
            with pytest.raises(ValueError, match="one-time record"):
                await store.grants.add(wrong)
        with pytest.raises(ValueError, match="one-time record"):
            await store.grants.amend(
                CODE, numbered(1), version=1, body=b"x" * (MAX_BODY + 1), now=clock.now()
            )

    async def test_an_open_record_ends_at_its_instant(self, store: Store, clock: FrozenClock) -> None:
        record = a_device(clock)
        await store.grants.add(record)
        last = record.expires_at - TICK
        assert await store.grants.find(DEVICE, record.digest, now=last) == record
        assert await store.grants.find_by_alias(DEVICE, numbered(100), now=last) == record
        for over in (record.expires_at, record.expires_at + KEPT):
            assert await store.grants.find(DEVICE, record.digest, now=over) is None
            assert await store.grants.find_by_alias(DEVICE, numbered(100), now=over) is None
            assert await store.grants.take(DEVICE, record.digest, now=over) == Missing()
            amended = await store.grants.amend(DEVICE, record.digest, version=1, body=b"{}", now=over)
            assert amended == Missing()
        assert isinstance(await store.grants.take(DEVICE, record.digest, now=last), Taken)

    async def test_a_record_is_taken_once(self, store: Store, clock: FrozenClock) -> None:
        record = a_record(clock)
        await store.grants.add(record)
        first = await store.grants.take(CODE, record.digest, now=clock.now())
        taken = replace(record, taken_at=clock.now(), version=2)
        assert first == Taken(taken)
        assert await store.grants.find(CODE, record.digest, now=clock.now()) == taken
        again_at = clock.advance(1)
        assert await store.grants.take(CODE, record.digest, now=again_at) == TakenBefore(
            replace(taken, reused_at=again_at)
        )
        later = await store.grants.take(CODE, record.digest, now=clock.advance(1))
        assert later == TakenBefore(replace(taken, reused_at=again_at))
        assert await store.grants.find(CODE, record.digest, now=clock.now()) == replace(
            taken, reused_at=again_at
        )

    async def test_a_second_use_is_known_for_a_day_past_the_end(
        self, store: Store, clock: FrozenClock
    ) -> None:
        record = a_record(clock)
        await store.grants.add(record)
        await store.grants.take(CODE, record.digest, now=clock.now())
        last = record.expires_at + KEPT - TICK
        assert await store.grants.delete_expired(last, 10) == 0
        assert isinstance(await store.grants.take(CODE, record.digest, now=last), TakenBefore)
        over = record.expires_at + KEPT
        assert await store.grants.take(CODE, record.digest, now=over) == Missing()
        assert await store.grants.find(CODE, record.digest, now=over) is None
        assert await store.grants.delete_expired(over, 10) == 1
        assert await store.grants.delete_expired(over, 10) == 0

    async def test_of_many_at_once_one_takes(self, store: Store, clock: FrozenClock) -> None:
        for number in range(10):
            await store.grants.add(a_record(clock, number))
            outcomes = await asyncio.gather(
                *(store.grants.take(CODE, numbered(number), now=clock.now()) for _ in range(5))
            )
            assert Counter(map(type, outcomes)) == {Taken: 1, TakenBefore: 4}

    async def test_an_amendment_needs_the_present_version(self, store: Store, clock: FrozenClock) -> None:
        record = a_record(clock)
        await store.grants.add(record)
        expected = replace(record, body=b"{}", version=2)
        assert await store.grants.amend(
            CODE, record.digest, version=1, body=b"{}", now=clock.now()
        ) == Amended(expected)
        assert (
            await store.grants.amend(CODE, record.digest, version=1, body=b"[]", now=clock.now())
            == Outdated()
        )
        assert await store.grants.find(CODE, record.digest, now=clock.now()) == expected
        assert (
            await store.grants.amend(CODE, numbered(9), version=1, body=b"{}", now=clock.now()) == Missing()
        )

    async def test_taking_outdates_a_version_and_a_second_use_does_not(
        self, store: Store, clock: FrozenClock
    ) -> None:
        record = a_record(clock)
        await store.grants.add(record)
        taken = await store.grants.take(CODE, record.digest, now=clock.now())
        assert isinstance(taken, Taken)
        stale = await store.grants.amend(CODE, record.digest, version=1, body=b"{}", now=clock.now())
        assert stale == Outdated()
        await store.grants.take(CODE, record.digest, now=clock.now())
        late = record.expires_at + MINUTE
        amended = await store.grants.amend(CODE, record.digest, version=2, body=b"{}", now=late)
        assert isinstance(amended, Amended)
        assert (amended.record.reused_at, amended.record.body) == (clock.now(), b"{}")
        before = await store.grants.take(CODE, record.digest, now=late)
        assert before == TakenBefore(amended.record)

    async def test_an_alias_is_of_one_open_record_of_its_kind(self, store: Store, clock: FrozenClock) -> None:
        first = a_device(clock)
        assert await store.grants.add(first)
        assert not await store.grants.add(a_device(clock, 2))
        assert await store.grants.find(DEVICE, numbered(2), now=clock.now()) is None
        assert await store.grants.add(replace(a_device(clock, 2), kind=CODE))
        assert await store.grants.find_by_alias(DEVICE, numbered(100), now=clock.now()) == first
        assert await store.grants.find_by_alias(DEVICE, numbered(1), now=clock.now()) is None

    async def test_an_alias_is_free_at_the_end_of_its_record(self, store: Store, clock: FrozenClock) -> None:
        await store.grants.add(a_device(clock))
        clock.advance(MINUTE - TICK)
        assert not await store.grants.add(a_device(clock, 2))
        clock.advance(TICK)
        second = a_device(clock, 2)
        assert await store.grants.add(second)
        assert await store.grants.delete_expired(clock.now(), 10) == 1
        assert await store.grants.find_by_alias(DEVICE, numbered(100), now=clock.now()) == second

    async def test_a_record_that_is_taken_gives_its_alias_up(self, store: Store, clock: FrozenClock) -> None:
        await store.grants.add(a_device(clock))
        taken = await store.grants.take(DEVICE, numbered(1), now=clock.now())
        assert isinstance(taken, Taken)
        assert taken.record.alias is None
        assert await store.grants.find_by_alias(DEVICE, numbered(100), now=clock.now()) is None
        second = a_device(clock, 2)
        assert await store.grants.add(second)
        assert isinstance(await store.grants.take(DEVICE, numbered(1), now=clock.now()), TakenBefore)
        assert await store.grants.find_by_alias(DEVICE, numbered(100), now=clock.now()) == second

    async def test_amending_keeps_the_alias(self, store: Store, clock: FrozenClock) -> None:
        await store.grants.add(a_device(clock))
        await store.grants.amend(DEVICE, numbered(1), version=1, body=b"{}", now=clock.now())
        found = await store.grants.find_by_alias(DEVICE, numbered(100), now=clock.now())
        assert found is not None
        assert (found.body, found.version) == (b"{}", 2)

    async def test_cleaning_up_deletes_what_is_over_and_no_more_than_asked(
        self, store: Store, clock: FrozenClock
    ) -> None:
        for number in range(4):
            await store.grants.add(a_device(clock, number, 100 + number))
        await store.grants.take(DEVICE, numbered(0), now=clock.now())
        end = clock.now() + MINUTE
        assert await store.grants.delete_expired(end - TICK, 10) == 0
        assert await store.grants.delete_expired(end, 2) == 2
        assert await store.grants.delete_expired(end, 2) == 1
        assert await store.grants.delete_expired(end, 2) == 0
        assert await store.grants.find(DEVICE, numbered(0), now=end) is not None
