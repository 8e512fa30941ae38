"""What signs needs three members: a key that cannot be read can stand behind them (ADR 8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import FIRST_PARTY, KeyId, Position, SessionId, Strategy, Subject, Timeline
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.tokens.grant import Grant
from keyfob.tokens.issuer import Issuer
from keyfob.verifier.verifier import Verifier

ISSUER = "https://auth.example"


class Device:
    """A key elsewhere: it gives signatures, and has no private part to read."""

    __slots__ = ("_ask", "algorithm", "is_away", "key_id")

    def __init__(self, key: PrivateKey) -> None:
        self._ask = key.sign
        self.key_id: KeyId = key.key_id
        self.algorithm: str = key.algorithm
        self.is_away = False

    def sign(self, signing_input: bytes) -> bytes:
        if self.is_away:
            raise StoreUnavailable("the signing device does not answer")
        return self._ask(signing_input)


def grant(now: datetime) -> Grant:
    return Grant(
        subject=Subject("alice"),
        client_id=FIRST_PARTY,
        strategy=Strategy.JWT,
        audience=("orders",),
        ends_at=now + timedelta(hours=1),
        session_id=SessionId("0" * 32),
        scopes=frozenset(),
        roles=frozenset(),
        auth_time=now,
        amr=("pwd",),
    )


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
def test_an_issuer_signs_with_a_key_that_is_elsewhere(algorithm: Algorithm) -> None:
    key, now = PrivateKey.generate(algorithm), datetime.now(UTC)
    issuer = Issuer(ISSUER, signer=lambda: Device(key), lifetime=timedelta(minutes=5))
    token = issuer.issue(grant(now), as_of=Position(0), timeline=Timeline("t"), now=now).text
    verifier = Verifier.from_jwks(jwk_set([key.public]), issuer=ISSUER, audience="orders")
    assert verifier.verify(token).subject == "alice"


def test_the_feed_can_sign_with_one_too() -> None:
    key = PrivateKey.generate(Algorithm.EDDSA)
    signed = jws.sign(b"{}", Device(key), typ="keyfob-heartbeat+jws")
    assert jws.verify(signed, {key.key_id: key.public}, typ="keyfob-heartbeat+jws") == b"{}"


def test_a_key_that_does_not_answer_gives_no_token() -> None:
    device, now = Device(PrivateKey.generate(Algorithm.ES256)), datetime.now(UTC)
    device.is_away = True
    issuer = Issuer(ISSUER, signer=lambda: device, lifetime=timedelta(minutes=5))
    with pytest.raises(StoreUnavailable):
        issuer.issue(grant(now), as_of=Position(0), timeline=Timeline("t"), now=now)
