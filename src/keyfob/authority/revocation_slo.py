"""What verifiers report to the authority, the canary that they report on, and what it says about revocations."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

from keyfob.base.clock import Clock
from keyfob.base.errors import Conflict, StoreUnavailable
from keyfob.revocation.feed import Feed
from keyfob.revocation.reports import MAX_VERIFIERS_PER_CLIENT, Report, Reporter, ReportStore
from keyfob.revocation.slo import RevocationSlo, sum_up

REMEMBERED_FOR = 5.0
"""Seconds for which a summary answers whoever scrapes metrics: `/metrics` is open, and a summary reads the reports of all verifiers."""


class RevocationReports:
    """Takes reports, revokes canaries, and sums up. Any number of authorities do so on one store."""

    def __init__(self, store: ReportStore, feed: Feed, *, clock: Clock, period: timedelta) -> None:
        """*period* is that of the canary; 0 is none."""
        self.period = period
        self.canaries = 0
        """Canaries that this process revoked."""
        self._store = store
        self._feed = feed
        self._clock = clock
        self._turn = asyncio.Lock()
        self._remembered: RevocationSlo | None = None
        self._remembered_at = -math.inf

    async def revoke_canary(self) -> None:
        """Revoke the next canary if it is due, somebody reports, and no other authority has."""
        if not self.period:
            return
        if await self._store.revoke_canary(now=self._clock.now(), period=self.period) is not None:
            self.canaries += 1

    async def report(self, reporter: Reporter, report: Report) -> None:
        """Note *report*, which came just now.

        Raises:
            Conflict: `too_many_verifiers`.
        """
        if not await self._store.report(reporter, report, now=self._clock.now()):
            raise Conflict(
                "too_many_verifiers",
                f"As many verifiers report as there is room for, {MAX_VERIFIERS_PER_CLIENT} of one client; "
                "one that is silent is forgotten after an hour.",
            )

    async def leave(self, reporter: Reporter) -> None:
        """Forget a verifier that was closed."""
        await self._store.leave(reporter)

    async def summary(self) -> RevocationSlo:
        """Sum up what is known now."""
        reports = await self._store.reports()
        timeline, now = self._feed.live.head.timeline, self._clock.now()
        return await asyncio.to_thread(sum_up, reports, timeline=timeline, now=now)

    async def recent_summary(self) -> RevocationSlo:
        """Return a summary that is at most `REMEMBERED_FOR` old. Whoever asks at the same time shares one.

        Raises:
            StoreUnavailable: the store does not answer, or did not that lately: a store in trouble is not asked by everybody in turn.
        """
        async with self._turn:
            if self._clock.elapsed() - self._remembered_at >= REMEMBERED_FOR:
                try:
                    self._remembered = await self.summary()
                except StoreUnavailable:
                    self._remembered = None
                self._remembered_at = self._clock.elapsed()
            if self._remembered is None:
                raise StoreUnavailable("the reports of verifiers could not be read a moment ago")
            return self._remembered
