"""`keyfob.integrations.aiohttp` in an application that holds its authority, over real sockets."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

import keyfob
from keyfob.integrations.aiohttp import Auth, find_principal, principal_of
from keyfob.verifier.verifier import Verifier

DEADLINE = 10.0
ISSUER = "https://auth.example"


class Waits:
    """What a handler is waiting in, and that it was ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def forever(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def add_plain(routes, auth):
    @routes.get("/me")
    @auth.required()
    async def me(request):
        return web.json_response({"subject": principal_of(request).subject})

    @routes.get("/greeting")
    @auth.optional()
    async def greeting(request):
        principal = find_principal(request)
        return web.json_response({"hello": principal.subject if principal else "stranger"})

    @routes.post("/payments")
    @auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
    async def pay(request):
        return web.json_response({"paid": principal_of(request).subject})

    @routes.get("/open")
    async def unprotected(request):
        return web.json_response({"subject": principal_of(request).subject})

    @routes.view("/view")
    class View(web.View):
        @auth.required()
        async def get(self):
            return web.json_response({"subject": principal_of(self.request).subject})

    @routes.get("/other")
    @auth.required()
    async def other(request):
        raise keyfob.NotFound("no_order", "There is no such order.")

    @routes.get("/not-found")
    @auth.required()
    async def not_found(request):
        raise web.HTTPNotFound


def add_lasting(routes, auth, waits):
    @routes.get("/chat")
    @auth.required()
    async def chat(request):
        websocket = web.WebSocketResponse(timeout=0.5)
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(f"{principal_of(request).subject}: {message.data}")
        return websocket

    @routes.get("/events")
    @auth.required()
    async def events(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: hello\n\n")
        await waits.forever()

    @routes.get("/download")
    @auth.required()
    async def download(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"part")
        await waits.forever()

    async def pieces():
        yield b"first"
        await waits.forever()

    @routes.get("/pieces")
    @auth.required()
    async def lazily(request):
        return web.Response(body=pieces())

    @routes.get("/short")
    @auth.required()
    async def short(request):
        async def two():
            yield b"one"
            yield b"two"

        return web.Response(body=two())

    @routes.get("/late")
    @auth.required()
    async def late(request):
        await auth.authority.revoke("subject", principal_of(request).subject)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"secret")
        return response


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
async def client(authority, waits):
    auth = Auth(authority)
    app, routes = web.Application(), web.RouteTableDef()
    auth.install(app)
    add_plain(routes, auth)
    add_lasting(routes, auth, waits)
    app.add_routes(routes)
    inner = web.Application(middlewares=[auth.protect(roles={"admin"})])
    inner.router.add_get("/users", users)
    app.add_subapp("/admin/", inner)
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def users(request):
    return web.Response(text="users")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def login(authority, strategy="session", name="alice", **more):
    issued = await authority.login(name, strategy=strategy, **more)
    return issued.session_token or issued.access_token


async def refusal(response):
    body = await response.json(content_type="application/problem+json")
    assert response.headers["X-Auth-Cause"] == body["code"]
    return response.status, body["code"], body["next"]


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
async def test_whoever_is_signed_in_is_the_principal(authority, client, strategy):
    headers = bearer(await login(authority, strategy))
    for path in ("/me", "/view"):
        assert await (await client.get(path, headers=headers)).json() == {"subject": "alice"}


async def test_a_refusal_is_a_problem_document_that_says_what_to_do(client):
    response = await client.get("/me")
    assert await refusal(response) == (401, "no_credential", "login")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.headers["Cache-Control"] == "no-store"
    assert await refusal(await client.get("/view")) == (401, "no_credential", "login")


async def test_a_revoked_credential_is_refused_on_the_next_request(authority, client):
    headers = bearer(await login(authority, "jwt"))
    assert (await client.get("/me", headers=headers)).status == 200
    await authority.revoke("subject", "alice", reason="theft")
    assert await refusal(await client.get("/me", headers=headers)) == (401, "revoked", "login")


async def test_the_policy_of_a_handler_is_enforced_and_follows_the_roles(authority, client):
    headers = bearer(await login(authority))
    assert (await refusal(await client.post("/payments", headers=headers)))[:2] == (403, "insufficient_role")
    await authority.set_roles("alice", ["payer"])
    assert await (await client.post("/payments", headers=headers)).json() == {"paid": "alice"}


async def test_a_whole_application_behind_a_middleware(authority, client):
    assert (await refusal(await client.get("/admin/users")))[:2] == (401, "no_credential")
    headers = bearer(await login(authority))
    assert (await refusal(await client.get("/admin/users", headers=headers)))[:2] == (
        403,
        "insufficient_role",
    )
    await authority.set_roles("alice", ["admin"])
    assert await (await client.get("/admin/users", headers=headers)).text() == "users"


async def test_a_stranger_is_greeted_and_a_bad_credential_is_refused(client):
    assert await (await client.get("/greeting")).json() == {"hello": "stranger"}
    assert (await client.get("/greeting", headers=bearer("nonsense"))).status == 401


async def test_a_handler_that_nobody_protects_has_no_principal(client):
    assert (await refusal(await client.get("/open")))[:2] == (401, "no_credential")


async def test_errors_of_the_handler_are_answered_as_its_own(authority, client):
    headers = bearer(await login(authority))
    assert await refusal(await client.get("/other", headers=headers)) == (404, "no_order", None)
    assert (await client.get("/not-found", headers=headers)).status == 404


async def test_a_cookie_that_a_page_of_another_site_sends_changes_nothing(authority, client):
    issued = await authority.login("alice", strategy="session", roles=["payer"])
    cookie = {"Cookie": f"__Host-session={issued.session_token}"}

    async def post(**headers):
        return (await client.post("/payments", headers=cookie | headers)).status

    assert (await client.get("/me", headers=cookie)).status == 200
    assert await post() == 403
    assert await post(**{"Sec-Fetch-Site": "cross-site"}) == 403
    assert await post(**{"Sec-Fetch-Site": "same-origin"}) == 200
    assert await post(**{"X-CSRF-Token": authority.csrf_token(issued.session_id)}) == 200


async def test_two_credentials_at_once_are_refused(authority, client):
    token = await login(authority)
    headers = bearer(token) | {"Cookie": f"__Host-session={token}"}
    assert (await refusal(await client.get("/me", headers=headers)))[1] == "malformed"


async def test_a_websocket_ends_with_its_principal_and_says_why(authority, client):
    token = await login(authority)
    async with client.ws_connect("/chat", headers=bearer(token)) as websocket:
        await websocket.send_str("hello")
        assert await websocket.receive_str(timeout=DEADLINE) == "alice: hello"
        await authority.revoke("subject", "alice", reason="theft")
        message = await websocket.receive(timeout=DEADLINE)
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1008, "revoked")


async def test_a_websocket_of_a_stranger_or_of_another_site_is_not_opened(authority, client):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/chat")
    assert refused.value.status == 401
    cookie = {"Cookie": f"__Host-session={await login(authority)}"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/chat", headers=cookie | {"Origin": "https://evil.example"})
    assert refused.value.status == 403
    async with client.ws_connect("/chat", headers=cookie | {"Origin": ISSUER}) as websocket:
        await websocket.send_str("hello")
        assert await websocket.receive_str(timeout=DEADLINE) == "alice: hello"


async def test_a_stream_of_events_ends_with_its_principal(authority, client, waits):
    response = await client.get("/events", headers=bearer(await login(authority)))
    assert await response.content.readline() == b"data: hello\n"
    await asyncio.wait_for(waits.begun.wait(), DEADLINE)
    await authority.revoke("subject", "alice", reason="theft")
    assert await asyncio.wait_for(response.content.read(), DEADLINE) == b"\n"
    assert waits.ended.is_set()


@pytest.mark.parametrize("path", ["/download", "/pieces"])
async def test_a_download_is_cut_off_so_that_nobody_takes_a_part_for_the_whole(
    authority, client, waits, path
):
    response = await client.get(path, headers=bearer(await login(authority)))
    assert await response.content.readany() in {b"part", b"first"}
    await asyncio.wait_for(waits.begun.wait(), DEADLINE)
    await authority.revoke("subject", "alice", reason="theft")
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(response.content.read(), DEADLINE)
    await asyncio.wait_for(waits.ended.wait(), DEADLINE)


async def test_a_stream_that_is_done_is_whole(authority, client):
    response = await client.get("/short", headers=bearer(await login(authority)))
    assert await response.read() == b"onetwo"


async def test_nothing_of_a_stream_goes_to_whoever_was_revoked_before_it_began(authority, client):
    headers = bearer(await login(authority))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.get("/late", headers=headers)


async def test_a_stream_of_somebody_else_goes_on(authority, client, waits):
    response = await client.get("/events", headers=bearer(await login(authority, name="bob")))
    await asyncio.wait_for(waits.begun.wait(), DEADLINE)
    await authority.revoke("subject", "alice")
    assert await response.content.readline() == b"data: hello\n"
    assert not waits.ended.is_set()


async def test_a_route_of_an_application_without_install_is_refused(authority):
    app, auth = web.Application(), Auth(authority)

    @auth.required()
    async def me(request):
        return web.Response(text="in")

    app.router.add_get("/me", me)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/me", headers=bearer(await login(authority)))).status == 500


async def test_what_is_no_handler_cannot_be_protected(authority):
    @Auth(authority).required()
    async def nothing():
        return web.Response()

    with pytest.raises(keyfob.ConfigurationError, match="stands at a handler"):
        await nothing()


async def test_a_policy_that_cannot_be_meant_is_refused_when_the_handler_is_made(authority):
    for make in (Auth(authority).required, Auth(authority).protect):
        with pytest.raises(keyfob.ConfigurationError):
            make(roles="payer")


async def test_an_application_opens_and_closes_its_own_authority_and_mounts_its_routes(tmp_path):
    auth = Auth(keyfob.Authority.open(f"sqlite:///{tmp_path}/keyfob.db", issuer="http://localhost"))
    app = web.Application()
    auth.install(app)
    app.add_routes(auth.routes(check_password=check_password))
    async with TestClient(TestServer(app)) as client:
        body = {"username": "alice", "password": "correct", "transport": "body"}
        for strategy in ("session", "jwt", "hybrid"):
            grant = await (await client.post("/login", json=body | {"strategy": strategy})).json()
            token = grant.get("session_token") or grant["access_token"]
            found = await (await client.get("/session", headers=bearer(token))).json()
            assert found["subject"] == "user-17"
            await client.post("/logout", headers=bearer(token))
            assert (await refusal(await client.get("/session", headers=bearer(token))))[1] == "revoked"
        again = await client.post("/refresh", json={"refresh_token": grant["refresh_token"]})
        assert (await refusal(again))[:2] == (401, "revoked")
        wrong = await client.post("/login", json=body | {"password": "wrong"})
        assert (await refusal(wrong))[:2] == (401, "bad_credentials")
        large = await client.post("/login", data=b"x" * 100_000, headers={"Content-Type": "application/json"})
        assert large.status == 413
    with pytest.raises(keyfob.StoreUnavailable):
        await auth.authority.login("alice")


async def check_password(name, password):
    return "user-17" if (name, password) == ("alice", "correct") else None


async def test_a_service_that_follows_has_no_such_routes():
    verifier = Verifier.follow(ISSUER, audience="orders", credentials=("orders", "secret"))
    with pytest.raises(keyfob.ConfigurationError, match="in this process"):
        Auth(verifier).routes()
