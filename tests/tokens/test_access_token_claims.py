"""What an access token says (RFC 9068, section 2.2), to the member."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import (
    FIRST_PARTY,
    ClientId,
    Position,
    SessionId,
    Strategy,
    Subject,
    Timeline,
    TokenId,
)
from keyfob.base.principal import Principal
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.claims import CLAIM_NAMES
from keyfob.jwt.jwk import PrivateKey
from keyfob.tokens.access_token import AccessToken, encode_claims, further_claims
from keyfob.tokens.grant import Grant, SubjectClaims, grant_of_principal
from keyfob.tokens.issuer import Issuer
from keyfob.verifier.token_check import check_access_token

START = datetime(2026, 1, 1, 12, 0, 0, 999_999, tzinfo=UTC)
SECONDS = 1_767_268_800  # of START
OURS = sorted(CLAIM_NAMES)


def grant(**more: Any) -> Grant:
    fields: dict[str, Any] = {
        "subject": Subject("alice"),
        "client_id": FIRST_PARTY,
        "strategy": None,
        "audience": ("orders",),
        "ends_at": START + timedelta(hours=1),
        **more,
    }
    return Grant(**fields)


def claims_of(granted: Grant, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "issuer": "https://auth.example",
        "token_id": TokenId("jti-1"),
        "issued_at": SECONDS,
        "lifetime": 600,
        "as_of": Position(7),
        "timeline": Timeline("tl-1"),
        **more,
    }
    return json.loads(encode_claims(granted, **fields))


REQUIRED = {
    "iss": "https://auth.example",
    "sub": "alice",
    "aud": "orders",
    "exp": SECONDS + 600,
    "iat": SECONDS,
    "jti": "jti-1",
    "client_id": "first-party",
    "as_of": 7,
    "tl": "tl-1",
}


def test_a_machines_token_says_the_required_and_nothing_else() -> None:
    assert claims_of(grant()) == REQUIRED


@pytest.mark.meets("8693-4.2/4.3")
def test_a_login_says_everything() -> None:
    full = grant(
        strategy=Strategy.HYBRID,
        audience=("orders", "stock"),
        session_id=SessionId("0" * 32),
        parent_session_id=SessionId("1" * 32),
        parent_client_id=ClientId("first-party"),
        scopes=frozenset({"y", "x"}),
        roles=frozenset({"b", "a"}),
        auth_time=START,
        amr=("pwd", "otp"),
        acr="2",
        claims={"department": "sales", "level": 3, "none": None},
    )
    assert claims_of(full) == {
        **REQUIRED,
        "aud": ["orders", "stock"],
        "sid": "0" * 32,
        "psid": "1" * 32,
        "pcid": "first-party",
        "strategy": "hybrid",
        "scope": "x y",
        "roles": ["a", "b"],
        "auth_time": SECONDS,
        "amr": ["pwd", "otp"],
        "acr": "2",
        "department": "sales",
        "level": 3,
        "none": None,
    }


@pytest.mark.parametrize("name", OURS)
def test_a_claim_that_bears_a_name_of_ours_is_left_out_even_where_ours_is_absent(name: str) -> None:
    assert claims_of(grant(claims={name: "root", "other": 1})) == {**REQUIRED, "other": 1}
    assert further_claims({name: "root", "other": 1}) == {"other": 1}


def test_further_claims_are_a_copy_that_nobody_can_write_into() -> None:
    source: dict[str, object] = {"a": 1}
    kept = further_claims(source)
    source["a"] = 2
    assert kept == {"a": 1}
    with pytest.raises(TypeError):
        kept["a"] = 3  # type: ignore[index]


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate(Algorithm.ES256)


@given(
    subject=names,
    audience=st.lists(names, min_size=1, max_size=3, unique=True),
    roles=st.frozensets(names, max_size=3),
    scopes=st.frozensets(st.from_regex(r"[a-z:]{1,9}", fullmatch=True), max_size=3),
    further=st.dictionaries(names, values, max_size=3),
)
def test_whatever_is_issued_is_read_back(
    key: PrivateKey,
    subject: str,
    audience: list[str],
    roles: frozenset[str],
    scopes: frozenset[str],
    further: dict[str, Any],
) -> None:
    granted = grant(
        subject=Subject(subject), audience=tuple(audience), roles=roles, scopes=scopes, claims=further
    )
    issuer = Issuer("https://auth.example", signer=lambda: key, lifetime=timedelta(minutes=10))
    try:
        token = issuer.issue(granted, as_of=Position(7), timeline=Timeline("tl-1"), now=START)
    except (InvalidRequest, OverflowError, UnicodeEncodeError):
        assert further, "only claims of the application can be unfit"
        return
    principal = check_access_token(
        token.text,
        keys={key.public.key_id: key.public},
        issuer="https://auth.example",
        audiences=None,
        now=float(SECONDS),
    )
    assert principal.subject == subject
    assert list(principal.audience) == audience
    assert principal.roles == roles
    assert principal.scopes == scopes
    assert dict(principal.claims) == {
        name: value for name, value in further.items() if name not in CLAIM_NAMES
    }


@pytest.mark.parametrize(
    "unfit",
    [
        {"a\\b": 1},
        {'"': 1},
        {"nested": {"a\\b": 1}},
        {"number": 2**63},
        {"deep": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]},
        {"long": "x" * 20_000},
    ],
    ids=lambda claims: str(claims)[:20],
)
def test_what_no_verifier_reads_is_not_issued(key: PrivateKey, unfit: dict[str, Any]) -> None:
    issuer = Issuer("https://auth.example", signer=lambda: key, lifetime=timedelta(minutes=10))
    with pytest.raises(InvalidRequest) as refused:
        issuer.issue(grant(claims=unfit), as_of=Position(7), timeline=Timeline("tl-1"), now=START)
    assert refused.value.code == "unfit_claims"


def test_roles_that_make_a_token_too_long_are_not_issued(key: PrivateKey) -> None:
    issuer = Issuer("https://auth.example", signer=lambda: key, lifetime=timedelta(minutes=10))
    many = frozenset(f"{'ü' * 96}{number}" for number in range(64))
    with pytest.raises(InvalidRequest, match="no verifier reads past"):
        issuer.issue(grant(roles=many), as_of=Position(7), timeline=Timeline("tl-1"), now=START)


def test_a_token_does_not_show_itself() -> None:
    shown = repr(AccessToken(text="eyJ.secret.text", token_id=TokenId("jti-1"), expires_in=600))
    assert "secret" not in shown
    assert "jti-1" in shown


def test_what_is_handed_on_of_a_principal_is_all_but_its_audience() -> None:
    principal = Principal(
        subject=Subject("alice"),
        client_id=ClientId("shop"),
        strategy=Strategy.SESSION,
        audience=("web",),
        issued_at=START,
        expires_at=START + timedelta(minutes=5),
        as_of=Position(3),
        session_id=SessionId("0" * 32),
        parent_session_id=SessionId("1" * 32),
        parent_client_id=ClientId("first-party"),
        roles=frozenset({"a"}),
        scopes=frozenset({"x"}),
        auth_time=START,
        amr=("pwd",),
        acr="2",
        claims={"department": "sales"},
    )
    handed_on = grant_of_principal(principal, ("orders",))
    assert handed_on.audience == ("orders",)
    assert handed_on.ends_at == principal.expires_at
    for name in (
        "subject",
        "client_id",
        "strategy",
        "session_id",
        "parent_session_id",
        "parent_client_id",
        "roles",
        "scopes",
        "auth_time",
        "amr",
        "acr",
        "claims",
    ):
        assert getattr(handed_on, name) == getattr(principal, name), name


def test_nothing_is_known_of_a_stranger() -> None:
    assert SubjectClaims() == SubjectClaims(roles=frozenset(), claims={})
