"""User codes as people type them, and what a device's next question comes to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.grants import device, user_code
from keyfob.grants.authorization_code import AuthorizationCode
from keyfob.grants.device import DeviceError, DeviceRequest, Turn, turn
from keyfob.testing.frozen_clock import START

TICK = timedelta(microseconds=1)
STEP = timedelta(seconds=device.INTERVAL)
WAITING = DeviceRequest(
    client_id=ClientId("tv"),
    scopes=frozenset({"watch"}),
    audience="films",
    ends_at=START + device.LIFETIME,
    user_agent="tv",
    address="203.0.113.7",
)
APPROVED = replace(
    WAITING,
    as_of=Position(3),
    approved=AuthorizationCode(
        client_id=ClientId("tv"),
        subject=Subject("alice"),
        session_id=SessionId("0" * 32),
        redirect_uri="",
        redirect_uri_named=False,
        challenge="",
        scopes=frozenset({"watch"}),
        audience="films",
        auth_time=START,
    ),
)


@pytest.mark.meets("8628-5.1")
def test_codes_are_of_twenty_letters_and_do_not_repeat() -> None:
    """O-32."""
    codes = {user_code.new_user_code() for _ in range(500)}
    assert len(codes) == 500
    assert all(len(code) == 8 and set(code) <= set("BCDFGHJKLMNPQRSTVWXZ") for code in codes)
    assert {letter for code in codes for letter in code} == set(user_code.LETTERS)


@pytest.mark.parametrize("typed", ["BCDF-GHJK", "bcdfghjk", " bcdf ghjk ", "Bc-Df-Gh-Jk", "bcdf–ghjk"])
def test_a_code_is_read_however_it_is_typed(typed: str) -> None:
    assert user_code.read(typed) == "BCDFGHJK"


@pytest.mark.parametrize("typed", ["", "BCDF-GHJ", "BCDF-GHJKL", "ABCD-FGHJ", "BCDF-GHJ1", "ВCDF-GHJK"])
def test_what_is_no_code_is_none(typed: str) -> None:
    assert user_code.read(typed) is None


@given(st.text(max_size=50))
def test_any_text_is_a_code_or_none(text: str) -> None:
    code = user_code.read(text)
    assert code is None or user_code.read(user_code.shown(code)) == code


def test_a_device_that_waits_is_told_to_go_on() -> None:
    first = turn(WAITING, START)
    assert first == Turn(DeviceError.AUTHORIZATION_PENDING, replace(WAITING, asked_at=START))
    assert first.after is not None
    assert turn(first.after, START + STEP).error is DeviceError.AUTHORIZATION_PENDING


@pytest.mark.meets("8628-3.5a")
def test_each_question_that_comes_too_early_lengthens_the_interval() -> None:
    """O-33: 5 seconds more each time, counted from the last question."""
    asked = replace(WAITING, asked_at=START)
    early = turn(asked, START + STEP - TICK)
    assert early == Turn(DeviceError.SLOW_DOWN, replace(asked, asked_at=START + STEP - TICK, interval=10))
    assert early.after is not None
    again = turn(early.after, START + 2 * STEP)
    assert again.error is DeviceError.SLOW_DOWN
    assert again.after is not None
    assert again.after.interval == 15
    slowest = replace(again.after, interval=device.SLOWEST)
    assert turn(slowest, START + 2 * STEP + TICK).after == replace(slowest, asked_at=START + 2 * STEP + TICK)


def test_what_is_allowed_is_given_once_the_interval_is_over() -> None:
    asked = replace(APPROVED, asked_at=START)
    assert turn(APPROVED, START) == Turn(None, asked)
    assert turn(asked, START + STEP - TICK).error is DeviceError.SLOW_DOWN
    assert turn(asked, START + STEP).error is None


def test_what_is_denied_or_over_stays_so() -> None:
    denied = replace(WAITING, denied=True)
    assert (
        turn(denied, START) == turn(replace(denied, asked_at=START), START) == Turn(DeviceError.ACCESS_DENIED)
    )
    for request in (WAITING, APPROVED, denied):
        assert turn(request, START + device.LIFETIME - TICK).error is not DeviceError.EXPIRED_TOKEN
        assert turn(request, START + device.LIFETIME) == Turn(DeviceError.EXPIRED_TOKEN)
