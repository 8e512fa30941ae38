"""Clock, errors and principal."""

from __future__ import annotations

import copy
import pickle
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.clock import SystemClock, from_micros, to_micros, to_seconds
from keyfob.base.errors import (
    Cause,
    ConfigurationError,
    Conflict,
    Denied,
    InvalidRequest,
    KeyfobError,
    NotFound,
    RateLimited,
    StoreUnavailable,
    Unavailable,
)
from keyfob.base.identifiers import ClientId, Position, SessionId, Strategy, Subject
from keyfob.base.principal import Principal


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_keep_a_moment_exactly(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment
    assert to_seconds(moment) == to_micros(moment) // 1_000_000


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(TypeError):
        to_micros(datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_system_clock_tells_the_machines_time() -> None:
    clock = SystemClock()
    before = time.time()
    assert clock.now().tzinfo is UTC
    assert before <= clock.time() <= time.time()
    first = clock.elapsed()
    assert clock.elapsed() >= first


def test_a_denial_has_a_stable_code_and_survives_pickling() -> None:
    denied = Denied("revoked", "by the entry at 7")
    assert denied.cause is Cause.REVOKED
    assert denied.code == "revoked"
    assert str(denied) == "revoked: by the entry at 7"
    assert str(Denied(Cause.IDLE)) == "idle"
    again = pickle.loads(pickle.dumps(denied))
    assert (again.cause, again.detail) == (denied.cause, denied.detail)


def test_an_unknown_cause_is_refused() -> None:
    with pytest.raises(ValueError):
        Denied("perhaps")


def test_each_error_of_a_request_has_its_status() -> None:
    assert InvalidRequest("x", "m").status == 400
    assert InvalidRequest("x", "m", status=422).status == 422
    assert NotFound("x", "m").status == 404
    assert Conflict("x", "m").status == 409
    limited = RateLimited(0.2)
    assert (limited.status, limited.code, limited.retry_after) == (429, "rate_limited", 1.0)
    assert RateLimited(7.5).retry_after == 7.5


def test_the_three_branches_are_never_mixed() -> None:
    branches = (Denied, Unavailable, ConfigurationError)
    for branch in branches:
        assert issubclass(branch, KeyfobError)
        assert sum(issubclass(branch, other) for other in branches) == 1
    assert StoreUnavailable("away").retry_after == 1.0


def principal() -> Principal:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Principal(
        subject=Subject("alice"),
        client_id=ClientId("first-party"),
        strategy=Strategy.SESSION,
        audience=("orders",),
        issued_at=moment,
        expires_at=moment + timedelta(hours=1),
        as_of=Position(7),
        session_id=SessionId("ab" * 16),
        path="session cache",
    )


def test_a_principal_explains_itself_and_cannot_be_changed() -> None:
    who = principal()
    assert who.explain().startswith("session cache: subject alice, session abab")
    assert "position 7" in who.explain()
    with pytest.raises(AttributeError):
        who.subject = Subject("bob")  # type: ignore[misc]
    assert copy.copy(who) == who


def test_principals_are_compared_by_everything_but_the_path() -> None:
    who = principal()
    by_another_way = msgspec.structs.replace(who, path="signature")
    assert by_another_way == who
    assert not by_another_way != who  # noqa: SIM202 - both operators are ours
    assert hash(by_another_way) == hash(who)
    assert msgspec.structs.replace(who, roles=frozenset({"admin"})) != who
    assert who != "alice"
