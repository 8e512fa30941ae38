"""What an access token says (RFC 9068, section 2.2), to the member."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from keyfob.jwt.claims import CLAIM_NAMES, read_claims
from keyfob.tokens.access_token import AccessToken, encode_claims, further_claims
from keyfob.tokens.grant import Grant, SubjectClaims, grant_of_principal

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


def test_a_login_says_everything() -> None:
    full = grant(
        strategy=Strategy.HYBRID,
        audience=("orders", "stock"),
        session_id=SessionId("0" * 32),
        parent_session_id=SessionId("1" * 32),
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


@given(
    subject=names,
    audience=st.lists(names, min_size=1, max_size=3, unique=True),
    roles=st.frozensets(names, max_size=3),
    scopes=st.frozensets(st.from_regex(r"[a-z:]{1,9}", fullmatch=True), max_size=3),
    further=st.dictionaries(names, st.none() | st.integers(-(2**53), 2**53) | names, max_size=3),
)
def test_whatever_is_granted_is_read_back(
    subject: str,
    audience: list[str],
    roles: frozenset[str],
    scopes: frozenset[str],
    further: dict[str, Any],
) -> None:
    granted = grant(
        subject=Subject(subject), audience=tuple(audience), roles=roles, scopes=scopes, claims=further
    )
    payload = encode_claims(
        granted,
        issuer="https://auth.example",
        token_id=TokenId("jti-1"),
        issued_at=SECONDS,
        lifetime=600,
        as_of=Position(7),
        timeline=Timeline("tl-1"),
    )
    claims, others = read_claims(payload)
    assert claims.sub == subject
    assert ([claims.aud] if isinstance(claims.aud, str) else list(claims.aud)) == audience
    assert frozenset(claims.roles) == roles
    assert frozenset((claims.scope or "").split()) == scopes
    assert dict(others) == {name: value for name, value in further.items() if name not in CLAIM_NAMES}


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
