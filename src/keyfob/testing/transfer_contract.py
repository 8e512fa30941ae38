"""What moves a store: everything comes out as records, and comes to stand again where they are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import pytest
from msgspec.structs import replace

from keyfob.base.identifiers import ClientId, Position, Subject
from keyfob.clients.client import Client
from keyfob.clients.store import UsedAssertion
from keyfob.grants.one_time import OneTimeKind
from keyfob.grants.store import Taken, TakenBefore
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.reports import Denial
from keyfob.sessions.session import Session
from keyfob.sessions.store import CutOff, Ended, Renewed, Replayed, Rotated
from keyfob.stores.records import AnyRecord, Kind, OneTimeRow, SessionRow, decode, encode
from keyfob.stores.transfer import Tally, Transfer, is_unused, pages, tally
from keyfob.testing.account_store_contract import an_account
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.grant_store_contract import a_device, a_record, numbered
from keyfob.testing.key_store_contract import a_key
from keyfob.testing.outbox_store_contract import LEASE, LOGOUT, a_delivery, at
from keyfob.testing.race_verbs import add_account
from keyfob.testing.renewal_contract import renewal
from keyfob.testing.report_store_contract import ORDERS, a_canary, a_report
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    LIFETIME,
    SHOP,
    TICK,
    WINDOW,
    Store,
    StoreContract,
    a_full_session,
    a_session,
    an_api_key,
    an_event,
    entries,
    found,
    position,
    put,
    put_child,
    put_new,
    revocation,
)


class MovableStore(Store, Protocol):
    """A store that can be moved."""

    @property
    def transfer(self) -> Transfer: ...


class TransferContract(StoreContract):
    """Subclasses give `store` and `other`, a second and empty one; both have a `transfer`."""

    @pytest.fixture
    def other(self, clock: FrozenClock) -> MovableStore:
        """Give another empty store on *clock*."""
        raise NotImplementedError("this contract class needs a fixture `other`")

    async def test_everything_stands_again_where_it_is_loaded(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        await carry(store, other, clock)
        before, after = await _tallies(store, clock), await _tallies(other, clock)
        assert before == after
        assert all(one.count > 0 for one in before.values())
        assert await store.feed.head() == await other.feed.head()
        assert list(await entries(store)) == list(await entries(other))
        assert sorted(await store.keys.all(), key=_key_id) == sorted(await other.keys.all(), key=_key_id)
        assert await store.accounts.find(ALICE) == await other.accounts.find(ALICE)
        assert list(await store.clients.list()) == list(await other.clients.list())
        assert await store.audit.list(limit=100) == await other.audit.list(limit=100)
        assert await store.reports.reports() == await other.reports.reports()

    async def test_a_page_that_is_loaded_twice_changes_nothing(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        await carry(store, other, clock)
        await carry(store, other, clock)
        assert await _tallies(store, clock) == await _tallies(other, clock)

    async def test_pages_of_every_size_hold_the_same(self, store: MovableStore, clock: FrozenClock) -> None:
        await fill(store, clock)
        async with store.transfer.snapshot(clock.now()) as snapshot:
            for kind in Kind:
                whole = [
                    record for page in [await snapshot.read(kind, after=None, limit=99)] for record in page
                ]
                assert await snapshot.count(kind) == len(whole)
                for limit in (1, 2, len(whole)):
                    parts = [record async for page in pages(snapshot, kind, limit=limit) for record in page]
                    assert parts == whole
                assert len({record.key for record in whole}) == len(whole)

    async def test_a_snapshot_is_one_moment(self, store: MovableStore, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        async with store.transfer.snapshot(clock.now()) as snapshot:
            await put_new(store, clock)
            await store.sessions.end(
                revocation(Scope.SESSION, session.session_id, clock.now()), now=clock.now()
            )
            rows = await snapshot.read(Kind.SESSIONS, after=None, limit=9)
            assert [row.session for row in rows if isinstance(row, SessionRow)] == [session]
            assert not await snapshot.read(Kind.ENTRIES, after=None, limit=9)

    async def test_what_is_over_is_left_out_from_that_instant_on(
        self, store: MovableStore, clock: FrozenClock
    ) -> None:
        await put_new(store, clock)
        await store.sessions.end(revocation(Scope.SUBJECT, BOB, clock.now()), now=clock.now())
        (entry,) = await entries(store)
        assert entry.until is not None
        kinds = (Kind.SESSIONS, Kind.ENTRIES, Kind.CUT_OFFS)
        moments = (
            clock.now() + LIFETIME,
            entry.until,
            entry.at + LIFETIME + timedelta(minutes=5),
        )
        for kind, moment in zip(kinds, moments, strict=True):
            async with store.transfer.snapshot(moment - TICK) as snapshot:
                assert len(await snapshot.read(kind, after=None, limit=9)) == 1
            async with store.transfer.snapshot(moment) as snapshot:
                assert not await snapshot.read(kind, after=None, limit=9)

    async def test_what_is_removed_is_gone_and_what_is_unknown_is_passed_over(
        self, store: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        for kind in Kind:
            async with store.transfer.snapshot(clock.now()) as snapshot:
                records = await snapshot.read(kind, after=None, limit=99)
            await store.transfer.remove(kind, [record.key for record in records])
            await store.transfer.remove(kind, [record.key for record in records])
            async with store.transfer.snapshot(clock.now()) as snapshot:
                left = await snapshot.read(kind, after=None, limit=99)
            assert len(left) == (1 if kind is Kind.FEED else 0)

    async def test_what_is_replaced_is_exactly_what_was_given(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(other, clock)
        await other.sessions.end(revocation(Scope.SUBJECT, "carol", clock.now()), now=clock.now())
        await fill(store, clock)
        records, head = await all_records(store, clock), await other.feed.head()
        given = [records[start : start + 3] for start in range(0, len(records), 3)]
        assert await other.transfer.replace(given, kinds=frozenset(Kind), instead_of=head)
        assert await _tallies(store, clock) == await _tallies(other, clock)
        assert await other.feed.head() == await store.feed.head()

    async def test_what_is_replaced_in_part_leaves_the_rest(
        self, store: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        before = await _tallies(store, clock)
        kinds = {Kind.CLIENTS, Kind.ACCOUNTS, Kind.SESSIONS}
        assert await store.transfer.replace([], kinds=kinds, instead_of=await store.feed.head())
        after = await _tallies(store, clock)
        for kind in Kind:
            assert after[kind] == (Tally() if kind in kinds else before[kind])

    async def test_nothing_is_replaced_where_the_head_is_another(
        self, store: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        head = await store.feed.head()
        await store.sessions.end(revocation(Scope.SUBJECT, "carol", clock.now()), now=clock.now())
        before = await _tallies(store, clock)
        assert not await store.transfer.replace([], kinds=frozenset(Kind), instead_of=head)
        assert await _tallies(store, clock) == before

    async def test_nothing_is_replaced_where_reading_fails_in_the_middle(
        self, store: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        before, records = await _tallies(store, clock), await all_records(store, clock)

        def breaking() -> Iterator[Sequence[AnyRecord]]:
            yield records[:3]
            raise ValueError("the file ends here")

        with pytest.raises(ValueError, match="ends here"):
            await store.transfer.replace(
                breaking(), kinds=frozenset(Kind), instead_of=await store.feed.head()
            )
        assert await _tallies(store, clock) == before

    async def test_only_a_store_that_was_never_used_is_unused(
        self, store: MovableStore, clock: FrozenClock
    ) -> None:
        async with store.transfer.snapshot(clock.now()) as snapshot:
            assert await is_unused(snapshot)
        await store.sessions.end(revocation(Scope.EVERYTHING, "", clock.now()), now=clock.now())
        async with store.transfer.snapshot(clock.now() + 9 * LIFETIME) as snapshot:
            assert not await is_unused(snapshot)

    async def test_no_record_shows_a_secret(self, store: MovableStore, clock: FrozenClock) -> None:
        await fill(store, clock)
        for record in await all_records(store, clock):
            assert repr(record) == f"{type(record).__name__}(key={record.key!r})"
            assert decode(encode(record)) == record

    async def test_a_loaded_session_lives_on(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        await rotate(store, session.session_id, 0, clock.now())
        assert await store.sessions.write_data(session.session_id, b"cart", version=0, now=clock.now())
        await carry(store, other, clock)
        assert isinstance(await rotate(other, session.session_id, 0, clock.now()), Replayed)
        clock.advance(WINDOW)
        assert isinstance(await rotate(other, session.session_id, 1, clock.now()), Rotated)
        data = await other.sessions.read_data(session.session_id)
        assert data is not None
        assert (data.data, data.version) == (b"cart", 1)
        outcome = await other.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
        assert isinstance(outcome, Ended)
        assert outcome.sessions == 1

    async def test_a_loaded_cut_off_still_cuts_off(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        late = a_session(store, clock)
        await store.sessions.end(revocation(Scope.CLIENT, session.client_id, clock.now()), now=clock.now())
        await carry(store, other, clock)
        assert (await found(other, session.session_id)).ended_position == 1
        assert await put(other, late) == CutOff()

    async def test_a_loaded_code_that_was_used_stays_used(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        await carry(store, other, clock)
        again = await other.grants.take(OneTimeKind.CODE, numbered(1), now=clock.now())
        assert isinstance(again, TakenBefore)
        device = await other.grants.find_by_alias(OneTimeKind.DEVICE, numbered(100), now=clock.now())
        assert device == a_device(clock)
        assert not await other.grants.add(a_device(clock, 2))
        assert isinstance(await other.grants.take(OneTimeKind.DEVICE, numbered(1), now=clock.now()), Taken)
        assert await other.grants.add(a_device(clock, 2))
        (leased,) = await other.outbox.lease(clock.now(), until=clock.now() + LEASE, limit=9)
        assert leased.delivery_id == "two"

    async def test_an_alias_that_has_changed_hands_is_loaded_in_any_order(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        first, second = a_device(clock), a_device(clock, 2)
        await other.transfer.load([OneTimeRow(record=first)])
        await other.transfer.load([OneTimeRow(record=second)])
        given_up = dataclasses.replace(first, alias=None, taken_at=clock.now())
        await other.transfer.load([OneTimeRow(record=given_up)])
        assert await other.grants.find_by_alias(second.kind, numbered(100), now=clock.now()) == second
        assert await other.grants.find(first.kind, first.digest, now=clock.now()) == given_up
        await other.transfer.remove(Kind.ONE_TIMES, [OneTimeRow(record=second).key])
        assert await other.grants.add(a_device(clock, 3))

    async def test_positions_and_chain_go_on_where_they_were(
        self, store: MovableStore, other: MovableStore, clock: FrozenClock
    ) -> None:
        await fill(store, clock)
        await carry(store, other, clock)
        order = revocation(Scope.SUBJECT, "carol", clock.now())
        here = await store.sessions.end(order, now=clock.now())
        there = await other.sessions.end(order, now=clock.now())
        assert here == there


def _key_id(key: object) -> str:
    return str(getattr(key, "key_id", ""))


async def _tallies(store: MovableStore, clock: FrozenClock) -> dict[Kind, Tally]:
    async with store.transfer.snapshot(clock.now()) as snapshot:
        return await tally(snapshot)


async def all_records(store: MovableStore, clock: FrozenClock) -> list[AnyRecord]:
    """Return every record of *store*."""
    async with store.transfer.snapshot(clock.now()) as snapshot:
        return [record for kind in Kind async for page in pages(snapshot, kind) for record in page]


async def carry(store: MovableStore, other: MovableStore, clock: FrozenClock) -> None:
    """Load everything of *store* into *other*."""
    async with store.transfer.snapshot(clock.now()) as snapshot:
        for kind in Kind:
            async for page in pages(snapshot, kind, limit=3):
                await other.transfer.load(page)


async def fill(store: Store, clock: FrozenClock) -> Session:
    """Put something of every kind into *store*; return a live session."""
    session = await put_new(store, clock)
    await put_child(store, clock, session)
    await rotate(store, session.session_id, 0, clock.now())
    await store.sessions.write_data(session.session_id, b"cart", version=0, now=clock.now())
    await put(store, a_full_session(store, clock))
    other = await put_new(store, clock, BOB)
    outcome = await store.sessions.renew(
        other.session_id, renewal(other, at=clock.now()), now=clock.now(), event=an_event(clock.now())
    )
    assert isinstance(outcome, Renewed)
    await store.sessions.end(revocation(Scope.SESSION, other.session_id, clock.now()), now=clock.now())
    await store.sessions.end(revocation(Scope.SUBJECT, "zoë 🔑", clock.now()), now=clock.now())
    await store.sessions.end(
        revocation(Scope.SUBJECT, ALICE, clock.now(), reach=Reach.CLAIMS), now=clock.now()
    )
    await store.sessions.end(revocation(Scope.KEY, "kid", clock.now()), now=clock.now())
    await store.keys.add(a_key(clock, "one"), after=None)
    await store.keys.set_revoked(a_key(clock, "one").key_id, clock.now())
    await add_account(store, an_account(clock))
    await add_account(store, an_account(clock, Subject("usr_2"), "bob"))
    client = Client(
        client_id=SHOP, created_at=clock.now(), secret_digests=(bytes(32), b"x" * 32), scopes=frozenset("ab")
    )
    await store.clients.add(client, an_event(clock.now()))
    await store.clients.add(Client(client_id=ClientId("app"), created_at=clock.now()), an_event(clock.now()))
    await store.clients.take_assertion(UsedAssertion(bytes(range(32)), clock.now() + LIFETIME))
    await put(store, replace(an_api_key(store, clock), as_of=await position(store)))
    await store.throttle.attempt(["account", "address"], now=clock.now())
    await store.throttle.remember("familiar", now=clock.now())
    await store.reports.report(ORDERS, a_report(clock), now=clock.now())
    await store.grants.add(a_record(clock))
    await store.grants.take(OneTimeKind.CODE, numbered(1), now=clock.now())
    await store.grants.add(a_device(clock))
    await store.consents.give(
        Subject("zoë 🔑"), SHOP, frozenset({"orders:read"}), event=an_event(clock.now())
    )
    await store.outbox.enqueue(
        LOGOUT, [a_delivery(clock), a_delivery(clock, "two")], cursor_from=None, cursor_to=at(1)
    )
    await store.outbox.lease(clock.now(), until=clock.now() + LEASE, limit=1)
    canary = await a_canary(store, clock)
    await store.reports.report(ORDERS, a_report(clock, Denial(canary.position, canary.at)), now=clock.now())
    assert await position(store) > Position(0)
    return session
