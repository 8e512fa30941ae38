"""`keyfob.integrations.fastapi` in an application that holds its authority, served by a real server on loopback."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated

import httpx
import pytest
import uvicorn
import websockets
from fastapi import Depends, FastAPI, WebSocket
from starlette.responses import StreamingResponse

import keyfob
from keyfob.integrations.fastapi import Auth

DEADLINE = 10.0
USERS = {"alice": "usr-17", "bob": "usr-18"}


async def check_password(name: str, password: str) -> str | None:
    """Stand for the application's own table of users."""
    return USERS.get(name) if password == f"secret of {name}" else None


def application(auth: Auth) -> FastAPI:
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    app.include_router(auth.routes(check_password=check_password))

    @app.get("/me")
    async def me(user: Annotated[keyfob.Principal, Depends(auth.required())]) -> dict[str, str]:
        return {"subject": user.subject}

    @app.get("/greeting")
    async def greeting(
        user: Annotated[keyfob.Principal | None, Depends(auth.optional())],
    ) -> dict[str, str]:
        return {"hello": user.subject if user else "stranger"}

    @app.post("/payments")
    async def pay(
        user: Annotated[
            keyfob.Principal,
            Depends(
                auth.required(
                    roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5)
                )
            ),
        ],
    ) -> dict[str, str]:
        return {"paid": user.subject}

    @app.get("/events")
    async def events(
        user: Annotated[keyfob.Principal, Depends(auth.required())],
    ) -> StreamingResponse:
        async def forever() -> AsyncIterator[bytes]:
            yield b"data: first\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(forever(), media_type="text/event-stream")

    @app.websocket("/chat")
    async def chat(
        websocket: WebSocket, user: Annotated[keyfob.Principal, Depends(auth.required(roles={"chatter"}))]
    ) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"{user.subject}: {text}")

    @app.get("/own")
    async def own() -> None:
        raise keyfob.Denied(keyfob.Cause.INSUFFICIENT_ROLE, "the application's own decision")

    return app


@contextlib.asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve *app* on a free port of loopback."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", ws="websockets-sansio"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    async with asyncio.timeout(DEADLINE):
        while not server.started:
            await asyncio.sleep(0)
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, DEADLINE)
        listening.close()


@pytest.fixture
async def auth() -> Auth:
    return Auth(keyfob.Authority.open("memory://", issuer="http://127.0.0.1"))


@pytest.fixture
async def address(auth: Auth) -> AsyncIterator[str]:
    async with served(application(auth)) as place:
        yield place


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=DEADLINE) as opened:
        yield opened


async def login(client: httpx.AsyncClient, name: str, **more: str) -> dict[str, str]:
    body = {"username": name, "password": f"secret of {name}", "transport": "body", **more}
    answer = await client.post("/login", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_login_with_the_applications_own_users_opens_its_routes(client):
    for strategy in ("session", "jwt", "hybrid"):
        answer = await login(client, "alice", strategy=strategy)
        token = answer.get("session_token") or answer["access_token"]
        assert (await client.get("/me", headers=bearer(token))).json() == {"subject": "usr-17"}
        assert (await client.get("/greeting", headers=bearer(token))).json() == {"hello": "usr-17"}


async def test_a_wrong_password_and_an_unknown_user_look_the_same(client):
    for name in ("alice", "nobody"):
        answer = await client.post("/login", json={"username": name, "password": "guess"})
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_credentials")


async def test_guesses_at_the_applications_users_are_throttled(client):
    codes = [
        (await client.post("/login", json={"username": "alice", "password": f"guess {n}"})).status_code
        for n in range(8)
    ]

    assert codes[0] == 401
    assert codes[-1] == 429


async def test_a_refusal_is_a_problem_document_that_says_what_to_do(client):
    answer = await client.get("/me")

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (answer.json()["code"], answer.json()["next"]) == ("no_credential", "login")


async def test_a_stranger_is_greeted_and_a_bad_credential_is_refused(client):
    assert (await client.get("/greeting")).json() == {"hello": "stranger"}
    assert (await client.get("/greeting", headers=bearer("nonsense"))).status_code == 401


async def test_the_policy_of_a_route_is_enforced_and_follows_the_roles(client, auth):
    answer = await login(client, "alice", strategy="session")
    headers = bearer(answer["session_token"])
    refused = await client.post("/payments", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_role")

    await auth.authority.set_roles("usr-17", ["payer"])

    assert (await client.post("/payments", headers=headers)).json() == {"paid": "usr-17"}


async def test_whoever_can_refresh_is_told_to(client, auth):
    for strategy, helps in (("hybrid", "refresh"), ("jwt", "login")):
        grant = await login(client, "alice", strategy=strategy)
        await auth.authority.set_roles("usr-17", [strategy])
        refused = await client.get("/me", headers=bearer(grant["access_token"]))
        assert (refused.json()["code"], refused.json()["next"]) == ("stale_claims", helps)


async def test_a_decision_of_the_application_is_a_problem_document_too(client):
    answer = await client.get("/own")

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_role")


async def test_logout_ends_it_in_the_running_application(client):
    answer = await login(client, "alice", strategy="hybrid")
    assert (await client.get("/me", headers=bearer(answer["access_token"]))).status_code == 200

    assert (await client.post("/logout", json={"refresh_token": answer["refresh_token"]})).status_code == 204

    refused = await client.get("/me", headers=bearer(answer["access_token"]))
    assert (refused.status_code, refused.json()["code"]) == (401, "revoked")
    again = await client.post("/refresh", json={"refresh_token": answer["refresh_token"]})
    assert again.status_code == 401


async def test_a_stolen_refresh_token_that_is_played_again_ends_the_session(client, auth):
    answer = await login(client, "alice", strategy="hybrid")
    assert (await client.post("/refresh", json={"refresh_token": answer["refresh_token"]})).status_code == 200
    sessions = await client.get("/sessions", headers=bearer(answer["access_token"]))
    assert [entry["current"] for entry in sessions.json()["sessions"]] == [True]


async def test_the_browsers_cookie_is_the_credential_and_its_page_must_be_ours(client):
    answer = await client.post(
        "/login", json={"username": "alice", "password": "secret of alice", "strategy": "session"}
    )
    cookie = answer.headers["set-cookie"].split(";")[0]
    assert cookie.startswith("__Host-session=kfs_")
    headers = {"Cookie": cookie}
    assert (await client.get("/me", headers=headers)).status_code == 200
    refused = await client.post("/payments", headers={**headers, "Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, refused.json()["code"]) == (403, "cross_origin")


async def test_an_event_stream_ends_when_its_user_is_revoked(client, auth):
    answer = await login(client, "alice", strategy="jwt")
    async with client.stream("GET", "/events", headers=bearer(answer["access_token"])) as stream:
        pieces = stream.aiter_text()
        assert await anext(pieces) == "data: first\n\n"

        await auth.authority.revoke("subject", "usr-17")

        async with asyncio.timeout(DEADLINE):
            assert [piece async for piece in pieces] == []


async def test_a_websocket_ends_when_its_user_is_revoked(client, address, auth):
    await auth.authority.set_roles("usr-17", ["chatter"])
    answer = await login(client, "alice", strategy="session")
    async with websockets.connect(
        f"ws://{address}/chat", additional_headers=bearer(answer["session_token"])
    ) as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "usr-17: hello"

        await auth.authority.revoke("subject", "usr-17")

        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(websocket.recv(), DEADLINE)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "revoked")


async def test_a_websocket_without_the_role_is_refused_in_its_handshake(client, address):
    answer = await login(client, "alice", strategy="session")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://{address}/chat", additional_headers=bearer(answer["session_token"]))
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["code"] == "insufficient_role"


async def test_the_documentation_of_the_api_names_both_credentials(client):
    document = (await client.get("/openapi.json")).json()

    assert document["paths"]["/me"]["get"]["security"] == [{"keyfob_token": []}, {"keyfob_cookie": []}]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["keyfob_token"]["type"], schemes["keyfob_token"]["scheme"]) == ("http", "bearer")
    assert (schemes["keyfob_cookie"]["in"], schemes["keyfob_cookie"]["name"]) == ("cookie", "__Host-session")


async def test_without_its_authority_the_application_answers_503(auth):
    transport = httpx.ASGITransport(application(auth))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as unstarted:
        answer = await unstarted.get("/me", headers=bearer("a.b.c"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_an_application_that_follows_has_no_routes_to_mount():
    verifier = keyfob.Verifier.follow("https://auth.example", audience="orders", credentials=("orders", "s"))
    with pytest.raises(keyfob.ConfigurationError, match="authority in this process"):
        Auth(verifier).routes()
