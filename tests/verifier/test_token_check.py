"""An access token is checked in the order of contract.md, up to its times."""

from __future__ import annotations

import os
from collections.abc import Set
from datetime import UTC, datetime

import msgspec
import pytest

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import KeyId, Strategy
from keyfob.base.principal import Principal
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey
from keyfob.jwt.shared_secret import SharedSecret
from keyfob.verifier.token_check import MAX_AHEAD, check_access_token, check_shared_token

ISSUER = "https://auth.example"
NOW = 1_800_000_000
CLAIMS: dict[str, object] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": "orders",
    "exp": NOW + 600,
    "iat": NOW,
    "jti": "t1",
    "client_id": "first-party",
    "as_of": 7,
}
KEY = PrivateKey.generate(Algorithm.EDDSA, KeyId("current"))
OTHER = PrivateKey.generate(Algorithm.EDDSA, KeyId("current"))


def token(*, key: PrivateKey = KEY, typ: str = "at+jwt", **changes: object) -> str:
    return jws.sign(msgspec.json.encode({**CLAIMS, **changes}), key, typ=typ)


def check(text: str, *, audiences: Set[str] | None = frozenset({"orders"}), now: float = NOW) -> Principal:
    return check_access_token(
        text, keys={KEY.key_id: KEY.public}, issuer=ISSUER, audiences=audiences, now=now
    )


def cause_of(text: str, *, audiences: Set[str] | None = frozenset({"orders"}), now: float = NOW) -> Cause:
    with pytest.raises(Denied) as caught:
        check(text, audiences=audiences, now=now)
    assert "alice" not in str(caught.value)
    return caught.value.cause


def test_a_good_token_gives_its_principal() -> None:
    found = check(
        token(
            aud=["orders", "stock"],
            tl="f00d",
            sid="ab" * 16,
            psid="cd" * 16,
            pcid="web",
            strategy="hybrid",
            scope="orders:read orders:write",
            roles=["buyer", "payer"],
            auth_time=NOW - 60,
            amr=["pwd", "otp"],
            acr="2",
            nbf=NOW,
            org=7,
        )
    )
    assert found == Principal(
        subject="alice",
        client_id="first-party",
        strategy=Strategy.HYBRID,
        audience=("orders", "stock"),
        issued_at=datetime.fromtimestamp(NOW, UTC),
        expires_at=datetime.fromtimestamp(NOW + 600, UTC),
        as_of=7,
        session_id="ab" * 16,
        parent_session_id="cd" * 16,
        parent_client_id="web",
        roles=frozenset({"buyer", "payer"}),
        scopes=frozenset({"orders:read", "orders:write"}),
        auth_time=datetime.fromtimestamp(NOW - 60, UTC),
        amr=("pwd", "otp"),
        acr="2",
        claims={"org": 7},
        timeline="f00d",
        token_id="t1",
        key_id="current",
    )
    assert found.explain().startswith("signature: subject alice")


def test_a_machine_has_no_session() -> None:
    found = check(token())
    assert (found.session_id, found.strategy, found.auth_time, found.timeline) == (None, None, None, None)
    assert (found.roles, found.scopes, found.audience) == (frozenset(), frozenset(), ("orders",))


@pytest.mark.meets("OA-31")
def test_the_first_check_that_fails_names_the_cause() -> None:
    wrong: dict[str, object] = {}
    steps: list[tuple[dict[str, object], Cause]] = [
        ({"cnf": {"jkt": "x"}}, Cause.PROOF_REQUIRED),
        ({"exp": NOW}, Cause.EXPIRED),
        ({"nbf": NOW + 1}, Cause.NOT_YET_VALID),
        ({"aud": "stock"}, Cause.WRONG_AUDIENCE),
        ({"iss": "https://other.example"}, Cause.WRONG_ISSUER),
        ({"sub": ""}, Cause.MALFORMED),
    ]
    for change, cause in steps:
        wrong |= change
        assert cause_of(token(**wrong)) is cause
    assert cause_of(token(key=OTHER, **wrong)) is Cause.BAD_SIGNATURE
    assert cause_of(token(typ="JWT", key=OTHER, **wrong)) is Cause.WRONG_TYPE


@pytest.mark.meets("10.3.3")
def test_an_issuer_is_compared_exactly() -> None:
    for other in (
        ISSUER + "/",
        ISSUER.upper(),
        ISSUER + ":443",
        "http://auth.example",
        ISSUER[:-1],
        "https://auth.ex\u0430mple",
    ):
        assert cause_of(token(iss=other)) is Cause.WRONG_ISSUER
    assert cause_of(token(iss=[ISSUER])) is Cause.MALFORMED


@pytest.mark.meets("10.3.1", "9700-2.3b")
def test_an_audience_is_compared_exactly() -> None:
    for other in ("order", "orders ", "Orders", "orders/x", "x orders", ["stock", "order"]):
        assert cause_of(token(aud=other)) is Cause.WRONG_AUDIENCE
    assert check(token(aud=["stock", "orders"]))
    assert check(token(), audiences={"orders", "stock"})
    assert cause_of(token(), audiences=frozenset()) is Cause.WRONG_AUDIENCE


def test_no_audiences_take_any_of_this_issuer() -> None:
    assert check(token(aud="anything"), audiences=None).audience == ("anything",)
    assert cause_of(token(aud="anything", iss="https://other.example"), audiences=None) is Cause.WRONG_ISSUER


def test_a_token_ends_at_the_instant_of_exp() -> None:
    for now in (NOW + 599, NOW + 599.999):
        assert check(token(), now=now)
    for now in (NOW + 600, NOW + 600.001, NOW + 601):
        assert cause_of(token(), now=now) is Cause.EXPIRED


@pytest.mark.meets("7662-4b")
def test_a_token_begins_at_the_instant_of_nbf() -> None:
    assert check(token(nbf=NOW), now=NOW)
    assert cause_of(token(nbf=NOW), now=NOW - 0.001) is Cause.NOT_YET_VALID


def test_iat_is_at_most_a_minute_ahead() -> None:
    for ahead in (0, MAX_AHEAD - 1, MAX_AHEAD):
        assert check(token(iat=NOW + ahead))
    assert cause_of(token(iat=NOW + MAX_AHEAD + 1)) is Cause.NOT_YET_VALID


def test_a_token_that_is_far_too_long_lived_is_refused() -> None:
    assert cause_of(token(exp=NOW + 86_401)) is Cause.MALFORMED


@pytest.mark.parametrize("name", CLAIMS)
def test_each_claim_of_rfc_9068_is_required(name: str) -> None:
    payload = msgspec.json.encode({other: value for other, value in CLAIMS.items() if other != name})
    assert cause_of(jws.sign(payload, KEY, typ="at+jwt")) is Cause.MALFORMED


def test_nothing_is_read_before_the_signature_holds() -> None:
    for payload in (b"", b"not JSON", b'{"sub":', b"\xff"):
        assert cause_of(jws.sign(payload, OTHER, typ="at+jwt")) is Cause.BAD_SIGNATURE
        assert cause_of(jws.sign(payload, KEY, typ="at+jwt")) is Cause.MALFORMED


@pytest.mark.meets("7662-4d")
def test_tampering_with_any_character_is_refused() -> None:
    text = token()
    for place, present in enumerate(text):
        other = "A" if present != "A" else "B"
        cause_of(text[:place] + other + text[place + 1 :])


def test_another_kind_of_token_is_no_access_token() -> None:
    for typ in (
        "JWT",
        "id+jwt",
        "logout+jwt",
        "dpop+jwt",
        "keyfob-entries+jws",
        "secevent+jwt",
        "client-authentication+jwt",
    ):
        assert cause_of(token(typ=typ)) is Cause.WRONG_TYPE


def test_a_shared_secret_is_a_mode_of_its_own() -> None:
    secret = SharedSecret(os.urandom(32))
    text = jws.sign(msgspec.json.encode(CLAIMS), secret, typ="at+jwt")
    found = check_shared_token(text, secret=secret, issuer=ISSUER, audiences={"orders"}, now=NOW)
    assert (found.subject, found.key_id) == ("alice", secret.key_id)
    assert cause_of(text) is Cause.UNSUPPORTED_ALGORITHM
    with pytest.raises(Denied):
        check_shared_token(token(), secret=secret, issuer=ISSUER, audiences=None, now=NOW)
    with pytest.raises(Denied, match="wrong_issuer"):
        check_shared_token(text, secret=secret, issuer="https://other.example", audiences=None, now=NOW)
