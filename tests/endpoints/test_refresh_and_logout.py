"""`POST /refresh` and `POST /logout`: which credential is read where, and what is left afterwards."""

from __future__ import annotations

import pytest

BASE = {
    "strategy",
    "subject",
    "session_id",
    "expires_at",
    "csrf_token",
    "access_token",
    "token_type",
    "expires_in",
}


async def test_a_refresh_answers_like_a_login(desk) -> None:
    await desk.user()
    cookie = await desk.cookie(strategy="hybrid")
    desk.clock.advance(60)
    answer = await desk.ask("POST", "/refresh", cookie=cookie)
    assert (answer.status, set(answer.json())) == (200, BASE)
    assert set(answer.cookies()) == {"__Host-refresh"}
    assert answer.cookies()["__Host-refresh"] not in cookie
    assert answer.header("cache-control") == "no-store"
    assert (await desk.ask("GET", "/session", bearer=answer.json()["access_token"])).status == 200


async def test_a_token_in_the_body_is_answered_in_the_body(desk) -> None:
    await desk.user()
    first = (await desk.login(strategy="hybrid", transport="body")).json()["refresh_token"]
    desk.clock.advance(60)
    answer = await desk.ask("POST", "/refresh", json_body={"refresh_token": first}, own_page=False)
    assert set(answer.json()) == BASE | {"refresh_token"}
    assert not answer.all("set-cookie")
    assert answer.json()["refresh_token"] != first


async def test_a_repeated_refresh_gives_the_same_token(desk) -> None:
    await desk.user()
    cookie = await desk.cookie(strategy="hybrid")
    desk.clock.advance(60)
    answers = [await desk.ask("POST", "/refresh", cookie=cookie) for _ in range(2)]
    assert answers[0].cookies() == answers[1].cookies()


async def test_a_persistent_cookie_stays_persistent_and_never_outlives_the_session(desk) -> None:
    await desk.user()
    cookie = await desk.cookie(strategy="hybrid", persistent=True)
    desk.clock.advance(86_400)
    (value,) = [
        value
        for value in (await desk.ask("POST", "/refresh", cookie=cookie)).all("set-cookie")
        if "Max-Age=0" not in value
    ]
    assert value.endswith(f"Max-Age={29 * 86_400}")


@pytest.mark.meets("9700-4.14.2c")
async def test_a_stolen_refresh_token_that_comes_back_ends_the_session(desk) -> None:
    """R-01."""
    await desk.user()
    stolen = await desk.cookie(strategy="hybrid")
    cookie = stolen
    for _ in range(2):
        desk.clock.advance(60)
        answer = await desk.ask("POST", "/refresh", cookie=cookie)
        cookie = f"__Host-refresh={answer.cookies()['__Host-refresh']}"
    desk.clock.advance(60)
    theft = await desk.ask("POST", "/refresh", cookie=stolen)
    assert (theft.status, theft.code, theft.json()["next"]) == (401, "reused", "login")
    assert not theft.all("set-cookie")
    assert (await desk.ask("POST", "/refresh", cookie=cookie)).code == "revoked"
    assert (await desk.ask("GET", "/session", bearer=answer.json()["access_token"])).code == "revoked"


@pytest.mark.parametrize(
    ("cookie", "body", "code"),
    [
        (None, None, "no_credential"),
        ("__Host-session=x", None, "no_credential"),
        ("__Host-refresh=garbage", None, "malformed"),
        ("__Host-refresh=a; __Host-refresh=b", None, "malformed"),
        (None, {"refresh_token": "garbage"}, "malformed"),
        (None, {"refresh_token": ""}, "malformed"),
        ("__Host-refresh=a", {"refresh_token": "b"}, "malformed"),
    ],
)
async def test_what_is_no_refresh_token_is_refused(desk, cookie, body, code: str) -> None:
    answer = await desk.ask("POST", "/refresh", cookie=cookie, json_body=body)
    assert (answer.status, answer.code, answer.json()["next"]) == (401, code, "login")


async def test_another_kind_of_token_does_not_refresh(desk) -> None:
    """R-23."""
    await desk.user()
    session = (await desk.login(transport="body")).json()["session_token"]
    access = await desk.access_token(strategy="hybrid")
    for token in (session, access, "kfr" + session[3:]):
        assert (await desk.ask("POST", "/refresh", json_body={"refresh_token": token})).code == "malformed"
        assert (await desk.ask("POST", "/refresh", cookie=f"__Host-refresh={token}")).code == "malformed"


async def test_a_refresh_token_opens_nothing_else(desk) -> None:
    await desk.user()
    token = (await desk.login(strategy="hybrid", transport="body")).json()["refresh_token"]
    for path in ("/session", "/sessions", "/check"):
        refused = await desk.ask("GET", path, bearer=token)
        assert refused.status == 401
        refused = await desk.ask(
            "GET", path, cookie=f"__Host-session={token}", headers={"x-forwarded-method": "GET"}
        )
        assert refused.status == 401
        assert (await desk.ask("GET", path, cookie=f"__Host-refresh={token}")).code == "no_credential"


@pytest.mark.meets("OA-35")
async def test_another_origin_cannot_refresh(desk) -> None:
    """R-24, and C-23 for a client that sends neither header."""
    await desk.user()
    login = await desk.login(strategy="hybrid")
    cookie = f"__Host-refresh={login.cookies()['__Host-refresh']}"
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert (await desk.ask("POST", "/refresh", cookie=cookie, headers=headers)).code == "cross_origin"
    assert (await desk.ask("POST", "/refresh", cookie=cookie, own_page=False)).code == "cross_origin"
    csrf = login.json()["csrf_token"]
    answer = await desk.ask("POST", "/refresh", cookie=cookie, own_page=False, headers={"x-csrf-token": csrf})
    assert answer.status == 200
    answer = await desk.ask("POST", "/refresh", cookie=cookie, own_page=False, json_body={"csrf_token": csrf})
    assert answer.status == 200


async def test_a_csrf_token_is_its_own_sessions_alone(desk) -> None:
    """C-10: tokens of another session, tampered ones, and two of them are refused."""
    await desk.user()
    mine, other = await desk.login(strategy="hybrid"), await desk.login(strategy="hybrid")
    cookie = f"__Host-refresh={mine.cookies()['__Host-refresh']}"
    good = mine.json()["csrf_token"]
    bad = [other.json()["csrf_token"], "", " ", good[:-1], good + "A", "x" * 300, "é"]
    bad += [good[:i] + ("A" if good[i] != "A" else "B") + good[i + 1 :] for i in range(len(good))]
    for token in bad:
        headers = [(b"x-csrf-token", token.encode())]
        assert (
            await desk.ask("POST", "/refresh", cookie=cookie, own_page=False, headers=headers)
        ).code == "cross_origin"
    twice = [(b"x-csrf-token", good.encode())] * 2
    body = {"csrf_token": good}
    answer = await desk.ask("POST", "/refresh", cookie=cookie, own_page=False, headers=twice, json_body=body)
    assert answer.code == "cross_origin"


async def test_every_tampered_character_of_a_refresh_cookie_is_refused_and_changes_nothing(desk) -> None:
    await desk.user()
    cookie = await desk.cookie(strategy="hybrid")
    name, _, token = cookie.partition("=")
    for index in range(len(token)):
        tampered = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        answer = await desk.ask("POST", "/refresh", cookie=f"{name}={tampered}")
        assert (answer.status, answer.code) == (401, "malformed")
    assert (await desk.ask("POST", "/refresh", cookie=cookie)).status == 200


# Logout


@pytest.mark.parametrize("strategy", ["session", "hybrid"])
async def test_logging_out_ends_the_session_and_clears_the_browser(desk, strategy: str) -> None:
    await desk.user()
    login = await desk.login(strategy=strategy)
    cookie = "; ".join(f"{key}={value}" for key, value in login.cookies().items())
    answer = await desk.ask("POST", "/logout", cookie=cookie)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.cleared() == {"__Host-session", "__Host-refresh"}
    assert answer.header("clear-site-data") == '"cache", "storage"'
    if strategy == "session":
        assert (await desk.ask("GET", "/session", cookie=cookie)).code == "revoked"
    else:
        assert (await desk.ask("POST", "/refresh", cookie=cookie)).code == "revoked"
        assert (await desk.ask("GET", "/session", bearer=login.json()["access_token"])).code == "revoked"


async def test_an_access_token_logs_out_whatever_its_audience(desk) -> None:
    await desk.user()
    token = await desk.access_token(audience="orders")
    assert (await desk.ask("POST", "/logout", bearer=token, own_page=False)).status == 204
    assert (await desk.ask("GET", "/session", bearer=token)).code == "revoked"


async def test_a_page_with_a_cookie_and_an_expired_access_token_is_logged_out(desk) -> None:
    await desk.user()
    login = await desk.login(strategy="hybrid")
    cookie = f"__Host-refresh={login.cookies()['__Host-refresh']}"
    await desk.advance(3600)
    answer = await desk.ask("POST", "/logout", cookie=cookie, bearer=login.json()["access_token"])
    assert answer.status == 204
    assert (await desk.ask("POST", "/refresh", cookie=cookie)).code == "revoked"


async def test_a_native_client_logs_out_with_its_refresh_token(desk) -> None:
    await desk.user()
    token = (await desk.login(strategy="hybrid", transport="body")).json()["refresh_token"]
    answer = await desk.ask("POST", "/logout", json_body={"refresh_token": token}, own_page=False)
    assert answer.status == 204
    assert (await desk.ask("POST", "/refresh", json_body={"refresh_token": token})).code == "revoked"


@pytest.mark.parametrize("devices", ["this", "others", "all"])
async def test_devices_says_which_sessions_end(desk, devices: str) -> None:
    await desk.user()
    await desk.user("bob")
    mine, other, strangers = await desk.cookie(), await desk.cookie(), await desk.cookie("bob")
    answer = await desk.ask("POST", "/logout", cookie=mine, json_body={"devices": devices})
    assert answer.status == 204
    assert (answer.cleared() == set()) is (devices == "others")
    assert (answer.header("clear-site-data") is None) is (devices == "others")
    standing = [
        (await desk.ask("GET", "/session", cookie=cookie)).status for cookie in (mine, other, strangers)
    ]
    assert standing == {"this": [401, 200, 200], "others": [200, 401, 200], "all": [401, 401, 200]}[devices]


@pytest.mark.parametrize(
    ("cookie", "bearer"),
    [
        (None, None),
        ("__Host-session=garbage", None),
        ("__Host-session=a; __Host-session=b", None),
        ("__Host-refresh=garbage", None),
        (None, "garbage"),
        (None, "a.b.c"),
    ],
)
@pytest.mark.parametrize("devices", ["this", "others", "all"])
@pytest.mark.parametrize("own_page", [True, False])
async def test_an_unknown_or_absent_credential_is_no_error_and_changes_nothing(
    desk, cookie, bearer, devices: str, own_page: bool
) -> None:
    before = await desk.position()
    answer = await desk.ask(
        "POST", "/logout", cookie=cookie, bearer=bearer, json_body={"devices": devices}, own_page=own_page
    )
    assert answer.status == 204
    assert await desk.position() == before


async def test_logging_out_twice_is_once(desk) -> None:
    await desk.user()
    cookie = await desk.cookie()
    for _ in range(2):
        assert (await desk.ask("POST", "/logout", cookie=cookie)).status == 204
    assert await desk.position() == 1


async def test_another_origin_cannot_log_anybody_out(desk) -> None:
    """C-03."""
    await desk.user()
    login = await desk.login()
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert (await desk.ask("POST", "/logout", cookie=cookie, headers=headers)).code == "cross_origin"
    assert (await desk.ask("POST", "/logout", cookie=cookie, own_page=False)).code == "cross_origin"
    assert (await desk.ask("GET", "/logout", cookie=cookie)).status == 405
    assert (await desk.ask("GET", "/session", cookie=cookie)).status == 200
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = f"csrf_token={login.json()['csrf_token']}".encode()
    answer = await desk.ask("POST", "/logout", cookie=cookie, own_page=False, headers=form, body=body)
    assert answer.status == 204
    assert (await desk.ask("GET", "/session", cookie=cookie)).code == "revoked"
