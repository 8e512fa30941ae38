"""A verifier that reports where it stands, and when it began to deny each canary."""

from __future__ import annotations

import os
from datetime import timedelta

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import ClientId, Position, Timeline
from keyfob.revocation.canary import CANARY_LIFETIME, canary_id
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope, next_chain
from keyfob.revocation.reports import Report, Reporter
from keyfob.testing.frozen_clock import START, FrozenClock
from keyfob.verifier.canary_log import MAX_PENDING, CanaryLog
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.reporting import Reporting
from keyfob.verifier.settings import FollowSettings

PERIOD = timedelta(seconds=1)
SECONDS = timedelta(seconds=1)


def revoke_canary(server, age: float = 0.0):
    """Revoke a canary at the authority, as if *age* seconds ago, while somebody reports."""
    now = server.clock.now() - timedelta(seconds=age)
    reporter = Reporter(client_id=ClientId("c"), name="n", instance="i")
    report = Report(
        sent_at=now,
        timeline=Timeline("t"),
        position=Position(0),
        level_at=now,
        max_staleness=SECONDS,
        bound=SECONDS,
    )
    assert server.run(server.store.reports.report(reporter, report, now=now))
    entry = server.run(server.store.reports.revoke_canary(now=now, period=PERIOD))
    assert entry is not None
    return entry


def denials(server):
    return [denial for report in server.reports for denial in report["denials"]]


def test_who_does_not_opt_in_reports_nothing(server, verifier, waits):
    entry = revoke_canary(server)
    waits(verifier, lambda: verifier.stats().position >= entry.position)
    verifier._following.upkeep.run_due()
    assert server.asked("/feed/reports") == 0


def test_a_canary_is_reported_with_the_moment_from_which_it_is_denied(server, new_verifier, eventually):
    with new_verifier(report_as="orders-1", max_staleness=4 * SECONDS) as verifier:
        eventually(lambda: server.reports)
        assert server.reports[0]["denials"] == []
        before = to_micros(server.clock.now())
        entry = revoke_canary(server)
        eventually(lambda: denials(server))
        after = to_micros(server.clock.now())
        (denial,) = denials(server)
        assert denial["position"] == entry.position
        # The authority's time is known from above, by as much as a round trip takes.
        slack = int(verifier.stats().round_trip * 1_000_000) + 1_000
        assert before <= to_micros(entry.at) <= denial["at"] <= after + slack
        report = server.reports[-1]
        assert report["verifier"] == "orders-1"
        assert report["timeline"] == server.feed.live.head.timeline
        assert report["position"] == entry.position
        assert (report["max_staleness"], report["bound"]) == (4.0, 4.0)
        assert report["level_at"] <= report["sent_at"] <= to_micros(server.clock.now()) + slack
    eventually(lambda: server.reports[-1]["leaving"])


def test_a_local_clock_that_is_minutes_off_changes_nothing(server, new_verifier, verifier_clock, eventually):
    verifier_clock.wall = -600.0
    with new_verifier(report_as="orders-1"):
        entry = revoke_canary(server)
        eventually(lambda: denials(server))
        assert 0 <= denials(server)[0]["at"] - to_micros(entry.at) < 5_000_000


def test_what_could_not_be_delivered_is_reported_later(server, new_verifier, waits, eventually):
    with new_verifier(report_as="orders-1") as verifier:
        reporting = verifier._following.reporting
        eventually(lambda: server.reports)
        server.status["/feed/reports"] = 409
        entry = revoke_canary(server)
        eventually(lambda: reporting.failures == 1)
        token = server.token()
        assert verifier.verify(token).subject == "alice"
        assert not reporting.is_due(verifier._clock.elapsed())  # a while, not at once
        del server.status["/feed/reports"]
        reporting.report(verifier._clock.elapsed())
        assert [denial["position"] for denial in denials(server)] == [entry.position]
        assert verifier.stats().report_failures == 1
        assert verifier.stats().reports == 2


def test_the_bound_is_the_longest_that_any_route_has_stated(server, new_verifier):
    verifier = new_verifier(accept_within=20 * SECONDS)
    token = server.token()
    with verifier:
        assert verifier._checker.bound == 20.0
        verifier.verify(token, max_staleness=30 * SECONDS)
        assert verifier._checker.bound == 30.0
        verifier.verify(token, max_staleness=10 * SECONDS)
        verifier.guard(verifier.verify(token), max_staleness=40 * SECONDS)
        assert verifier._checker.bound == 40.0


def test_a_verifier_that_is_not_level_says_so(server, new_verifier, eventually):
    server.tamper = lambda frames: b""
    verifier = new_verifier(report_as="orders-1", request_timeout=SECONDS)
    verifier.start()
    eventually(lambda: server.reports)
    verifier._view.broken()
    verifier._following.reporting.report(0.0)
    assert server.reports[-1]["level_at"] is None


def test_each_process_of_a_name_is_told_apart(server, new_verifier, eventually):
    verifier = new_verifier(report_as="orders-1")
    verifier.start()
    eventually(lambda: server.reports)
    first = server.reports[-1]["instance"]
    verifier.close()
    verifier.start()
    eventually(lambda: server.reports[-1]["instance"] != first)
    assert len(first) == 16


def test_a_goodbye_that_nobody_hears_is_no_error(server, new_verifier, eventually):
    verifier = new_verifier(report_as="orders-1")
    with verifier:
        eventually(lambda: server.reports)
        reporting = verifier._following.reporting
        server.status["/feed/reports"] = 503
    assert (reporting.sent, reporting.failures) == (1, 1)
    assert not server.reports[-1]["leaving"]


# The log, apart from any server


def a_view() -> FeedView:
    view = FeedView(FrozenClock())
    view.live.replace(Head(timeline=Timeline("t"), position=Position(0), chain=CHAIN_START), [])
    return view


def entries_after(view: FeedView, *names: str) -> list[Entry]:
    head, made = view.live.head, []
    position, chain = head.position, head.chain
    for name in names:
        position += 1
        fields = {
            "position": position,
            "at": START,
            "scope": Scope.SESSION,
            "id": name,
            "reach": Reach.END,
            "spared": None,
            "until": START + CANARY_LIFETIME,
        }
        chain = next_chain(chain, **fields)
        made.append(Entry(**fields, chain=chain))
    return made


def test_only_a_canary_that_is_denied_counts():
    view = a_view()
    log = CanaryLog(view)
    entries = entries_after(view, "a" * 32, canary_id(1))
    log.hear(entries)  # not applied, so nothing denies it
    assert log.take() == []
    view.live.apply(entries)
    log.hear(entries)
    assert log.take() == [(2, to_micros(START))]
    assert log.take() == []


def test_what_waits_is_bounded_and_the_latest_stays():
    view = a_view()
    log = CanaryLog(view)
    entries = entries_after(view, *(canary_id(number) for number in range(1, MAX_PENDING + 3)))
    view.live.apply(entries)
    log.hear(entries[:MAX_PENDING])
    taken = log.take()
    log.hear(entries[MAX_PENDING:])
    log.put_back(taken)
    assert [position for position, _ in log.take()] == list(range(3, MAX_PENDING + 3))
    log.put_back(taken)
    log.hear(entries[:1])
    log.put_back(taken)  # there is no room
    assert len(log) == MAX_PENDING
    assert log.take()[-1][0] == 1


def test_a_name_is_needed_to_report():
    settings = FollowSettings(issuer="http://localhost", audiences=frozenset({"orders"}))
    view = a_view()
    reporting = Reporting(settings, client=None, view=view, log=CanaryLog(view), bound=lambda: 1.0)
    assert not reporting.is_due(float("inf"))
    assert len(os.urandom(8).hex()) == len(reporting._instance)
