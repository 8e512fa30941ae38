"""`POST /feed/reports` and what is said of it: `GET /admin/api/revocation-slo` and `/metrics`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyfob.base.clock import to_micros
from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.reports import MAX_VERIFIERS_PER_CLIENT

PERIOD = timedelta(seconds=5)


def a_report(desk, *, denials=(), **changes):
    now = to_micros(desk.clock.now())
    return {
        "verifier": "orders-1",
        "instance": "0123456789abcdef",
        "sent_at": now,
        "timeline": desk.authority.feed.live.head.timeline,
        "position": desk.authority.feed.live.head.position,
        "level_at": now,
        "max_staleness": 5.0,
        "bound": 30,
        "denials": [{"position": position, "at": at} for position, at in denials],
        **changes,
    }


async def send(desk, client, body):
    return await desk.ask("POST", "/feed/reports", json_body=body, basic=client)


async def slo(desk, admin):
    answer = await desk.ask("GET", "/admin/api/revocation-slo", bearer=admin)
    assert answer.status == 200, answer.body
    return answer.json()


async def canary(desk):
    entry = await desk.authority.store.reports.revoke_canary(now=desk.clock.now(), period=PERIOD)
    assert entry is not None
    await desk.authority.feed.catch_up(entry.position)
    return entry


async def test_what_a_verifier_reports_is_shown_to_administrators(desk) -> None:
    admin, client = await desk.admin(), await desk.client("orders", "keyfob:feed")
    assert (await send(desk, client, a_report(desk))).status == 204
    entry = await canary(desk)
    await desk.advance(0.5)
    denials = [(entry.position, to_micros(entry.at) + 12_000)]
    assert (await send(desk, client, a_report(desk, denials=denials))).status == 204
    await desk.advance(2)
    shown = await slo(desk, admin)
    assert shown["state"] == "level"
    assert shown["window_seconds"] == 900
    assert shown["last_canary"]["position"] == entry.position
    (verifier,) = shown["verifiers"]
    assert (verifier["client_id"], verifier["verifier"]) == ("orders", "orders-1")
    assert verifier["lag"] == shown["lag"] == {"p50": 0.012, "p99": 0.012, "max": 0.012}
    assert verifier["vouched"] == {"p50": 0.5, "p99": 0.5, "max": 0.5}
    assert (verifier["staleness_seconds"], verifier["bound_seconds"]) == (2.0, 30.0)
    assert verifier["position"] == entry.position


async def test_a_verifier_that_went_silent_is_shown_as_silent_and_never_as_good(desk) -> None:
    admin, client = await desk.admin(), await desk.client("orders", "keyfob:feed")
    await send(desk, client, a_report(desk))
    entry = await canary(desk)
    await send(desk, client, a_report(desk, denials=[(entry.position, to_micros(entry.at))]))
    await desk.advance(31)
    shown = await slo(desk, admin)
    assert shown["state"] == "silent"
    assert shown["lag"] is None
    (verifier,) = shown["verifiers"]
    assert (verifier["state"], verifier["lag"], verifier["vouched"]) == ("silent", None, None)
    assert verifier["staleness_seconds"] == 31.0
    metrics = (await desk.ask("GET", "/metrics")).body.decode()
    labels = 'client="orders",process="0123456789abcdef"'
    assert 'keyfob_verifiers{state="silent"} 1.0' in metrics
    assert f'keyfob_verifier_state{{{labels},state="silent",verifier="orders-1"}} 1.0' in metrics
    assert f'keyfob_verifier_staleness_seconds{{{labels},verifier="orders-1"}} 31.0' in metrics
    assert "keyfob_verifier_revocation_lag_seconds{" not in metrics
    await desk.advance(3600)
    await desk.authority._parts.housekeeping.clean()
    admin = await desk.access_token("root")
    assert (await slo(desk, admin))["verifiers"] == []


async def test_a_wrong_clock_and_a_claim_that_cannot_be_are_visible(desk) -> None:
    admin, client = await desk.admin(), await desk.client("orders", "keyfob:feed")
    await send(desk, client, a_report(desk))
    entry = await canary(desk)
    await desk.advance(2)
    ahead = to_micros(desk.clock.now() + timedelta(minutes=10))
    behind = to_micros(entry.at - timedelta(minutes=10))
    await send(desk, client, a_report(desk, sent_at=ahead, denials=[(entry.position, behind)]))
    (verifier,) = (await slo(desk, admin))["verifiers"]
    assert verifier["clock_error_seconds"] == 600.0
    assert verifier["doubtful"] == 1
    assert verifier["state"] == "stale"  # by its own clock it was level ten minutes ago
    await send(desk, client, a_report(desk))
    (verifier,) = (await slo(desk, admin))["verifiers"]
    assert verifier["lag"] == {"p50": 2.0, "p99": 2.0, "max": 2.0}


async def test_a_client_reports_for_itself_alone(desk) -> None:
    admin = await desk.admin()
    orders, billing = await desk.client("orders", "keyfob:feed"), await desk.client("billing", "keyfob:feed")
    await send(desk, orders, a_report(desk))
    await send(desk, billing, a_report(desk, level_at=None))
    await send(desk, billing, a_report(desk, leaving=True))
    await send(desk, billing, a_report(desk, level_at=None))
    states = {one["client_id"]: one["state"] for one in (await slo(desk, admin))["verifiers"]}
    assert states == {"orders": "level", "billing": "stale"}
    await send(desk, billing, a_report(desk, leaving=True))
    assert [one["client_id"] for one in (await slo(desk, admin))["verifiers"]] == ["orders"]


async def test_reporting_needs_the_scope_to_follow(desk) -> None:
    introspecting = await desk.client("asker", "keyfob:introspect")
    refused = await send(desk, introspecting, a_report(desk))
    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert (await send(desk, ("asker", "wrong"), a_report(desk))).status == 401
    assert (await desk.ask("POST", "/feed/reports", json_body=a_report(desk))).status == 401
    user = await desk.admin()
    assert (await desk.ask("POST", "/feed/reports", json_body=a_report(desk), bearer=user)).status == 403
    assert (await desk.authority.store.reports.reports()).verifiers == []


@pytest.mark.parametrize(
    "changes",
    [
        {"verifier": ""},
        {"verifier": "a" * 65},
        {"verifier": "orders 1"},
        {"verifier": "orders\n"},
        {"verifier": "-orders"},
        {"verifier": 'o"} 1\nx'},
        {"instance": "0" * 15},
        {"instance": "0" * 16 + "\n"},
        {"instance": "G" * 16},
        {"sent_at": -1},
        {"sent_at": 2**53 + 1},
        {"sent_at": 1.5},
        {"position": -1},
        {"position": 2**63},
        {"timeline": "t" * 65},
        {"bound": -0.1},
        {"bound": 366 * 86_400 + 1},
        {"max_staleness": None},
        {"denials": [{"position": 1, "at": 1}] * 65},
        {"denials": [{"position": 1}]},
        {"more": 1},
    ],
)
async def test_a_report_out_of_its_bounds_is_refused_whole(desk, changes) -> None:
    client = await desk.client("orders", "keyfob:feed")
    assert (await send(desk, client, a_report(desk) | changes)).status == 422
    assert (await desk.authority.store.reports.reports()).verifiers == []


async def test_a_report_at_its_bounds_is_taken_and_shown(desk) -> None:
    admin, client = await desk.admin(), await desk.client("orders", "keyfob:feed")
    report = a_report(
        desk,
        denials=[(2**63 - 1, 2**53)] * 64,
        verifier="a" * 64,
        sent_at=2**53,
        level_at=0,
        position=2**63 - 1,
        bound=366 * 86_400,
        max_staleness=0,
        timeline="",
    )
    assert (await send(desk, client, report)).status == 204
    assert (await slo(desk, admin))["state"] == "stale"
    assert (await desk.ask("GET", "/metrics")).status == 200


async def test_one_more_than_there_is_room_for_is_a_conflict(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    for number in range(MAX_VERIFIERS_PER_CLIENT):
        assert (await send(desk, client, a_report(desk, instance=f"{number:016x}"))).status == 204
    refused = await send(desk, client, a_report(desk, instance="f" * 16))
    assert (refused.status, refused.code) == (409, "too_many_verifiers")
    assert (await send(desk, client, a_report(desk, instance="0" * 16))).status == 204


async def test_metrics_show_each_verifier_and_read_the_store_once_in_five_seconds(desk, monkeypatch) -> None:
    client = await desk.client("orders", "keyfob:feed")
    await send(desk, client, a_report(desk))
    entry = await canary(desk)
    await send(desk, client, a_report(desk, denials=[(entry.position, to_micros(entry.at) + 4_000)]))
    reads = 0
    store = desk.authority.store.reports
    read = store.reports

    async def counted():
        nonlocal reads
        reads += 1
        return await read()

    monkeypatch.setattr(store, "reports", counted)
    for _ in range(3):
        metrics = (await desk.ask("GET", "/metrics")).body.decode()
    assert reads == 1
    labels = 'client="orders",process="0123456789abcdef"'
    for quantile in ("0.5", "0.99", "1"):
        sample = f'{labels},quantile="{quantile}",verifier="orders-1"}} 0.0'
        assert f"keyfob_verifier_revocation_lag_seconds{{{sample}" in metrics
    assert "keyfob_revocation_slo_up 1.0" in metrics
    await desk.advance(5)
    await desk.ask("GET", "/metrics")
    assert reads == 2

    async def away():
        nonlocal reads
        reads += 1
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "reports", away)
    await desk.advance(5)
    for _ in range(3):
        metrics = (await desk.ask("GET", "/metrics")).body.decode()
    assert reads == 3
    assert "keyfob_revocation_slo_up 0.0" in metrics
    assert "keyfob_feed_position" in metrics
    assert "keyfob_verifiers{" not in metrics


async def test_only_an_administrator_sees_it(desk) -> None:
    await desk.user()
    assert (await desk.ask("GET", "/admin/api/revocation-slo")).status == 401
    alice = await desk.access_token()
    assert (await desk.ask("GET", "/admin/api/revocation-slo", bearer=alice)).status == 403
