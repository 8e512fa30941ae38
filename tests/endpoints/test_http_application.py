"""The application as a whole: what every answer carries, what a fault looks like, what is counted and documented."""

from __future__ import annotations

import io
import json
import logging

import pytest

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.endpoints.table import routes
from keyfob.server import logs
from keyfob.server.build import application

ALL = sorted({(route.method, route.path) for route in routes()})
PAGES = {route.path for route in routes() if route.response_type == "text/html"}


def concrete(path: str) -> str:
    return path.replace("{session_id}", "0" * 32).replace("{rest}", "x").replace("{", "").replace("}", "")


@pytest.mark.meets("9700-4.2.4b", "9700-4.16a")
@pytest.mark.parametrize(
    ("method", "path"), [*ALL, ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/nothing")]
)
async def test_every_answer_carries_the_security_headers(desk, method: str, path: str) -> None:
    answer = await desk.ask("GET" if method == "*" else method, concrete(path))
    assert answer.status < 500
    assert answer.header("x-content-type-options") == "nosniff"
    assert "frame-ancestors 'none'" in answer.header("content-security-policy")
    has_form = b"<form" in answer.body
    assert answer.header("referrer-policy") == ("same-origin" if has_form else "no-referrer")
    assert answer.header("cross-origin-opener-policy") == "same-origin"
    assert answer.header("strict-transport-security") == "max-age=63072000; includeSubDomains"
    assert answer.header("cross-origin-resource-policy") is not None
    is_public = answer.header("access-control-allow-origin") is not None
    assert (answer.header("cache-control") == "no-store") is not is_public
    if answer.status >= 400 and not path.startswith("/oauth") and path not in PAGES:
        assert set(answer.json()) == {"type", "title", "status", "code", "detail", "next"}
        assert answer.header("content-type") == "application/problem+json"
        assert answer.json()["status"] == answer.status


@pytest.mark.meets("OA-12", "7662-R020", "9126-2.3")
@pytest.mark.parametrize(("method", "path"), [route for route in ALL if route[0] != "*"])
async def test_another_method_is_405_and_a_longer_path_404(desk, method: str, path: str) -> None:
    answer = await desk.ask("PROPFIND", concrete(path))
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert method in answer.header("allow").split(", ")
    longer = concrete(path) + "/x.css"  # S-20
    if not path.endswith(("/users", "/sessions", "/clients")):
        assert (await desk.ask(method, longer)).status in {404, 405}
    assert (await desk.ask(method, concrete(path) + "/")).status == 404


async def test_head_is_get_without_a_body(desk) -> None:
    head, get = await desk.ask("HEAD", "/healthz"), await desk.ask("GET", "/healthz")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == get.headers


@pytest.mark.meets("9700-4.13a")
async def test_no_answer_says_whom_the_request_took_for_the_host(desk) -> None:
    """C-25."""
    headers = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "http"}
    for path in ("/healthz", "/.well-known/openid-configuration", "/session", "/nothing"):
        answer = await desk.ask("GET", path, headers=headers)
        assert b"evil" not in answer.body
        assert not [value for _, value in answer.headers if "evil" in value]


async def test_no_origin_is_let_in_with_credentials(desk) -> None:
    """C-15."""
    for path in ("/session", "/feed/keys", "/login"):
        answer = await desk.ask("GET", path, headers={"origin": "https://evil.example"})
        assert answer.header("access-control-allow-credentials") is None
        assert answer.header("access-control-allow-origin") in {None, "*"}


async def test_a_store_that_is_away_is_503_and_never_signed_out(desk, monkeypatch) -> None:
    await desk.user()
    login = await desk.login(strategy="hybrid")
    cookie = f"__Host-refresh={login.cookies()['__Host-refresh']}"

    async def away(*_args: object, **_more: object) -> None:
        raise StoreUnavailable("disk full at /var/lib/secret")

    for port, verb in (
        (desk.authority.store.sessions, "rotate"),
        (desk.authority.store.sessions, "find"),
        (desk.authority.store.sessions, "end"),
        (desk.authority.store.feed, "head"),
        (desk.authority.store.accounts, "find_by_name"),
    ):
        monkeypatch.setattr(port, verb, away)
    body = {"username": "alice", "password": "correct horse battery"}
    for answer in (
        await desk.ask("POST", "/refresh", cookie=cookie),
        await desk.ask("POST", "/logout", cookie=cookie),
        await desk.ask("POST", "/login", json_body=body),
        await desk.ask("GET", "/readyz"),
    ):
        assert (answer.status, answer.code, answer.json()["next"]) == (503, "store_unavailable", "retry")
        assert answer.header("retry-after") == "1"
        assert not answer.all("set-cookie")
        assert b"secret" not in answer.body


@pytest.fixture
def log() -> io.StringIO:
    """Everything that is logged, as JSON lines."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    logs.configure("debug", stream)
    yield stream
    logging.getLogger().handlers[:] = before[0]
    logging.getLogger().setLevel(before[1])


async def test_a_fault_is_logged_and_says_nothing(desk, monkeypatch, log: io.StringIO) -> None:
    await desk.user()
    token = await desk.access_token()

    async def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError(f"broken by {token}")

    monkeypatch.setattr(desk.authority, "authenticate", broken)
    answer = await desk.ask("GET", "/session?secret=kfs_hush", bearer=token)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert set(answer.json()) == {"type", "title", "status", "code", "detail", "next"}
    assert b"broken" not in answer.body
    (line,) = [json.loads(line) for line in log.getvalue().splitlines() if "fault" in line]
    assert (line["event"], line["error"], line["route"], line["level"]) == (
        "fault",
        "RuntimeError",
        "/session",
        "error",
    )
    assert line["message"] == "broken by [redacted]"
    assert any("session.py" in frame for frame in line["trace"])
    assert token not in log.getvalue()
    assert "secret" not in log.getvalue()


@pytest.mark.meets("9700-4.9.3b")
async def test_no_secret_reaches_the_log(desk, log: io.StringIO) -> None:
    """X-03: a journey through every kind of credential, with a canary in each place."""
    await desk.user()
    login = await desk.login(strategy="hybrid", transport="body")
    tokens = [login.json()["refresh_token"], login.json()["access_token"], login.json()["csrf_token"]]
    client = await desk.client("orders", "keyfob:feed")
    await desk.ask("POST", "/refresh", json_body={"refresh_token": tokens[0]})
    await desk.ask("POST", "/login", json_body={"username": "alice", "password": "canary-password"})
    await desk.ask("GET", f"/session?token={tokens[1]}", bearer=tokens[1] + "x")
    await desk.ask("GET", "/feed/snapshot", basic=(client[0], client[1] + "x"))
    await desk.ask("POST", "/logout", json_body={"refresh_token": tokens[0]})
    for secret in (*tokens, client[1], "canary-password", "correct horse battery"):
        assert secret not in log.getvalue()


def test_a_log_line_of_the_standard_library_is_json_without_secrets(log: io.StringIO) -> None:
    token = "kfs_" + "A" * 98
    logging.getLogger("other").warning(
        "look: %s", token, extra={"fields": {"subject": "alice", "token": token}}
    )
    try:
        raise ValueError(token)
    except ValueError:
        logging.getLogger("other").exception("went wrong\nforged line")
    first, second = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (first["event"], first["subject"], first["token"]) == ("look: [redacted]", "alice", "[redacted]")
    assert (second["error"], second["message"]) == ("ValueError", "[redacted]")


# Metrics and OpenAPI


async def test_requests_and_refusals_are_counted_without_names(desk) -> None:
    await desk.user()
    login = await desk.login()
    await desk.ask("GET", "/session")
    await desk.ask("DELETE", f"/sessions/{login.json()['session_id']}")
    await desk.ask("GET", "/nothing/" + "a" * 50)
    text = (await desk.ask("GET", "/metrics")).body.decode()
    assert 'keyfob_http_responses_total{route="/login",status="200"} 1.0' in text
    assert 'keyfob_http_responses_total{route="unknown",status="404"} 1.0' in text
    assert 'keyfob_refusals_total{cause="no_credential"} 2.0' in text
    assert "keyfob_feed_position" in text
    for name in (login.json()["session_id"], login.json()["subject"], "alice", "aaaa"):
        assert name not in text


async def test_the_openapi_document_shows_every_route_with_its_structs(desk) -> None:
    answer = await desk.ask("GET", "/openapi.json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    shown = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    expected = {
        ("GET" if method == "*" else method, path) for method, path in ALL if not path.endswith("/{rest}")
    }
    assert shown == expected | {("GET", "/advise"), ("GET", "/metrics"), ("GET", "/openapi.json")}
    schemas = document["components"]["schemas"]
    login = document["paths"]["/login"]["post"]
    assert login["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/LoginRequest"
    }
    assert schemas["LoginRequest"]["additionalProperties"] is False
    assert schemas["LoginRequest"]["required"] == ["username", "password"]
    assert set(schemas["EntryAnswer"]["properties"]) >= {"except", "chain"}
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(schemas)
    ids = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))


# Lifespan


async def lifespan(app) -> list[str]:
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive():
        return events.pop(0)

    async def send(message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return sent


async def test_the_authority_lives_as_long_as_the_server() -> None:
    from keyfob.authority.authority import Authority

    opened: list[Authority] = []

    async def open_authority() -> Authority:
        opened.append(await Authority.open("memory://", issuer="https://auth.example"))
        return opened[-1]

    app = application(open_authority, issuer="https://auth.example")
    assert await lifespan(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert len(opened) == 1


async def test_a_server_that_cannot_open_its_authority_does_not_start() -> None:
    async def open_authority():
        raise ConfigurationError("the master key does not fit")

    app = application(open_authority, issuer="https://auth.example")
    assert await lifespan(app) == ["lifespan.startup.failed"]


async def test_before_and_after_its_life_the_application_is_unavailable(desk) -> None:
    await desk.app.stop()
    answer = await desk.ask("GET", "/healthz")
    assert (answer.status, answer.code) == (503, "unavailable")


async def test_a_websocket_is_refused(desk) -> None:
    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    await desk.app({"type": "websocket", "path": "/session"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "http.disconnect"}],
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}],
    ],
)
async def test_a_client_that_leaves_in_its_body_changes_nothing(desk, events) -> None:
    sent = []

    async def receive():
        return events.pop(0)

    async def send(message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/login",
        "raw_path": b"/login",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
    }
    await desk.app(scope, receive, send)
    assert sent[0]["status"] == 400


async def test_a_body_that_does_not_come_is_given_up(desk, monkeypatch) -> None:
    import asyncio

    from keyfob.http import body_chunks as body_module

    monkeypatch.setattr(body_module, "BODY_SECONDS", 0.01)
    sent = []

    async def receive():
        await asyncio.Event().wait()

    async def send(message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/login",
        "raw_path": b"/login",
        "query_string": b"",
        "headers": [],
        "client": None,
    }
    await asyncio.wait_for(desk.app(scope, receive, send), 5)
    assert sent[0]["status"] == 408
