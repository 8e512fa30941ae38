"""Races of what is taken once, and of deliveries: as `races`, with the same fixtures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import ClassVar

import pytest

from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.grants.consent import Consent
from keyfob.grants.delivery import Cursor, Delivery
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.store import Amended, AmendOutcome, Outdated, Taken, TakenBefore, TakeOutcome
from keyfob.revocation.entry import Scope
from keyfob.testing.account_store_contract import an_account
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.grant_store_contract import CODE, DEVICE, a_device, a_record, numbered
from keyfob.testing.outbox_store_contract import LEASE, LOGOUT, a_delivery, at
from keyfob.testing.race_verbs import add_account
from keyfob.testing.racers import Racers, ThreadRacers
from keyfob.testing.races import RACERS
from keyfob.testing.store_contract import ALICE, SHOP, Store, StoreContract, an_event, revocation

Amendment = tuple[OneTimeKind, bytes, int, bytes, datetime]


async def add_record(store: Store, record: OneTime) -> bool:
    """Add a record."""
    return await store.grants.add(record)


async def take(store: Store, order: tuple[OneTimeKind, bytes, datetime]) -> TakeOutcome:
    """Take a record."""
    kind, digest, now = order
    return await store.grants.take(kind, digest, now=now)


async def amend(store: Store, order: Amendment) -> AmendOutcome:
    """Amend a record."""
    kind, digest, version, body, now = order
    return await store.grants.amend(kind, digest, version=version, body=body, now=now)


async def take_or_amend(
    store: Store, order: tuple[OneTimeKind, bytes, datetime] | Amendment
) -> TakeOutcome | AmendOutcome:
    """Take a record, or amend it."""
    return await amend(store, order) if len(order) > 3 else await take(store, order)


async def enqueue(store: Store, order: tuple[Delivery, Cursor | None, Cursor]) -> bool:
    """Queue one delivery."""
    delivery, before, after = order
    return await store.outbox.enqueue(LOGOUT, [delivery], cursor_from=before, cursor_to=after)


async def lease(store: Store, now: datetime) -> list[str]:
    """Lease two deliveries; return their ids."""
    leased = await store.outbox.lease(now, until=now + LEASE, limit=2)
    return [one.delivery_id for one in leased]


async def give(store: Store, order: tuple[str, datetime]) -> Consent | None:
    """Let Alice allow the shop one scope more."""
    scope, now = order
    return await store.consents.give(ALICE, SHOP, frozenset({scope}), event=an_event(now))


async def give_or_delete(store: Store, order: tuple[str, datetime]) -> bool:
    """Let Alice allow something, or delete her account or the client."""
    scope, now = order
    match scope:
        case "account":
            order_ = revocation(Scope.SUBJECT, ALICE, now)
            return await store.accounts.delete(ALICE, revocation=order_) is not None
        case "client":
            order_ = revocation(Scope.CLIENT, SHOP, now)
            return await store.clients.delete(SHOP, revocation=order_) is not None
        case _:
            return await give(store, order) is not None


class GrantRaces(StoreContract):
    """Eight at once, `rounds` times."""

    rounds: ClassVar[int] = 8

    @pytest.fixture
    def racers(self, store: Store) -> Racers | Iterator[Racers]:
        """Give the racers."""
        return ThreadRacers(store)

    async def test_a_record_is_taken_by_one(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for number in range(self.rounds):
            await store.grants.add(a_record(clock, number))
            outcomes = racers.race(take, [(CODE, numbered(number), clock.now())] * RACERS)
            assert Counter(map(type, outcomes)) == {Taken: 1, TakenBefore: RACERS - 1}
            left = await store.grants.find(CODE, numbered(number), now=clock.now())
            assert left is not None
            assert left.reused_at is not None
            assert all(one.record == left for one in outcomes if isinstance(one, TakenBefore))

    async def test_an_alias_is_given_to_one(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for number in range(self.rounds):
            records = [a_device(clock, number * RACERS + racer, 1000 + number) for racer in range(RACERS)]
            outcomes = racers.race(add_record, records)
            assert Counter(outcomes) == {True: 1, False: RACERS - 1}
            holder = await store.grants.find_by_alias(DEVICE, numbered(1000 + number), now=clock.now())
            assert holder == records[outcomes.index(True)]

    async def test_a_version_is_amended_by_one(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        await store.grants.add(a_record(clock))
        for version in range(1, self.rounds + 1):
            orders = [(CODE, numbered(1), version, b"%d" % racer, clock.now()) for racer in range(RACERS)]
            outcomes = racers.race(amend, orders)
            assert Counter(map(type, outcomes)) == {Amended: 1, Outdated: RACERS - 1}
            (won,) = (one for one in outcomes if isinstance(one, Amended))
            assert await store.grants.find(CODE, numbered(1), now=clock.now()) == won.record

    async def test_what_is_taken_is_what_was_amended_last(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for number in range(self.rounds):
            await store.grants.add(a_device(clock, number, 1000 + number))
            place = (DEVICE, numbered(number))
            orders = [
                (*place, 1, b"denied", clock.now()) if racer % 2 else (*place, clock.now())
                for racer in range(RACERS)
            ]
            outcomes = racers.race(take_or_amend, orders)
            (taken,) = (one for one in outcomes if isinstance(one, Taken))
            amended = [one for one in outcomes if isinstance(one, Amended)]
            assert len(amended) <= 1
            assert (taken.record.body == b"denied") == bool(amended)

    async def test_the_same_entries_are_queued_by_one(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        before: Cursor | None = None
        for number in range(self.rounds):
            orders = [(a_delivery(clock, f"{number}-{racer}"), before, at(number)) for racer in range(RACERS)]
            outcomes = racers.race(enqueue, orders)
            assert Counter(outcomes) == {True: 1, False: RACERS - 1}
            before = at(number)
            assert await store.outbox.cursor(LOGOUT) == before

    async def test_a_delivery_is_leased_by_one(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        deliveries = [a_delivery(clock, f"d{number:02}") for number in range(RACERS)]
        await store.outbox.enqueue(LOGOUT, deliveries, cursor_from=None, cursor_to=at(1))
        for _ in range(self.rounds):
            leased = [name for names in racers.race(lease, [clock.now()] * RACERS) for name in names]
            assert len(leased) == len(set(leased)) > 0
            # Whoever met only what others were about to take got nothing: it is there for the next one.
            while more := await lease(store, clock.now()):
                leased += more
            assert sorted(leased) == [one.delivery_id for one in deliveries]
            clock.advance(LEASE)

    async def test_no_consent_is_lost(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        await store.clients.add(Client(client_id=SHOP, created_at=clock.now()), an_event(clock.now()))
        given: set[str] = set()
        for round_ in range(self.rounds):
            scopes = [f"{round_}-{racer}" for racer in range(RACERS)]
            racers.race(give, [(scope, clock.now()) for scope in scopes])
            given |= set(scopes)
            found = await store.consents.find(ALICE, SHOP)
            assert found is not None
            assert found.scopes == given

    async def test_no_consent_survives_its_client(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for _ in range(self.rounds):
            client = Client(client_id=ClientId(SHOP), created_at=clock.now())
            await store.clients.add(client, an_event(clock.now()))
            await add_account(store, an_account(clock))
            orders = ["account", "client", *(f"scope-{racer}" for racer in range(RACERS - 2))]
            racers.race(give_or_delete, [(order, clock.now()) for order in orders])
            assert await store.consents.find(ALICE, SHOP) is None
            clock.advance(1)
            await store.clients.add(replace(client, created_at=clock.now()), an_event(clock.now()))
            assert await store.consents.find(ALICE, SHOP) is None
            await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
            clock.advance(1)
