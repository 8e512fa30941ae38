"""A login goes along from one domain to another of the same owner, once (ADR 0019)."""

from __future__ import annotations

import asyncio
import html
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from keyfob.base.errors import InvalidRequest
from keyfob.clients.client import GrantType
from keyfob.clients.registration import Registration
from keyfob.grants.one_time import OneTimeKind
from keyfob.grants.secret import digest_of
from keyfob.grants.store import GrantStore, TakeOutcome

from .journeys import FORM, Browser, Relying, refused

HAND_OFF = "urn:keyfob:grant-type:hand-off"
TARGET = "https://shop.other.example/keyfob/arrive"
GRANTS = (GrantType.HAND_OFF, GrantType.REFRESH_TOKEN)
PLACE = {"client_id": "other", "redirect_uri": TARGET}


async def other_domain(desk: Any, client_id: str = "other", **stated: Any) -> Relying:
    registration = Registration(
        **{"redirect_uris": (TARGET,), "first_party": True, "name": "Other", **stated}
    )
    added = await desk.authority.clients.add(
        client_id, scopes=("orders:read", "openid"), registration=registration, grant_types=GRANTS
    )
    return Relying(desk, client_id, added.secret)


@pytest.fixture
async def other(desk: Any) -> Relying:
    return await other_domain(desk)


async def go_on(browser: Browser, place: dict[str, str] = PLACE) -> Any:
    """Return the page that posts the secret across."""
    page = await browser.get(f"/oauth/hand-off?{urlencode(place)}")
    assert page.status == 200, page.body
    return await browser.submit(page)


def carried(page: Any) -> dict[str, str]:
    text = page.body.decode()
    return {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', text)}


async def redeem(client: Relying, secret: str, redirect_uri: str | None = TARGET) -> Any:
    return await client.post("/oauth/token", grant_type=HAND_OFF, hand_off=secret, redirect_uri=redirect_uri)


async def handed(browser: Browser, client: Relying) -> Any:
    answer = await redeem(client, carried(await go_on(browser))["hand_off"])
    assert answer.status == 200, answer.body
    return answer.json()


async def test_a_login_goes_along(desk: Any, signed_in: Browser, other: Relying) -> None:
    granted = await handed(signed_in, other)
    principal = await desk.authority.authenticate(granted["access_token"])
    browser = (await signed_in.get("/session")).json()
    assert (principal.subject, principal.client_id) == (browser["subject"], "other")
    child = await desk.authority.store.sessions.find(principal.session_id)
    assert child.session.parent_session_id == browser["session_id"]
    assert (await other.refresh(granted["refresh_token"])).status == 200
    await desk.authority.revoke("session", browser["session_id"])
    refused(await other.refresh(granted["refresh_token"]), "invalid_grant")


async def test_the_secret_is_in_no_address_and_goes_to_one_place(signed_in: Browser, other: Relying) -> None:
    """O-23, O-24: and the browser names our origin to the target, and nothing more of where it comes from."""
    page = await go_on(signed_in)
    text = page.body.decode()
    assert page.status == 200
    assert page.header("location") is None
    assert re.findall(r'<form method="post" action="([^"]+)"', text) == [TARGET]
    assert carried(page)["iss"] == "https://auth.example"
    assert page.header("referrer-policy") == "strict-origin"
    assert page.header("cache-control") == "no-store"
    policy = page.header("content-security-policy")
    assert "form-action 'self' https://shop.other.example;" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}';", policy)
    assert "frame-ancestors 'none'" in policy
    assert re.findall(r"<script>(.*?)</script>", text) == ["document.forms[0].submit()"]


async def test_an_address_alone_hands_nothing_over(desk: Any, signed_in: Browser, other: Relying) -> None:
    page = await signed_in.get(f"/oauth/hand-off?{urlencode(PLACE)}")
    assert b"Other" in page.body
    assert b"alice" in page.body
    assert b"<script" not in page.body
    assert not desk.authority.store.grants._state.one_times


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "null"}, {}]
)
async def test_nobody_else_begins_a_hand_off(
    desk: Any, signed_in: Browser, other: Relying, headers: dict[str, str]
) -> None:
    """C-16: another site's form, and one for which nothing vouches."""
    body = urlencode(PLACE | {"csrf_token": "x"}).encode()
    answer = await signed_in.ask("POST", "/oauth/hand-off", body=body, headers=FORM | headers, own_page=False)
    assert answer.status == 403
    assert not desk.authority.store.grants._state.one_times


async def test_an_own_page_may_begin_it_with_the_sessions_token(signed_in: Browser, other: Relying) -> None:
    token = (await signed_in.get("/session")).json()["csrf_token"]
    body = urlencode(PLACE | {"csrf_token": token}).encode()
    answer = await signed_in.ask("POST", "/oauth/hand-off", body=body, headers=FORM, own_page=False)
    assert (await redeem(other, carried(answer)["hand_off"])).status == 200


async def test_who_has_not_signed_in_hands_nothing_over(browser: Browser, other: Relying) -> None:
    assert (await browser.get(f"/oauth/hand-off?{urlencode(PLACE)}")).status == 401
    body = urlencode(PLACE).encode()
    answer = await browser.ask("POST", "/oauth/hand-off", body=body, headers=FORM)
    assert answer.status == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": TARGET + "/"},
        {"redirect_uri": TARGET + "?x"},
        {"redirect_uri": "https://shop.other.example"},
        {"redirect_uri": "https://shop.other.example:443/keyfob/arrive"},
        {"redirect_uri": "https://shop.other.example.evil.example/keyfob/arrive"},
        {"redirect_uri": "https://SHOP.other.example/keyfob/arrive"},
        {"redirect_uri": ""},
        {"client_id": "nobody"},
        {"client_id": "shop"},
        {"client_id": "first-party"},
    ],
)
async def test_a_login_goes_nowhere_but_where_a_client_says_exactly(
    signed_in: Browser, other: Relying, shop: Relying, changed: dict[str, str]
) -> None:
    """O-01, O-02."""
    place = PLACE | changed
    assert (await signed_in.get(f"/oauth/hand-off?{urlencode(place)}")).status == 400
    answer = await signed_in.ask("POST", "/oauth/hand-off", body=urlencode(place).encode(), headers=FORM)
    assert answer.status == 400
    assert b"<form" not in answer.body


async def test_it_is_good_for_half_a_minute(desk: Any, signed_in: Browser, other: Relying) -> None:
    for seconds, error in ((29.9, None), (30, "invalid_grant")):
        secret = carried(await go_on(signed_in))["hand_off"]
        await desk.advance(seconds)
        assert (await redeem(other, secret)).json().get("error") == error


async def test_a_second_use_ends_what_the_first_gave(desk: Any, signed_in: Browser, other: Relying) -> None:
    """O-08."""
    secret = carried(await go_on(signed_in))["hand_off"]
    granted = (await redeem(other, secret)).json()
    refused(await redeem(other, secret), "invalid_grant")
    refused(await other.refresh(granted["refresh_token"]), "invalid_grant")
    assert (await signed_in.get("/session")).status == 200


async def test_of_many_uses_at_once_none_is_left(signed_in: Browser, other: Relying) -> None:
    secret = carried(await go_on(signed_in))["hand_off"]
    answers = await asyncio.gather(*(redeem(other, secret) for _ in range(8)))
    for answer in answers:
        if answer.status == 200:
            refused(await other.refresh(answer.json()["refresh_token"]), "invalid_grant")


async def test_a_second_use_in_the_middle_of_the_first_ends_it(
    desk: Any, signed_in: Browser, other: Relying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: right after the record is taken."""
    secret = carried(await go_on(signed_in))["hand_off"]
    store: GrantStore = desk.authority.store.grants
    take, second = store.take, [redeem(other, secret)]

    async def take_and_let_in(kind: OneTimeKind, digest: bytes, **fields: Any) -> TakeOutcome:
        outcome = await take(kind, digest, **fields)
        if second:
            refused(await second.pop(), "invalid_grant")
        return outcome

    monkeypatch.setattr(store, "take", take_and_let_in)
    refused(await redeem(other, secret), "invalid_grant")


async def test_a_wrong_use_changes_nothing(desk: Any, signed_in: Browser, other: Relying) -> None:
    """O-09."""
    third = await other_domain(desk, "third")
    secret = carried(await go_on(signed_in))["hand_off"]
    refused(await redeem(third, secret), "invalid_grant")
    refused(await redeem(other, secret, TARGET + "/"), "invalid_grant")
    refused(await redeem(other, secret, None), "invalid_grant")
    refused(await redeem(Relying(desk, "other", "kfc_wrong"), secret), "invalid_client", 401)
    as_code = await other.post("/oauth/token", grant_type="authorization_code", code=secret)
    refused(as_code, "unauthorized_client")
    assert (await redeem(other, secret)).status == 200


@pytest.mark.parametrize("scope", ["subject", "session", "client"])
async def test_what_ends_the_login_meanwhile_ends_the_hand_off(
    desk: Any, signed_in: Browser, other: Relying, scope: str
) -> None:
    """Precondition 3."""
    secret = carried(await go_on(signed_in))["hand_off"]
    session = (await signed_in.get("/session")).json()
    ids = {"subject": session["subject"], "session": session["session_id"], "client": "other"}
    await desk.authority.revoke(scope, ids[scope])
    refused(await redeem(other, secret), "invalid_grant")


async def test_the_secret_is_kept_as_a_digest(desk: Any, signed_in: Browser, other: Relying) -> None:
    secret = carried(await go_on(signed_in))["hand_off"]
    (record,) = desk.authority.store.grants._state.one_times.values()
    assert record.digest == digest_of(secret)
    assert secret.encode() not in record.body


@pytest.mark.parametrize(
    "stated",
    [{"first_party": False}, {"public": True}, {"redirect_uris": ()}],
)
async def test_only_an_own_client_that_proves_itself_takes_logins(desk: Any, stated: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await other_domain(desk, **stated)
    assert refusal.value.code == "invalid_grant_type"
