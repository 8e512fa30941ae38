"""Introspection that can be shown later (RFC 9701): asked for by Accept, signed for one caller, and no token."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

import jwt
from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import Strategy
from keyfob.http.accept import MAX_ACCEPT, asks_for
from keyfob.jwt import jws
from keyfob.verifier.verifier import Verifier

ISSUER = "https://auth.example"
FORM = {"content-type": "application/x-www-form-urlencoded"}
SIGNED = "application/token-introspection+jwt"
TYPE = "token-introspection+jwt"


async def introspect(desk: Any, client: tuple[str, str], token: str, accept: str | None = SIGNED) -> Any:
    headers = {**FORM, **({} if accept is None else {"accept": accept})}
    body = urlencode({"token": token}).encode()
    return await desk.ask("POST", "/oauth/introspect", basic=client, body=body, headers=headers)


def payload_of(desk: Any, answer: Any) -> dict[str, Any]:
    """Check the answer with the published keys, and return what it says."""
    assert (answer.status, answer.header("content-type")) == (200, SIGNED)
    assert answer.header("cache-control") == "no-store"
    return json.loads(jws.verify(answer.body.decode(), desk.authority.keys.public_keys(), typ=TYPE))


@pytest.mark.meets("9701-b", "9701-c")
async def test_a_signed_answer_is_the_plain_one_for_the_caller(desk: Any) -> None:
    client = await desk.client("orders", "keyfob:introspect")
    issued = await desk.authority.login("alice", strategy="session", roles=["buyer"], audience="orders")
    told = payload_of(desk, await introspect(desk, client, issued.session_token))
    plain = (await introspect(desk, client, issued.session_token, None)).json()
    assert told == {
        "iss": ISSUER,
        "aud": "orders",
        "iat": int(desk.clock.time()),
        "token_introspection": plain,
    }
    assert plain["active"] is True
    header = json.loads(base64url.decode((await introspect(desk, client, "x")).body.split(b".")[0]))
    assert header["typ"] == TYPE


@pytest.mark.meets("9701-c")
async def test_another_library_reads_it_with_the_published_keys(desk: Any) -> None:
    client = await desk.client("orders", "keyfob:introspect")
    issued = await desk.authority.login("alice", strategy="jwt", audience="orders")
    text = (await introspect(desk, client, issued.access_token)).body.decode()
    keys = jwt.PyJWKSet.from_dict((await desk.ask("GET", "/.well-known/jwks.json")).json())
    key = keys[jwt.get_unverified_header(text)["kid"]]
    claims = jwt.decode(
        text, key, algorithms=["ES256"], audience="orders", issuer=ISSUER, options={"verify_iat": False}
    )
    assert claims["token_introspection"]["sub"] == "alice"
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(text, key, algorithms=["ES256"], audience="stock", options={"verify_iat": False})


@pytest.mark.meets("7662-R012")
async def test_what_is_not_the_callers_is_inactive_and_nothing_else(desk: Any) -> None:
    """O-36, O-37: signed or not, and whatever the reason."""
    client = await desk.client("orders", "keyfob:introspect", audiences=("orders",))
    foreign = await desk.authority.login("alice", strategy="session", audience="stock")
    over = await desk.authority.login("alice", strategy="hybrid", audience="orders")
    await desk.authority.logout(over.refresh_token)
    for token in (foreign.session_token, over.access_token, over.refresh_token, "x", "a.b.c", "kfs_x"):
        told = payload_of(desk, await introspect(desk, client, token))
        assert told.keys() == {"iss", "aud", "iat", "token_introspection"}
        assert told["token_introspection"] == {"active": False}


@pytest.mark.meets("9701-e")
async def test_it_passes_for_no_token(desk: Any) -> None:
    """O-37, J-16: another type, another audience, and neither a subject nor an end at the top."""
    client = await desk.client("orders", "keyfob:introspect")
    for strategy in Strategy:
        issued = await desk.authority.login("alice", strategy=strategy, audience="orders")
        token = issued.session_token or issued.access_token
        text = (await introspect(desk, client, token)).body.decode()
        assert (
            not {"sub", "exp", "scope", "client_id"}
            & payload_of(desk, await introspect(desk, client, token)).keys()
        )
        with pytest.raises(Denied) as denied:
            await desk.authority.authenticate(text)
        assert denied.value.cause is Cause.WRONG_TYPE
        verifier = Verifier.from_jwks(desk.authority.keys.jwks(), issuer=ISSUER, audience="orders")
        with pytest.raises(Denied) as denied:
            verifier.verify(text)
        assert denied.value.cause is Cause.WRONG_TYPE
        assert (await introspect(desk, client, text, None)).json() == {"active": False}


async def test_refusals_are_never_signed(desk: Any) -> None:
    client = await desk.client("orders", "keyfob:introspect")
    nobody = await desk.client("nobody")
    for as_, token, status in ((("orders", "wrong"), "x", 401), (nobody, "x", 403), (client, "", 400)):
        answer = await introspect(desk, as_, token)
        assert (answer.status, answer.header("content-type")) == (status, "application/json")


@pytest.mark.meets("9701-d")
async def test_metadata_names_the_algorithm(desk: Any) -> None:
    for name in ("oauth-authorization-server", "openid-configuration"):
        body = (await desk.ask("GET", f"/.well-known/{name}")).json()
        assert body["introspection_signing_alg_values_supported"] == ["ES256"]


@pytest.mark.meets("9701-a")
@pytest.mark.parametrize(
    ("accept", "is_asked_for"),
    [
        (None, False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        (SIGNED, True),
        (SIGNED.upper(), True),
        (f"{SIGNED}; q=0", False),
        (f"{SIGNED};q=0.000", False),
        (f"{SIGNED};q=0.001", True),
        (f"{SIGNED};q=1.000", True),
        (f"{SIGNED};q=1.001", False),
        (f"{SIGNED};q=x", False),
        (f"{SIGNED};q=0.5, application/json", False),
        (f"{SIGNED}, application/json", True),
        (f"application/json;q=0.9 ,{SIGNED} ;q=0.9", True),
        (f"{SIGNED};q=0.8, application/json;q=0.9", False),
        ("application/token-introspection", False),
        (f"text/html,{SIGNED};q=0.9,*/*;q=0.8", True),
        (f"{SIGNED},{'x' * MAX_ACCEPT}", False),
    ],
)
async def test_it_is_signed_where_that_is_asked_for_by_name(
    desk: Any, accept: str | None, is_asked_for: bool
) -> None:
    client = await desk.client("orders", "keyfob:introspect")
    answer = await introspect(desk, client, "x", accept)
    assert answer.header("content-type") == (SIGNED if is_asked_for else "application/json")


def test_several_headers_are_one() -> None:
    values = [b"text/html", b"a/b;q=0.5"]
    assert asks_for(values, b"a/b", rather_than=b"c/d")
    assert not asks_for([*values, b"c/d"], b"a/b", rather_than=b"c/d")
