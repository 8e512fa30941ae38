"""`keyfob.integrations.litestar` in an application that holds its authority."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from litestar import Controller, Litestar, WebSocket, get, post, websocket
from litestar.response import ServerSentEvent, Stream

import keyfob
from keyfob.integrations.litestar import Auth, CurrentPrincipal, OptionalPrincipal
from keyfob.verifier.verifier import Verifier

DEADLINE = 10.0
ISSUER = "https://auth.example"


def plain_routes(auth: Auth) -> list[Any]:
    @get("/me", guards=[auth.required()])
    async def me(principal: CurrentPrincipal) -> dict[str, str]:
        return {"subject": principal.subject}

    @get("/greeting", guards=[auth.optional()])
    async def greeting(optional_principal: OptionalPrincipal) -> dict[str, str]:
        return {"hello": optional_principal.subject if optional_principal else "stranger"}

    @post(
        "/payments",
        guards=[
            auth.required(
                roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5)
            )
        ],
        status_code=200,
    )
    async def pay(principal: CurrentPrincipal) -> dict[str, str]:
        return {"paid": principal.subject}

    @get("/open")
    async def unguarded(principal: CurrentPrincipal) -> dict[str, str]:
        return {"subject": principal.subject}

    @get("/other", guards=[auth.required()])
    async def other() -> None:
        raise keyfob.NotFound("no_order", "There is no such order.")

    class Admin(Controller):
        path = "/admin"
        guards = [auth.required(roles={"admin"})]  # noqa: RUF012 - as Litestar has it

        @get("/users")
        async def users(self) -> str:
            return "users"

    return [me, greeting, pay, unguarded, other, Admin]


def lasting_routes(auth: Auth) -> list[Any]:
    @get("/events", guards=[auth.required()])
    async def events() -> ServerSentEvent:
        async def pieces() -> AsyncIterator[str]:
            yield "hello"
            await asyncio.Event().wait()

        return ServerSentEvent(pieces())

    @get("/download", guards=[auth.required()])
    async def download() -> Stream:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        return Stream(pieces())

    @websocket("/chat", guards=[auth.required()])
    async def chat(socket: WebSocket[Any, Any, Any], principal: CurrentPrincipal) -> None:
        await socket.accept()
        async for text in socket.iter_data():
            await socket.send_text(f"{principal.subject}: {text}")

    return [events, download, chat]


@pytest.fixture
async def app(authority):
    auth = Auth(authority)
    made = Litestar(
        [*plain_routes(auth), *lasting_routes(auth), *auth.routes(check_password=check_password)],
        plugins=[auth],
    )
    started, stop = asyncio.Event(), asyncio.Event()
    running = asyncio.ensure_future(run(made, started, stop))
    await asyncio.wait_for(started.wait(), DEADLINE)
    yield made
    stop.set()
    await asyncio.wait_for(running, DEADLINE)


async def run(app: Litestar, started: asyncio.Event, stop: asyncio.Event) -> None:
    """Keep *app* up in one task from its start to its end, as a server does."""
    async with app.lifespan():
        started.set()
        await stop.wait()


async def check_password(name: str, password: str) -> str | None:
    return "user-17" if (name, password) == ("alice", "correct") else None


async def login(authority, strategy="session", name="alice", **more):
    issued = await authority.login(name, strategy=strategy, **more)
    return issued.session_token or issued.access_token


@pytest.fixture
def fetch(app, ask, scopes):
    """Send one request; return status, headers and the parsed body."""

    async def fetching(method, path, token=None, headers=()):
        headers = [*headers, *([scopes.bearer(token)] if token else [])]
        status, answered, body = await ask(app, scopes.http(method, path, headers=headers))
        return status, answered, json.loads(body) if body.startswith((b"{", b"[")) else body

    return fetching


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
async def test_whoever_is_signed_in_is_the_principal(authority, fetch, strategy):
    token = await login(authority, strategy)
    status, _, body = await fetch("GET", "/me", token)
    assert (status, body) == (200, {"subject": "alice"})


async def test_a_refusal_is_a_problem_document_that_says_what_to_do(fetch):
    status, headers, body = await fetch("GET", "/me")
    assert (status, body["code"], body["next"]) == (401, "no_credential", "login")
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"www-authenticate"].startswith(b"Bearer")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-auth-cause"] == b"no_credential"


async def test_a_revoked_credential_is_refused_on_the_next_request(authority, fetch):
    token = await login(authority, "jwt")
    assert (await fetch("GET", "/me", token))[0] == 200
    await authority.revoke("subject", "alice", reason="theft")
    status, _, body = await fetch("GET", "/me", token)
    assert (status, body["code"]) == (401, "revoked")


async def test_the_policy_of_a_route_is_enforced_and_follows_the_roles(authority, fetch):
    token = await login(authority)
    status, _, body = await fetch("POST", "/payments", token)
    assert (status, body["code"]) == (403, "insufficient_role")
    assert (await fetch("GET", "/admin/users", token))[2]["code"] == "insufficient_role"
    assert (await fetch("GET", "/admin/users"))[2]["code"] == "no_credential"

    await authority.set_roles("alice", ["payer", "admin"])

    assert (await fetch("POST", "/payments", token))[2] == {"paid": "alice"}
    assert (await fetch("GET", "/admin/users", token))[2] == b"users"


async def test_a_stranger_is_greeted_and_a_bad_credential_is_refused(authority, fetch):
    assert (await fetch("GET", "/greeting"))[2] == {"hello": "stranger"}
    assert (await fetch("GET", "/greeting", await login(authority)))[2] == {"hello": "alice"}
    assert (await fetch("GET", "/greeting", "nonsense"))[0] == 401


async def test_a_route_that_nobody_guards_has_no_principal(authority, fetch):
    assert (await fetch("GET", "/open", await login(authority)))[2]["code"] == "no_credential"


async def test_errors_of_ours_that_a_route_raises_are_problems_too(authority, fetch):
    status, _, body = await fetch("GET", "/other", await login(authority))
    assert (status, body["code"]) == (404, "no_order")


async def test_a_cookie_that_a_page_of_another_site_sends_changes_nothing(authority, fetch, scopes):
    issued = await authority.login("alice", strategy="session", roles=["payer"])
    cookie = scopes.cookie(issued.session_token)

    async def post(*headers):
        return (await fetch("POST", "/payments", headers=[cookie, *headers]))[0]

    assert (await fetch("GET", "/me", headers=[cookie]))[0] == 200
    assert await post() == 403
    assert await post((b"sec-fetch-site", b"cross-site")) == 403
    assert await post((b"sec-fetch-site", b"same-origin")) == 200
    assert await post((b"x-csrf-token", authority.csrf_token(issued.session_id).encode())) == 200


async def test_an_event_stream_ends_with_its_principal(authority, app, connect, scopes):
    scope = scopes.http(path="/events", headers=[scopes.bearer(await login(authority))])
    async with connect(app, scope) as connection:
        assert (await connection.next())["status"] == 200
        assert b"hello" in (await connection.next())["body"]
        await authority.revoke("subject", "alice")
        assert await connection.next() == {"type": "http.response.body", "body": b""}
        await connection.ended()


async def test_a_download_is_cut_off_and_not_completed(authority, app, connect, scopes):
    scope = scopes.http(path="/download", headers=[scopes.bearer(await login(authority))])
    async with connect(app, scope) as connection:
        await connection.next()
        assert (await connection.next())["body"] == b"first"
        await authority.revoke("subject", "alice")
        with pytest.raises(AssertionError, match="sent nothing"):
            await connection.next()


async def test_a_websocket_ends_with_its_principal_and_says_why(authority, app, connect, scopes):
    scope = scopes.websocket("/chat", headers=[scopes.bearer(await login(authority))])
    async with connect(app, scope) as connection:
        assert (await connection.next())["type"] == "websocket.accept"
        connection.put({"type": "websocket.receive", "text": "hello"})
        assert (await connection.next())["text"] == "alice: hello"
        await authority.revoke("subject", "alice")
        closed = await connection.next()
        assert (closed["type"], closed["code"], closed["reason"]) == ("websocket.close", 1008, "revoked")


async def test_a_websocket_of_a_stranger_or_of_another_site_is_not_opened(authority, app, connect, scopes):
    cookie = scopes.cookie(await login(authority))
    for headers, cause in (
        ([], "no_credential"),
        ([cookie], "cross_origin"),
        ([cookie, (b"origin", b"https://evil.example")], "cross_origin"),
    ):
        async with connect(app, scopes.websocket("/chat", headers=headers)) as connection:
            refused = await connection.next()
            assert (refused["type"], refused["code"], refused["reason"]) == ("websocket.close", 1008, cause)
    own = scopes.websocket("/chat", headers=[cookie, (b"origin", ISSUER.encode())])
    async with connect(app, own) as connection:
        assert (await connection.next())["type"] == "websocket.accept"


async def test_the_schema_lists_both_credentials_at_guarded_routes_alone(app):
    schema = app.openapi_schema.to_schema()
    schemes = schema["components"]["securitySchemes"]
    assert schemes["keyfob_token"]["scheme"] == "bearer"
    assert (schemes["keyfob_cookie"]["in"], schemes["keyfob_cookie"]["name"]) == ("cookie", "__Host-session")
    either = [{"keyfob_token": []}, {"keyfob_cookie": []}]
    assert schema["paths"]["/me"]["get"]["security"] == either
    assert schema["paths"]["/admin/users"]["get"]["security"] == either
    assert "security" not in schema["paths"]["/open"]["get"]
    assert "security" not in schema["paths"]["/login"]["post"]


async def test_the_routes_of_the_authority_are_mounted(app, authority, connect, scopes):
    async def send(method, path, body=None, token=None):
        headers = [(b"content-type", b"application/json"), *([scopes.bearer(token)] if token else [])]
        async with connect(app, scopes.http(method, path, headers=headers)) as connection:
            if body is not None:
                connection._to_app.get_nowait()
                text = json.dumps(body).encode()
                connection.put({"type": "http.request", "body": text[:5], "more_body": True})
                connection.put({"type": "http.request", "body": text[5:], "more_body": False})
            start, piece = await connection.next(), await connection.next()
            return start["status"], json.loads(piece["body"]) if piece["body"] else None

    body = {"username": "alice", "password": "correct", "transport": "body", "strategy": "session"}
    status, grant = await send("POST", "/login", body)
    assert (status, grant["subject"]) == (200, "user-17")
    token = grant["session_token"]
    assert (await send("GET", "/session", token=token))[1]["subject"] == "user-17"
    (listed,) = (await send("GET", "/sessions", token=token))[1]["sessions"]
    other = await authority.login("user-17")
    assert (await send("DELETE", f"/sessions/{other.session_id}", token=token))[0] == 204
    assert listed["current"] is True
    assert (await send("POST", "/logout", {}, token))[0] == 204
    assert (await send("GET", "/session", token=token))[1]["code"] == "revoked"
    assert (await send("POST", "/login", body | {"password": "wrong"}))[1]["code"] == "bad_credentials"


async def test_an_application_opens_its_own_authority(tmp_path, ask, scopes):
    auth = Auth(keyfob.Authority.open(f"sqlite:///{tmp_path}/keyfob.db", issuer=ISSUER))
    app = Litestar(plain_routes(auth), plugins=[auth], openapi_config=None)
    assert (await ask(app, scopes.http(path="/me", headers=[scopes.bearer("kfs_x")])))[0] == 503
    async with app.lifespan():
        token = await login(auth.authority)
        assert (await ask(app, scopes.http(path="/me", headers=[scopes.bearer(token)])))[0] == 200
    with pytest.raises(keyfob.StoreUnavailable):
        await auth.authority.login("alice")


async def test_a_policy_that_cannot_be_meant_is_refused_when_the_route_is_made(authority):
    with pytest.raises(keyfob.ConfigurationError):
        Auth(authority).required(roles="payer")


async def test_a_service_that_follows_has_no_account_routes():
    verifier = Verifier.follow(ISSUER, audience="orders", credentials=("orders", "secret"))
    with pytest.raises(keyfob.ConfigurationError, match="in this process"):
        Auth(verifier).routes()
