"""A token that was minted for an upstream is given again until just before its end, and never when anything about it has changed."""

from __future__ import annotations

import base64
import json

import pytest
from msgspec.structs import replace

from keyfob.endpoints.minted_tokens import MARGIN, Minted, proxy_principal
from keyfob.jwt import jws

LIFETIME = 600  # seconds: the access token's default


@pytest.fixture
async def mint(desk):
    """Ask /check for a token and return it; the same request each time."""
    await desk.user(roles=("buyer",))
    proxy = await desk.client("proxy", "keyfob:check", audiences=("orders", "stock"))
    cookie = await desk.cookie()

    async def ask(query: str = "mint=orders", *, by: tuple[str, str] = proxy, cookie: str = cookie) -> str:
        value = "Basic " + base64.b64encode(":".join(by).encode()).decode()
        answer = await desk.ask(
            "GET",
            f"/check?{query}",
            headers={"x-forwarded-method": "GET", "x-keyfob-proxy": value},
            cookie=cookie,
            own_page=False,
        )
        return answer.header("authorization") or answer.header("x-auth-cause") or ""

    ask.cookie = cookie
    return ask


def part(token: str, index: int) -> dict:
    text = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def claims(token: str) -> dict:
    return part(token, 1)


async def test_it_is_signed_once(mint, monkeypatch) -> None:
    signed = []
    sign = jws.sign
    monkeypatch.setattr(jws, "sign", lambda *args, **more: signed.append(1) or sign(*args, **more))
    tokens = {
        await mint(query) for query in ("mint=orders", "mint=orders", "role=buyer&mint=orders") for _ in "12"
    }
    assert len(tokens) == 1
    assert len([1 for _ in signed]) == 1


@pytest.mark.parametrize(("left", "again"), [(MARGIN + 1, True), (MARGIN, False), (MARGIN - 1, False)])
async def test_just_before_its_end_it_is_not_given_again(desk, mint, left: float, again: bool) -> None:
    first = await mint()
    for _ in range(5):  # used all along: the session must not idle out, and is re-read after its cache age
        await desk.advance((LIFETIME - left) / 5)
        last = await mint()
    assert (last == first) is again


async def test_each_audience_proxy_and_session_has_its_own(desk, mint) -> None:
    other = await desk.client("other", "keyfob:check", audiences=("orders",))
    cookie = await desk.cookie()
    tokens = [await mint(), await mint("mint=stock"), await mint(by=other), await mint(cookie=cookie)]
    assert len(set(tokens)) == 4
    assert [claims(token)["aud"] for token in tokens] == ["orders", "stock", "orders", "orders"]
    assert await mint("mint=stock", by=other) == "insufficient_scope"
    assert await mint(by=("proxy", "wrong")) == "bad_credentials"


async def test_new_roles_are_in_the_next_one(desk, mint) -> None:
    first = await mint()
    (account,) = (await desk.authority.store.accounts.list(after=None, limit=1)).accounts
    await desk.authority.set_roles(account.subject, {"auditor"})
    second = await mint()
    assert (claims(first)["roles"], claims(second)["roles"]) == (["buyer"], ["auditor"])
    assert claims(second)["as_of"] > claims(first)["as_of"]
    assert await mint() == second


async def test_an_answer_from_memory_names_the_roles_of_today(desk, mint) -> None:
    async def roles(query: str) -> str | None:
        answer = await desk.ask(
            "GET", f"/check{query}", headers={"x-forwarded-method": "GET"}, cookie=mint.cookie, own_page=False
        )
        return answer.header("x-auth-roles")

    assert [await roles("?status=200") for _ in range(4)] == ["buyer"] * 4
    (account,) = (await desk.authority.store.accounts.list(after=None, limit=1)).accounts
    await desk.authority.set_roles(account.subject, {"auditor"})
    # The same headers with another query make the principal known anew, and the answer that was remembered is still there.
    assert [await roles("") for _ in range(4)] == ["auditor"] * 4
    assert await roles("?status=200") == "auditor"


async def test_it_says_nothing_of_the_principal_that_is_no_longer_so(desk) -> None:
    """Also where no entry tells of it: an application's own source of claims may say something else at each read."""
    await desk.user(roles=("buyer",))
    principal = await desk.authority.authenticate(await desk.access_token())
    live, now = desk.authority.feed.live, desk.clock.time()
    proxy = proxy_principal("proxy", known=live.head, now=desk.clock.now())
    minted = Minted("token", principal=principal, of=principal, proxy=proxy)
    assert minted.is_good(principal, live=live, now=now)
    assert minted.is_good(replace(principal, as_of=principal.as_of + 1), live=live, now=now)
    for other in (
        replace(principal, roles=frozenset()),
        replace(principal, scopes=frozenset({"x"})),
        replace(principal, subject="usr_other"),
        replace(principal, session_id="0" * 32),
        replace(principal, acr="2"),
        replace(principal, auth_time=None),
        replace(principal, claims={"plan": "none"}),
    ):
        assert not minted.is_good(other, live=live, now=now)


async def test_a_token_that_was_revoked_by_its_id_is_not_given_again(desk, mint) -> None:
    first = await mint()
    await desk.authority.revoke("token", claims(first)["jti"])
    second = await mint()
    assert second.startswith("Bearer ")
    assert second != first


async def test_a_key_that_was_revoked_signs_none_that_is_given_again(desk, mint) -> None:
    first = await mint()
    kid = part(first.removeprefix("Bearer "), 0)["kid"]
    await desk.authority.revoke("key", kid)
    second = await mint()
    assert second.startswith("Bearer ")
    assert second != first


async def test_a_deleted_proxy_gets_nothing_more(desk, mint) -> None:
    assert (await mint()).startswith("Bearer ")
    await desk.authority.clients.delete("proxy", actor="test")
    assert await mint() == "bad_credentials"


async def test_an_ended_session_gets_nothing_more(desk, mint) -> None:
    assert (await mint()).startswith("Bearer ")
    await desk.ask("POST", "/logout", cookie=mint.cookie)
    assert await mint() == "revoked"


async def test_while_the_feed_is_not_sure_the_proxy_is_asked_for_anew(desk, mint, monkeypatch) -> None:
    first = await mint()
    monkeypatch.setattr(desk.authority.feed, "is_level", lambda: False)
    second = await mint()
    assert second.startswith("Bearer ")
    assert second != first


async def test_below_check_the_client_chooses_no_audience(desk, mint) -> None:
    value = "Basic " + base64.b64encode(b"proxy:whatever").decode()
    answer = await desk.ask(
        "GET",
        "/check/shop?mint=stock&status=open",
        headers={"x-forwarded-method": "GET", "x-keyfob-proxy": value},
        cookie=mint.cookie,
        own_page=False,
    )
    assert (answer.status, answer.header("authorization")) == (204, None)


async def test_what_was_answered_below_check_is_no_answer_to_check_itself(desk, mint) -> None:
    secret = (await desk.authority.clients.add("other", scopes=["keyfob:check"], audiences=["orders"])).secret
    headers = {
        "x-forwarded-method": "GET",
        "x-keyfob-proxy": "Basic " + base64.b64encode(f"other:{secret}".encode()).decode(),
    }
    query = "status=200&mint=orders"
    for path in ("/check/shop", "/check/shop", "/check/shop", "/check", "/check/shop", "/check", "/check"):
        answer = await desk.ask("GET", f"{path}?{query}", headers=headers, cookie=mint.cookie, own_page=False)
        assert answer.status == 200
        assert (answer.header("authorization") is not None) is (path == "/check")


@pytest.mark.parametrize("bearer", [True, False])
async def test_a_yes_may_be_200(desk, mint, bearer: bool) -> None:
    credential = {"bearer": await desk.access_token()} if bearer else {"cookie": mint.cookie}
    for _ in range(2):  # the second time from memory
        answer = await desk.ask(
            "GET", "/check?status=200", headers={"x-forwarded-method": "GET"}, own_page=False, **credential
        )
        assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "0")
    assert (
        await desk.ask("GET", "/check", headers={"x-forwarded-method": "GET"}, **credential)
    ).status == 204
    for wrong in ("status=201", "status=", "status=200&status=200"):
        assert (await desk.ask("GET", f"/check?{wrong}", **credential)).status == 400
