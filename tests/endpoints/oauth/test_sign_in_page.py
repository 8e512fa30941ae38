"""The page on which people sign in for a client, and the way back to the request that brought them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from .journeys import CALLBACK, FORM, Browser, Relying, answered, asking, relying


async def sign_in_page(browser: Browser, parameters: Any = None) -> Any:
    answer = await browser.authorize(parameters)
    path, carried = answered(answer)
    assert (path, carried.keys()) == ("/oauth/sign-in", {"request"})
    page = await browser.get(answer.header("location"))
    assert page.status == 200
    return page


@pytest.mark.meets("9700-2.1e")
async def test_whoever_has_not_signed_in_does_and_goes_on(browser: Browser, shop: Relying) -> None:
    page = await sign_in_page(browser)
    await browser.desk.advance(1)
    done = await browser.sign_in(page)
    assert answered(done)[0] == "/oauth/resume"
    assert browser.cookies.keys() == {"__Host-session"}
    where, carried = answered(await browser.get(done.header("location")))
    assert (where, carried["state"]) == (CALLBACK, "st4te")
    assert (await shop.exchange(carried["code"])).status == 200


@pytest.mark.meets("9700-4.2.4a", "9700-4.16a")
async def test_the_page_has_no_script_and_no_frame_and_nothing_of_others(desk: Any, browser: Browser) -> None:
    """O-20, O-23: and whatever others wrote is text."""
    await relying(desk, name="Shop & <script>alert(1)</script>")
    page = await sign_in_page(browser, asking(login_hint='"><script>alert(2)</script>'))
    text = page.body.decode()
    assert "<script" not in text
    assert "Shop &amp; &lt;script&gt;" in text
    assert 'value="&quot;&gt;&lt;script&gt;' in text
    policy = page.header("content-security-policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "form-action 'self' https://shop.example;" in policy
    assert "unsafe" not in policy
    assert page.header("x-frame-options") == "DENY"
    assert page.header("referrer-policy") == "same-origin"
    assert page.header("cache-control") == "no-store"
    assert "http" not in text


@pytest.mark.meets("9700-4.16b")
@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("http://127.0.0.1:5000/cb", "http://127.0.0.1:5000"),
        ("http://[::1]:5000/cb", "http:"),
        ("com.example.app:/cb", "com.example.app:"),
        ("https://shop.example:8443?x", "https://shop.example:8443"),
    ],
)
async def test_the_form_may_lead_to_where_its_request_returns_and_nowhere_else(
    desk: Any, browser: Browser, uri: str, source: str
) -> None:
    await relying(desk, "app", public=True, redirect_uris=(uri,))
    page = await sign_in_page(browser, asking("app", redirect_uri=uri))
    assert f"form-action 'self' {source};" in page.header("content-security-policy")


async def test_a_wrong_password_is_asked_for_again_and_slowed_down(browser: Browser, shop: Relying) -> None:
    page = await sign_in_page(browser)
    for _ in range(5):
        page = await browser.sign_in(page, password="wrong horse battery")
        assert page.status == 403
        assert "not right" in page.body.decode()
        assert 'value="alice"' in page.body.decode()
        assert "wrong horse" not in page.body.decode()
    page = await browser.sign_in(page, password="wrong horse battery")
    assert page.status == 429
    assert int(page.header("retry-after")) >= 1
    assert not browser.cookies
    await browser.desk.advance(10)
    assert (await browser.sign_in(page)).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "same-origin", "origin": "null"},
    ],
)
async def test_a_form_of_another_site_signs_nobody_in(
    browser: Browser, shop: Relying, headers: dict[str, str]
) -> None:
    page = await sign_in_page(browser)
    body = urlencode(
        {"request": hidden_request(page), "username": "alice", "password": "correct horse battery"}
    )
    answer = await browser.ask(
        "POST", "/oauth/sign-in", body=body.encode(), headers=FORM | headers, own_page=False
    )
    assert (answer.status, answer.header("x-auth-cause")) == (403, "cross_origin")
    assert not browser.cookies


def hidden_request(page: Any) -> str:
    return page.body.decode().split('name="request" value="')[1].split('"')[0]


@pytest.mark.parametrize("path", ["/oauth/sign-in", "/oauth/resume", "/oauth/consent"])
@pytest.mark.parametrize("secret", ["", "x" * 43, "https://evil.example", "../..", "x&request=y", "%00"])
async def test_only_a_request_that_is_kept_leads_anywhere(
    signed_in: Browser, shop: Relying, path: str, secret: str
) -> None:
    """O-03: there is no address in what the browser carries."""
    answer = await signed_in.get(f"{path}?request={secret}")
    assert (answer.status, answer.header("location")) == (400, None)
    body = urlencode({"request": secret, "username": "alice", "password": "correct horse battery"})
    answer = await signed_in.ask("POST", "/oauth/sign-in", body=body.encode(), headers=FORM)
    assert answer.status in {400, 422}


async def test_a_request_is_answered_once(desk: Any, browser: Browser, shop: Relying) -> None:
    page = await sign_in_page(browser)
    await desk.advance(1)
    onward = (await browser.sign_in(page)).header("location")
    assert answered(await browser.get(onward))[0] == CALLBACK
    for again in (onward, onward.replace("resume", "consent"), onward.replace("resume", "sign-in")):
        answer = await browser.get(again)
        assert (answer.status, answer.header("location")) == (400, None)
        assert answer.header("x-auth-cause") == "no_request"
    assert (await browser.sign_in(page)).status == 400


@pytest.mark.parametrize(("minutes", "status"), [(14, 200), (15, 400)])
async def test_a_request_waits_a_quarter_of_an_hour(
    browser: Browser, shop: Relying, minutes: int, status: int
) -> None:
    where = (await browser.authorize()).header("location")
    await browser.desk.advance(minutes * 60)
    assert (await browser.get(where)).status == status


async def test_the_client_is_looked_at_again_when_the_browser_comes_back(
    desk: Any, browser: Browser, shop: Relying
) -> None:
    page = await sign_in_page(browser)
    await desk.advance(1)
    await desk.authority.clients.delete("shop", actor="admin")
    answer = await browser.sign_in(page)
    assert (answer.status, answer.header("location")) == (400, None)
    await relying(desk, scopes=("other",))
    onward = f"/oauth/resume?request={hidden_request(page)}"
    assert "invalid_scope" in (await browser.get(onward)).body.decode()
    await browser.login()
    assert answered(await browser.get(onward))[1]["error"] == "invalid_scope"


async def test_a_password_that_was_changed_while_it_waited_signs_nobody_in(
    desk: Any, browser: Browser, shop: Relying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Precondition 2."""
    page = await sign_in_page(browser)
    accounts = desk.authority.accounts
    authenticate = accounts.authenticate

    async def overtaken(name: str, password: str, *, address: str) -> Any:
        account = await authenticate(name, password, address=address)
        await accounts.set_password(account.subject, "a much better one", actor="admin")
        return account

    monkeypatch.setattr(accounts, "authenticate", overtaken)
    answer = await browser.sign_in(page)
    assert (answer.status, answer.header("x-auth-cause")) == (401, "revoked")
    assert not browser.cookies


async def test_signing_in_again_keeps_the_session_and_what_was_given_by_it(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    before = (await signed_in.get("/session")).json()
    given = (await shop.exchange(await signed_in.code())).json()
    old = dict(signed_in.cookies)
    page = await sign_in_page(signed_in, asking(prompt="login"))
    await desk.advance(1)
    done = await signed_in.sign_in(page)
    after = (await signed_in.get("/session")).json()
    assert after["session_id"] == before["session_id"]
    assert after["auth_time"] > before["auth_time"]
    assert signed_in.cookies != old
    assert answered(await signed_in.get(done.header("location")))[0] == CALLBACK
    assert (await shop.refresh(given["refresh_token"])).status == 200
    await desk.advance(31)
    assert (await desk.ask("GET", "/session", cookie=f"__Host-session={old['__Host-session']}")).status == 401


async def test_signing_in_as_somebody_else_ends_the_session_before(
    desk: Any, signed_in: Browser, shop: Relying
) -> None:
    await desk.user("bob")
    given = (await shop.exchange(await signed_in.code())).json()
    page = await sign_in_page(signed_in, asking(prompt="login"))
    await desk.advance(1)
    done = await signed_in.sign_in(page, "bob")
    _, carried = answered(await signed_in.get(done.header("location")))
    token = (await shop.exchange(carried["code"])).json()["access_token"]
    bob = (await desk.authority.accounts.find("bob")).subject
    assert (await desk.authority.authenticate(token)).subject == bob
    assert (await shop.refresh(given["refresh_token"])).status == 400


async def test_a_session_that_was_spared_while_its_password_was_checked_is_not_renewed(
    desk: Any, signed_in: Browser, shop: Relying, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await sign_in_page(signed_in, asking(prompt="login"))
    session = (await signed_in.get("/session")).json()
    accounts = desk.authority.accounts
    authenticate = accounts.authenticate

    async def overtaken(name: str, password: str, *, address: str) -> Any:
        account = await authenticate(name, password, address=address)
        await desk.authority.revoke("subject", account.subject, spared=session["session_id"])
        return account

    monkeypatch.setattr(accounts, "authenticate", overtaken)
    assert (await signed_in.sign_in(page)).header("x-auth-cause") == "revoked"
    assert (await signed_in.get("/session")).json()["auth_time"] == session["auth_time"]


async def test_nothing_is_shown_where_the_client_wants_nothing_shown(
    desk: Any, browser: Browser, shop: Relying
) -> None:
    for prompt, error in (("none", "login_required"),):
        _, carried = answered(await browser.authorize(asking(prompt=prompt)))
        assert carried["error"] == error
    await browser.login()
    await desk.advance(1)
    assert "code" in answered(await browser.authorize(asking(prompt="none")))[1]
    await desk.advance(100)
    _, carried = answered(await browser.authorize(asking(prompt="none", max_age="99")))
    assert carried["error"] == "login_required"
    assert "code" in answered(await browser.authorize(asking(prompt="none", max_age="200")))[1]


@pytest.mark.parametrize("changes", [{"prompt": "login"}, {"max_age": "0"}])
async def test_a_fresh_login_is_asked_for_once(
    desk: Any, signed_in: Browser, shop: Relying, changes: dict[str, str]
) -> None:
    page = await sign_in_page(signed_in, asking(**changes))
    request = hidden_request(page)
    assert answered(await signed_in.get(f"/oauth/resume?request={request}"))[0] == "/oauth/sign-in"
    await desk.advance(1)
    done = await signed_in.sign_in(page)
    assert answered(await signed_in.get(done.header("location")))[0] == CALLBACK


@pytest.mark.parametrize("cookie", ["kfs_x", "nonsense", "eyJ.e.e", "kfk_x"])
async def test_a_cookie_that_is_no_good_is_none(browser: Browser, shop: Relying, cookie: str) -> None:
    browser.cookies["__Host-session"] = cookie
    assert answered(await browser.authorize())[0] == "/oauth/sign-in"


async def test_a_token_in_a_header_signs_nobody_in(desk: Any, browser: Browser, shop: Relying) -> None:
    token = await desk.access_token()
    assert answered(await browser.authorize(bearer=token))[0] == "/oauth/sign-in"


async def test_an_api_key_and_a_visitor_have_not_signed_in(
    desk: Any, browser: Browser, shop: Relying
) -> None:
    issued = await desk.authority.login("alice", strategy="hybrid")
    browser.cookies["__Host-session"] = issued.refresh_token
    assert answered(await browser.authorize())[0] == "/oauth/sign-in"
    browser.cookies["__Host-session"] = issued.access_token
    assert answered(await browser.authorize())[0] == "/oauth/sign-in"
