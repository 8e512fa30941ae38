"""Codes and refresh tokens at `/oauth/token`: what they give, to whom, and how often."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.clients.client import GrantType
from keyfob.grants.pkce import challenge_of

from .journeys import CALLBACK, VERIFIER, Browser, Relying, answered, asking, refused, relying

OTHER = "w" * 43


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


async def cause_of(desk: Any, token: str) -> Cause | None:
    try:
        await desk.authority.authenticate(token)
    except Denied as denied:
        return denied.cause
    return None


async def tokens(browser: Browser, client: Relying, **changes: str | None) -> dict[str, Any]:
    answer = await client.exchange(await browser.code(asking(client.client_id, **changes)))
    assert answer.status == 200, answer.body
    return answer.json()


@pytest.mark.meets("9700-2.1.1d")
async def test_a_code_gives_a_session_that_is_a_child_of_the_browsers(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    answer = await shop.exchange(await signed_in.code())
    assert (answer.status, answer.header("cache-control"), answer.header("pragma")) == (
        200,
        "no-store",
        "no-cache",
    )
    body = answer.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 600, "orders:read")
    assert body["refresh_token"].startswith("kfr_")
    claims = claims_of(body["access_token"])
    browser = (await signed_in.get("/session")).json()
    assert claims["psid"] == browser["session_id"]
    assert claims["sid"] != browser["session_id"]
    assert (claims["sub"], claims["client_id"]) == (browser["subject"], "shop")
    principal = await desk.authority.authenticate(body["access_token"])
    assert principal.auth_time == desk.clock.now().replace(microsecond=0).fromtimestamp(
        claims["auth_time"], principal.auth_time.tzinfo
    )
    assert claims["auth_time"] < claims["iat"]


@pytest.mark.meets("10.4.6", "OA-20", "OA-23", "9700-2.1.1e")
@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": None},
        {"code_verifier": OTHER},
        {"code_verifier": challenge_of(VERIFIER)},
        {"code_verifier": VERIFIER[:-1]},
        {"code_verifier": VERIFIER + "v" * 100},
        {"redirect_uri": None},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": "https://evil.example/"},
    ],
)
async def test_a_wrong_use_gives_nothing_and_takes_nothing(
    desk: Any, signed_in: Browser, shop: Relying, changes: dict[str, str | None]
) -> None:
    """O-06, O-09, O-13, O-14: neither before the right use nor after it."""
    code = await signed_in.code()
    refused(await shop.exchange(code, **changes), "invalid_grant")
    given = await shop.exchange(code)
    assert given.status == 200
    refused(await shop.exchange(code, **changes), "invalid_grant")
    assert await cause_of(desk, given.json()["access_token"]) is None
    assert (await shop.refresh(given.json()["refresh_token"])).status == 200


async def test_a_place_that_was_not_named_need_not_be_named_again(signed_in: Browser, shop: Relying) -> None:
    for named, status in ((None, 200), (CALLBACK, 200), (CALLBACK + "/", 400)):
        code = await signed_in.code(asking(redirect_uri=None))
        assert (await shop.exchange(code, redirect_uri=named)).status == status


@pytest.mark.meets("OA-18")
async def test_a_code_of_another_client_gives_nothing_and_takes_nothing(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    """O-07, O-10: a code that was put into another client's hands."""
    thief = await relying(desk, "thief")
    public = await relying(desk, "app", public=True)
    code = await signed_in.code()
    for other in (thief, public):
        refused(await other.exchange(code), "invalid_grant")
    given = await shop.exchange(code)
    assert given.status == 200
    for other in (thief, public):
        refused(await other.exchange(code), "invalid_grant")
    assert await cause_of(desk, given.json()["access_token"]) is None


@pytest.mark.meets("OA-18", "9700-4.8.2")
async def test_a_code_of_another_login_does_not_fit_the_verifier_of_this_one(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    """O-07, O-11: whoever puts their own code into somebody else's journey has not the verifier of that journey."""
    injected = await signed_in.code(asking(code_challenge=challenge_of(OTHER)))
    refused(await shop.exchange(injected), "invalid_grant")


@pytest.mark.meets("10.4.2", "OA-19", "9700-4.2.4c")
async def test_a_second_right_use_ends_what_the_first_gave(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    """O-08: both tokens, at once; and it says so in the trail."""
    code = await signed_in.code()
    first = (await shop.exchange(code)).json()
    refused(await shop.exchange(code), "invalid_grant")
    assert await cause_of(desk, first["access_token"]) is Cause.REVOKED
    refused(await shop.refresh(first["refresh_token"]), "invalid_grant")
    refused(await shop.exchange(code), "invalid_grant")
    events = [event.code for event in (await desk.authority.trail.list(limit=100)).events]
    assert events.count("code_reused") == 1
    assert (await signed_in.get("/session")).status == 200


@pytest.mark.meets("10.4.3", "OA-18")
@pytest.mark.parametrize(("seconds", "status"), [(59, 200), (60, 400)])
async def test_a_code_is_good_for_a_minute(
    desk: Any, signed_in: Browser, shop: Relying, seconds: int, status: int
) -> None:
    code = await signed_in.code()
    await desk.advance(seconds)
    assert (await shop.exchange(code)).status == status


async def test_a_second_use_is_known_for_a_day(desk: Any, signed_in: Browser, shop: Relying) -> None:
    code = await signed_in.code(asking(scope="orders:read offline_access"))
    first = (await shop.exchange(code)).json()
    await desk.advance(3600)
    refused(await shop.exchange(code), "invalid_grant")
    refused(await shop.refresh(first["refresh_token"]), "invalid_grant")


@pytest.mark.parametrize("code", ["", "x" * 43, "x" * 200, "kfr_x", "ä", "\u0000"])
async def test_what_is_no_code_gives_nothing(signed_in: Browser, shop: Relying, code: str) -> None:
    answer = await shop.exchange(code)
    assert answer.status == 400
    assert answer.json()["error"] in {"invalid_grant", "invalid_request"}


async def test_one_secret_is_never_taken_for_another(desk: Any, signed_in: Browser, shop: Relying) -> None:
    """O-51: a code as a refresh token, a refresh token as a code, a request as a code."""
    given = await tokens(signed_in, shop)
    refused(await shop.exchange(given["refresh_token"]), "invalid_grant")
    refused(await shop.exchange(given["access_token"]), "invalid_request")
    refused(await shop.refresh(await signed_in.code()), "invalid_grant")
    refused(await shop.refresh(given["access_token"]), "invalid_grant")
    _, carried = answered(await Browser(desk).authorize())
    refused(await shop.exchange(carried["request"]), "invalid_grant")
    refused(await shop.refresh(signed_in.cookies["__Host-session"]), "invalid_grant")


async def end_browser(desk: Any, browser: Browser, how: str) -> None:
    session = (await browser.get("/session")).json()
    match how:
        case "logout":
            answer = await browser.ask("POST", "/logout", json_body={})
            assert answer.status == 204
        case "password":
            body = {"current": "correct horse battery", "new": "a much better one"}
            assert (await browser.ask("POST", "/password", json_body=body)).status == 200
        case "password_by_another":
            await desk.authority.accounts.set_password(session["subject"], "a much better one", actor="admin")
        case "everywhere":
            await desk.authority.revoke("subject", session["subject"])
        case "others":
            assert (await browser.ask("POST", "/logout", json_body={"devices": "others"})).status == 204
        case "disabled":
            await desk.authority.accounts.disable(session["subject"], actor="admin")
        case "client":
            await desk.authority.revoke("client", "shop")
        case "client_deleted":
            await desk.authority.clients.delete("shop", actor="admin")
        case "expired":
            await desk.advance(50)


@pytest.mark.parametrize("scope", ["orders:read", "orders:read offline_access"])
@pytest.mark.parametrize(
    "how",
    [
        "logout",
        "password",
        "password_by_another",
        "everywhere",
        "others",
        "disabled",
        "client",
        "client_deleted",
    ],
)
async def test_a_code_gives_nothing_once_what_it_rests_on_was_ended(
    desk: Any, signed_in: Browser, shop: Relying, how: str, scope: str
) -> None:
    """Preconditions 2 and 3. A password changed, or others signed out, in this very browser spares its login, and no code under way."""
    code = await signed_in.code(asking(scope=scope))
    await end_browser(desk, signed_in, how)
    answer = await shop.exchange(code)
    if how == "client_deleted":
        refused(answer, "invalid_client", 401)
    else:
        refused(answer, "invalid_grant")


async def test_a_login_that_goes_on_gives_codes_again_at_once(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    for how in ("others", "password"):
        await end_browser(desk, signed_in, how)
        assert "refresh_token" in await tokens(signed_in, shop)


@pytest.mark.meets("9700-4.14.2e")
@pytest.mark.parametrize(
    "how", ["logout", "password_by_another", "everywhere", "disabled", "client", "client_deleted"]
)
async def test_what_was_given_ends_with_what_it_rests_on(
    desk: Any, signed_in: Browser, shop: Relying, how: str
) -> None:
    given = await tokens(signed_in, shop)
    await end_browser(desk, signed_in, how)
    assert await cause_of(desk, given["access_token"]) is Cause.REVOKED
    assert (await shop.refresh(given["refresh_token"])).status in {400, 401}


async def test_offline_access_outlasts_the_browsers_login_and_ends_with_the_subject(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    given = await tokens(signed_in, shop, scope="orders:read offline_access")
    assert "psid" not in claims_of(given["access_token"])
    await end_browser(desk, signed_in, "logout")
    assert await cause_of(desk, given["access_token"]) is None
    await desk.advance(13 * 3600)
    again = await shop.refresh(given["refresh_token"])
    assert again.status == 200
    await desk.authority.revoke("subject", claims_of(given["access_token"])["sub"])
    refused(await shop.refresh(again.json()["refresh_token"]), "invalid_grant")


async def test_a_client_that_refreshes_keeps_the_browsers_login_from_idling_out(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    given = await tokens(signed_in, shop)
    token = given["refresh_token"]
    for _ in range(5):
        await desk.advance(20 * 60)
        token = (await shop.refresh(token)).json()["refresh_token"]
        await desk.authority.activity.write()
    assert (await signed_in.get("/session")).status == 200
    await desk.advance(31 * 60)
    refused(await shop.refresh(token), "invalid_grant")


async def test_no_access_token_outlives_the_login_that_it_rests_on(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    ends_at = (await signed_in.get("/session")).json()["expires_at"]
    token = (await tokens(signed_in, shop))["refresh_token"]
    for _ in range(35):
        await desk.advance(20 * 60)
        token = (await shop.refresh(token)).json()["refresh_token"]
        await desk.authority.activity.write()
    await desk.advance(16 * 60)
    last = (await shop.refresh(token)).json()
    assert last["expires_in"] < 600
    import datetime

    assert claims_of(last["access_token"])["exp"] <= datetime.datetime.fromisoformat(ends_at).timestamp()


async def test_a_refresh_rotates_and_a_lost_answer_is_given_again(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    first = await tokens(signed_in, shop)
    second = (await shop.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    repeated = (await shop.refresh(first["refresh_token"])).json()
    assert repeated["refresh_token"] == second["refresh_token"]
    assert claims_of(second["access_token"])["sid"] == claims_of(first["access_token"])["sid"]


@pytest.mark.meets("10.4.5", "OA-29", "9700-2.2.2", "9700-4.14.2c")
async def test_an_earlier_refresh_token_ends_the_session(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    first = await tokens(signed_in, shop)
    second = (await shop.refresh(first["refresh_token"])).json()
    await desk.advance(31)
    third = (await shop.refresh(second["refresh_token"])).json()
    refused(await shop.refresh(first["refresh_token"]), "invalid_grant")
    refused(await shop.refresh(third["refresh_token"]), "invalid_grant")
    assert await cause_of(desk, third["access_token"]) is Cause.REVOKED


@pytest.mark.meets("OA-26")
async def test_a_refresh_token_is_of_its_client_and_of_no_other(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    given = await tokens(signed_in, shop)
    for other in (await relying(desk, "thief"), await relying(desk, "app", public=True)):
        refused(await other.refresh(given["refresh_token"]), "invalid_grant")
    refused(await Relying(desk, "shop", None).refresh(given["refresh_token"]), "invalid_client", 401)
    refused(await Relying(desk, "shop", "kfc_wrong").refresh(given["refresh_token"]), "invalid_client", 401)
    for body in ({"refresh_token": given["refresh_token"]},):
        answer = await desk.ask("POST", "/refresh", json_body=body)
        assert (answer.status, answer.code) == (401, "wrong_type")
    assert (await shop.refresh(given["refresh_token"])).json()["refresh_token"] != given["refresh_token"]


@pytest.mark.meets("OA-14", "OA-26", "9700-4.14.2b")
async def test_a_refresh_narrows_the_access_token_and_never_widens_it(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    """O-21."""
    given = await tokens(signed_in, shop, scope="orders:read orders:write")
    narrow = (await shop.refresh(given["refresh_token"], scope="orders:read")).json()
    assert (narrow["scope"], claims_of(narrow["access_token"])["scope"]) == ("orders:read", "orders:read")
    wide = (await shop.refresh(narrow["refresh_token"])).json()
    assert wide["scope"] == "orders:read orders:write"
    for more in ("openid", "orders:read openid", "keyfob:admin", ""):
        answer = await shop.refresh(wide["refresh_token"], scope=more)
        if more:
            refused(answer, "invalid_scope")
        else:
            assert answer.status == 200


@pytest.mark.meets("9700-2.5a")
async def test_a_public_client_only_names_itself_and_a_confidential_one_cannot(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    """O-54."""
    app = await relying(desk, "app", public=True)
    given = await tokens(signed_in, app)
    assert (await app.refresh(given["refresh_token"])).status == 200
    refused(
        await Relying(desk, "app", "kfc_guess").exchange(await signed_in.code(asking("app"))),
        "invalid_client",
        401,
    )
    code = await signed_in.code()
    refused(await Relying(desk, "shop", None).exchange(code), "invalid_client", 401)
    nobody = await desk.ask(
        "POST",
        "/oauth/token",
        body=f"grant_type=authorization_code&code={code}&code_verifier={VERIFIER}".encode(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    refused(nobody, "invalid_client", 401)
    assert (await shop.exchange(code)).status == 200
    for grant in ("client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"):
        answer = await app.post(
            "/oauth/token",
            grant_type=grant,
            subject_token="kfk_x",
            subject_token_type="urn:keyfob:token-type:api-key",
        )
        refused(answer, "unauthorized_client")


@pytest.mark.meets("9700-4.14.2a")
async def test_a_client_without_the_grant_gets_no_refresh_token(desk: Any, signed_in: Browser) -> None:
    reader = await relying(desk, "reader", grant_types=(GrantType.AUTHORIZATION_CODE,))
    given = await tokens(signed_in, reader, scope="orders:read offline_access")
    assert "refresh_token" not in given
    assert given["expires_in"] == 600
    claims = claims_of(given["access_token"])
    assert "psid" in claims  # offline access is nothing without a refresh token
    refused(await reader.refresh("kfr_x"), "unauthorized_client")
    await end_browser(desk, signed_in, "logout")
    assert await cause_of(desk, given["access_token"]) is Cause.REVOKED


@pytest.mark.meets("10.4.11")
async def test_what_a_client_of_others_may_do_its_scopes_say_and_no_role(desk: Any, browser: Browser) -> None:
    """Somebody's roles are not what they let an application do; and their account is not part of it."""
    await desk.user("boss", roles=("keyfob:admin", "payer"))
    await browser.login("boss")
    await desk.advance(1)
    own = await relying(desk, "own")
    given = await tokens(browser, own)
    assert claims_of(given["access_token"])["roles"] == ["keyfob:admin", "payer"]
    assert (await desk.ask("GET", "/admin/api/clients", bearer=given["access_token"])).status == 200
    assert (await desk.ask("GET", "/sessions", bearer=given["access_token"])).status == 200

    others = await relying(desk, "others", first_party=False)
    page = await browser.get((await browser.authorize(asking("others"))).header("location"))
    _, carried = answered(await browser.submit(page, answer="allow"))
    token = (await others.exchange(carried["code"])).json()
    assert "roles" not in claims_of(token["access_token"])
    for path in ("/admin/api/clients", "/sessions"):
        assert (await desk.ask("GET", path, bearer=token["access_token"])).status == 403, path
    refreshed = (await others.refresh(token["refresh_token"])).json()
    assert "roles" not in claims_of(refreshed["access_token"])
    for devices in ("all", "others"):
        answer = await desk.ask(
            "POST", "/logout", json_body={"devices": devices}, bearer=refreshed["access_token"]
        )
        assert answer.status == 204
    assert (await browser.get("/session")).status == 200
    assert await cause_of(desk, refreshed["access_token"]) is None


@pytest.mark.meets("9700-2.3b")
async def test_the_audience_is_asked_for_or_the_only_one(desk: Any, signed_in: Browser) -> None:
    client = await relying(desk, "api", audiences=("orders", "stock"))
    given = await tokens(signed_in, client, resource="stock")
    assert claims_of(given["access_token"])["aud"] == "stock"
    _, carried = answered(await signed_in.authorize(asking("api")))
    assert carried["error"] == "invalid_target"
    one = await relying(desk, "one", audiences=("orders",))
    assert claims_of((await tokens(signed_in, one))["access_token"])["aud"] == "orders"


@pytest.mark.meets("OA-15")
async def test_scopes_without_a_word_are_the_clients_but_for_those_that_change_the_login(
    signed_in: Browser, shop: Relying
) -> None:
    given = await tokens(signed_in, shop, scope=None)
    assert given["scope"] == "orders:read orders:write"


@pytest.mark.meets("9700-2.6b")
async def test_a_client_of_the_name_of_its_user_is_not_served(desk: Any, browser: Browser) -> None:
    """O-18."""
    await relying(desk, "alice-app")
    issued = await desk.authority.login("alice-app")
    browser.cookies["__Host-session"] = issued.session_token
    answer = await browser.authorize(asking("alice-app"))
    assert (answer.status, answer.header("location")) == (400, None)
