"""Canaries: one authority revokes each, only while somebody reports, and only where they are wanted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from keyfob.authority.authority import Authority
from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import ClientId, Position
from keyfob.revocation.reports import Report, Reporter
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "https://auth.example"
PERIOD = timedelta(seconds=5)
ORDERS = Reporter(client_id=ClientId("orders"), name="orders-1", instance="0" * 16)


async def report(authority: Authority) -> None:
    now, head = authority.clock.now(), authority.feed.live.head
    await authority.reports.report(
        ORDERS,
        Report(
            sent_at=now,
            timeline=head.timeline,
            position=Position(head.position),
            level_at=now,
            max_staleness=PERIOD,
            bound=PERIOD,
        ),
    )


@pytest.mark.parametrize("seconds", [0.0, 1.0, 60.0])
async def test_a_canary_comes_once_a_second_to_once_a_minute_or_never(seconds: float) -> None:
    period = timedelta(seconds=seconds)
    async with Authority.open("memory://", issuer=ISSUER, canary=period) as authority:
        assert authority.reports.period == period


@pytest.mark.parametrize("seconds", [-1.0, 0.999, 60.001])
async def test_another_period_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="canary"):
        Authority.open("memory://", issuer=ISSUER, canary=timedelta(seconds=seconds))


async def test_by_default_a_library_revokes_none() -> None:
    async with Authority.open("memory://", issuer=ISSUER) as authority:
        await report(authority)
        await authority.reports.revoke_canary()
        assert (await authority.store.feed.head()).position == 0
        assert authority.reports.canaries == 0


async def test_of_two_authorities_on_one_store_one_revokes_each_canary(tmp_path: Path) -> None:
    clock, store = FrozenClock(), f"sqlite:///{tmp_path}/keyfob.db"
    async with (
        Authority.open(store, issuer=ISSUER, clock=clock, canary=PERIOD) as one,
        Authority.open(store, issuer=ISSUER, clock=clock, canary=PERIOD) as other,
    ):
        await report(other)
        for number in range(1, 6):
            await asyncio.gather(
                *(authority.reports.revoke_canary() for authority in (one, other) for _ in range(3))
            )
            assert one.reports.canaries + other.reports.canaries == number
            clock.advance(PERIOD)
        assert (await one.store.feed.head()).position == 5
        summary = await one.reports.summary()
        assert summary.last_canary is not None
        assert summary.last_canary.number == 5


async def test_an_authority_revokes_them_by_itself_and_forgets_who_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keyfob.authority.options.SHORTEST_CANARY", timedelta(milliseconds=1))
    clock = FrozenClock()
    async with Authority.open(
        "memory://", issuer=ISSUER, clock=clock, canary=timedelta(milliseconds=10)
    ) as authority:
        await report(authority)
        async with asyncio.timeout(5):
            while authority.reports.canaries < 1:
                await asyncio.sleep(0.001)
        clock.advance(timedelta(hours=1))
        await authority._parts.housekeeping.clean()
        assert (await authority.reports.summary()).verifiers == []
        assert authority.reports.canaries == 1
