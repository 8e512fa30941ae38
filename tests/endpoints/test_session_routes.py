"""`GET /session`, `/sessions`, `POST /sessions/seen`, `POST /password`: the account routes."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

SESSION = {
    "subject",
    "session_id",
    "client_id",
    "strategy",
    "roles",
    "scopes",
    "audience",
    "auth_time",
    "issued_at",
    "expires_at",
    "csrf_token",
}
DEVICE = {
    "session_id",
    "client_id",
    "strategy",
    "created_at",
    "last_seen_at",
    "user_agent",
    "address",
    "current",
}


@pytest.mark.parametrize("strategy", ["session", "jwt", "hybrid"])
async def test_a_session_is_shown_for_any_credential(desk, strategy: str) -> None:
    account = await desk.user(roles=("buyer", "auditor"))
    login = (await desk.login(strategy=strategy, transport="body")).json()
    token = login.get("access_token") or login["session_token"]
    answer = await desk.ask("GET", "/session", bearer=token)
    body = answer.json()
    assert (answer.status, set(body)) == (200, SESSION)
    assert body["subject"] == account.subject
    assert body["session_id"] == login["session_id"]
    assert body["client_id"] == "first-party"
    assert body["strategy"] == strategy
    assert body["roles"] == ["auditor", "buyer"]
    assert body["csrf_token"] == login["csrf_token"]
    assert all(
        datetime.fromisoformat(body[name]).utcoffset() == timedelta(0)
        for name in ("auth_time", "issued_at", "expires_at")
    )
    assert answer.header("cache-control") == "no-store"


async def test_a_cookie_and_a_token_at_once_are_refused(desk) -> None:
    await desk.user()
    cookie, token = await desk.cookie(), await desk.access_token()
    for path in ("/session", "/sessions", "/check"):
        answer = await desk.ask(
            "GET", path, cookie=cookie, bearer=token, headers={"x-forwarded-method": "GET"}
        )
        assert (answer.status, answer.code) == (401, "malformed")


async def test_a_refresh_cookie_beside_a_token_is_not_in_the_way(desk) -> None:
    await desk.user()
    login = await desk.login(strategy="hybrid")
    cookie = f"__Host-refresh={login.cookies()['__Host-refresh']}"
    assert (
        await desk.ask("GET", "/session", cookie=cookie, bearer=login.json()["access_token"])
    ).status == 200


@pytest.mark.meets("OA-32")
@pytest.mark.parametrize("path", ["/session", "/sessions", "/check"])
async def test_without_a_credential_there_is_a_challenge(desk, path: str) -> None:
    answer = await desk.ask("GET", path)
    assert (answer.status, answer.code, answer.json()["next"]) == (401, "no_credential", "login")
    assert answer.header("www-authenticate") == 'Bearer realm="keyfob"'
    assert answer.header("x-auth-cause") == "no_credential"


@pytest.mark.parametrize(
    ("strategy", "next_"), [("jwt", "login"), ("hybrid", "refresh")], ids=["jwt", "hybrid"]
)
async def test_next_is_refresh_only_where_there_is_one(desk, strategy: str, next_: str) -> None:
    account = await desk.user(roles=("buyer",))
    token = await desk.access_token(strategy=strategy)
    await desk.authority.set_roles(account.subject, [])
    stale = await desk.ask("GET", "/session", bearer=token)
    assert (stale.code, stale.json()["next"]) == ("stale_claims", next_)
    token = await desk.access_token(strategy=strategy)
    await desk.advance(3600)
    expired = await desk.ask("GET", "/session", bearer=token)
    assert (expired.code, expired.json()["next"]) == ("expired", next_)
    assert 'error="invalid_token"' in expired.header("www-authenticate")


async def test_a_session_that_is_over_says_how(desk) -> None:
    account = await desk.user()
    idle = await desk.cookie()
    await desk.advance(31 * 60)
    assert (await desk.ask("GET", "/session", cookie=idle)).json()["next"] == "login"
    assert (await desk.ask("GET", "/session", cookie=idle)).code == "idle"
    ended = await desk.cookie()
    await desk.authority.revoke("subject", account.subject)
    assert (await desk.ask("GET", "/session", cookie=ended)).code == "revoked"


async def test_every_tampered_character_of_a_session_cookie_is_refused(desk) -> None:
    await desk.user()
    cookie = await desk.cookie()
    name, _, token = cookie.partition("=")
    for index in range(len(token)):
        tampered = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        assert (await desk.ask("GET", "/session", cookie=f"{name}={tampered}")).status == 401
    assert (await desk.ask("GET", "/session", cookie=cookie)).status == 200


async def test_every_tampered_character_of_an_access_token_is_refused(desk) -> None:
    await desk.user()
    token = await desk.access_token()
    for index in range(len(token)):
        tampered = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        assert (await desk.ask("GET", "/session", bearer=tampered)).status == 401


# Devices


async def test_devices_are_the_callers_own(desk) -> None:
    await desk.user()
    await desk.user("bob")
    mine = await desk.cookie()
    await desk.cookie(strategy="hybrid")
    await desk.cookie("bob")
    answer = await desk.ask("GET", "/sessions", cookie=mine)
    body = answer.json()
    assert set(body) == {"sessions", "next"}
    assert len(body["sessions"]) == 2
    assert all(set(device) == DEVICE for device in body["sessions"])
    assert [device["current"] for device in body["sessions"]].count(True) == 1
    assert body["next"] is None


async def test_devices_come_in_pages(desk) -> None:
    await desk.user()
    for _ in range(5):
        cookie = await desk.cookie()
        desk.clock.advance(1)
    seen, after = [], ""
    for size in (2, 2, 1):
        body = (await desk.ask("GET", f"/sessions?limit=2{after}", cookie=cookie)).json()
        assert len(body["sessions"]) == size
        seen += [device["session_id"] for device in body["sessions"]]
        after = f"&after={body['next']}"
    assert body["next"] is None
    assert len(set(seen)) == 5


@pytest.mark.meets("OA-34")
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=1&limit=1", "page=2", "after=%ff"]
)
async def test_another_query_is_refused(desk, query: str) -> None:
    await desk.user()
    cookie = await desk.cookie()
    assert (await desk.ask("GET", f"/sessions?{query}", cookie=cookie)).status == 400


@pytest.mark.parametrize("after", ["garbage", "0", "-1", "%F0%9F%92%A9", "A" * 500])
async def test_a_cursor_that_is_none_of_ours_is_no_fault(desk, after: str) -> None:
    await desk.user()
    cookie = await desk.cookie()
    assert (await desk.ask("GET", f"/sessions?after={after}", cookie=cookie)).status in {200, 400, 422}


@pytest.mark.meets("10.4.9")
async def test_a_device_is_ended(desk) -> None:
    await desk.user()
    mine, other = await desk.login(), await desk.login()
    cookie = f"__Host-session={mine.cookies()['__Host-session']}"
    path = f"/sessions/{other.json()['session_id']}"
    answer = await desk.ask("DELETE", path, cookie=cookie)
    assert (answer.status, answer.body, answer.all("set-cookie")) == (204, b"", [])
    lost = f"__Host-session={other.cookies()['__Host-session']}"
    assert (await desk.ask("GET", "/session", cookie=lost)).code == "revoked"
    own = await desk.ask("DELETE", f"/sessions/{mine.json()['session_id']}", cookie=cookie)
    assert own.cleared() == {"__Host-session"}


async def test_anothers_device_looks_like_none(desk) -> None:
    """S-24."""
    await desk.user()
    await desk.user("bob")
    cookie = await desk.cookie()
    strangers = (await desk.login("bob")).json()["session_id"]
    before = await desk.position()
    answers = [
        await desk.ask("DELETE", f"/sessions/{session_id}", cookie=cookie)
        for session_id in (strangers, "0" * 32, "x", "0" * 31, "..", "%00")
    ]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body for answer in answers}) == 1
    assert await desk.position() == before


async def test_another_origin_ends_no_device(desk) -> None:
    await desk.user()
    login = await desk.login()
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    path = f"/sessions/{login.json()['session_id']}"
    assert (
        await desk.ask("DELETE", path, cookie=cookie, headers={"origin": "https://evil.example"})
    ).status == 403
    assert (await desk.ask("DELETE", path, cookie=cookie, own_page=False)).code == "cross_origin"
    headers = {"x-csrf-token": login.json()["csrf_token"]}
    assert (await desk.ask("DELETE", path, cookie=cookie, own_page=False, headers=headers)).status == 204


async def test_account_routes_take_the_cookie_or_a_token_for_the_authority(desk) -> None:
    await desk.user()
    cookie = await desk.cookie(audience="orders")
    assert (await desk.ask("GET", "/sessions", cookie=cookie)).status == 200
    token = await desk.access_token(audience="orders")
    assert (await desk.ask("GET", "/sessions", bearer=token)).code == "wrong_audience"
    token = await desk.access_token(audience=["orders", "https://auth.example"])
    assert (await desk.ask("GET", "/sessions", bearer=token)).status == 200


# Activity


async def test_a_session_that_is_used_at_a_service_does_not_idle_out(desk) -> None:
    await desk.user()
    login = await desk.login()
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    service = await desk.client("orders", "keyfob:introspect")
    for _ in range(3):
        desk.clock.advance(20 * 60)
        report = {
            "sessions": [{"session_id": login.json()["session_id"], "at": desk.clock.now().isoformat()}]
        }
        answer = await desk.ask("POST", "/sessions/seen", basic=service, json_body=report, own_page=False)
        assert (answer.status, answer.body) == (204, b"")
    await desk.authority.feed.beat()
    assert (await desk.ask("GET", "/session", cookie=cookie)).status == 200


async def test_a_report_from_the_future_does_not_keep_a_session_alive(desk) -> None:
    await desk.user()
    login = await desk.login()
    service = await desk.client("orders", "keyfob:feed")
    at = (desk.clock.now() + timedelta(minutes=20)).isoformat()
    report = {"sessions": [{"session_id": login.json()["session_id"], "at": at}]}
    assert (await desk.ask("POST", "/sessions/seen", basic=service, json_body=report)).status == 204
    await desk.advance(31 * 60)
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    assert (await desk.ask("GET", "/session", cookie=cookie)).code == "idle"


async def test_a_report_neither_revives_nor_tells(desk) -> None:
    await desk.user()
    login = await desk.login()
    service = await desk.client("orders", "keyfob:introspect")
    await desk.authority.revoke("session", login.json()["session_id"])
    now = desk.clock.now().isoformat()
    report = {"sessions": [{"session_id": one, "at": now} for one in (login.json()["session_id"], "0" * 32)]}
    assert (await desk.ask("POST", "/sessions/seen", basic=service, json_body=report)).status == 204
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    assert (await desk.ask("GET", "/session", cookie=cookie)).code == "revoked"


@pytest.mark.parametrize(("count", "status"), [(499, 204), (500, 204), (501, 422)])
async def test_a_report_has_a_largest_size(desk, count: int, status: int) -> None:
    service = await desk.client("orders", "keyfob:introspect")
    at = "2026-01-01T12:00:00.123456+00:00"
    report = {"sessions": [{"session_id": f"{n:032x}", "at": at} for n in range(count)]}
    assert (await desk.ask("POST", "/sessions/seen", basic=service, json_body=report)).status == status


@pytest.mark.parametrize(
    "session",
    [
        {"session_id": "x", "at": "2026-01-01T00:00:00Z"},
        {"session_id": "0" * 32 + "\n", "at": "2026-01-01T00:00:00Z"},
        {"session_id": "0" * 32, "at": "2026-01-01T00:00:00"},
        {"session_id": "0" * 32, "at": 5},
    ],
)
async def test_a_report_of_another_shape_is_refused(desk, session) -> None:
    service = await desk.client("orders", "keyfob:introspect")
    answer = await desk.ask("POST", "/sessions/seen", basic=service, json_body={"sessions": [session]})
    assert answer.status == 422


async def test_only_clients_with_the_scope_report(desk) -> None:
    await desk.user()
    nobody = await desk.client("nobody")
    report = {"sessions": []}
    wrong = await desk.ask("POST", "/sessions/seen", basic=("nobody", "wrong"), json_body=report)
    assert (wrong.status, wrong.code) == (401, "bad_credentials")
    assert wrong.header("www-authenticate").startswith("Basic ")
    assert (
        await desk.ask("POST", "/sessions/seen", basic=nobody, json_body=report)
    ).code == "insufficient_scope"
    assert (await desk.ask("POST", "/sessions/seen", json_body=report)).code == "no_credential"


# Password


@pytest.mark.meets("9700-4.14.2e")
async def test_a_new_password_ends_the_others_and_renews_ones_own(desk) -> None:
    await desk.user()
    mine, other = await desk.login(), await desk.cookie()
    cookie = f"__Host-session={mine.cookies()['__Host-session']}"
    token = await desk.access_token()
    answer = await desk.ask(
        "POST",
        "/password",
        cookie=cookie,
        json_body={"current": "correct horse battery", "new": "staple of the horse"},
    )
    body = answer.json()
    assert (answer.status, set(body)) == (
        200,
        {"strategy", "subject", "session_id", "expires_at", "csrf_token"},
    )
    assert body["session_id"] == mine.json()["session_id"]
    fresh = f"__Host-session={answer.cookies()['__Host-session']}"
    assert fresh != cookie
    assert (await desk.ask("GET", "/session", cookie=fresh)).status == 200
    assert (await desk.ask("GET", "/session", cookie=other)).code == "revoked"
    assert (await desk.ask("GET", "/session", bearer=token)).code == "revoked"
    old = {"username": "alice", "password": "correct horse battery"}
    assert (await desk.ask("POST", "/login", json_body=old)).code == "bad_credentials"
    new = {"username": "alice", "password": "staple of the horse"}
    assert (await desk.ask("POST", "/login", json_body=new)).status == 200


@pytest.mark.parametrize("strategy", ["jwt", "hybrid"])
async def test_a_bearer_gets_its_new_credentials_in_the_body(desk, strategy: str) -> None:
    await desk.user()
    token = await desk.access_token(strategy=strategy)
    answer = await desk.ask(
        "POST",
        "/password",
        bearer=token,
        json_body={"current": "correct horse battery", "new": "staple of the horse"},
    )
    assert answer.status == 200
    assert not answer.all("set-cookie")
    assert (await desk.ask("GET", "/session", bearer=answer.json()["access_token"])).status == 200
    assert (await desk.ask("GET", "/session", bearer=token)).status == 401


async def test_a_new_password_puts_the_refresh_token_of_a_browser_into_its_cookie(desk) -> None:
    await desk.user()
    mine = await desk.login(strategy="hybrid")
    cookie = f"__Host-refresh={mine.cookies()['__Host-refresh']}"
    answer = await desk.ask(
        "POST",
        "/password",
        bearer=mine.json()["access_token"],
        cookie=cookie,
        json_body={"current": "correct horse battery", "new": "staple of the horse"},
    )
    assert answer.status == 200
    assert "refresh_token" not in answer.json()
    fresh = f"__Host-refresh={answer.cookies()['__Host-refresh']}"
    assert (await desk.ask("POST", "/refresh", cookie=fresh)).status == 200
    assert (await desk.ask("POST", "/refresh", cookie=cookie)).status == 401


async def test_a_new_password_leaves_the_refresh_cookie_of_another_session_alone(desk) -> None:
    await desk.user()
    await desk.user("bob")
    mine = await desk.login(strategy="hybrid", transport="body")
    bobs = (await desk.login("bob", strategy="hybrid")).cookies()["__Host-refresh"]
    for number, cookie in enumerate((bobs, "nonsense", bobs[:-1])):
        answer = await desk.ask(
            "POST",
            "/password",
            bearer=mine.json()["access_token"],
            cookie=f"__Host-refresh={cookie}",
            json_body={
                "current": f"staple of the horse {number - 1}" if number else "correct horse battery",
                "new": f"staple of the horse {number}",
            },
        )
        assert answer.status == 200
        assert not answer.all("set-cookie")
        mine = answer


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"current": "wrong password", "new": "staple of the horse"}, 401, "bad_credentials"),
        ({"current": "correct horse battery", "new": "short"}, 422, None),
        ({"current": "correct horse battery"}, 422, "invalid_request"),
        ({"current": "correct horse battery", "new": "x" * 2000}, 422, "invalid_request"),
    ],
)
async def test_a_password_that_is_refused_changes_nothing(desk, body, status: int, code: str | None) -> None:
    await desk.user()
    cookie = await desk.cookie()
    before = await desk.position()
    answer = await desk.ask("POST", "/password", cookie=cookie, json_body=body)
    assert answer.status == status
    assert code is None or answer.code == code
    assert await desk.position() == before
    assert (await desk.ask("GET", "/session", cookie=cookie)).status == 200


async def test_another_origin_changes_no_password(desk) -> None:
    await desk.user()
    login = await desk.login()
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    body = {"current": "correct horse battery", "new": "staple of the horse"}
    refused = await desk.ask(
        "POST", "/password", cookie=cookie, json_body=body, headers={"sec-fetch-site": "same-site"}
    )
    assert refused.code == "cross_origin"
    assert (
        await desk.ask("POST", "/password", cookie=cookie, json_body=body, own_page=False)
    ).code == "cross_origin"
    body["csrf_token"] = login.json()["csrf_token"]
    assert (await desk.ask("POST", "/password", cookie=cookie, json_body=body, own_page=False)).status == 200
