"""`POST /login`: shapes, transports, forms, and what a stranger can find out."""

from __future__ import annotations

from datetime import datetime

import pytest

PASSWORD = "correct horse battery"
BASE = {"strategy", "subject", "session_id", "expires_at", "csrf_token"}
ACCESS = {"access_token", "token_type", "expires_in"}
ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


@pytest.mark.meets("10.1.1")
@pytest.mark.parametrize(
    ("fields", "keys", "cookies"),
    [
        ({}, BASE, {"__Host-session"}),
        ({"strategy": "session"}, BASE, {"__Host-session"}),
        ({"strategy": "jwt"}, BASE | ACCESS, set()),
        ({"strategy": "hybrid"}, BASE | ACCESS, {"__Host-refresh"}),
        ({"strategy": "session", "transport": "body"}, BASE | {"session_token"}, set()),
        ({"strategy": "hybrid", "transport": "body"}, BASE | ACCESS | {"refresh_token"}, set()),
        ({"strategy": "jwt", "transport": "body"}, BASE | ACCESS, set()),
        ({"strategy": "hybrid", "transport": "bff"}, BASE, {"__Host-session"}),
    ],
)
async def test_each_strategy_and_transport_gives_exactly_this(desk, fields, keys, cookies) -> None:
    account = await desk.user()
    answer = await desk.login(**fields)
    body = answer.json()
    assert set(body) == keys
    assert set(answer.cookies()) == cookies
    assert body["strategy"] == fields.get("strategy", "session")
    assert body["subject"] == account.subject
    assert len(body["session_id"]) == 32
    assert datetime.fromisoformat(body["expires_at"]).utcoffset() is not None
    assert body.get("token_type", "Bearer") == "Bearer"
    assert answer.header("cache-control") == "no-store"
    for value in answer.all("set-cookie"):
        if "Max-Age=0" not in value:
            assert value.split("; ", 1)[1] == ATTRIBUTES


async def test_a_cookie_lasts_only_if_asked(desk) -> None:
    await desk.user()
    answer = await desk.login(strategy="hybrid", persistent=True)
    set_ = [value for value in answer.all("set-cookie") if "Max-Age=0" not in value]
    assert set_[0].endswith(f"{ATTRIBUTES}; Max-Age={30 * 86_400}")


async def test_a_login_clears_our_other_cookie(desk) -> None:
    await desk.user()
    assert (await desk.login(strategy="hybrid")).cleared() == {"__Host-session"}
    assert (await desk.login(strategy="session")).cleared() == {"__Host-refresh"}


async def test_a_planted_cookie_is_never_adopted_and_its_session_ends(desk) -> None:
    """S-01, ASVS 7.2.4: the token after a login is fresh, and the one before is dead."""
    await desk.user()
    before = await desk.cookie()
    answer = await desk.ask(
        "POST", "/login", json_body={"username": "alice", "password": PASSWORD}, cookie=before
    )
    after = answer.cookies()["__Host-session"]
    assert after not in before
    assert (await desk.ask("GET", "/session", cookie=before)).code == "revoked"
    assert (await desk.ask("GET", "/session", cookie=f"__Host-session={after}")).status == 200


@pytest.mark.parametrize(
    "cookie", ["__Host-session=garbage", "__Host-session=a; __Host-session=b", '__Host-session="']
)
async def test_a_broken_cookie_does_not_keep_anybody_out(desk, cookie: str) -> None:
    await desk.user()
    answer = await desk.ask(
        "POST", "/login", json_body={"username": "alice", "password": PASSWORD}, cookie=cookie
    )
    assert answer.status == 200


async def test_a_failed_login_leaves_the_session_before_it(desk) -> None:
    await desk.user()
    cookie = await desk.cookie()
    wrong = {"username": "alice", "password": "wrong password"}
    assert (await desk.ask("POST", "/login", json_body=wrong, cookie=cookie)).code == "bad_credentials"
    assert (await desk.ask("GET", "/session", cookie=cookie)).status == 200


async def test_an_unknown_name_a_wrong_password_and_a_disabled_account_look_alike(desk) -> None:
    """X-09."""
    await desk.user()
    disabled = await desk.user("mallory")
    await desk.authority.accounts.disable(disabled.subject, actor="test")
    answers = [
        await desk.ask("POST", "/login", json_body={"username": name, "password": password})
        for name, password in (
            ("alice", "wrong password"),
            ("nobody", PASSWORD),
            ("mallory", PASSWORD),
            ("", "x"),
        )
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert len({tuple(answer.headers) for answer in answers}) == 1
    assert answers[0].code == "bad_credentials"
    assert not answers[0].all("set-cookie")


async def test_too_many_attempts_wait(desk) -> None:
    await desk.user()
    wrong = {"username": "alice", "password": "wrong password"}
    answers = [await desk.ask("POST", "/login", json_body=wrong) for _ in range(7)]
    assert answers[-1].status == 429
    assert answers[-1].code == "rate_limited"
    assert answers[-1].json()["next"] == "retry"
    assert int(answers[-1].header("retry-after")) >= 1


@pytest.mark.parametrize(
    "fields",
    [
        {"username": 1},
        {"password": None},
        {"username": "x" * 256},
        {"password": "x" * 1025},
        {"strategy": "magic"},
        {"transport": "pigeon"},
        {"audience": ""},
        {"audience": []},
        {"audience": ["x"] * 17},
        {"audience": 7},
        {"client_id": ""},
        {"persistent": "yes"},
        {"roles": ["keyfob:admin"]},
        {"scopes": ["keyfob:admin"]},
        {"subject": "root"},
    ],
)
async def test_another_shape_is_refused_before_the_password_is_looked_at(desk, fields) -> None:
    await desk.user()
    body = {"username": "alice", "password": PASSWORD, **fields}
    answer = await desk.ask("POST", "/login", json_body=body)
    assert (answer.status, answer.code) == (422, "invalid_request")


async def test_several_audiences_and_the_default_one(desk) -> None:
    await desk.user()
    token = await desk.access_token(audience=["orders", "stock"])
    assert (await desk.ask("GET", "/session", bearer=token)).json()["audience"] == ["orders", "stock"]
    token = await desk.access_token(audience="orders")
    assert (await desk.ask("GET", "/session", bearer=token)).json()["audience"] == ["orders"]
    token = await desk.access_token()
    assert (await desk.ask("GET", "/session", bearer=token)).json()["audience"] == ["https://auth.example"]


async def test_an_unknown_client_and_a_strategy_that_it_may_not_use_are_refused(desk) -> None:
    await desk.user()
    await desk.client("app")
    for fields in ({"client_id": "nobody"}, {"client_id": "app", "strategy": "session"}):
        answer = await desk.ask(
            "POST", "/login", json_body={"username": "alice", "password": PASSWORD, **fields}
        )
        assert 400 <= answer.status < 500
        assert not answer.all("set-cookie")
    assert (await desk.login(client_id="app")).json()["strategy"] == "hybrid"


async def test_another_origin_cannot_log_anybody_in(desk) -> None:
    """C-02."""
    await desk.user()
    body = {"username": "alice", "password": PASSWORD}
    for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "null"}):
        answer = await desk.ask("POST", "/login", json_body=body, headers=headers)
        assert (answer.status, answer.code) == (403, "cross_origin")
    assert (await desk.ask("POST", "/login", json_body=body, own_page=False)).status == 200


FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.meets("9700-2.1e", "9700-4.12")
@pytest.mark.parametrize(
    ("body", "location", "cookies"),
    [
        (b"username=alice&password=correct+horse+battery", "/", {"__Host-session"}),
        (
            b"username=alice&password=correct+horse+battery&next=/account%3Fa%3Db",
            "/account?a=b",
            {"__Host-session"},
        ),
        (b"username=alice&password=correct+horse+battery&strategy=hybrid", "/", {"__Host-refresh"}),
        (
            b"username=alice&password=correct+horse+battery&strategy=hybrid&transport=bff",
            "/",
            {"__Host-session"},
        ),
        (
            b"username=alice&password=correct+horse+battery&persistent=true&csrf_token=x",
            "/",
            {"__Host-session"},
        ),
    ],
)
async def test_a_form_goes_on_by_303(desk, body: bytes, location: str, cookies: set[str]) -> None:
    await desk.user()
    answer = await desk.ask("POST", "/login", body=body, headers=FORM)
    assert (answer.status, answer.header("location"), answer.body) == (303, location, b"")
    assert set(answer.cookies()) == cookies
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"username=alice&password=correct+horse+battery&next=//evil.example", 422),
        (b"username=alice&password=correct+horse+battery&next=https://evil.example", 422),
        (b"username=alice&password=correct+horse+battery&strategy=jwt", 422),
        (b"username=alice&password=correct+horse+battery&transport=body", 422),
        (b"username=alice&username=bob&password=x", 422),
        (b"username=alice&password=wrong+password", 401),
        (b"username=%ff&password=x", 400),
    ],
)
async def test_a_form_that_is_not_right_is_refused(desk, body: bytes, status: int) -> None:
    await desk.user()
    answer = await desk.ask("POST", "/login", body=body, headers=FORM)
    assert answer.status == status
    assert not answer.all("set-cookie")
    assert not (await desk.authority.list_sessions()).sessions


async def test_what_a_browser_calls_itself_is_kept_readable(desk) -> None:
    await desk.user()
    body = {"username": "alice", "password": PASSWORD}
    agent = b"Mozilla\x1b[31m/5.0 \xff" + b"x" * 500
    await desk.ask("POST", "/login", json_body=body, headers={"user-agent": agent}, peer="198.51.100.9")
    (session,) = (await desk.authority.list_sessions()).sessions
    assert session.user_agent.startswith("Mozilla?[31m/5.0 ?xxx")
    assert len(session.user_agent) <= 256
    assert session.address == "198.51.100.9"


async def test_the_address_is_what_trusted_proxies_say(desk) -> None:
    await desk.user()
    body = {"username": "alice", "password": PASSWORD}
    forwarded = {"x-forwarded-for": "1.2.3.4"}
    await desk.ask("POST", "/login", json_body=body, headers=forwarded, peer="10.0.0.1")
    await desk.ask("POST", "/login", json_body=body, headers=forwarded, peer="203.0.113.1")
    sessions = (await desk.authority.list_sessions()).sessions
    assert {session.address for session in sessions} == {"1.2.3.4", "203.0.113.1"}


async def test_whatever_ends_the_account_while_the_password_waits_ends_the_login(desk, monkeypatch) -> None:
    """Precondition 2, over HTTP."""
    account = await desk.user()
    real = desk.authority.accounts.authenticate

    async def slow(*args, **kwargs):
        found = await real(*args, **kwargs)
        await desk.authority.revoke("subject", account.subject)
        return found

    monkeypatch.setattr(desk.authority.accounts, "authenticate", slow)
    answer = await desk.ask("POST", "/login", json_body={"username": "alice", "password": PASSWORD})
    assert (answer.status, answer.code) == (401, "revoked")
