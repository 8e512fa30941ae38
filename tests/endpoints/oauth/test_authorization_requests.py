"""`/oauth/authorize`: what is refused, and to whom it is said."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .journeys import CALLBACK, FORM, ISSUER, Browser, Relying, answered, asking, relying


def shown(answer: Any, status: int = 400) -> str:
    """Return the text of a page that tells a person, and sends it nowhere."""
    assert answer.status == status, answer.body
    assert answer.header("location") is None
    assert answer.header("content-type") == "text/html; charset=utf-8"
    return answer.body.decode()


@pytest.mark.meets("9207-2", "9207-2b")
async def test_a_login_is_answered_with_a_code_and_the_name_of_who_answers(
    signed_in: Browser, shop: Relying
) -> None:
    answer = await signed_in.authorize()
    where, carried = answered(answer)
    assert where == CALLBACK
    assert carried.keys() == {"code", "state", "iss"}
    assert (carried["state"], carried["iss"]) == ("st4te", ISSUER)
    assert len(carried["code"]) == 43
    assert answer.header("cache-control") == "no-store"
    assert answer.header("referrer-policy") == "no-referrer"
    assert answer.header("access-control-allow-origin") is None
    assert answer.body == b""


async def test_a_query_of_the_redirect_uri_stays_and_state_is_optional(desk: Any, signed_in: Browser) -> None:
    for uri in (f"{CALLBACK}?from=keyfob&x=1", f"{CALLBACK}?"):
        client_id = f"q{len(uri)}"
        await relying(desk, client_id, redirect_uris=(uri,))
        answer = await signed_in.authorize(asking(client_id, redirect_uri=uri, state=None))
        location = answer.header("location")
        assert location.startswith(uri)
        assert "??" not in location
        assert "?&" not in location
        assert "state=" not in location
        assert "&iss=https%3A%2F%2Fauth.example" in location


@pytest.mark.meets("10.4.1", "OA-04")
@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"client_id": "first-party"},
        {"client_id": "\ufeffshop"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "?x"},
        {"redirect_uri": CALLBACK + "#"},
        {"redirect_uri": "https://shop.example/x/../signed-in"},
        {"redirect_uri": "https://shop.example@evil.example/signed-in"},
        {"redirect_uri": "//shop.example/signed-in"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
async def test_an_unknown_client_or_place_is_told_to_the_person_and_nowhere_else(
    signed_in: Browser, shop: Relying, changes: dict[str, str | None]
) -> None:
    for more in ({}, {"prompt": "none"}, {"scope": "nothing"}):
        text = shown(await signed_in.authorize(asking(**{**changes, **more})))
        assert "evil" not in text
    body = urlencode(asking(**changes)).encode()
    shown(await signed_in.ask("POST", "/oauth/authorize", body=body, headers=FORM))


@pytest.mark.meets("OA-04")
@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
async def test_a_client_or_place_that_is_there_twice_is_none(
    signed_in: Browser, shop: Relying, name: str
) -> None:
    twice = [*asking().items(), (name, asking()[name])]
    shown(await signed_in.authorize(twice))


@pytest.mark.meets("OA-05")
async def test_a_place_is_named_where_there_are_several(desk: Any, signed_in: Browser, shop: Relying) -> None:
    assert answered(await signed_in.authorize(asking(redirect_uri=None)))[0] == CALLBACK
    await relying(desk, "two", redirect_uris=(CALLBACK, "https://shop.example/other"))
    shown(await signed_in.authorize(asking("two", redirect_uri=None)))
    await relying(desk, "none", redirect_uris=(), grant_types=())
    shown(await signed_in.authorize(asking("none", redirect_uri=None)))


@pytest.mark.meets(
    "10.4.6", "10.4.12", "10.6.1", "OA-21", "OA-22", "9700-2.1.1a", "9700-2.1.1f", "9700-2.1.2", "9207-2"
)
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "web_message"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "=" * 43}, "invalid_request"),
        ({"code_challenge": "a" * 44}, "invalid_request"),
        ({"scope": "orders:delete"}, "invalid_scope"),
        ({"scope": "orders:read  orders:write"}, "invalid_scope"),
        ({"scope": "keyfob:admin"}, "invalid_scope"),
        ({"resource": "stock"}, "invalid_target"),
        ({"resource": "orders", "audience": "other"}, "invalid_target"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "whatever"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1.5"}, "invalid_request"),
        ({"nonce": "n" * 256}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://shop.example/request"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"id_token_hint": "x.y.z"}, "invalid_request"),
    ],
)
async def test_any_other_mistake_is_told_to_the_client(
    desk: Any, signed_in: Browser, changes: dict[str, str | None], error: str
) -> None:
    await relying(
        desk, audiences=("orders",), scopes=("orders:read", "orders:write", "keyfob:admin", "keyfob:feed")
    )
    where, carried = answered(await signed_in.authorize(asking(**changes)))
    assert where == CALLBACK
    assert carried.keys() == {"error", "error_description", "state", "iss"}
    assert (carried["error"], carried["state"], carried["iss"]) == (error, "st4te", ISSUER)


@pytest.mark.meets("OA-10")
@pytest.mark.parametrize("name", ["scope", "state", "code_challenge", "nonce", "something"])
async def test_what_is_there_twice_is_refused(signed_in: Browser, shop: Relying, name: str) -> None:
    twice = [*asking(nonce="n", something="else").items(), (name, "orders:write")]
    _, carried = answered(await signed_in.authorize(twice))
    assert carried["error"] == "invalid_request"
    assert carried.get("state") == (None if name == "state" else "st4te")


@pytest.mark.meets("OA-10")
async def test_what_is_unknown_or_empty_counts_for_nothing(signed_in: Browser, shop: Relying) -> None:
    _, carried = answered(await signed_in.authorize(asking(nonce="", display="page", ui_locales="de", x="")))
    assert "code" in carried


@pytest.mark.parametrize("state", ["x" * 1025, "stäte"])
async def test_a_state_that_cannot_be_one_is_not_sent_back(
    signed_in: Browser, shop: Relying, state: str
) -> None:
    _, carried = answered(await signed_in.authorize(asking(state=state)))
    assert carried.keys() == {"error", "error_description", "iss"}


@pytest.mark.meets("9700-4.11.2a")
async def test_a_browser_in_which_nobody_has_signed_in_is_not_bounced_by_a_mistake(
    browser: Browser, shop: Relying
) -> None:
    """O-03, RFC 9700 section 4.11.2: the person sees it first."""
    text = shown(await browser.authorize(asking(scope="<b>")))
    assert "invalid_scope" in text
    assert "<b>" not in text
    assert f'href="{CALLBACK}?error=invalid_scope&amp;' in text
    _, carried = answered(await browser.authorize(asking(scope="nothing", prompt="none")))
    assert carried["error"] == "invalid_scope"


@pytest.mark.meets("10.4.4")
async def test_a_client_that_takes_no_codes_gets_none(desk: Any, signed_in: Browser, shop: Relying) -> None:
    added = await desk.authority.clients.get("shop")
    from dataclasses import replace

    from keyfob.clients.client import GrantType

    odd = replace(added, client_id="odd", grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}))
    desk.authority.store.clients._state.clients["odd"] = odd
    _, carried = answered(await signed_in.authorize(asking("odd")))
    assert carried["error"] == "unauthorized_client"


@pytest.mark.meets("OA-02")
@pytest.mark.parametrize("port", ["", ":1", ":51234"])
async def test_an_app_on_the_device_returns_to_any_port_of_its_own(
    desk: Any, signed_in: Browser, port: str
) -> None:
    await relying(desk, "app", public=True, redirect_uris=("http://127.0.0.1/cb",))
    page = await signed_in.authorize(asking("app", redirect_uri=f"http://127.0.0.1{port}/cb"))
    assert answered(page)[0].endswith("/oauth/consent")
    shown(await signed_in.authorize(asking("app", redirect_uri=f"http://127.0.0.1{port}/other")))
    shown(await signed_in.authorize(asking("app", redirect_uri=f"http://localhost{port}/cb")))


@pytest.mark.meets("9700-4.12")
async def test_a_posted_request_is_kept_and_asked_for_by_get(signed_in: Browser, shop: Relying) -> None:
    """A form of another site brings no cookie of ours: so it must not matter whether it does."""
    body = urlencode(asking()).encode()
    headers = FORM | {"sec-fetch-site": "cross-site", "origin": "https://shop.example"}
    kept = await Browser(signed_in.desk).ask("POST", "/oauth/authorize", body=body, headers=headers)
    path, carried = answered(kept)
    assert (path, carried.keys()) == ("/oauth/resume", {"request"})
    where, carried = answered(await signed_in.get(kept.header("location")))
    assert where == CALLBACK
    assert "code" in carried


@pytest.mark.meets("OA-11", "9700-2.6f")
async def test_no_other_method_and_no_cors(browser: Browser, shop: Relying) -> None:
    """O-53: a script of a page reads no answer of this endpoint."""
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert (await browser.ask(method, "/oauth/authorize")).status == 405
    answer = await browser.authorize(
        headers={"origin": "https://shop.example", "sec-fetch-site": "cross-site"}
    )
    assert not [name for name, _ in answer.headers if name.startswith("access-control")]


NAMES = [*asking(), "prompt", "max_age", "nonce", "resource", "request_uri", "response_mode", "id_token_hint"]


@pytest.mark.meets("9700-2.1b")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=30)), max_size=6))
async def test_whatever_is_sent_goes_to_the_client_or_nowhere(
    signed_in: Browser, shop: Relying, changes: list[tuple[str, str]]
) -> None:
    """O-50: and what is sent back holds nothing that was not escaped."""
    known = [(name, value) for name, value in asking().items() if name not in dict(changes)]
    answer = await signed_in.authorize([*known, *((n, v.encode("utf-8", "ignore")) for n, v in changes)])
    assert answer.status in {303, 400}
    location = answer.header("location")
    if location is not None:
        assert location.startswith((f"{CALLBACK}?", "/oauth/"))
        assert location.isascii()
        assert not set(location) & set(' "<>\\^`{|}\r\n')
