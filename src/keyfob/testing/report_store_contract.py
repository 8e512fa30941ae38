"""What a `ReportStore` must do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import ClientId, Position, Timeline
from keyfob.revocation.canary import (
    AUDIENCE_MEMORY,
    CANARY_LIFETIME,
    CLOCK_SKEW,
    KEPT_CANARIES,
    canary_id,
    is_canary,
)
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.reports import (
    CLOCK_TOLERANCE,
    FORGOTTEN_AFTER,
    MAX_VERIFIERS_PER_CLIENT,
    WINDOW,
    Denial,
    Lag,
    Report,
    Reporter,
    VerifierRecord,
)
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    TICK,
    Store,
    StoreContract,
    assert_chained,
    codes,
    entries,
    position,
    revocation,
)

PERIOD = timedelta(seconds=5)
ORDERS = Reporter(client_id=ClientId("orders"), name="orders-1", instance="00" * 8)


def a_report(clock: FrozenClock, *denials: Denial) -> Report:
    """Return the report of a verifier that is level now."""
    return Report(
        sent_at=clock.now(),
        timeline=Timeline("t"),
        position=Position(7),
        level_at=clock.now() - timedelta(seconds=1),
        max_staleness=timedelta(seconds=5),
        bound=timedelta(seconds=30),
        denials=denials,
    )


async def only_record(store: Store) -> VerifierRecord:
    """Return the record of the one verifier that there is."""
    (record,) = (await store.reports.reports()).verifiers
    return record


async def a_canary(store: Store, clock: FrozenClock) -> Entry:
    """Let a verifier report, and revoke a canary for it."""
    await store.reports.report(ORDERS, a_report(clock), now=clock.now())
    entry = await store.reports.revoke_canary(now=clock.now(), period=PERIOD)
    assert entry is not None
    return entry


class ReportStoreContract(StoreContract):
    """`revoke_canary`, `report`, `leave`, `reports`, cleaning up."""

    async def test_a_canary_is_an_entry_in_the_chain_and_nothing_else(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await store.feed.extend_retention(credential=timedelta(days=1), session=timedelta(days=30))
        await store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
        events = await codes(store)
        entry = await a_canary(store, clock)
        assert (entry.scope, entry.id, entry.reach) == (Scope.SESSION, canary_id(1), Reach.END)
        assert is_canary(entry)
        assert entry.until == clock.now() + CANARY_LIFETIME
        assert await position(store) == entry.position == 2
        kept = await entries(store)
        assert kept[-1] == entry
        assert_chained(kept)
        assert await codes(store) == events
        clock.advance(CANARY_LIFETIME)
        assert await store.feed.delete_expired(clock.now(), 10) == 1
        assert [kept.position for kept in await entries(store)] == [1]

    async def test_none_is_revoked_while_nobody_reports(self, store: Store, clock: FrozenClock) -> None:
        assert await store.reports.revoke_canary(now=clock.now(), period=PERIOD) is None
        await store.reports.report(ORDERS, a_report(clock), now=clock.now())
        clock.advance(AUDIENCE_MEMORY + TICK)
        assert await store.reports.revoke_canary(now=clock.now(), period=PERIOD) is None
        assert await position(store) == 0
        clock.advance(-TICK)
        assert await store.reports.revoke_canary(now=clock.now(), period=PERIOD) is not None

    async def test_the_next_is_due_a_period_later(self, store: Store, clock: FrozenClock) -> None:
        await a_canary(store, clock)
        clock.advance(PERIOD * 0.9 - TICK)
        assert await store.reports.revoke_canary(now=clock.now(), period=PERIOD) is None
        clock.advance(TICK)
        entry = await store.reports.revoke_canary(now=clock.now(), period=PERIOD)
        assert entry is not None
        assert entry.id == canary_id(2)
        assert [canary.number for canary in (await store.reports.reports()).canaries] == [1, 2]

    async def test_a_clock_that_was_wrong_does_not_stop_the_canaries(
        self, store: Store, clock: FrozenClock
    ) -> None:
        clock.advance(CLOCK_SKEW)
        await a_canary(store, clock)
        clock.advance(-CLOCK_SKEW)
        assert await store.reports.revoke_canary(now=clock.now(), period=PERIOD) is None
        clock.advance(-TICK)
        assert await store.reports.revoke_canary(now=clock.now(), period=PERIOD) is not None

    async def test_only_the_latest_canaries_are_remembered(self, store: Store, clock: FrozenClock) -> None:
        for _ in range(KEPT_CANARIES + 1):
            await a_canary(store, clock)
            clock.advance(PERIOD)
        numbers = [canary.number for canary in (await store.reports.reports()).canaries]
        assert numbers == list(range(2, KEPT_CANARIES + 2))

    async def test_a_report_is_kept_as_it_came(self, store: Store, clock: FrozenClock) -> None:
        came = clock.now() + timedelta(milliseconds=20)
        report = a_report(clock)
        assert await store.reports.report(ORDERS, report, now=came)
        assert await only_record(store) == VerifierRecord(
            client_id=ORDERS.client_id,
            name=ORDERS.name,
            instance=ORDERS.instance,
            first_at=came,
            heard_at=came,
            sent_at=report.sent_at,
            timeline=report.timeline,
            position=report.position,
            level_at=report.level_at,
            max_staleness=report.max_staleness,
            bound=report.bound,
        )
        clock.advance(10)
        never = replace(a_report(clock), level_at=None, position=Position(3))
        assert await store.reports.report(ORDERS, never, now=clock.now())
        record = await only_record(store)
        assert (record.first_at, record.heard_at) == (came, clock.now())
        assert (record.level_at, record.position) == (None, 3)

    async def test_a_denial_becomes_a_lag_once(self, store: Store, clock: FrozenClock) -> None:
        canary = await a_canary(store, clock)
        denied = Denial(canary.position, canary.at + timedelta(milliseconds=7))
        other = Denial(Position(canary.position + 1), canary.at)
        clock.advance(1)
        await store.reports.report(ORDERS, a_report(clock, denied, other), now=clock.now())
        later = Denial(canary.position, canary.at + timedelta(milliseconds=9))
        clock.advance(1)
        await store.reports.report(ORDERS, a_report(clock, later), now=clock.now())
        assert (await only_record(store)).lags == (Lag(1, to_micros(canary.at), 7_000, 1_000_000, False),)

    async def test_a_moment_that_cannot_be_counts_as_the_reports(
        self, store: Store, clock: FrozenClock
    ) -> None:
        for number, (claimed, lag, doubtful) in enumerate(
            (
                (-CLOCK_TOLERANCE, 0, False),
                (-CLOCK_TOLERANCE - TICK, 2_000_000, True),
                (timedelta(seconds=2) + CLOCK_TOLERANCE, 2_000_000, False),
                (timedelta(seconds=2) + CLOCK_TOLERANCE + TICK, 2_000_000, True),
            )
        ):
            canary = await a_canary(store, clock)
            clock.advance(2)
            denial = Denial(canary.position, canary.at + claimed)
            await store.reports.report(ORDERS, a_report(clock, denial), now=clock.now())
            kept = (await only_record(store)).lags[number]
            assert (kept.lag, kept.vouched, kept.doubtful) == (lag, 2_000_000, doubtful)
            clock.advance(PERIOD)

    async def test_a_report_that_was_overtaken_adds_its_lags_alone(
        self, store: Store, clock: FrozenClock
    ) -> None:
        canary = await a_canary(store, clock)
        early = replace(a_report(clock, Denial(canary.position, canary.at)), level_at=None)
        clock.advance(1)
        later = a_report(clock)
        await store.reports.report(ORDERS, later, now=clock.now())
        heard_at = clock.now()
        clock.advance(1)
        await store.reports.report(ORDERS, early, now=clock.now())
        record = await only_record(store)
        assert (record.sent_at, record.level_at, record.heard_at) == (later.sent_at, later.level_at, heard_at)
        assert [lag.number for lag in record.lags] == [1]

    async def test_a_clock_that_was_ahead_does_not_silence_what_comes_after(
        self, store: Store, clock: FrozenClock
    ) -> None:
        ahead = clock.now() + CLOCK_TOLERANCE
        for sent_at, kept in ((ahead, ahead), (ahead + TICK, clock.now())):
            await store.reports.report(ORDERS, replace(a_report(clock), sent_at=sent_at), now=clock.now())
            await store.reports.report(ORDERS, a_report(clock), now=clock.now())
            assert (await only_record(store)).sent_at == kept

    async def test_lags_leave_with_the_window(self, store: Store, clock: FrozenClock) -> None:
        canary = await a_canary(store, clock)
        await store.reports.report(
            ORDERS, a_report(clock, Denial(canary.position, canary.at)), now=clock.now()
        )
        clock.advance(WINDOW - TICK)
        await store.reports.report(ORDERS, a_report(clock), now=clock.now())
        assert len((await only_record(store)).lags) == 1
        clock.advance(TICK)
        await store.reports.report(ORDERS, a_report(clock), now=clock.now())
        assert (await only_record(store)).lags == ()

    async def test_processes_and_clients_are_told_apart(self, store: Store, clock: FrozenClock) -> None:
        others = [
            replace(ORDERS, instance="01" * 8),
            replace(ORDERS, name="orders-0"),
            replace(ORDERS, client_id=ClientId("billing")),
        ]
        for reporter in (ORDERS, *others):
            assert await store.reports.report(reporter, a_report(clock), now=clock.now())
        await store.reports.leave(others[0])
        await store.reports.leave(others[0])
        names = [(one.client_id, one.name) for one in (await store.reports.reports()).verifiers]
        assert names == [("billing", "orders-1"), ("orders", "orders-0"), ("orders", "orders-1")]

    async def test_there_is_room_for_so_many_and_nobody_is_pushed_out(
        self, store: Store, clock: FrozenClock
    ) -> None:
        for number in range(MAX_VERIFIERS_PER_CLIENT):
            reporter = replace(ORDERS, instance=f"{number:016x}")
            assert await store.reports.report(reporter, a_report(clock), now=clock.now())
        assert not await store.reports.report(
            replace(ORDERS, instance="f" * 16), a_report(clock), now=clock.now()
        )
        assert await store.reports.report(ORDERS, a_report(clock), now=clock.now())
        other = replace(ORDERS, client_id=ClientId("billing"))
        assert await store.reports.report(other, a_report(clock), now=clock.now())
        assert len((await store.reports.reports()).verifiers) == MAX_VERIFIERS_PER_CLIENT + 1

    async def test_the_silent_are_forgotten_after_an_hour(self, store: Store, clock: FrozenClock) -> None:
        await store.reports.report(ORDERS, a_report(clock), now=clock.now())
        clock.advance(FORGOTTEN_AFTER - TICK)
        assert await store.reports.delete_expired(clock.now(), 10) == 0
        clock.advance(TICK)
        assert await store.reports.delete_expired(clock.now(), 0) == 0
        assert await store.reports.delete_expired(clock.now(), 10) == 1
        assert (await store.reports.reports()).verifiers == []
