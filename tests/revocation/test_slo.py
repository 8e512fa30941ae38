"""What is said of verifiers, from what they report: never better than what is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import ClientId, Position, Timeline
from keyfob.revocation.canary import CLOCK_SKEW, Canary, canary_id
from keyfob.revocation.reports import WINDOW, Lag, Reports, VerifierRecord
from keyfob.revocation.slo import CONFIRM_WITHIN, SILENT_AFTER, Percentiles, VerifierState, sum_up
from keyfob.testing.frozen_clock import START
from keyfob.testing.store_contract import TICK

SECOND = timedelta(seconds=1)
MILLI = timedelta(milliseconds=1)
NOW = START + timedelta(hours=1)
LIMIT = timedelta(seconds=5)
TIMELINE = Timeline("t")


def a_canary(number: int, age: timedelta) -> Canary:
    return Canary(number, Position(100 + number), NOW - age)


def a_lag(canary: Canary, lag: timedelta = 7 * MILLI, *, doubtful: bool = False) -> Lag:
    return Lag(canary.number, to_micros(canary.at), lag // TICK, SECOND // TICK, doubtful)


def a_record(*lags: Lag, **changes) -> VerifierRecord:
    record = VerifierRecord(
        client_id=ClientId("orders"),
        name="orders-1",
        instance="0" * 16,
        first_at=NOW - timedelta(minutes=30),
        heard_at=NOW,
        sent_at=NOW,
        timeline=TIMELINE,
        position=Position(200),
        level_at=NOW - SECOND,
        max_staleness=LIMIT,
        bound=LIMIT,
        lags=lags,
    )
    return msgspec.structs.replace(record, **changes)


def only(record: VerifierRecord, *canaries: Canary):
    (verifier,) = sum_up(Reports([record], canaries), timeline=TIMELINE, now=NOW).verifiers
    return verifier


def test_a_verifier_that_denied_the_latest_canary_is_level() -> None:
    canary = a_canary(1, timedelta(seconds=20))
    verifier = only(a_record(a_lag(canary)), canary)
    assert verifier.state is VerifierState.LEVEL
    assert verifier.lags == Percentiles(7 * MILLI, 7 * MILLI, 7 * MILLI)
    assert verifier.vouched == Percentiles(SECOND, SECOND, SECOND)
    assert (verifier.canaries, verifier.missed, verifier.doubtful) == (1, 0, 0)
    assert verifier.staleness == SECOND


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"heard_at": NOW - SILENT_AFTER}, VerifierState.LEVEL),
        ({"heard_at": NOW - SILENT_AFTER - TICK}, VerifierState.SILENT),
        ({"heard_at": NOW + CLOCK_SKEW}, VerifierState.LEVEL),
        ({"heard_at": NOW + CLOCK_SKEW + TICK}, VerifierState.SILENT),
        ({"level_at": None}, VerifierState.STALE),
        ({"level_at": NOW - LIMIT}, VerifierState.LEVEL),
        ({"level_at": NOW - LIMIT - TICK}, VerifierState.STALE),
        ({"timeline": Timeline("another")}, VerifierState.STALE),
    ],
)
def test_who_is_silent_or_stale_is_never_level(changes, state: VerifierState) -> None:
    verifier = only(a_record(a_lag(a_canary(1, timedelta(minutes=1))), **changes))
    assert verifier.state is state
    assert (verifier.lags is None) is (state is not VerifierState.LEVEL)
    assert (verifier.vouched is None) is (state is not VerifierState.LEVEL)


@pytest.mark.parametrize(
    ("age", "state", "missed"),
    [
        (CONFIRM_WITHIN - TICK, VerifierState.LEVEL, 0),
        (CONFIRM_WITHIN, VerifierState.BEHIND, 1),
    ],
)
def test_who_has_not_denied_the_latest_canary_in_time_is_behind(age, state, missed: int) -> None:
    first, second = a_canary(1, timedelta(seconds=30)), a_canary(2, age)
    verifier = only(a_record(a_lag(first)), first, second)
    assert (verifier.state, verifier.missed) == (state, missed)


def test_a_gap_that_was_mended_counts_as_missed_and_not_as_behind() -> None:
    canaries = [a_canary(number, timedelta(seconds=60 - number * 5)) for number in range(1, 6)]
    verifier = only(a_record(a_lag(canaries[0]), a_lag(canaries[4])), *canaries)
    assert (verifier.state, verifier.canaries, verifier.missed) == (VerifierState.LEVEL, 2, 3)


def test_canaries_before_a_verifier_was_there_are_not_expected_of_it() -> None:
    canary = a_canary(1, timedelta(seconds=20))
    assert only(a_record(first_at=canary.at), canary).state is VerifierState.LEVEL
    assert only(a_record(first_at=canary.at - TICK), canary).state is VerifierState.BEHIND


def test_what_has_left_the_window_is_neither_counted_nor_expected() -> None:
    old = a_canary(1, WINDOW)
    verifier = only(a_record(a_lag(old)), old)
    assert (verifier.canaries, verifier.missed, verifier.lags) == (0, 0, None)
    young = a_canary(1, WINDOW - TICK)
    assert only(a_record(a_lag(young)), young).canaries == 1


def test_the_worst_verifier_says_how_all_are_and_only_the_level_are_summed_up() -> None:
    canary = a_canary(1, timedelta(seconds=20))
    level = a_record(a_lag(canary, 3 * MILLI, doubtful=True))
    silent = a_record(a_lag(canary, MILLI), name="silent", heard_at=NOW - SILENT_AFTER - TICK)
    behind = a_record(name="behind")
    slo = sum_up(Reports([level, silent, behind], [canary]), timeline=TIMELINE, now=NOW)
    assert slo.state is VerifierState.SILENT
    assert slo.lags == Percentiles(3 * MILLI, 3 * MILLI, 3 * MILLI)
    assert [verifier.state.value for verifier in slo.verifiers] == ["level", "silent", "behind"]
    assert slo.verifiers[0].doubtful == 1
    assert [slo.count(state) for state in VerifierState] == [1, 1, 0, 1]
    assert slo.last_canary == canary


def test_of_nobody_nothing_is_said() -> None:
    slo = sum_up(Reports([], []), timeline=TIMELINE, now=NOW)
    assert (slo.state, slo.lags, slo.last_canary) == (None, None, None)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=256))
def test_percentiles_are_values_that_were_measured(micros: list[int]) -> None:
    lags = [Lag(number, to_micros(NOW - SECOND), value, value, False) for number, value in enumerate(micros)]
    found = only(a_record(*lags)).lags
    ordered = sorted(micros)
    assert found is not None
    assert found.longest // TICK == ordered[-1]
    below = sum(value < found.p99 // TICK for value in micros)
    upto = sum(value <= found.p99 // TICK for value in micros)
    assert below < 0.99 * len(micros) <= upto
    assert sum(value <= found.p50 // TICK for value in micros) >= len(micros) / 2


def test_no_session_id_before_2149_is_a_canarys() -> None:
    from keyfob.base.identifiers import Subject, new_session_id
    from keyfob.revocation.canary import is_canary
    from keyfob.revocation.entry import Entry, Reach, Scope

    entry = Entry(
        position=Position(1),
        at=NOW,
        scope=Scope.SESSION,
        id=canary_id(1),
        reach=Reach.END,
        until=None,
        chain=b"",
    )
    assert is_canary(entry)
    assert len(canary_id(2**63)) == 32
    year = START.replace(year=2149, month=6, day=5)
    for ends_at in (START, year):
        session_id = new_session_id(b"", Subject("alice"), ends_at)
        assert not is_canary(replace(entry, id="00000000" + session_id[8:]))
    assert not is_canary(replace(entry, scope=Scope.TOKEN))
