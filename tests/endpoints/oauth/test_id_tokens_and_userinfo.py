"""What an OpenID client is told of who signed in: the ID token beside the code's tokens, userinfo, and the metadata that leads there."""

from __future__ import annotations

import json
from typing import Any

import pytest

import jwt
from keyfob.base import base64url
from keyfob.tokens.grant import SubjectClaims
from keyfob.tokens.id_token import half_hash

from .journeys import ISSUER, Browser, Relying, answered, asking, relying

SCOPES = ("openid", "profile", "email", "roles", "offline_access", "orders:read")


@pytest.fixture
async def openid(desk: Any) -> Relying:
    return await relying(desk, scopes=SCOPES)


async def tokens(browser: Browser, client: Relying, **changes: str | None) -> dict[str, Any]:
    changes = {"scope": "openid", "nonce": "n-0S6", **changes}
    answer = await client.exchange(await browser.code(asking(client.client_id, **changes)))
    assert answer.status == 200, answer.body
    return answer.json()


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


async def userinfo(desk: Any, token: str, method: str = "GET", **options: Any) -> Any:
    return await desk.ask(method, "/oauth/userinfo", bearer=token, own_page=False, **options)


@pytest.mark.meets("10.5.4", "9700-4.6")
async def test_an_openid_client_gets_an_id_token_bound_to_its_request_and_its_access_token(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    body = await tokens(signed_in, openid)
    metadata = (await desk.ask("GET", "/.well-known/openid-configuration")).json()
    keys = (await desk.ask("GET", "/.well-known/jwks.json")).json()["keys"]
    kid = jwt.get_unverified_header(body["id_token"])["kid"]
    claims = jwt.decode(
        body["id_token"],
        jwt.PyJWK(next(key for key in keys if key["kid"] == kid)).key,
        algorithms=metadata["id_token_signing_alg_values_supported"],
        audience="shop",
        issuer=metadata["issuer"],
        options={"verify_exp": False, "verify_iat": False},
    )
    access = claims_of(body["access_token"])
    session = (await signed_in.get("/session")).json()
    assert claims["sub"] == access["sub"] == session["subject"]
    assert claims["sid"] == access["sid"]
    assert claims["nonce"] == "n-0S6"
    assert claims["at_hash"] == half_hash(body["access_token"], algorithm="ES256")
    assert claims["auth_time"] == access["auth_time"] < claims["iat"]
    assert claims["amr"] == ["pwd"]
    assert not claims.keys() & {"azp", "roles", "email", "as_of", "jti", "client_id"}


async def test_who_does_not_ask_for_openid_gets_none(signed_in: Browser, openid: Relying) -> None:
    assert "id_token" not in await tokens(signed_in, openid, scope="orders:read")


@pytest.mark.meets("9470-6")
async def test_a_refresh_gives_one_of_the_same_login_without_a_nonce(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    first = await tokens(signed_in, openid)
    await desk.advance(60)
    answer = await openid.refresh(first["refresh_token"])
    before, after = claims_of(first["id_token"]), claims_of(answer.json()["id_token"])
    assert "nonce" not in after
    same = ("iss", "sub", "aud", "sid", "auth_time")
    assert [before[name] for name in same] == [after[name] for name in same]
    assert after["iat"] == before["iat"] + 60


@pytest.mark.meets("9470-6")
async def test_signing_in_again_moves_auth_time(desk: Any, signed_in: Browser, openid: Relying) -> None:
    """OIDC-prompt: the login really happens, and the client can see that it has."""
    before = claims_of((await tokens(signed_in, openid))["id_token"])["auth_time"]
    await desk.advance(100)
    page = await signed_in.get(
        (await signed_in.authorize(asking(scope="openid", prompt="login"))).header("location")
    )
    await desk.advance(1)
    answer = await signed_in.sign_in(page)
    while answer.header("location").startswith("/"):
        answer = await signed_in.get(answer.header("location"))
    _, carried = answered(answer)
    body = (await openid.exchange(carried["code"])).json()
    assert claims_of(body["id_token"])["auth_time"] == before + 102


async def test_with_offline_access_the_id_token_names_a_session_that_ends_with_the_browsers(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    """BCL-2.7b: the client is told of the logout, and its refresh token goes on."""
    answer = await signed_in.authorize(asking(scope="openid offline_access"))
    while answer.header("location").startswith("/"):
        answer = await signed_in.get(answer.header("location"))
    _, carried = answered(answer)
    body = (await openid.exchange(carried["code"])).json()
    named, own = claims_of(body["id_token"])["sid"], claims_of(body["access_token"])["sid"]
    assert named != own
    browser = (await signed_in.get("/session")).json()["session_id"]
    store = desk.authority.store.sessions
    assert (await store.find(named)).session.parent_session_id == browser
    assert (await store.find(named)).session.digest is None
    await desk.authority.revoke("session", browser)
    assert (await store.find(named)).session.ended_at is not None
    assert (await openid.refresh(body["refresh_token"])).status == 200


async def test_a_code_used_twice_ends_what_the_id_token_named_too(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    answer = await signed_in.authorize(asking(scope="openid offline_access"))
    while answer.header("location").startswith("/"):
        answer = await signed_in.get(answer.header("location"))
    _, carried = answered(answer)
    body = (await openid.exchange(carried["code"])).json()
    assert (await openid.exchange(carried["code"])).status == 400
    named = claims_of(body["id_token"])["sid"]
    assert (await desk.authority.store.sessions.find(named)).session.ended_at is not None
    assert (await openid.refresh(body["refresh_token"])).status == 400


async def test_the_end_of_the_client_of_the_login_ends_what_began_from_it(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    """At every verifier too: the token names that client."""
    token = (await tokens(signed_in, openid))["access_token"]
    assert claims_of(token)["pcid"] == "first-party"
    await desk.authority.revoke("client", "first-party")
    assert (await userinfo(desk, token)).code == "revoked"


# Userinfo


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_userinfo_says_who_it_is_and_no_more_than_the_scopes_ask_for(
    desk: Any, signed_in: Browser, openid: Relying, method: str
) -> None:
    body = await tokens(signed_in, openid)
    answer = await userinfo(desk, body["access_token"], method)
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.json() == {"sub": claims_of(body["id_token"])["sub"]}


async def test_userinfo_gives_the_name_and_the_roles_of_today(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    body = await tokens(signed_in, openid, scope="openid profile roles email")
    token = body["access_token"]
    subject = claims_of(token)["sub"]
    assert (await userinfo(desk, token)).json() == {"sub": subject, "preferred_username": "alice"}
    await desk.authority.set_roles(subject, ["buyer"])
    refreshed = (await openid.refresh(body["refresh_token"])).json()["access_token"]
    assert (await userinfo(desk, token)).status == 401
    assert (await userinfo(desk, refreshed)).json()["roles"] == ["buyer"]


async def test_userinfo_gives_what_the_claims_source_knows_and_the_scopes_ask_for(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    async def source(subject: str, client_id: str, /) -> SubjectClaims:
        known = {"email": "a@example", "email_verified": True, "name": "Alice", "sub": "mallory", "secret": 1}
        return SubjectClaims(claims=known)

    desk.authority.user_info._claims_source = source
    body = await tokens(signed_in, openid, scope="openid email")
    answer = (await userinfo(desk, body["access_token"])).json()
    assert answer == {
        "sub": claims_of(body["id_token"])["sub"],
        "email": "a@example",
        "email_verified": True,
    }


async def test_userinfo_ends_at_once_with_the_login(desk: Any, signed_in: Browser, openid: Relying) -> None:
    token = (await tokens(signed_in, openid))["access_token"]
    assert (await userinfo(desk, token)).status == 200
    await desk.authority.revoke("subject", claims_of(token)["sub"])
    answer = await userinfo(desk, token)
    assert (answer.status, answer.code) == (401, "revoked")
    assert 'error="invalid_token"' in answer.header("www-authenticate")


async def test_an_id_token_opens_nothing(desk: Any, signed_in: Browser, openid: Relying) -> None:
    """J-16: at userinfo, at every route that takes a token, and at introspection."""
    body = await tokens(signed_in, openid)
    id_token = body["id_token"]
    for method, path in (
        ("GET", "/oauth/userinfo"),
        ("GET", "/session"),
        ("GET", "/check"),
        ("GET", "/sessions"),
        ("GET", "/feed"),
        ("GET", "/admin/api/users"),
    ):
        answer = await desk.ask(method, path, bearer=id_token)
        assert (answer.status, answer.header("x-auth-cause")) == (401, "wrong_type"), path
    reader = await desk.client("reader", "keyfob:introspect")
    told = await desk.ask(
        "POST",
        "/oauth/introspect",
        body=f"token={id_token}".encode(),
        headers={"content-type": "application/x-www-form-urlencoded"},
        basic=reader,
    )
    assert told.json() == {"active": False}


async def test_userinfo_takes_an_access_token_for_it_and_nothing_else(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    """O-41: a service that was given a token for itself cannot ask here with it."""
    body = await tokens(signed_in, openid, scope="openid", resource="https://orders.example")
    assert (await userinfo(desk, body["access_token"])).code == "wrong_audience"
    mine = await tokens(signed_in, openid, resource=f"{ISSUER}/oauth/userinfo")
    assert (await userinfo(desk, mine["access_token"])).status == 200
    plain = await tokens(signed_in, openid, scope="orders:read")
    answer = await userinfo(desk, plain["access_token"])
    assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert 'scope="openid"' in answer.header("www-authenticate")
    session_token = signed_in.cookies["__Host-session"]
    assert (await userinfo(desk, session_token)).code == "wrong_type"
    assert (await userinfo(desk, body["refresh_token"])).code == "wrong_type"
    nobody = await signed_in.get("/oauth/userinfo")
    assert (nobody.status, nobody.code) == (401, "no_credential")
    robot = await desk.authority.clients.add("robot", scopes=["openid"])
    answer = await desk.ask(
        "POST",
        "/oauth/token",
        body=b"grant_type=client_credentials",
        headers={"content-type": "application/x-www-form-urlencoded"},
        basic=("robot", robot.secret),
    )
    if answer.status == 200:
        assert (await userinfo(desk, answer.json()["access_token"])).status == 403


@pytest.mark.meets("OIDD-4.3")
async def test_the_metadata_says_what_there_is(desk: Any) -> None:
    metadata = (await desk.ask("GET", "/.well-known/openid-configuration")).json()
    assert metadata["issuer"] == ISSUER
    for name in (
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "end_session_endpoint",
    ):
        assert metadata[name].startswith(ISSUER + "/")
        answer = await desk.ask("GET", metadata[name].removeprefix(ISSUER))
        assert answer.status != 404
    assert metadata["subject_types_supported"] == ["public"]
    assert metadata["id_token_signing_alg_values_supported"] == ["ES256"]
    assert metadata["backchannel_logout_supported"] is True
    assert metadata["backchannel_logout_session_supported"] is True
    assert metadata["claims_parameter_supported"] is False
    assert {"openid", "profile", "email", "roles", "offline_access"} == set(metadata["scopes_supported"])
    assert not [name for name, value in metadata.items() if value in ([], None)]


async def test_a_login_that_is_over_when_the_code_comes_gives_no_id_token(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    code = await signed_in.code(asking(scope="openid"))
    await desk.authority.revoke("session", (await signed_in.get("/session")).json()["session_id"])
    assert (await openid.exchange(code)).status == 400


async def test_what_ends_a_session_while_it_is_made_lets_nobody_have_an_id_token(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    """Its client could not be told: whoever read what the entry ended may not have seen the row yet."""
    code = await signed_in.code(asking(scope="openid"))
    sessions = desk.authority.store.sessions
    add = sessions.add

    async def add_and_end(*arguments: Any, **options: Any) -> Any:
        outcome = await add(*arguments, **options)
        await desk.authority.revoke("client", "shop")
        return outcome

    sessions.add = add_and_end
    assert (await openid.exchange(code)).status == 400
