"""RP-initiated logout: who may end a browser's login without a word from its user, and where the browser goes then."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .journeys import FORM, Browser, Relying, asking, relying

BACK = "https://shop.example/goodbye"


@pytest.fixture
async def openid(desk: Any) -> Relying:
    return await relying(
        desk,
        scopes=("openid", "orders:read"),
        post_logout_redirect_uris=(BACK, BACK + "?from=keyfob", "com.example.shop:/goodbye"),
        public=True,
        first_party=True,
    )


async def id_token(browser: Browser, client: Relying) -> str:
    answer = await client.exchange(await browser.code(asking(client.client_id, scope="openid")))
    return answer.json()["id_token"]


async def leave(browser: Browser, **fields: str) -> Any:
    return await browser.get(f"/oauth/logout?{urlencode(fields)}")


async def is_signed_in(browser: Browser) -> bool:
    return bool(browser.cookies) and (await browser.get("/session")).status == 200


async def test_a_client_that_holds_an_id_token_of_the_login_ends_it(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    hint = await id_token(signed_in, openid)
    session = (await signed_in.get("/session")).json()["session_id"]
    answer = await leave(signed_in, id_token_hint=hint, post_logout_redirect_uri=BACK, state="a b&c=d")
    assert (answer.status, answer.header("location")) == (303, f"{BACK}?state=a+b%26c%3Dd")
    assert answer.header("clear-site-data") == '"cache", "storage"'
    assert answer.cleared() == {"__Host-session", "__Host-refresh"}
    assert (await desk.authority.store.sessions.find(session)).session.ended_at is not None
    assert not await is_signed_in(signed_in)


async def test_an_expired_hint_is_as_good(desk: Any, signed_in: Browser, openid: Relying) -> None:
    hint = await id_token(signed_in, openid)
    await desk.advance(1200)
    answer = await leave(signed_in, id_token_hint=hint)
    assert (answer.status, b"signed out" in answer.body) == (200, True)
    assert not await is_signed_in(signed_in)


async def test_a_state_goes_behind_the_query_that_is_there(signed_in: Browser, openid: Relying) -> None:
    hint = await id_token(signed_in, openid)
    answer = await leave(
        signed_in, id_token_hint=hint, post_logout_redirect_uri=BACK + "?from=keyfob", state="s"
    )
    assert answer.header("location") == f"{BACK}?from=keyfob&state=s"


@pytest.mark.meets("10.6.2")
async def test_without_a_hint_the_user_is_asked_and_nothing_has_ended(
    signed_in: Browser, openid: Relying
) -> None:
    """ASVS 10.6.2: a page elsewhere can make the browser ask, and nothing more."""
    page = await leave(signed_in, client_id="shop", post_logout_redirect_uri=BACK, state="s")
    assert (page.status, page.all("set-cookie"), page.header("clear-site-data")) == (200, [], None)
    assert b"shop asks to sign you out" in page.body
    policy = page.header("content-security-policy")
    assert "form-action 'self' https://shop.example;" in policy
    assert "frame-ancestors 'none'" in policy
    assert await is_signed_in(signed_in)
    answer = await signed_in.submit(page)
    assert (answer.status, answer.header("location")) == (303, f"{BACK}?state=s")
    assert not await is_signed_in(signed_in)


@pytest.mark.parametrize("wrong", ["", "x", "another"])
async def test_the_form_needs_the_token_of_this_session(
    desk: Any, signed_in: Browser, openid: Relying, wrong: str
) -> None:
    """O-20's like: the forged form of another page, or of another login of the attacker's own."""
    token = wrong
    if wrong == "another":
        await desk.user("mallory")
        mallory = Browser(desk)
        await mallory.login("mallory")
        token = (await mallory.get("/session")).json()["csrf_token"]
    body = urlencode({"csrf_token": token or "-"}).encode()
    answer = await signed_in.ask(
        "POST", "/oauth/logout", body=body, headers=FORM | {"sec-fetch-site": "same-origin"}
    )
    assert answer.status == 403
    assert await is_signed_in(signed_in)


@pytest.mark.meets("10.6.2")
async def test_the_form_of_another_site_changes_nothing_though_it_has_the_token(
    signed_in: Browser, openid: Relying
) -> None:
    token = (await signed_in.get("/session")).json()["csrf_token"]
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        answer = await signed_in.ask(
            "POST", "/oauth/logout", body=f"csrf_token={token}".encode(), headers=FORM | headers
        )
        assert answer.status == 403
    answer = await leave(signed_in, csrf_token=token)
    assert answer.status == 200
    assert await is_signed_in(signed_in)


@pytest.mark.meets("10.6.2")
async def test_a_hint_of_another_login_asks(desk: Any, signed_in: Browser, openid: Relying) -> None:
    """The attacker's own ID token, or one of an earlier login of the same user, ends nobody's session."""
    await desk.user("mallory")
    mallory = Browser(desk)
    await mallory.login("mallory")
    await desk.advance(1)
    for hint in (await id_token(mallory, openid), await _of_an_earlier_login(desk, openid)):
        page = await leave(signed_in, id_token_hint=hint, post_logout_redirect_uri=BACK)
        assert (page.status, b"<form" in page.body) == (200, True)
        assert await is_signed_in(signed_in)


async def _of_an_earlier_login(desk: Any, openid: Relying) -> str:
    before = Browser(desk)
    await before.login("alice")
    await desk.advance(1)
    return await id_token(before, openid)


async def test_what_is_no_id_token_of_ours_counts_as_none(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    answer = await openid.exchange(await signed_in.code(asking("shop", scope="openid")))
    body = answer.json()
    hint = body["id_token"]
    head, payload, _ = hint.split(".")
    for wrong in (
        body["access_token"],
        body["refresh_token"],
        f"{head}.{payload}.{'A' * 86}",
        hint[:-10],
        "x",
    ):
        page = await leave(signed_in, id_token_hint=wrong, post_logout_redirect_uri=BACK)
        assert (page.status, page.header("location"), b"<form" in page.body) == (200, None, True)
        assert await is_signed_in(signed_in)


async def test_a_hint_under_a_key_that_was_revoked_counts_as_none(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    import jwt

    hint = await id_token(signed_in, openid)
    await desk.authority.revoke("key", jwt.get_unverified_header(hint)["kid"])
    page = await leave(signed_in, id_token_hint=hint)
    assert b"<form" in page.body
    assert await is_signed_in(signed_in)


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/", BACK + "/", BACK + "?", BACK + "#x", BACK.upper(), "https://shop.example/goodbye%00",
        "https://shop.example:443/goodbye", "https://shop.example/x/../goodbye", "//shop.example/goodbye",
        "https://shop.example/goodbye?from=keyfob&x=1", "javascript:alert(1)", "https://shop.example@evil.example/",
        "https://shop.example.evil.example/goodbye", "http://shop.example/goodbye", " " + BACK, BACK + "\\",
    ],
)  # fmt: skip
async def test_the_browser_goes_nowhere_that_is_not_registered(
    signed_in: Browser, openid: Relying, uri: str
) -> None:
    """O-43."""
    hint = await id_token(signed_in, openid)
    for fields in (
        {"id_token_hint": hint},
        {"client_id": "shop"},
        {"id_token_hint": hint, "client_id": "shop"},
    ):
        answer = await leave(signed_in, post_logout_redirect_uri=uri, **fields)
        assert (answer.status, answer.header("location")) == (400, None)
        assert await is_signed_in(signed_in)


async def test_where_no_client_is_known_the_browser_goes_nowhere(signed_in: Browser, openid: Relying) -> None:
    page = await leave(signed_in, post_logout_redirect_uri=BACK, state="s")
    assert b"An application asks" in page.body
    assert BACK.encode() not in page.body
    answer = await signed_in.submit(page)
    assert (answer.status, answer.header("location")) == (200, None)
    assert not await is_signed_in(signed_in)


async def test_client_and_hint_agree(desk: Any, signed_in: Browser, openid: Relying) -> None:
    await relying(desk, "other", scopes=("openid",))
    hint = await id_token(signed_in, openid)
    answer = await leave(signed_in, id_token_hint=hint, client_id="other")
    assert answer.status == 400
    assert await is_signed_in(signed_in)


async def test_where_nobody_is_signed_in_there_is_nothing_to_ask(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    hint = await id_token(signed_in, openid)
    stranger = Browser(desk)
    answer = await leave(stranger, id_token_hint=hint, post_logout_redirect_uri=BACK)
    assert (answer.status, answer.header("location")) == (303, BACK)
    assert answer.all("set-cookie") == []
    assert await is_signed_in(signed_in)  # whoever else holds the token ends nothing with it
    assert (await leave(stranger)).status == 200


async def test_the_post_of_a_client_without_our_cookies_becomes_the_same_question(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    """A browser sends no SameSite=Lax cookie with another site's post, and sends it with the redirect after that."""
    hint = await id_token(signed_in, openid)
    body = urlencode({"id_token_hint": hint, "post_logout_redirect_uri": BACK, "state": "s"}).encode()
    headers = FORM | {"sec-fetch-site": "cross-site", "origin": "https://shop.example"}
    first = await desk.ask("POST", "/oauth/logout", body=body, headers=headers)
    assert first.status == 303
    assert first.header("location").startswith("/oauth/logout?")
    answer = await signed_in.get(first.header("location"))
    assert (answer.status, answer.header("location")) == (303, f"{BACK}?state=s")
    assert not await is_signed_in(signed_in)


async def test_a_post_with_our_cookies_and_a_hint_is_like_a_get(signed_in: Browser, openid: Relying) -> None:
    body = urlencode({"id_token_hint": await id_token(signed_in, openid)}).encode()
    answer = await signed_in.ask("POST", "/oauth/logout", body=body, headers=FORM)
    assert answer.status == 200
    assert not await is_signed_in(signed_in)


@pytest.mark.meets("10.5.5")
async def test_the_client_hears_of_it_by_the_back_channel(
    desk: Any, signed_in: Browser, openid: Relying
) -> None:
    await relying(desk, "bank", scopes=("openid",), backchannel_logout_uri="https://203.0.113.9/out")
    bank = Relying(desk, "bank", None)
    added = await desk.authority.clients.rotate_secret("bank", actor="test")
    bank.secret = added.secret
    await id_token(signed_in, bank)
    await leave(signed_in, id_token_hint=await id_token(signed_in, openid))
    await desk.authority.backchannel.queue.fill()
    assert (await desk.authority.store.outbox.waiting()).deliveries == 1


async def test_a_parameter_that_is_there_twice_is_refused(signed_in: Browser, openid: Relying) -> None:
    hint = await id_token(signed_in, openid)
    answer = await signed_in.get(f"/oauth/logout?id_token_hint={hint}&id_token_hint={hint}")
    assert answer.status in {400, 422}
    assert await is_signed_in(signed_in)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
async def test_nothing_that_was_sent_becomes_part_of_the_page(
    signed_in: Browser, openid: Relying, state: str, uri: str
) -> None:
    plain = (await leave(signed_in, client_id="shop", state="s")).body.decode()
    page = await leave(signed_in, client_id="shop", state=state)
    if page.status == 200:
        text = page.body.decode()
        assert text.count("<") == plain.count("<")
        assert f'name="state" value="{html.escape(state)}"' in text
    page = await leave(signed_in, client_id="shop", post_logout_redirect_uri=uri)
    assert page.status in {400, 422}


async def test_metrics_show_what_waits(desk: Any, signed_in: Browser) -> None:
    bank = await relying(desk, "bank", scopes=("openid",), backchannel_logout_uri="https://203.0.113.9/out")
    await leave(signed_in, id_token_hint=await id_token(signed_in, bank))
    await desk.authority.backchannel.queue.fill()
    text = (await desk.ask("GET", "/metrics")).body.decode()
    assert "keyfob_backchannel_waiting 1.0" in text
    assert "keyfob_backchannel_oldest_seconds 0.0" in text
    assert "keyfob_backchannel_missed_entries_total 0.0" in text
