"""What people are asked before an application of others acts for them, and whose answer counts."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from keyfob.base.identifiers import ClientId

from .journeys import CALLBACK, FORM, Browser, Relying, answered, asking, relying


@pytest.fixture
async def others(desk: Any) -> Relying:
    return await relying(desk, "others", first_party=False, name="The others")


async def consent_page(browser: Browser, parameters: Any = None) -> Any:
    answer = await browser.authorize(asking("others") if parameters is None else parameters)
    path, carried = answered(answer)
    assert (path, carried.keys()) == ("/oauth/consent", {"request"})
    page = await browser.get(answer.header("location"))
    assert page.status == 200
    return page


def field(page: Any, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.body.decode())
    assert found is not None
    return found[1]


async def post(browser: Browser, fields: dict[str, str], **headers: str) -> Any:
    return await browser.ask(
        "POST",
        "/oauth/consent",
        body=urlencode(fields).encode(),
        headers=FORM | (headers or {"sec-fetch-site": "same-origin"}),
    )


@pytest.mark.meets("10.7.2", "9700-4.11.2b")
async def test_it_says_who_asks_for_what_for_how_long_and_where_it_leads(
    signed_in: Browser, others: Relying
) -> None:
    """O-19."""
    page = await consent_page(signed_in, asking("others", scope="openid orders:read offline_access"))
    text = page.body.decode()
    for told in (
        "The others",
        "<code>others</code>",
        "alice",
        "know who you are",
        "<code>orders:read</code> at <code>https://auth.example</code>",
        "also when you are signed out",
        "until you or the application ends it",
        "https://shop.example",
    ):
        assert told in text, told
    assert "<script" not in text
    policy = page.header("content-security-policy")
    assert "frame-ancestors 'none'" in policy
    assert page.header("x-frame-options") == "DENY"
    short = (await consent_page(signed_in)).body.decode()
    assert "as long as you are signed in here" in short
    assert "know who you are" not in short


@pytest.mark.meets("10.7.1", "10.7.3")
async def test_what_is_allowed_is_not_asked_again_and_more_is(
    desk: Any, signed_in: Browser, others: Relying
) -> None:
    page = await consent_page(signed_in)
    where, carried = answered(await signed_in.submit(page, answer="allow"))
    assert (where, carried["state"]) == (CALLBACK, "st4te")
    assert (await others.exchange(carried["code"])).json()["scope"] == "orders:read"
    assert "code" in answered(await signed_in.authorize(asking("others")))[1]
    assert "code" in answered(await signed_in.authorize(asking("others", prompt="none")))[1]
    more = asking("others", scope="orders:read orders:write")
    _, carried = answered(await signed_in.authorize({**more, "prompt": "none"}))
    assert carried["error"] == "consent_required"
    await signed_in.submit(await consent_page(signed_in, more), answer="allow")
    assert "code" in answered(await signed_in.authorize(more))[1]
    await consent_page(signed_in, asking("others", prompt="consent"))
    subject = (await signed_in.get("/session")).json()["subject"]
    consent = await desk.authority.store.consents.find(subject, ClientId("others"))
    assert consent.scopes == {"orders:read", "orders:write"}
    events = [event.code for event in (await desk.authority.trail.list(limit=100)).events]
    assert events.count("consent_given") == 2


async def test_what_is_denied_is_told_to_the_client_and_asked_again(
    signed_in: Browser, others: Relying
) -> None:
    page = await consent_page(signed_in)
    where, carried = answered(await signed_in.submit(page, answer="deny"))
    assert where == CALLBACK
    assert (carried["error"], carried["state"]) == ("access_denied", "st4te")
    assert carried["iss"] == "https://auth.example"
    assert (await signed_in.submit(page, answer="allow")).status == 400
    await consent_page(signed_in)


async def test_of_two_answers_at_once_one_counts(signed_in: Browser, others: Relying) -> None:
    for _ in range(10):
        page = await consent_page(signed_in, asking("others", prompt="consent"))
        answers = await asyncio.gather(
            *(signed_in.submit(page, answer=one) for one in ("allow", "deny", "allow"))
        )
        assert sorted(answer.status for answer in answers) == [303, 400, 400]


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
async def test_a_form_of_another_site_allows_nothing(
    signed_in: Browser, others: Relying, headers: dict[str, str]
) -> None:
    """O-20: even with the right token."""
    page = await consent_page(signed_in)
    fields = {"request": field(page, "request"), "csrf_token": field(page, "csrf_token"), "answer": "allow"}
    answer = await post(signed_in, fields, **headers)
    assert (answer.status, answer.header("x-auth-cause")) == (403, "cross_origin")
    assert answered(await post(signed_in, fields))[0] == CALLBACK


async def test_an_answer_is_bound_to_its_session_and_its_request(
    desk: Any, signed_in: Browser, others: Relying
) -> None:
    """O-20: not the token of the session, of another request, or of another session."""
    page, other = await consent_page(signed_in), await consent_page(signed_in)
    request = field(page, "request")
    of_session = (await signed_in.get("/session")).json()["csrf_token"]
    await desk.user("mallory")
    mallory = Browser(desk)
    await mallory.login("mallory")
    of_mallory = field(
        await mallory.get(f"/oauth/consent?request={request}"), "csrf_token"
    )  # the same request, in another browser
    for token in ("", "x", of_session, field(other, "csrf_token"), of_mallory):
        answer = await post(signed_in, {"request": request, "csrf_token": token, "answer": "allow"})
        assert (answer.status, answer.header("location")) == (403, None), token
    kept = await post(
        signed_in, {"request": request, "csrf_token": field(page, "csrf_token"), "answer": "allow"}
    )
    assert answered(kept)[0] == CALLBACK


async def test_whoever_signed_out_meanwhile_is_asked_to_sign_in(
    desk: Any, signed_in: Browser, others: Relying
) -> None:
    page = await consent_page(signed_in)
    assert (await desk.ask("POST", "/logout", json_body={}, cookie=cookie_of(signed_in))).status == 204
    assert answered(await signed_in.submit(page, answer="allow"))[0] == "/oauth/sign-in"


def cookie_of(browser: Browser) -> str:
    return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


async def test_a_login_that_grew_too_old_meanwhile_is_done_again_first(
    desk: Any, signed_in: Browser, others: Relying
) -> None:
    page = await consent_page(signed_in, asking("others", max_age="60"))
    await desk.advance(120)
    answer = await signed_in.submit(page, answer="allow")
    assert answered(answer)[0] == "/oauth/resume"
    assert answered(await signed_in.get(answer.header("location")))[0] == "/oauth/sign-in"


async def test_a_client_that_was_deleted_meanwhile_gets_nothing(
    desk: Any, signed_in: Browser, others: Relying
) -> None:
    page = await consent_page(signed_in)
    await desk.authority.clients.delete("others", actor="admin")
    answer = await signed_in.submit(page, answer="allow")
    assert (answer.status, answer.header("location")) == (400, None)


async def test_another_account_can_be_used(desk: Any, signed_in: Browser, others: Relying) -> None:
    await desk.user("bob")
    page = await consent_page(signed_in)
    switch = await signed_in.submit(page, answer="switch")
    assert answered(switch)[0] == "/oauth/sign-in"
    await desk.advance(1)
    done = await signed_in.sign_in(await signed_in.get(switch.header("location")), "bob")
    asked = await signed_in.get(done.header("location"))
    assert answered(asked)[0] == "/oauth/consent"
    assert "bob" in (await signed_in.get(asked.header("location"))).body.decode()


async def test_an_account_is_chosen_once(desk: Any, signed_in: Browser, shop: Relying) -> None:
    page = await consent_page(signed_in, asking(prompt="select_account"))
    assert "Go on as alice" in page.body.decode()
    chosen = await signed_in.submit(page, answer="go_on")
    assert answered(chosen)[0] == "/oauth/resume"
    assert answered(await signed_in.get(chosen.header("location")))[0] == CALLBACK
    _, carried = answered(await signed_in.authorize(asking(prompt="none select_account")))
    assert carried["error"] == "invalid_request"


async def test_a_choice_is_of_its_session_alone(desk: Any, signed_in: Browser, shop: Relying) -> None:
    page = await consent_page(signed_in, asking(prompt="select_account"))
    onward = (await signed_in.submit(page, answer="go_on")).header("location")
    await desk.user("mallory")
    mallory = Browser(desk)
    await mallory.login("mallory")
    await desk.advance(1)
    # Mallory's login is younger than the request, and so a choice of its own; an older one is asked.
    older = (await desk.login("mallory")).cookies()
    page = await Browser(desk, dict(older)).authorize(asking(prompt="select_account"))
    assert answered(page)[0] == "/oauth/consent"
    assert answered(await signed_in.get(onward))[0] == CALLBACK


@pytest.mark.meets("10.7.1")
@pytest.mark.parametrize("first_party", [True, False])
@pytest.mark.parametrize("uri", ["com.example.app:/cb", "http://127.0.0.1/cb"])
async def test_an_app_that_anybody_could_pose_as_is_asked_about_each_time(
    desk: Any, signed_in: Browser, first_party: bool, uri: str
) -> None:
    """O-05, O-17: nothing is sent to an address that any app of the device can claim without a word of the user."""
    app = await relying(desk, "app", public=True, first_party=first_party, redirect_uris=(uri,))
    parameters = asking("app", redirect_uri=uri)
    for _ in range(2):
        page = await consent_page(signed_in, parameters)
        where, carried = answered(await signed_in.submit(page, answer="allow"))
        assert where == uri
        assert (await app.exchange(carried["code"], redirect_uri=uri)).status == 200
    _, carried = answered(await signed_in.authorize({**parameters, "prompt": "none"}))
    assert carried["error"] == "consent_required"


async def test_a_public_client_at_an_address_of_its_own_is_remembered(desk: Any, signed_in: Browser) -> None:
    await relying(desk, "spa", public=True, first_party=False)
    page = await consent_page(signed_in, asking("spa"))
    await signed_in.submit(page, answer="allow")
    assert "code" in answered(await signed_in.authorize(asking("spa")))[1]


async def test_signing_in_alone_is_asked_about_too(desk: Any, signed_in: Browser) -> None:
    await relying(desk, "plain", first_party=False, scopes=())
    page = await consent_page(signed_in, asking("plain", scope=None))
    assert "sign you in" in page.body.decode()
    await signed_in.submit(page, answer="allow")
    assert "code" in answered(await signed_in.authorize(asking("plain", scope=None)))[1]


async def test_whatever_others_wrote_is_text(desk: Any, signed_in: Browser) -> None:
    await relying(desk, "odd", first_party=False, name="<img src=x>", scopes=("<b>",), audiences=("<i>",))
    text = (await consent_page(signed_in, asking("odd", scope="<b>"))).body.decode()
    for hostile in ("<img", "<b>", "<i>"):
        assert hostile not in text
