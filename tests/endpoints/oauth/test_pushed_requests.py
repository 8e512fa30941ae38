"""`/oauth/par`: requests that clients push by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from .journeys import CALLBACK, Browser, Relying, answered, asking, refused, relying

URN = "urn:ietf:params:oauth:request_uri:"


async def pushed(client: Relying, **changes: str | None) -> str:
    answer = await client.post("/oauth/par", **asking(client.client_id, **changes))
    assert answer.status == 201, answer.body
    assert answer.header("cache-control") == "no-store"
    body = answer.json()
    assert body.keys() == {"request_uri", "expires_in"}
    assert body["expires_in"] == 60
    assert body["request_uri"].startswith(URN)
    return body["request_uri"]


def short(client_id: str, request_uri: str, **more: str) -> dict[str, str]:
    return {"client_id": client_id, "request_uri": request_uri, **more}


def shown(answer: Any) -> None:
    assert (answer.status, answer.header("location")) == (400, None), answer.header("location")


@pytest.mark.meets("9126-2", "9126-2.2a", "9126-4a")
async def test_a_pushed_request_is_good_once(signed_in: Browser, shop: Relying) -> None:
    """O-27."""
    request_uri = await pushed(shop)
    where, carried = answered(await signed_in.authorize(short("shop", request_uri)))
    assert (where, carried["state"]) == (CALLBACK, "st4te")
    assert (await shop.exchange(carried["code"])).status == 200
    shown(await signed_in.authorize(short("shop", request_uri)))


@pytest.mark.meets("9126-4a")
async def test_a_page_that_is_loaded_again_finds_the_same_request(
    desk: Any, browser: Browser, shop: Relying
) -> None:
    request_uri = await pushed(shop)
    first = (await browser.authorize(short("shop", request_uri))).header("location")
    assert (await browser.authorize(short("shop", request_uri))).header("location") == first
    await desk.advance(1)
    done = await browser.sign_in(await browser.get(first))
    assert answered(await browser.get(done.header("location")))[0] == CALLBACK
    shown(await browser.authorize(short("shop", request_uri)))


@pytest.mark.meets("9126-4a")
@pytest.mark.parametrize("seconds", [59, 60])
async def test_it_is_good_for_a_minute(desk: Any, browser: Browser, shop: Relying, seconds: int) -> None:
    request_uri = await pushed(shop)
    await desk.advance(seconds)
    answer = await browser.authorize(short("shop", request_uri))
    if seconds == 60:
        shown(answer)
        return
    await desk.advance(600)  # once it is there, whoever signs in has the time of everybody else
    assert (await browser.get(answer.header("location"))).status == 200
    shown(await browser.authorize(short("shop", request_uri)))


@pytest.mark.meets("9126-2.2b")
async def test_it_is_its_clients_and_nobody_burns_it(desk: Any, signed_in: Browser, shop: Relying) -> None:
    await relying(desk, "thief")
    request_uri = await pushed(shop)
    shown(await signed_in.authorize(short("thief", request_uri)))
    shown(await signed_in.authorize({"request_uri": request_uri}))
    for wrong in (request_uri[:-1], request_uri + "x", URN, URN + "x" * 43):
        shown(await signed_in.authorize(short("shop", wrong)))
    assert "code" in answered(await signed_in.authorize(short("shop", request_uri)))[1]


async def test_what_stands_beside_it_in_the_address_counts_for_nothing(desk: Any, signed_in: Browser) -> None:
    """O-28: one source of truth."""
    shop = await relying(desk, redirect_uris=(CALLBACK, "https://shop.example/other"))
    request_uri = await pushed(shop)
    beside = {"redirect_uri": "https://shop.example/other", "state": "other", "scope": "orders:write"}
    where, carried = answered(await signed_in.authorize(short("shop", request_uri, **beside)))
    assert (where, carried["state"]) == (CALLBACK, "st4te")
    assert (await shop.exchange(carried["code"])).json()["scope"] == "orders:read"


@pytest.mark.meets("10.4.10", "9126-2.1a", "7523bis-d")
async def test_who_pushes_says_who_it_is(desk: Any, shop: Relying) -> None:
    wrong = await Relying(desk, "shop", "kfc_wrong").post("/oauth/par", **asking())
    refused(wrong, "invalid_client", 401)
    refused(await Relying(desk, "shop", None).post("/oauth/par", **asking()), "invalid_client", 401)
    other = await shop.post("/oauth/par", **asking("other"))
    refused(other, "invalid_request")
    app = await relying(desk, "app", public=True)
    assert await pushed(app)
    answer = await desk.ask("GET", "/oauth/par")
    assert answer.status == 405


@pytest.mark.meets("9126-2.1b", "9126-2.1c", "9126-7.2")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uri": "https://evil.example/"}, "invalid_request"),
        ({"scope": "other"}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"request_uri": URN + "x" * 43}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"prompt": "x"}, "invalid_request"),
        ({"state": "x" * 1025}, "invalid_request"),
    ],
)
async def test_what_is_wrong_is_said_where_it_is_pushed(
    shop: Relying, changes: dict[str, str | None], error: str
) -> None:
    refused(await shop.post("/oauth/par", **asking(**changes)), error)


@pytest.mark.meets("9126-2.3")
async def test_no_parameter_is_there_twice_or_in_the_address(desk: Any, shop: Relying) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    basic = ("shop", shop.secret)
    twice = await desk.ask(
        "POST", "/oauth/par", body=b"scope=orders:read&scope=orders:write", headers=form, basic=basic
    )
    refused(twice, "invalid_request")
    refused(
        await desk.ask("POST", "/oauth/par?client_id=shop", body=b"", headers=form, basic=basic),
        "invalid_request",
    )
    large = await desk.ask("POST", "/oauth/par", body=b"x=" + b"y" * 70_000, headers=form, basic=basic)
    assert large.status == 413


@pytest.mark.meets("10.4.13")
async def test_a_client_that_must_push_is_served_no_other_way(desk: Any, signed_in: Browser) -> None:
    strict = await relying(desk, "strict", require_par=True)
    _, carried = answered(await signed_in.authorize(asking("strict")))
    assert carried["error"] == "invalid_request"
    request_uri = await pushed(strict)
    assert "code" in answered(await signed_in.authorize(short("strict", request_uri)))[1]


@pytest.mark.meets("9126-4b")
async def test_the_client_is_looked_at_again(desk: Any, signed_in: Browser, shop: Relying) -> None:
    request_uri = await pushed(shop)
    await desk.authority.clients.delete("shop", actor="admin")
    await relying(desk, scopes=("other",))
    _, carried = answered(await signed_in.authorize(short("shop", request_uri)))
    assert (carried["error"], carried["state"]) == ("invalid_scope", "st4te")


async def test_a_request_that_waits_for_its_user_is_no_pushed_one_and_the_other_way_round(
    browser: Browser, shop: Relying
) -> None:
    """O-25, O-51."""
    request_uri = await pushed(shop)
    shown(await browser.get(f"/oauth/resume?request={request_uri.removeprefix(URN)}"))
    _, carried = answered(await browser.authorize())
    shown(await browser.authorize(short("shop", URN + carried["request"])))
