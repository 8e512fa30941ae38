"""ID tokens and logout tokens: what they say, and that none is taken for an access token, or the other way round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

import jwt
from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import ClientId, KeyId, Position, SessionId, Strategy, Subject, Timeline
from keyfob.base.opaque import OpaqueKind
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, PublicKey
from keyfob.sessions.session import Session
from keyfob.tokens.grant import SubjectClaims, grant_of_session
from keyfob.tokens.id_token import MAX_NONCE, half_hash, issue_id_token, read_hint
from keyfob.tokens.issuer import Issuer
from keyfob.tokens.logout_token import LOGOUT_EVENT, issue_logout_token
from keyfob.verifier.token_check import check_access_token

ISSUER = "https://auth.example"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SID, PARENT = SessionId("ab" * 16), SessionId("cd" * 16)
KEY = PrivateKey.generate(Algorithm.ES256)
KEYS: Mapping[KeyId, PublicKey] = {KEY.key_id: KEY.public}

SESSION = Session(
    session_id=SID,
    subject=Subject("alice"),
    client_id=ClientId("shop"),
    strategy=Strategy.HYBRID,
    kind=OpaqueKind.REFRESH,
    digest=None,
    created_at=NOW,
    expires_at=NOW + timedelta(days=30),
    last_seen_at=NOW,
    auth_time=NOW - timedelta(hours=1),
    idle_timeout=None,
    as_of=Position(0),
    parent_session_id=PARENT,
    audience=("shop",),
    scopes=("openid",),
    amr=("pwd", "otp"),
    acr="urn:strong",
)


def issue(session: Session = SESSION, **options: Any) -> str:
    return issue_id_token(session, issuer=ISSUER, **{"key": KEY, "now": NOW, **options})


def logout_token() -> str:
    return issue_logout_token(
        issuer=ISSUER,
        client_id=ClientId("shop"),
        subject=Subject("alice"),
        session_id=SID,
        key=KEY,
        now=NOW,
    )


def access_token(audience: str = "shop") -> str:
    grant = grant_of_session(replace(SESSION, audience=(audience,)), SubjectClaims(), used_at=NOW)
    issuing = Issuer(ISSUER, signer=lambda: KEY, lifetime=timedelta(minutes=10))
    return issuing.issue(grant, as_of=Position(0), timeline=Timeline("t"), now=NOW).text


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


def cause(token: str, **options: Any) -> Cause:
    with pytest.raises(Denied) as denied:
        read_hint(token, options.get("keys", KEYS), issuer=options.get("issuer", ISSUER))
    return denied.value.cause


@pytest.mark.meets("9470-6")
def test_an_id_token_says_who_logged_in_where_and_when() -> None:
    token = issue(nonce="n-0S6", access_token="an.access.token")
    seconds = int(NOW.timestamp())
    assert claims_of(token) == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "shop",
        "exp": seconds + 600,
        "iat": seconds,
        "auth_time": seconds - 3600,
        "sid": SID,
        "nonce": "n-0S6",
        "acr": "urn:strong",
        "amr": ["pwd", "otp"],
        "at_hash": half_hash("an.access.token", algorithm="ES256"),
    }
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": KEY.key_id}


def test_another_library_reads_it() -> None:
    key = jwt.PyJWK(KEY.public.to_jwk()).key
    read = jwt.decode(
        issue(), key, algorithms=["ES256"], audience="shop", issuer=ISSUER, options={"verify_exp": False}
    )
    assert read["sub"] == "alice"


def test_what_was_not_asked_for_is_not_there() -> None:
    plain = claims_of(issue(replace(SESSION, acr=None, amr=())))
    assert not plain.keys() & {"nonce", "acr", "amr", "at_hash", "azp"}


def test_it_never_outlives_the_session() -> None:
    last = replace(SESSION, expires_at=NOW + timedelta(seconds=1))
    assert claims_of(issue(last))["exp"] == int(NOW.timestamp()) + 1
    with pytest.raises(Denied) as denied:
        issue(replace(SESSION, expires_at=NOW + timedelta(microseconds=999_999)))
    assert denied.value.cause is Cause.EXPIRED


def test_at_hash_is_that_of_the_specification() -> None:
    """OpenID Connect Core 1.0, section A.3: the access token and its hash, for RS256."""
    token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
    assert half_hash(token, algorithm="RS256") == "77QmUPtjPfzWtF2AnpK9RQ"


@pytest.mark.parametrize(
    ("algorithm", "length"), [("ES256", 22), ("RS256", 22), ("PS256", 22), ("ES384", 32), ("EdDSA", 43)]
)
def test_each_algorithm_has_its_hash(algorithm: str, length: int) -> None:
    assert len(half_hash("token", algorithm=algorithm)) == length


def test_a_nonce_is_taken_up_to_its_limit() -> None:
    assert claims_of(issue(nonce="n" * MAX_NONCE))["nonce"] == "n" * MAX_NONCE
    with pytest.raises(InvalidRequest):
        issue(nonce="n" * (MAX_NONCE + 1))


def test_a_subject_that_is_not_ascii_has_no_id_token() -> None:
    with pytest.raises(InvalidRequest):
        issue(replace(SESSION, subject=Subject("älice")))


def test_an_expired_id_token_is_still_a_hint() -> None:
    old = issue(now=NOW - timedelta(days=2))
    hint = read_hint(old, KEYS, issuer=ISSUER)
    assert (hint.subject, hint.client_id, hint.session_id) == ("alice", "shop", SID)


def test_a_hint_of_somebody_else_is_none() -> None:
    stranger = PrivateKey.generate(Algorithm.ES256)
    token = issue()
    assert cause(issue(key=stranger)) is Cause.UNKNOWN_KEY
    assert cause(token, issuer="https://other.example") is Cause.WRONG_ISSUER
    assert cause(token, keys={KEY.key_id: stranger.public}) is Cause.BAD_SIGNATURE
    assert cause(token[:-2]) is Cause.BAD_SIGNATURE
    assert cause(token.rpartition(".")[0]) is Cause.MALFORMED
    assert cause("") is Cause.MALFORMED


@pytest.mark.meets("10.5.5")
def test_each_kind_of_token_is_taken_for_itself_alone() -> None:
    """J-16, O-42, O-44: signed by the same key, and told apart by `typ` before anything is read."""
    tokens = {"id": issue(), "access": access_token(), "logout": logout_token()}
    for kind, token in tokens.items():
        if kind != "id":
            assert cause(token) is Cause.WRONG_TYPE
        if kind != "access":
            with pytest.raises(Denied) as denied:
                check_access_token(token, keys=KEYS, issuer=ISSUER, audiences={"shop"}, now=NOW.timestamp())
            assert denied.value.cause is Cause.WRONG_TYPE
    principal = check_access_token(
        tokens["access"], keys=KEYS, issuer=ISSUER, audiences={"shop"}, now=NOW.timestamp()
    )
    assert principal.subject == "alice"


@pytest.mark.parametrize("typ", ["at+jwt", "logout+jwt"])
def test_claims_of_an_id_token_under_another_type_pass_nowhere(typ: str) -> None:
    """Were `typ` not enough: the claims of the one are not those that the other needs."""
    token = jws.sign(base64url.decode(issue().split(".")[1].encode()), KEY, typ=typ)
    assert cause(token) is Cause.WRONG_TYPE
    with pytest.raises(Denied):
        check_access_token(token, keys=KEYS, issuer=ISSUER, audiences={"shop"}, now=NOW.timestamp())


@pytest.mark.parametrize("of", ["access", "logout"])
def test_claims_of_another_token_under_the_type_of_an_id_token_are_no_hint(of: str) -> None:
    other = access_token() if of == "access" else logout_token()
    payload = base64url.decode(other.split(".")[1].encode())
    assert cause(jws.sign(payload, KEY, typ="JWT")) is Cause.MALFORMED


@pytest.mark.meets("10.5.5")
def test_a_logout_token_says_what_is_over_and_nothing_that_an_id_token_says() -> None:
    """OpenID Connect Back-Channel Logout 1.0, section 2.4."""
    token = logout_token()
    claims = claims_of(token)
    jti = claims.pop("jti")
    seconds = int(NOW.timestamp())
    assert claims == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "shop",
        "iat": seconds,
        "exp": seconds + 120,
        "sid": SID,
        "events": {LOGOUT_EVENT: {}},
    }
    assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
    assert len(jti) == 22
    assert claims_of(logout_token())["jti"] != jti
