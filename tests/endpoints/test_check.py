"""`/check`: what a proxy is told, and what it can ask for."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

IDENTITY = {"x-auth-subject", "x-auth-session", "x-auth-roles", "x-auth-scopes"}
GET = {"x-forwarded-method": "GET"}


async def test_a_good_request_is_204_with_who_it_is(desk) -> None:
    account = await desk.user(roles=("buyer", "auditor"))
    login = await desk.login()
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    answer = await desk.ask("GET", "/check", cookie=cookie, headers=GET)
    assert (answer.status, answer.body) == (204, b"")
    assert set(dict(answer.headers)) == IDENTITY | {"cache-control"}
    assert answer.header("x-auth-subject") == account.subject
    assert answer.header("x-auth-session") == login.json()["session_id"]
    assert answer.header("x-auth-roles") == "auditor buyer"
    assert answer.header("x-auth-scopes") == ""
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/check", "/check/", "/check/a/b", "/check/%ff", "/check/x.css"])
async def test_any_method_and_any_path_below_are_taken(desk, method: str, path: str) -> None:
    await desk.user()
    token = await desk.access_token()
    assert (await desk.ask(method, path, bearer=token, own_page=False)).status == 204


async def test_all_four_headers_are_there_even_when_empty(desk) -> None:
    """One that is left out might leave standing what the client sent."""
    client = await desk.client("machine")
    del client
    issued = await desk.authority.login("service account", strategy="jwt", audience="orders")
    answer = await desk.ask("GET", "/check", bearer=issued.access_token)
    assert set(dict(answer.headers)) >= IDENTITY
    assert answer.header("x-auth-roles") == ""
    assert answer.header("x-auth-subject") == "service%20account"


@pytest.mark.parametrize("name", ["zoë", "a%20b", "two words", "x:y/z", "日本", 'q"uote', "\U0001f511"])
async def test_whatever_is_not_visible_ascii_is_percent_encoded(desk, name: str) -> None:
    role = name.replace(" ", "_")
    issued = await desk.authority.login(name, strategy="jwt", roles=[role])
    answer = await desk.ask("GET", "/check", bearer=issued.access_token)
    safe = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
    assert answer.header("x-auth-subject") == quote(name, safe=safe)
    assert answer.header("x-auth-roles") == quote(role, safe=safe)


async def test_a_change_of_roles_is_told_at_once(desk) -> None:
    account = await desk.user(roles=("buyer",))
    cookie = await desk.cookie()
    assert (await desk.ask("GET", "/check", cookie=cookie, headers=GET)).header("x-auth-roles") == "buyer"
    await desk.authority.set_roles(account.subject, ["auditor"])
    assert (await desk.ask("GET", "/check", cookie=cookie, headers=GET)).header("x-auth-roles") == "auditor"


async def test_a_revocation_is_honoured_by_the_next_check(desk) -> None:
    account = await desk.user()
    cookie, token = await desk.cookie(), await desk.access_token()
    for _ in range(2):
        assert (await desk.ask("GET", "/check", cookie=cookie, headers=GET)).status == 204
        assert (await desk.ask("GET", "/check", bearer=token)).status == 204
    await desk.authority.revoke("subject", account.subject)
    for credential in ({"cookie": cookie, "headers": GET}, {"bearer": token}):
        answer = await desk.ask("GET", "/check", **credential)
        assert (answer.status, answer.header("x-auth-cause")) == (401, "revoked")
        assert not IDENTITY & set(dict(answer.headers))


@pytest.mark.meets("10.3.2", "OA-31", "9700-2.3c")
@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("role=buyer", 204, None),
        ("role=buyer&role=auditor", 204, None),
        ("role=buyer&role=admin", 403, "insufficient_role"),
        ("role=Buyer", 403, "insufficient_role"),
        ("scope=orders:read", 403, "insufficient_scope"),
        ("role=buyer&max_auth_age=300", 204, None),
        ("max_staleness=5", 204, None),
        ("max_staleness=0", 204, None),
        ("", 204, None),
        ("rol=buyer", 400, "invalid_request"),
        ("role=", 400, "invalid_request"),
        ("scope=", 400, "invalid_request"),
        ("scope=a%20b", 400, "invalid_request"),
        ("scope=%22", 400, "invalid_request"),
        ("role=%ff", 400, "invalid_request"),
        ("role=%", 400, "invalid_request"),
        ("max_auth_age=-1", 400, "invalid_request"),
        ("max_auth_age=x", 400, "invalid_request"),
        ("max_auth_age=1&max_auth_age=9", 400, "invalid_request"),
        ("max_staleness=", 400, "invalid_request"),
        ("max_staleness=99999999999", 400, "invalid_request"),
    ],
)
async def test_the_query_states_the_policy_of_the_route(
    desk, query: str, status: int, code: str | None
) -> None:
    await desk.user(roles=("buyer", "auditor"))
    token = await desk.access_token()
    for _ in range(2):  # the second time from memory
        answer = await desk.ask("GET", f"/check?{query}", bearer=token)
        assert answer.status == status
        assert answer.header("x-auth-cause") == code


async def test_below_check_the_query_is_the_original_requests(desk) -> None:
    await desk.user(roles=("buyer",))
    token = await desk.access_token()
    assert (await desk.ask("GET", "/check/shop?q=shoes&page=2", bearer=token)).status == 204
    assert (await desk.ask("GET", "/check/shop?q=shoes&role=admin", bearer=token)).code == "insufficient_role"
    assert (await desk.ask("GET", "/check?q=shoes", bearer=token)).status == 400


@pytest.mark.meets("10.3.4")
@pytest.mark.parametrize(("age", "status"), [(299, 204), (300, 204), (301, 401)])
async def test_a_login_has_an_oldest_age(desk, age: int, status: int) -> None:
    await desk.user()
    token = await desk.access_token()
    await desk.advance(age)
    answer = await desk.ask("GET", "/check?max_auth_age=300", bearer=token)
    assert answer.status == status
    assert answer.header("x-auth-cause") == (None if status == 204 else "reauthentication_required")


@pytest.mark.parametrize(("behind", "status"), [(2, 204), (3, 204), (4, 503)])
async def test_staleness_has_a_bound(desk, behind: int, status: int, monkeypatch) -> None:
    await desk.user()
    token = await desk.access_token()
    monkeypatch.setattr(desk.authority.feed, "staleness", lambda: float(behind))
    answer = await desk.ask("GET", "/check?max_staleness=3", bearer=token)
    assert answer.status == status
    if status == 503:
        assert (answer.code, answer.json()["next"], answer.header("retry-after")) == (
            "verifier_stale",
            "retry",
            "1",
        )


METHODS: list[tuple[dict[str, str], bool]] = [
    ({"x-forwarded-method": "GET"}, True),
    ({"x-original-method": "HEAD"}, True),
    ({"x-forwarded-method": "OPTIONS", "x-original-method": "OPTIONS"}, True),
    ({}, False),
    ({"x-forwarded-method": "POST"}, False),
    ({"x-forwarded-method": "get"}, False),
    ({"x-forwarded-method": ""}, False),
    ({"x-forwarded-method": "GET", "x-original-method": "POST"}, False),
    ({"x-forwarded-method": "GET, POST"}, False),
]


@pytest.mark.parametrize(("headers", "safe"), METHODS)
async def test_with_a_cookie_the_guard_looks_at_the_original_method(desk, headers, safe: bool) -> None:
    await desk.user()
    login = await desk.login()
    cookie = f"__Host-session={login.cookies()['__Host-session']}"

    async def status(**more: str) -> int:
        sent = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        answer = await desk.ask("GET", "/check", cookie=cookie, headers=sent, own_page=False)
        assert answer.status in {204, 403}
        assert answer.status == 204 or answer.code == "cross_origin"
        return answer.status

    refused = 204 if safe else 403
    assert await status() == refused
    assert await status(x_csrf_token="wrong") == refused
    assert await status(sec_fetch_site="cross-site") == refused
    assert await status(sec_fetch_site="same-site") == refused
    assert await status(origin="https://evil.example") == refused
    assert await status(origin="null") == refused
    assert await status(sec_fetch_site="same-origin") == 204
    assert await status(origin="https://auth.example") == 204
    assert await status(x_csrf_token=login.json()["csrf_token"]) == 204


async def test_a_method_named_twice_is_unsafe(desk) -> None:
    await desk.user()
    cookie = await desk.cookie()
    headers = [(b"x-forwarded-method", b"GET"), (b"x-forwarded-method", b"POST")]
    assert (await desk.ask("GET", "/check", cookie=cookie, headers=headers, own_page=False)).status == 403


async def test_a_method_override_is_ignored(desk) -> None:
    """C-13."""
    await desk.user()
    cookie = await desk.cookie()
    headers = {"x-http-method-override": "GET", "x-http-method": "GET"}
    assert (
        await desk.ask("POST", "/check?_method=GET", cookie=cookie, headers=headers, own_page=False)
    ).status == 403


async def test_a_bearer_needs_no_guard(desk) -> None:
    await desk.user()
    token = await desk.access_token()
    headers = {"origin": "https://spa.example", "sec-fetch-site": "cross-site", "x-forwarded-method": "POST"}
    assert (await desk.ask("GET", "/check", bearer=token, headers=headers)).status == 204


async def test_other_cookies_and_headers_are_not_in_the_way(desk) -> None:
    await desk.user()
    token = await desk.access_token()
    assert (await desk.ask("GET", "/check", bearer=token, cookie="a=1; __Host-refresh=x; b=é")).status == 204


# Minting


async def minted(desk, query: str, proxy: tuple[str, str] | None, **credential):
    import base64

    headers = dict(GET)
    if proxy is not None:
        headers["x-keyfob-proxy"] = "Basic " + base64.b64encode(":".join(proxy).encode()).decode()
    return await desk.ask("GET", f"/check?{query}", headers=headers, **credential)


async def test_a_proxy_gets_an_access_token_for_the_upstream(desk) -> None:
    account = await desk.user(roles=("buyer",))
    login = await desk.login(strategy="hybrid", transport="bff")
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    proxy = await desk.client("proxy", "keyfob:check", audiences=("orders",))
    answer = await minted(desk, "mint=orders", proxy, cookie=cookie)
    assert answer.status == 204
    assert set(dict(answer.headers)) == IDENTITY | {"cache-control", "authorization"}
    scheme, _, token = answer.header("authorization").partition(" ")
    assert scheme == "Bearer"
    principal = await desk.authority.authenticate(token, audience="orders")
    assert (principal.subject, principal.roles, principal.audience) == (
        account.subject,
        {"buyer"},
        ("orders",),
    )
    assert principal.session_id == login.json()["session_id"]
    await desk.ask("POST", "/logout", cookie=cookie)
    assert (await desk.ask("GET", "/session", bearer=token)).code == "revoked"


async def test_nobody_else_gets_one(desk) -> None:
    await desk.user()
    cookie = await desk.cookie()
    proxy = await desk.client("proxy", "keyfob:check", audiences=("orders",))
    feed = await desk.client("feed", "keyfob:feed", audiences=("orders",))
    anything = await desk.client("anything", "keyfob:check")
    for caller, query, status, code in (
        (None, "mint=orders", 403, "insufficient_scope"),
        (("proxy", "wrong"), "mint=orders", 401, "bad_credentials"),
        (("nobody", "x"), "mint=orders", 401, "bad_credentials"),
        (feed, "mint=orders", 403, "insufficient_scope"),
        (proxy, "mint=stock", 403, "insufficient_scope"),
        (anything, "mint=orders", 403, "insufficient_scope"),
        (proxy, "mint=orders&mint=orders", 400, "invalid_request"),
        (proxy, "mint=", 400, "invalid_request"),
    ):
        answer = await minted(desk, query, caller, cookie=cookie)
        assert (answer.status, answer.code) == (status, code)
        assert answer.header("authorization") is None


async def test_no_token_is_minted_from_a_credential_that_is_refused(desk) -> None:
    await desk.user()
    proxy = await desk.client("proxy", "keyfob:check", audiences=("orders",))
    cookie = await desk.cookie()
    await desk.ask("POST", "/logout", cookie=cookie)
    answer = await minted(desk, "mint=orders", proxy, cookie=cookie)
    assert (answer.status, answer.header("authorization")) == (401, None)


async def test_what_is_kept_of_one_principal_is_never_told_of_another(desk) -> None:
    await desk.user("alice", roles=("a",))
    await desk.user("bob", roles=("b",))
    cookies = [await desk.cookie("alice"), await desk.cookie("bob")]
    answers = await asyncio.gather(
        *(desk.ask("GET", "/check", cookie=cookies[n % 2], headers=GET) for n in range(40))
    )
    for n, answer in enumerate(answers):
        assert answer.header("x-auth-roles") == "ab"[n % 2]
