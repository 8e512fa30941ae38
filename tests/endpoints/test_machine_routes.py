"""The routes for machines: feed, introspection, key set, metadata, health."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from keyfob.http.messages import HttpRequest


async def stream_of(desk, headers: list[tuple[bytes, bytes]]):
    """Open `/feed` and return the queue of its pieces, and the task that serves it."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    started = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/feed",
        "raw_path": b"/feed",
        "query_string": b"",
        "headers": headers,
        "client": ("203.0.113.7", 1),
    }

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        if message["type"] == "http.response.start":
            started.set_result(message)
        else:
            pieces.put_nowait(message["body"] if message.get("more_body") else b"END")

    task = asyncio.create_task(desk.app(scope, receive, send))
    start = await asyncio.wait_for(started, 5)
    return start, pieces, task, gone


def basic(client: tuple[str, str]) -> tuple[bytes, bytes]:
    import base64

    return b"authorization", b"Basic " + base64.b64encode(":".join(client).encode())


async def until(pieces: asyncio.Queue[bytes], wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        got += await asyncio.wait_for(pieces.get(), 5)
    return got


async def test_a_follower_hears_of_a_revocation(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    start, pieces, task, gone = await stream_of(desk, [basic(client)])
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"] == b"text/event-stream"
    assert headers[b"cache-control"] == b"no-store"
    assert b"content-length" not in headers
    await until(pieces, b"event: heartbeat")
    await desk.authority.revoke("subject", "alice")
    await until(pieces, b"event: entry")
    gone.set()
    await asyncio.wait_for(task, 5)
    assert desk.authority.feed.stats().followers == 0


async def test_streams_end_when_the_server_stops(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    _, pieces, task, _ = await stream_of(desk, [basic(client)])
    await asyncio.wait_for(desk.app.close_streams(), 2)
    await asyncio.wait_for(task, 2)
    await until(pieces, b"END")
    late = await desk.ask("GET", "/feed", basic=client)
    assert (late.status, late.code) == (503, "unavailable")


async def test_a_follower_whose_client_is_deleted_is_thrown_out(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    _, pieces, task, _ = await stream_of(desk, [basic(client)])
    await until(pieces, b"event: heartbeat")
    await desk.authority.clients.delete("orders", actor="test")
    await desk.advance(31)
    await until(pieces, b"END")
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("path", ["/feed", "/feed/snapshot", "/feed/time?nonce=0123456789abcdef"])
async def test_following_needs_the_scope(desk, path: str) -> None:
    await desk.user()
    nobody = await desk.client("nobody", "keyfob:introspect")
    answer = await desk.ask("GET", path)
    assert (answer.status, answer.code) == (401, "no_credential")
    assert [value.split()[0] for value in answer.all("www-authenticate")] == ["Bearer", "Basic"]
    assert (await desk.ask("GET", path, basic=("nobody", "x"))).code == "bad_credentials"
    assert (await desk.ask("GET", path, basic=nobody)).code == "insufficient_scope"
    assert (await desk.ask("GET", path, bearer=await desk.access_token())).code == "insufficient_scope"
    assert (await desk.ask("GET", path, bearer="garbage")).code == "malformed"
    assert (await desk.ask("GET", path, cookie=await desk.cookie())).code == "no_credential"


async def test_a_bearer_with_the_scope_may_follow(desk) -> None:
    issued = await desk.authority.login("relay", strategy="jwt", scopes=["keyfob:feed"])
    assert (await desk.ask("GET", "/feed/snapshot", bearer=issued.access_token)).status == 200
    other = await desk.authority.login("relay", strategy="jwt", scopes=["keyfob:feed"], audience="orders")
    assert (await desk.ask("GET", "/feed/snapshot", bearer=other.access_token)).code == "wrong_audience"


async def test_the_snapshot_is_one_signed_object(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    await desk.authority.revoke("subject", "alice")
    answer = await desk.ask("GET", "/feed/snapshot", basic=client)
    assert (answer.status, answer.header("content-encoding")) == (200, "gzip")
    head, _, lines = gzip.decompress(answer.body).partition(b"\n")
    assert head.count(b".") == 2
    assert b"alice" in lines


async def test_time_is_signed_with_the_nonce(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    answer = await desk.ask("GET", "/feed/time?nonce=0123456789abcdef", basic=client)
    assert (answer.status, answer.body.count(b".")) == (200, 2)
    for query in ("", "?nonce=", "?nonce=short", "?nonce=" + "x" * 65, "?nonce=0123456789abcde%20", "?n=1"):
        assert (await desk.ask("GET", f"/feed/time{query}", basic=client)).status == 400


async def test_keys_are_public(desk) -> None:
    keys = await desk.ask("GET", "/feed/keys")
    assert set(keys.json()) == {"issuer", "access", "feed"}
    jwks = await desk.ask("GET", "/.well-known/jwks.json")
    assert set(jwks.json()) == {"keys"}
    assert jwks.json() == keys.json()["access"]
    for answer in (keys, jwks):
        assert answer.header("access-control-allow-origin") == "*"
        assert answer.header("access-control-allow-credentials") is None
        assert "max-age=300" in answer.header("cache-control")
        assert not answer.all("set-cookie")
        for key in answer.json().get("keys", []):
            assert not {"d", "p", "q", "k"} & set(key)


# Introspection

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def introspected(desk, client: tuple[str, str] | None, token: str, **more):
    body = f"token={token}".encode()
    return await desk.ask(
        "POST", "/oauth/introspect", basic=client, body=body, headers=FORM, own_page=False, **more
    )


@pytest.mark.meets("7662-R006", "7662-R007")
async def test_a_service_asks_what_a_token_is_worth(desk) -> None:
    account = await desk.user(roles=("buyer",))
    client = await desk.client("orders", "keyfob:feed")
    login = (await desk.login(transport="body")).json()
    answer = await introspected(desk, client, login["session_token"])
    body = answer.json()
    assert answer.status == 200
    assert answer.header("cache-control") == "no-store"
    assert {
        "active",
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "client_id",
        "as_of",
        "tl",
        "sid",
        "roles",
        "strategy",
        "idle_exp",
    } <= set(body)
    assert (body["active"], body["sub"], body["sid"]) == (True, account.subject, login["session_id"])
    assert (await introspected(desk, client, await desk.access_token())).json()["active"] is True


@pytest.mark.meets("7662-R012", "7662-R015", "7662-R021")
async def test_whatever_is_not_good_is_inactive_and_nothing_else(desk) -> None:
    """O-36."""
    await desk.user()
    client = await desk.client("orders", "keyfob:introspect")
    login = (await desk.login(transport="body")).json()
    refresh = (await desk.login(strategy="hybrid", transport="body")).json()["refresh_token"]
    await desk.authority.revoke("session", login["session_id"])
    for token in (login["session_token"], refresh, "garbage", "a.b.c", "kfs_x"):
        answer = await introspected(desk, client, token)
        assert (answer.status, answer.json()) == (200, {"active": False})


@pytest.mark.meets("7662-R001", "7662-R002", "7662-R005", "7662-R013", "7662-R019")
async def test_introspection_answers_errors_as_its_rfc_says(desk) -> None:
    client = await desk.client("orders", "keyfob:introspect")
    nobody = await desk.client("nobody")
    for answer, status, error in (
        (await introspected(desk, None, "x"), 401, "invalid_client"),
        (await introspected(desk, ("orders", "wrong"), "x"), 401, "invalid_client"),
        (await introspected(desk, nobody, "x"), 403, "unauthorized_client"),
        (
            await desk.ask("POST", "/oauth/introspect", basic=client, body=b"", headers=FORM),
            400,
            "invalid_request",
        ),
        (
            await desk.ask("POST", "/oauth/introspect", basic=client, body=b"token=a&token=b", headers=FORM),
            400,
            "invalid_request",
        ),
        (await introspected(desk, client, ""), 400, "invalid_request"),
        (
            await desk.ask("POST", "/oauth/introspect", basic=client, json_body={"token": "x"}),
            415,
            "invalid_request",
        ),
    ):
        assert (answer.status, answer.json()["error"]) == (status, error)
        assert set(answer.json()) == {"error", "error_description"}
        assert status != 401 or answer.header("www-authenticate").startswith("Basic ")


# Metadata and health


@pytest.mark.meets("9700-2.1.1g", "9700-2.6a", "8414-2b", "8414-3.2", "8414-rev", "9207-2.3", "9126-2")
@pytest.mark.parametrize("name", ["oauth-authorization-server", "openid-configuration"])
async def test_metadata_advertises_only_what_exists(desk, name: str) -> None:
    answer = await desk.ask(
        "GET", f"/.well-known/{name}", headers={"host": "evil.example", "x-forwarded-host": "evil.example"}
    )
    body = answer.json()
    assert body["issuer"] == "https://auth.example"
    for key, value in body.items():
        if key.endswith(("_uri", "_endpoint")):
            assert value.startswith("https://auth.example/")
            path = value.removeprefix("https://auth.example")
            method = "GET" if key.endswith("_uri") or key == "authorization_endpoint" else "POST"
            assert (await desk.ask(method, path)).status not in {404, 405}
    assert "client_credentials" in body["grant_types_supported"]
    assert body["response_types_supported"] == ["code"]
    assert body["code_challenge_methods_supported"] == ["S256"]
    assert body["authorization_response_iss_parameter_supported"] is True


async def test_health_and_readiness(desk, monkeypatch) -> None:
    assert (await desk.ask("GET", "/healthz")).json() == {"status": "ok"}
    assert (await desk.ask("GET", "/readyz")).json() == {"status": "ready"}
    monkeypatch.setattr(desk.authority.feed, "staleness", lambda: 6.0)
    answer = await desk.ask("GET", "/readyz")
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert (await desk.ask("GET", "/healthz")).status == 200


def test_a_request_type_is_importable_without_a_server() -> None:
    assert HttpRequest("GET", "/", headers=()).address == ""
