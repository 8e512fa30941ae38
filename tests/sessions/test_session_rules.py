"""Where a session stands: limits at -1, 0 and +1."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import ClientId, Position, SessionId, Strategy, Subject
from keyfob.base.opaque import OpaqueKind, TokenDigest
from keyfob.sessions.policy import Lifetimes, SessionPolicy
from keyfob.sessions.rules import Standing, idle_end, is_touch_due, standing
from keyfob.sessions.session import Session

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def session(
    *,
    idle: timedelta | None = timedelta(minutes=30),
    lifetime: timedelta = timedelta(hours=12),
    ended_at: datetime | None = None,
    last_seen_at: datetime = START,
) -> Session:
    return Session(
        session_id=SessionId("00" * 16),
        subject=Subject("alice"),
        client_id=ClientId("first-party"),
        strategy=Strategy.SESSION,
        kind=OpaqueKind.SESSION,
        digest=TokenDigest(b"d" * 32),
        created_at=START,
        expires_at=START + lifetime,
        last_seen_at=last_seen_at,
        auth_time=START,
        idle_timeout=idle,
        as_of=Position(0),
        ended_at=ended_at,
    )


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (timedelta(minutes=30) - TICK, Standing.LIVE),
        (timedelta(minutes=30), Standing.IDLE),
        (timedelta(minutes=30) + TICK, Standing.IDLE),
        (timedelta(hours=12) - TICK, Standing.IDLE),
        (timedelta(hours=12), Standing.EXPIRED),
        (timedelta(hours=12) + TICK, Standing.EXPIRED),
    ],
)
def test_a_session_ends_at_the_instant_its_limit_is_reached(after: timedelta, expected: Standing) -> None:
    assert standing(session(), START + after) is expected


def test_an_ended_session_is_revoked_until_its_absolute_end() -> None:
    ended = session(ended_at=START + TICK)
    assert standing(ended, START + timedelta(hours=1)) is Standing.ENDED
    assert standing(ended, START + timedelta(hours=12) - TICK) is Standing.ENDED
    assert standing(ended, START + timedelta(hours=12)) is Standing.EXPIRED


def test_a_session_without_an_idle_limit_is_never_idle() -> None:
    assert idle_end(session(idle=None)) is None
    assert standing(session(idle=None), START + timedelta(hours=11)) is Standing.LIVE


def test_todays_policy_counts_where_it_is_stricter() -> None:
    five = timedelta(minutes=5)
    assert standing(session(), START + five, idle_timeout=five) is Standing.IDLE
    assert standing(session(), START + timedelta(minutes=30), idle_timeout=timedelta(days=1)) is Standing.IDLE
    assert idle_end(session(idle=None), idle_timeout=five) == START + five


@given(st.timedeltas(timedelta(0), timedelta(days=2)), st.timedeltas(TICK, timedelta(days=1)))
def test_what_is_over_never_lives_again(after: timedelta, more: timedelta) -> None:
    one = session()
    if standing(one, START + after) is not Standing.LIVE:
        assert standing(one, START + after + more) is not Standing.LIVE


def test_a_touch_is_due_at_exactly_the_interval() -> None:
    minute = timedelta(minutes=1)
    assert not is_touch_due(session(), START + minute - TICK, minute)
    assert is_touch_due(session(), START + minute, minute)


@pytest.mark.parametrize(
    "wrong",
    [
        {"replay_window": timedelta(seconds=-1)},
        {"replay_window": timedelta(seconds=300) + TICK},
        {"sessions_per_subject": 0},
        {"max_cache_age": timedelta(0)},
        {"max_cache_age": timedelta(minutes=5) + TICK},
        {"touch_interval": timedelta(0)},
        {"lifetimes": {Strategy.SESSION: Lifetimes(idle=None, absolute=timedelta(0))}},
        {"lifetimes": {Strategy.SESSION: Lifetimes(idle=timedelta(seconds=-1), absolute=timedelta(1))}},
    ],
)
def test_a_policy_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        SessionPolicy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=300)])
def test_the_bounds_of_the_replay_window_are_allowed(window: timedelta) -> None:
    assert SessionPolicy(replay_window=window).replay_window == window
