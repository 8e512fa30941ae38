"""`/consents`: what somebody allows applications of others, seen and taken back."""

from __future__ import annotations

from typing import Any

import pytest

from .journeys import Browser, Relying, answered, asking, refused, relying


@pytest.fixture
async def others(desk: Any) -> Relying:
    return await relying(desk, "others", first_party=False, name="The others")


async def allowed(browser: Browser, client: Relying, **changes: str) -> dict[str, Any]:
    """Let the browser's user allow what the client asks; return its tokens."""
    answer = await browser.authorize(asking(client.client_id, prompt="consent", **changes))
    page = await browser.get(answer.header("location"))
    _, carried = answered(await browser.submit(page, answer="allow"))
    given = await client.exchange(carried["code"])
    assert given.status == 200, given.body
    return given.json()


async def withdraw(browser: Browser, client_id: str, **options: Any) -> Any:
    return await browser.ask("DELETE", f"/consents/{client_id}", **options)


@pytest.mark.meets("10.7.3")
async def test_what_is_allowed_is_listed(desk: Any, signed_in: Browser, others: Relying) -> None:
    assert (await signed_in.get("/consents")).json() == {"consents": []}
    await allowed(signed_in, others)
    await desk.advance(5)
    await allowed(signed_in, others, scope="orders:write")
    await allowed(signed_in, await relying(desk, "another", first_party=False))
    shown = (await signed_in.get("/consents")).json()["consents"]
    assert [one["client_id"] for one in shown] == ["another", "others"]
    assert [one["name"] for one in shown] == ["another", "The others"]
    assert shown[1]["scopes"] == ["orders:read", "orders:write"]
    assert shown[1]["changed_at"] > shown[1]["given_at"]
    await desk.user("bob")
    bob = Browser(desk)
    await bob.login("bob")
    assert (await bob.get("/consents")).json() == {"consents": []}


@pytest.mark.meets("10.4.9", "10.7.3")
@pytest.mark.parametrize(
    "scope", ["orders:read", "orders:read offline_access", "openid orders:read offline_access"]
)
async def test_taking_it_back_ends_all_that_the_application_holds(
    desk: Any, signed_in: Browser, others: Relying, shop: Relying, scope: str
) -> None:
    kept = (await shop.exchange(await signed_in.code())).json()
    given = [await allowed(signed_in, others, scope=scope) for _ in range(2)]
    assert (await withdraw(signed_in, "others")).status == 204
    for one in given:
        answer = await desk.ask("GET", "/session", bearer=one["access_token"])
        assert (answer.status, answer.code) == (401, "revoked")
        refused(await others.refresh(one["refresh_token"]), "invalid_grant")
    assert (await signed_in.get("/session")).status == 200
    assert (await shop.refresh(kept["refresh_token"])).status == 200
    assert (await signed_in.get("/consents")).json() == {"consents": []}
    assert answered(await signed_in.authorize(asking("others")))[0] == "/oauth/consent"
    again = await withdraw(signed_in, "others")
    assert (again.status, again.code) == (404, "no_consent")


async def test_what_others_allow_stays(desk: Any, signed_in: Browser, others: Relying) -> None:
    await desk.user("bob")
    bob = Browser(desk)
    await bob.login("bob")
    await desk.advance(1)
    await allowed(signed_in, others)
    given = await allowed(bob, others)
    assert (await withdraw(signed_in, "others")).status == 204
    assert (await others.refresh(given["refresh_token"])).status == 200
    assert len((await bob.get("/consents")).json()["consents"]) == 1


async def test_a_code_under_way_gives_nothing(desk: Any, signed_in: Browser, others: Relying) -> None:
    await allowed(signed_in, others)
    code = await signed_in.code(asking("others"))
    assert (await withdraw(signed_in, "others")).status == 204
    refused(await others.exchange(code), "invalid_grant")


async def test_only_whoever_allowed_it_takes_it_back(desk: Any, signed_in: Browser, others: Relying) -> None:
    given = await allowed(signed_in, others)
    stranger = {"headers": {"sec-fetch-site": "cross-site"}}
    assert (await withdraw(signed_in, "others", **stranger)).status == 403
    unsaid = await signed_in.ask("DELETE", "/consents/others", own_page=False)
    assert (unsaid.status, unsaid.code) == (403, "cross_origin")
    for path, method in (("/consents", "GET"), ("/consents/others", "DELETE")):
        assert (await desk.ask(method, path)).status == 401
        assert (await desk.ask(method, path, bearer=given["access_token"])).status == 403
    assert (await others.refresh(given["refresh_token"])).status == 200


@pytest.mark.parametrize("client_id", ["nobody", "first-party", "%00", "x" * 200])
async def test_what_is_not_allowed_is_not_taken_back(signed_in: Browser, client_id: str) -> None:
    assert (await withdraw(signed_in, client_id)).status in {404, 422}
    assert (await signed_in.get("/session")).status == 200
