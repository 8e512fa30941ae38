"""Scripts of other origins: those on a client's list may read what is for that client, exactly, and without the browser's credentials."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from keyfob.endpoints.table import routes

from .journeys import FORM, Browser, Relying, relying

PAGE = "https://app.example"
OTHER_PAGE = "https://other.example:8443"
WRONG = (
    "https://app.example.evil.example",
    "https://evil-app.example",
    "https://APP.example",
    "http://app.example",
    "https://app.example:443",
    "https://app.example/",
    "https://app.example, https://evil.example",
    "https://sub.app.example",
    "null",
    "*",
    "",
)


@pytest.fixture
async def page(desk: Any) -> Relying:
    await relying(desk, "elsewhere", cors_origins=(OTHER_PAGE,))
    return await relying(desk, "page", public=True, cors_origins=(PAGE, "http://localhost:5173"))


def shown_to(answer: Any) -> str | None:
    assert answer.all("access-control-allow-credentials") == []
    assert "Origin" in answer.all("vary")
    allowed: str | None = answer.header("access-control-allow-origin")
    assert allowed != "*"
    return allowed


async def ask(desk: Any, origin: str, **fields: str) -> Any:
    return await desk.ask(
        "POST", "/oauth/token", body=urlencode(fields).encode(), headers=FORM | {"origin": origin}
    )


async def preflight(desk: Any, path: str, origin: str, method: str = "POST") -> Any:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type",
    }
    return await desk.ask("OPTIONS", path, headers=headers, own_page=False)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/oauth/token", "POST"),
        ("/oauth/device_authorization", "POST"),
        ("/oauth/userinfo", "GET, POST"),
    ],
)
async def test_a_preflight_is_granted_to_an_origin_of_a_list(
    desk: Any, page: Relying, path: str, methods: str
) -> None:
    answer = await preflight(desk, path, PAGE)
    assert (answer.status, shown_to(answer), answer.body) == (204, PAGE, b"")
    assert answer.header("access-control-allow-methods") == methods
    assert answer.header("access-control-allow-headers") == "authorization, content-type"
    assert answer.header("access-control-max-age") == "600"
    assert shown_to(await preflight(desk, path, OTHER_PAGE)) == OTHER_PAGE


@pytest.mark.parametrize("origin", WRONG)
async def test_any_other_origin_reads_nothing(desk: Any, page: Relying, origin: str) -> None:
    refused = await preflight(desk, "/oauth/token", origin)
    assert (refused.status, shown_to(refused)) == (204, None)
    assert refused.all("access-control-allow-methods") == []
    answer = await ask(desk, origin, client_id="page", grant_type="refresh_token", refresh_token="x")
    assert shown_to(answer) is None


@pytest.mark.meets("9700-2.6f", "7009-2.3")
async def test_an_answer_is_shown_to_the_origins_of_the_client_that_asks(
    desk: Any, signed_in: Browser, page: Relying
) -> None:
    code = await signed_in.code(
        {
            "client_id": "page",
            "response_type": "code",
            "redirect_uri": "https://shop.example/signed-in",
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
        }
    )
    fields = {
        "client_id": "page",
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": "https://shop.example/signed-in",
        "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    }
    answer = await ask(desk, PAGE, **fields)
    assert (answer.status, shown_to(answer)) == (200, PAGE)
    assert answer.header("access-control-expose-headers") == "www-authenticate, retry-after"


async def test_refusals_are_shown_too(desk: Any, page: Relying) -> None:
    answer = await ask(desk, PAGE, client_id="page", grant_type="nonsense")
    assert (answer.status, shown_to(answer)) == (400, PAGE)
    huge = await ask(desk, PAGE, client_id="page", grant_type="x" * 70_000)
    assert (huge.status, shown_to(huge)) == (413, None)


async def test_the_list_of_one_client_is_none_of_another(desk: Any, page: Relying) -> None:
    for origin, client_id in ((OTHER_PAGE, "page"), (PAGE, "elsewhere"), (PAGE, "nobody"), (PAGE, "")):
        assert shown_to(await ask(desk, origin, client_id=client_id, grant_type="refresh_token")) is None
    basic = await desk.ask(
        "POST",
        "/oauth/token",
        body=b"grant_type=client_credentials",
        headers=FORM | {"origin": OTHER_PAGE},
        basic=("elsewhere", "kfc_wrong"),
    )
    assert (basic.status, shown_to(basic)) == (401, OTHER_PAGE)


async def test_two_origins_are_none(desk: Any, page: Relying) -> None:
    headers = [
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"origin", PAGE.encode()),
        (b"origin", OTHER_PAGE.encode()),
    ]
    answer = await desk.ask("POST", "/oauth/token", body=b"client_id=page", headers=headers)
    assert shown_to(answer) is None


async def test_without_an_origin_the_answer_still_varies(desk: Any, page: Relying) -> None:
    answer = await page.post("/oauth/token", grant_type="nonsense")
    assert shown_to(answer) is None


async def test_a_deleted_client_opens_nothing(desk: Any, page: Relying) -> None:
    await desk.authority.clients.delete("page", actor="tester")
    assert shown_to(await preflight(desk, "/oauth/token", PAGE)) is None


async def test_claims_about_a_person_are_shown_to_origins_of_a_list(desk: Any, page: Relying) -> None:
    for origin, allowed in ((PAGE, PAGE), ("https://evil.example", None)):
        answer = await desk.ask("GET", "/oauth/userinfo", headers={"origin": origin}, own_page=False)
        assert (answer.status, shown_to(answer)) == (401, allowed)


async def test_documents_for_all_are_for_all_and_take_no_credentials(desk: Any) -> None:
    for path in ("/.well-known/jwks.json", "/.well-known/openid-configuration"):
        answer = await desk.ask("GET", path, headers={"origin": "https://anywhere.example"}, own_page=False)
        assert answer.header("access-control-allow-origin") == "*"
        assert answer.all("access-control-allow-credentials") == []


@pytest.mark.meets("OA-11")
async def test_pages_and_sessions_are_open_to_no_script_of_others(desk: Any, page: Relying) -> None:
    """O-53."""
    for route in routes():
        if "{" in route.path or route.method not in {"GET", "POST"} or route.finish is not None:
            continue
        answer = await desk.ask(
            route.method, route.path, headers={"origin": PAGE}, query=b"x=1", own_page=False
        )
        assert answer.all("access-control-allow-origin") in ([], ["*"]), route.path
        assert answer.all("access-control-allow-credentials") == []
    for path in ("/oauth/authorize", "/oauth/sign-in", "/oauth/consent", "/device", "/login", "/session"):
        assert (await preflight(desk, path, PAGE)).status == 405
