"""A device without a browser is let in by somebody who has signed in elsewhere (RFC 8628)."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any
from urllib.parse import urlencode

import pytest

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import GrantType
from keyfob.clients.registration import Registration
from keyfob.grants.one_time import OneTime
from keyfob.grants.store import AmendOutcome, GrantStore

from .journeys import FORM, PASSWORD, Browser, Relying, refused

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
GRANTS = (GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN)


async def a_television(desk: Any, client_id: str = "tv", **stated: Any) -> Relying:
    registration = Registration(**{"name": "Television", "public": True, **stated})
    added = await desk.authority.clients.add(
        client_id, scopes=("watch", "orders:read"), registration=registration, grant_types=GRANTS
    )
    return Relying(desk, client_id, added.secret)


@pytest.fixture
async def television(desk: Any) -> Relying:
    return await a_television(desk)


async def begin(television: Relying, **fields: str) -> dict[str, Any]:
    answer = await television.post("/oauth/device_authorization", **fields)
    assert answer.status == 200, answer.body
    assert answer.header("cache-control") == "no-store"
    told: dict[str, Any] = answer.json()
    return told


async def poll(television: Relying, told: dict[str, Any]) -> Any:
    return await television.post("/oauth/token", grant_type=DEVICE_CODE, device_code=told["device_code"])


async def question(browser: Browser, told: dict[str, Any]) -> Any:
    """Go to the page, type the code, and return what is asked."""
    return await browser.submit(await browser.get("/device"), user_code=told["user_code"])


async def allow(browser: Browser, told: dict[str, Any]) -> None:
    page = await browser.submit(await question(browser, told), answer="allow")
    assert (page.status, b"The device is in" in page.body) == (200, True), page.body


async def let_in(browser: Browser, television: Relying) -> Any:
    told = await begin(television)
    await allow(browser, told)
    return await poll(television, told)


@pytest.mark.meets("8628-3.2")
async def test_a_device_is_let_in(desk: Any, signed_in: Browser, television: Relying) -> None:
    told = await begin(television, scope="watch")
    assert re.fullmatch(r"[B-Z]{4}-[B-Z]{4}", told["user_code"])
    assert told["verification_uri"] == "https://auth.example/device"
    assert told["verification_uri_complete"].endswith(f"?user_code={told['user_code']}")
    assert (told["expires_in"], told["interval"]) == (600, 5)
    refused(await poll(television, told), "authorization_pending")
    await allow(signed_in, told)
    await desk.advance(5)
    granted = (await poll(television, told)).json()
    assert granted["scope"] == "watch"
    principal = await desk.authority.authenticate(granted["access_token"])
    browser = (await signed_in.get("/session")).json()
    assert (principal.subject, principal.client_id) == (browser["subject"], "tv")
    child = await desk.authority.store.sessions.find(principal.session_id)
    assert child.session.parent_session_id == browser["session_id"]
    assert (await television.refresh(granted["refresh_token"])).status == 200
    await desk.authority.revoke("session", browser["session_id"])
    refused(await television.refresh(granted["refresh_token"]), "invalid_grant")


@pytest.mark.meets("8628-5.4")
async def test_the_page_shows_who_asks_for_what_from_where(signed_in: Browser, television: Relying) -> None:
    """O-31."""
    answer = await television.desk.ask(
        "POST",
        "/oauth/device_authorization",
        body=urlencode({"client_id": "tv", "scope": "watch"}).encode(),
        headers=FORM | {"user-agent": "<b>SmartTV</b>"},
        own_page=False,
        peer="198.51.100.9",
    )
    told = answer.json()
    page = await question(signed_in, told)
    text = page.body.decode()
    for shown in ("Television", "<code>tv</code>", "alice", "watch", "198.51.100.9", told["user_code"]):
        assert shown in text, shown
    assert "&lt;b&gt;SmartTV" in text
    assert "Whoever sent you this code gets into your account" in text
    assert "<script" not in text
    assert "frame-ancestors 'none'" in page.header("content-security-policy")
    assert page.header("x-frame-options") == "DENY"
    assert text.index('value="deny"') < text.index('value="allow"')


@pytest.mark.meets("8628-5.4")
async def test_a_code_in_the_address_is_filled_in_and_sends_nothing(
    signed_in: Browser, television: Relying
) -> None:
    """O-31: a link alone lets nothing in."""
    told = await begin(television)
    page = await signed_in.get(f"/device?user_code={told['user_code']}")
    assert f'value="{told["user_code"]}"' in page.body.decode()
    assert b"Television" not in page.body
    refused(await poll(television, told), "authorization_pending")
    hostile = await signed_in.get("/device?user_code=%22%3E%3Cscript%3E")
    assert b"<script" not in hostile.body


@pytest.mark.meets("8628-ours")
async def test_who_signed_in_long_ago_signs_in_again(
    desk: Any, signed_in: Browser, television: Relying
) -> None:
    """O-31: a phone that was left on a table lets nothing in."""
    told = await begin(television)
    page = await question(signed_in, told)
    before = (await signed_in.get("/session")).json()["session_id"]
    await desk.advance(15 * 60)
    told = await begin(television)
    stale = await signed_in.submit(page, answer="allow")
    assert stale.status == 401
    again = await signed_in.get(f"/device?user_code={told['user_code']}")
    assert b'name="password"' in again.body
    wrong = await signed_in.submit(again, username="alice", password="wrong")
    assert (wrong.status, b"not right" in wrong.body) == (403, True)
    onward = await signed_in.submit(again, username="alice", password=PASSWORD)
    assert (onward.status, onward.header("location")) == (303, f"/device?user_code={told['user_code']}")
    assert (await signed_in.get("/session")).json()["session_id"] == before
    await allow(signed_in, told)
    assert (await poll(television, told)).status == 200


async def test_a_login_of_long_ago_lets_nothing_in_whoever_asks(
    desk: Any, signed_in: Browser, television: Relying
) -> None:
    visitor = await desk.authority.authorizations.visitor(signed_in.cookies["__Host-session"])
    flow = desk.authority.device_flow
    await desk.advance(15 * 60 - 1.001)
    assert flow.is_fresh(visitor)
    await desk.advance(0.001)
    assert not flow.is_fresh(visitor)
    told = await begin(television)
    with pytest.raises(InvalidRequest) as refusal:
        await flow.approve(told["user_code"], visitor)
    assert (refusal.value.code, refusal.value.status) == ("stale_login", 403)
    refused(await poll(television, told), "authorization_pending")


async def test_who_has_not_signed_in_does_so_there(browser: Browser, television: Relying) -> None:
    told = await begin(television)
    page = await browser.get("/device?user_code=" + told["user_code"].lower())
    for _ in range(5):
        assert (await browser.submit(page, username="alice", password="wrong")).status == 403
    limited = await browser.submit(page, username="alice", password="wrong")
    assert (limited.status, limited.header("retry-after")) == (429, "1")
    await browser.desk.advance(1)
    onward = await browser.submit(page, username="alice", password=PASSWORD)
    await allow(browser, told)
    assert onward.header("location") == f"/device?user_code={told['user_code']}"
    elsewhere = await browser.ask(
        "POST",
        "/device/sign-in",
        body=urlencode({"username": "alice", "password": PASSWORD}).encode(),
        headers=FORM,
        own_page=False,
    )
    assert elsewhere.status == 403


@pytest.mark.meets("8628-3.5b")
async def test_what_is_denied_stays_denied(signed_in: Browser, television: Relying) -> None:
    told = await begin(television)
    page = await question(signed_in, told)
    assert (await signed_in.submit(page, answer="deny")).status == 200
    assert (await signed_in.submit(page, answer="allow")).status == 404
    for _ in range(2):
        refused(await poll(television, told), "access_denied")


@pytest.mark.meets("8628-3.5a")
async def test_polling_too_fast_slows_down(desk: Any, signed_in: Browser, television: Relying) -> None:
    """O-33."""
    told = await begin(television)
    refused(await poll(television, told), "authorization_pending")
    await desk.advance(4.9)
    refused(await poll(television, told), "slow_down")
    await desk.advance(5)
    refused(await poll(television, told), "slow_down")
    await desk.advance(15)
    refused(await poll(television, told), "authorization_pending")
    await allow(signed_in, told)
    refused(await poll(television, told), "slow_down")
    await desk.advance(20)
    assert (await poll(television, told)).status == 200


@pytest.mark.meets("8628-3.5b")
async def test_a_code_is_over_at_its_end(desk: Any, signed_in: Browser, television: Relying) -> None:
    told = await begin(television)
    await desk.advance(599)
    await signed_in.login()
    page = await question(signed_in, told)
    assert page.status == 200
    await desk.advance(1)
    assert (await signed_in.submit(page, answer="allow")).status == 404
    assert (await question(signed_in, told)).status == 404
    refused(await poll(television, told), "expired_token")
    await desk.advance(30 * 60)
    refused(await poll(television, told), "invalid_grant")


async def test_what_was_allowed_too_late_to_be_fetched_is_over(
    desk: Any, signed_in: Browser, television: Relying
) -> None:
    told = await begin(television)
    await allow(signed_in, told)
    await desk.advance(600)
    refused(await poll(television, told), "expired_token")


@pytest.mark.meets("8628-5.6")
async def test_a_second_use_ends_what_the_first_gave(
    desk: Any, signed_in: Browser, television: Relying
) -> None:
    told = await begin(television)
    await allow(signed_in, told)
    granted = (await poll(television, told)).json()
    await desk.advance(5)
    refused(await poll(television, told), "invalid_grant")
    refused(await television.refresh(granted["refresh_token"]), "invalid_grant")
    assert "code_reused" in [event.code for event in (await desk.authority.trail.list(limit=99)).events]


@pytest.mark.meets("8628-ours")
async def test_of_many_questions_at_once_one_gets_it(signed_in: Browser, television: Relying) -> None:
    told = await begin(television)
    await allow(signed_in, told)
    answers = await asyncio.gather(*(poll(television, told) for _ in range(8)))
    assert Counter(answer.json().get("error") for answer in answers) == {None: 1, "slow_down": 7}
    (granted,) = (answer.json() for answer in answers if answer.status == 200)
    assert (await television.refresh(granted["refresh_token"])).status == 200


async def test_a_device_code_is_of_its_client(desk: Any, signed_in: Browser, television: Relying) -> None:
    """O-51: and no other secret is one."""
    other = await a_television(desk, "radio")
    told = await begin(television)
    await allow(signed_in, told)
    refused(await poll(other, told), "invalid_grant")
    for code in ("", "x", told["user_code"], told["device_code"][:-1], told["device_code"] + "A"):
        answer = await television.post("/oauth/token", grant_type=DEVICE_CODE, device_code=code or None)
        refused(answer, "invalid_grant" if code else "invalid_request")
    as_code = await television.post(
        "/oauth/token", grant_type="authorization_code", code=told["device_code"], code_verifier="v" * 43
    )
    refused(as_code, "unauthorized_client")
    assert (await poll(television, told)).status == 200


async def test_a_client_that_has_no_device_gets_no_code(desk: Any, shop: Relying) -> None:
    refused(await shop.post("/oauth/device_authorization"), "unauthorized_client")
    refused(await shop.post("/oauth/token", grant_type=DEVICE_CODE, device_code="x"), "unauthorized_client")
    nobody = Relying(desk, "nobody", None)
    refused(await nobody.post("/oauth/device_authorization"), "invalid_client", 401)
    television = await a_television(desk)
    refused(await television.post("/oauth/device_authorization", scope="root"), "invalid_scope")


@pytest.mark.meets("8628-5.1")
async def test_guessing_codes_is_slowed_down(desk: Any, signed_in: Browser, television: Relying) -> None:
    """O-32: also for whoever types a right code of their own after every few of others."""
    told = await begin(television)
    page = await signed_in.get("/device")
    for guess in ("BCDF-GHJK", "nonsense", "ZZZZ-ZZZZ", "BBBB-BBBB"):
        assert (await signed_in.submit(page, user_code=guess)).status == 404
    assert (await signed_in.submit(page, user_code=told["user_code"])).status == 200
    for wait in (1, 2, 4):
        for code in (told["user_code"], "CCCC-CCCC"):
            limited = await signed_in.submit(page, user_code=code)
            assert (limited.status, limited.header("retry-after")) == (429, str(wait))
            assert b"Television" not in limited.body
        await desk.advance(wait)
        assert (await signed_in.submit(page, user_code="CCCC-CCCC")).status == 404


async def test_an_address_that_many_share_is_not_held_to_what_one_guessed_right(
    desk: Any, signed_in: Browser, television: Relying
) -> None:
    await desk.user("bob")
    other = Browser(desk)
    await other.login("bob")
    for _ in range(4):
        assert (await question(signed_in, await begin(television))).status == 200
    for _ in range(4):
        assert (await question(other, await begin(television))).status == 200


async def test_no_answer_counts_but_one_from_the_page_that_asked(
    desk: Any, signed_in: Browser, television: Relying
) -> None:
    """O-20, C-16: not from another site, of another session, or about another code; and no guess gets past the throttle that way."""
    told, other = await begin(television), await begin(television)
    page = await question(signed_in, told)
    token = re.search(r'name="csrf_token" value="([^"]*)"', page.body.decode())
    assert token is not None
    right = {"user_code": told["user_code"], "csrf_token": token[1], "answer": "allow"}

    async def post(fields: dict[str, str], browser: Browser = signed_in, **headers: str) -> Any:
        stated = FORM | (headers or {"sec-fetch-site": "same-origin"})
        return await browser.ask("POST", "/device/answer", body=urlencode(fields).encode(), headers=stated)

    await desk.user("bob")
    thief = Browser(desk)
    await thief.login("bob")
    for answer in (
        await post(right, **{"sec-fetch-site": "cross-site"}),
        await post(right, origin="https://evil.example"),
        await post(right | {"user_code": other["user_code"]}),
        await post(right | {"user_code": "BCDF-GHJK"}),
        await post(right | {"csrf_token": "x"}),
        await post(right, thief),
    ):
        assert answer.status == 403, answer.body
    assert (await post(right, Browser(desk))).status == 401
    refused(await poll(television, told), "authorization_pending")
    assert (await post(right)).status == 200


@pytest.mark.meets("8628-ours")
@pytest.mark.parametrize("ending", ["subject", "session", "client", "password"])
async def test_what_ends_the_login_after_it_was_allowed_ends_what_the_device_gets(
    desk: Any, signed_in: Browser, television: Relying, ending: str
) -> None:
    """R-17, precondition 3: the device gets nothing past the position of the approval."""
    told = await begin(television)
    await allow(signed_in, told)
    session = (await signed_in.get("/session")).json()
    if ending == "password":
        await desk.authority.accounts.change_password(
            session["subject"], PASSWORD, "another good passphrase", address=""
        )
    else:
        ids = {"subject": session["subject"], "session": session["session_id"], "client": "tv"}
        await desk.authority.revoke(ending, ids[ending])
    refused(await poll(television, told), "invalid_grant")


async def test_consent_is_taken_down_for_clients_of_others_alone(
    desk: Any, signed_in: Browser, television: Relying
) -> None:
    own = await a_television(desk, "own", first_party=True)
    await let_in(signed_in, television)
    await let_in(signed_in, own)
    subject = (await signed_in.get("/session")).json()["subject"]
    consent = await desk.authority.store.consents.find(subject, ClientId("tv"))
    assert consent.scopes == {"watch", "orders:read"}
    assert await desk.authority.store.consents.find(subject, ClientId("own")) is None


async def test_an_approval_and_a_question_at_once_lose_nothing(
    desk: Any, signed_in: Browser, television: Relying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: the device asks between the approval's read and its write, and the other way round."""
    told = await begin(television)
    page = await question(signed_in, told)
    store: GrantStore = desk.authority.store.grants
    amend, between = store.amend, [poll(television, told)]

    async def slow_amend(kind: Any, digest: bytes, **fields: Any) -> AmendOutcome:
        if between:
            refused(await between.pop(), "authorization_pending")
        return await amend(kind, digest, **fields)

    monkeypatch.setattr(store, "amend", slow_amend)
    assert (await signed_in.submit(page, answer="allow")).status == 200
    monkeypatch.undo()
    await desk.advance(5)
    assert (await poll(television, told)).status == 200


@pytest.mark.meets("8628-5.2")
async def test_secrets_are_kept_as_digests(desk: Any, television: Relying) -> None:
    told = await begin(television)
    (record,) = desk.authority.store.grants._state.one_times.values()
    assert isinstance(record, OneTime)
    plain = (told["device_code"], told["user_code"], told["user_code"].replace("-", ""))
    for secret in plain:
        assert secret.encode() not in record.body + record.digest + (record.alias or b"")
        assert secret not in repr(record)


@pytest.mark.meets("8414-rev")
async def test_the_metadata_say_where(desk: Any) -> None:
    told = (await desk.ask("GET", "/.well-known/oauth-authorization-server")).json()
    assert told["device_authorization_endpoint"] == "https://auth.example/oauth/device_authorization"
    assert DEVICE_CODE in told["grant_types_supported"]
