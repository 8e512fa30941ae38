"""The issuer of access tokens, and how long one lives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import Cause, ConfigurationError, Denied
from keyfob.base.identifiers import FIRST_PARTY, Position, Subject, Timeline
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey
from keyfob.tokens.grant import Grant
from keyfob.tokens.issuer import Issuer
from keyfob.tokens.rules import (
    DEFAULT_ACCESS_LIFETIME,
    MAX_ACCESS_LIFETIME,
    RECOMMENDED_ACCESS_LIFETIME,
    access_lifetime,
    checked_lifetime,
)
from keyfob.verifier.token_check import check_access_token

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ISSUER = "https://auth.example"


def grant(ends_at: datetime) -> Grant:
    return Grant(
        subject=Subject("alice"),
        client_id=FIRST_PARTY,
        strategy=None,
        audience=("orders",),
        ends_at=ends_at,
    )


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate(Algorithm.ES256)


@pytest.fixture(scope="module")
def issuer(key: PrivateKey) -> Issuer:
    return Issuer(ISSUER, signer=lambda: key, lifetime=timedelta(minutes=10))


@pytest.mark.parametrize(
    ("left", "asked", "given_seconds"),
    [
        (timedelta(hours=1), None, 600),
        (timedelta(seconds=601), None, 600),
        (timedelta(seconds=600), None, 600),
        (timedelta(seconds=599), None, 599),
        (timedelta(seconds=1), None, 1),
        (timedelta(seconds=2) - MICROSECOND, None, 1),
        (timedelta(hours=30), timedelta(hours=24), 86_400),
        (timedelta(hours=1), timedelta(seconds=1), 1),
    ],
    ids=str,
)
def test_a_token_lives_as_long_as_asked_and_never_past_its_grant(
    issuer: Issuer, key: PrivateKey, left: timedelta, asked: timedelta | None, given_seconds: int
) -> None:
    token = issuer.issue(
        grant(START + left), as_of=Position(3), timeline=Timeline("tl"), now=START, lifetime=asked
    )
    assert token.expires_in == given_seconds
    keys = {key.public.key_id: key.public}
    principal = check_access_token(
        token.text, keys=keys, issuer=ISSUER, audiences={"orders"}, now=START.timestamp()
    )
    assert principal.expires_at == START + timedelta(seconds=given_seconds)
    assert (principal.as_of, principal.timeline, principal.token_id) == (3, "tl", token.token_id)


@pytest.mark.parametrize(
    "left", [timedelta(seconds=1) - MICROSECOND, timedelta(0), -timedelta(seconds=1)], ids=str
)
def test_nothing_is_issued_with_less_than_a_second_left(issuer: Issuer, left: timedelta) -> None:
    with pytest.raises(Denied) as denied:
        issuer.issue(grant(START + left), as_of=Position(3), timeline=Timeline("tl"), now=START)
    assert denied.value.cause is Cause.EXPIRED


def test_every_token_has_an_id_of_its_own(issuer: Issuer) -> None:
    ends_at = START + timedelta(hours=1)
    tokens = [
        issuer.issue(grant(ends_at), as_of=Position(3), timeline=Timeline("tl"), now=START) for _ in range(50)
    ]
    assert len({token.token_id for token in tokens}) == 50
    assert {len(token.token_id) for token in tokens} == {22}  # 128 bits


@pytest.mark.meets("OA-36")
@given(st.integers(0, 2**33), st.integers(-1000, 10**7), st.integers(1, 86_400))
def test_no_token_outlives_its_grant(issued_at: int, left: int, seconds: int) -> None:
    lives = access_lifetime(issued_at, issued_at + left, timedelta(seconds=seconds))
    assert lives == min(left, seconds)


@pytest.mark.parametrize(
    ("lifetime", "fits"),
    [
        (timedelta(0), False),
        (timedelta(seconds=1) - MICROSECOND, False),
        (timedelta(seconds=1), True),
        (DEFAULT_ACCESS_LIFETIME, True),
        (RECOMMENDED_ACCESS_LIFETIME, True),
        (MAX_ACCESS_LIFETIME, True),
        (MAX_ACCESS_LIFETIME + MICROSECOND, False),
        (-timedelta(seconds=1), False),
    ],
    ids=str,
)
def test_an_access_token_may_live_1_second_to_24_hours(lifetime: timedelta, fits: bool) -> None:
    if fits:
        assert checked_lifetime(lifetime) == lifetime
        return
    with pytest.raises(ConfigurationError, match=r"client\.lifetime must be 1 second to 24 hours"):
        checked_lifetime(lifetime, name="client.lifetime")
