"""Revocations measured all the time, on real servers: canaries, verifiers that report, and what the authority says of them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from keyfob import Authority, Verifier
from keyfob.authority.preview import RevocationPreview
from keyfob.base.clock import SystemClock
from keyfob.revocation.canary import CANARY_LIFETIME
from keyfob.revocation.slo import SILENT_AFTER, VerifierState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PERIOD = 1.0  # seconds, the shortest
_REPORT_AND_WAIT = """
import sys
from keyfob import Verifier
with Verifier.follow(sys.argv[1], audience="orders", credentials=(sys.argv[2], sys.argv[3]), report_as=sys.argv[4]):
    print("level", flush=True)
    sys.stdin.read()
"""


class Site:
    def __init__(self, deployment: Any) -> None:
        self.deployment, self.api = deployment, deployment.api
        self.credentials = deployment.add_client("orders", "keyfob:feed")
        deployment.add_users("admin", roles=("keyfob:admin",))
        self.server = deployment.start("--workers", "2")
        self.token = self.api.login("admin", strategy="session").body["session_token"]

    def slo(self) -> dict[str, Any]:
        reply = self.api.get("/admin/api/revocation-slo", token=self.token)
        assert reply.status == 200, reply.raw
        return dict(reply.body)

    def verifier(self, name: str) -> dict[str, Any]:
        """Return what is said of the verifier; empty where nothing is."""
        return next((one for one in self.slo()["verifiers"] if one["verifier"] == name), {})

    def canaries(self) -> list[tuple[int, int, int]]:
        with closing(sqlite3.connect(self.deployment.database)) as connection:
            return connection.execute("SELECT number, position, at FROM canaries ORDER BY number").fetchall()


@pytest.fixture
def site(deploy: Callable[..., Any]) -> Site:
    return Site(deploy(feed_canary=f"{PERIOD:g}", feed_heartbeat="0.2"))


def follow(site: Site, name: str) -> Verifier:
    return Verifier.follow(
        site.api.url,
        audience="orders",
        credentials=site.credentials,
        heartbeat=timedelta(seconds=0.2),
        max_staleness=timedelta(seconds=2),
        report_as=name,
    )


def test_two_workers_revoke_one_canary_a_period_and_every_verifier_is_measured(site, eventually) -> None:
    with ExitStack() as stack:
        for name in ("orders-1", "orders-2"):
            stack.enter_context(follow(site, name))
        eventually(
            lambda: all(site.verifier(name).get("canaries", 0) >= 4 for name in ("orders-1", "orders-2")),
            "four canaries confirmed by both",
        )
        slo = site.slo()
        assert slo["state"] == "level"
        assert slo["canary_period_seconds"] == PERIOD
        for one in slo["verifiers"]:
            assert (one["missed"], one["doubtful"]) == (0, 0), one
            assert 0 <= one["lag"]["p50"] <= one["lag"]["p99"] <= one["lag"]["max"] < 2, one
            assert one["lag"]["max"] <= one["vouched"]["max"], one
            assert abs(one["clock_error_seconds"]) < 2, one
        metrics = site.api.get("/metrics").raw.decode()
        assert 'keyfob_verifiers{state="level"} 2.0' in metrics
        assert 'quantile="0.99",verifier="orders-2"' in metrics
    eventually(lambda: site.slo()["verifiers"] == [], "both said goodbye")
    canaries = site.canaries()
    assert [number for number, _, _ in canaries] == list(range(1, len(canaries) + 1))
    gaps = [later[2] - earlier[2] for earlier, later in pairwise(canaries)]
    assert min(gaps) >= 0.9 * PERIOD * 1_000_000
    with closing(sqlite3.connect(site.deployment.database)) as connection:
        (events,) = connection.execute("SELECT count(*) FROM events WHERE code = 'canary'").fetchone()
        (lives,) = connection.execute(
            "SELECT max(until - at) FROM entries WHERE position IN (SELECT position FROM canaries)"
        ).fetchone()
    assert events == 0
    assert lives == CANARY_LIFETIME / timedelta(microseconds=1)


class ClockAhead(SystemClock):
    """The machine's clock, half a minute later."""

    def now(self) -> datetime:
        return super().now() + SILENT_AFTER


def test_a_verifier_that_is_killed_says_no_goodbye_and_goes_silent(site, eventually) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _REPORT_AND_WAIT, site.api.url, *site.credentials, "doomed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "level\n"
        eventually(lambda: site.verifier("doomed").get("lag") is not None, "measured")
    finally:
        child.kill()
        child.communicate(timeout=10)

    async def half_a_minute_later() -> RevocationPreview:
        async with Authority.open(
            site.deployment.store, issuer=site.api.url, clock=ClockAhead()
        ) as authority:
            return await authority.preview_revocation("everything")

    (doomed,) = asyncio.run(half_a_minute_later()).behind
    assert (doomed.name, doomed.state) == ("doomed", VerifierState.SILENT)
    assert doomed.lags is None
    assert doomed.staleness is not None
    assert doomed.staleness >= SILENT_AFTER


def test_what_a_revocation_would_do_is_said_by_the_command_beside_the_server(site, eventually) -> None:
    with follow(site, "orders-1"):
        eventually(lambda: site.verifier("orders-1").get("lag") is not None, "measured")
        explained = site.deployment.command("revoke", "subject", "admin", "--explain", "--json")
        assert explained.returncode == 0, explained.stderr
        document = json.loads(explained.stdout)
        assert document["verifiers"] == {"level": 1, "behind": 0, "stale": 0, "silent": 0}
        assert document["sessions"] == 1
        assert document["lag"]["max"] < 2
        assert document["worst_seconds"] == 5.0
        assert document["behind"] == []
        assert site.slo()["state"] == "level"  # the administrator is still signed in
