"""`keyfob.integrations.asgi`: who gets in, and who is put out."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

import keyfob
from keyfob.integrations.asgi import Auth, principal_of

DEADLINE = 10.0


async def hello(scope, receive, send):
    """Say who is calling."""
    name = principal_of(scope).subject.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": name})


def streaming(content_type: bytes):
    """Return an application that sends one piece and then waits for good."""

    async def app(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]}
        )
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.Event().wait()

    return app


async def chat(scope, receive, send):
    """Accept a WebSocket and send back what comes, until it is closed."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
async def test_whoever_is_signed_in_reaches_the_application(authority, ask, scopes, strategy):
    issued = await authority.login("alice", strategy=strategy)
    token = issued.session_token or issued.access_token

    status, _, body = await ask(Auth(authority).protect(hello), scopes.http(headers=[scopes.bearer(token)]))

    assert (status, body) == (200, b"alice")


async def test_nobody_else_reaches_it_and_learns_the_cause(authority, ask, scopes):
    app = Auth(authority).protect(hello)

    status, headers, body = await ask(app, scopes.http())

    assert status == 401
    assert headers[b"x-auth-cause"] == b"no_credential"
    assert headers[b"www-authenticate"].startswith(b"Bearer")
    assert headers[b"cache-control"] == b"no-store"
    assert json.loads(body)["next"] == "login"


@pytest.mark.parametrize(("strategy", "helps"), [("hybrid", "refresh"), ("jwt", "login")])
async def test_whoever_can_refresh_is_told_to(authority, ask, scopes, strategy, helps):
    issued = await authority.login("alice", strategy=strategy, roles=["buyer"])
    app = Auth(authority).protect(hello)
    scope = scopes.http(headers=[scopes.bearer(issued.access_token)])
    await authority.set_roles("alice", ["payer"])
    status, headers, body = await ask(app, scope)
    assert (status, headers[b"x-auth-cause"]) == (401, b"stale_claims")
    assert json.loads(body)["next"] == helps


async def test_a_revoked_credential_is_refused_on_the_next_request(authority, ask, scopes):
    issued = await authority.login("alice", strategy="jwt")
    app, scope = Auth(authority).protect(hello), scopes.http(headers=[scopes.bearer(issued.access_token)])
    assert (await ask(app, scope))[0] == 200

    await authority.revoke("subject", "alice", reason="theft")

    status, headers, _ = await ask(app, scope)
    assert (status, headers[b"x-auth-cause"]) == (401, b"revoked")


@pytest.mark.meets("10.3.2")
@pytest.mark.parametrize(
    ("rules", "status", "cause"),
    [
        ({"roles": {"payer"}}, 200, None),
        ({"roles": {"payer", "admin"}}, 403, b"insufficient_role"),
        ({"scopes": {"orders:write"}}, 403, b"insufficient_scope"),
        ({"strategy": "session"}, 200, None),
        ({"strategy": {"session", "hybrid"}}, 200, None),
        ({"strategy": "jwt"}, 401, b"wrong_type"),
        ({"max_auth_age": timedelta(minutes=5)}, 200, None),
        ({"max_staleness": timedelta(seconds=3)}, 200, None),
    ],
)
async def test_the_policy_of_the_route_decides(authority, ask, scopes, rules, status, cause):
    issued = await authority.login("alice", strategy="session", roles=["payer"])
    app = Auth(authority).protect(hello, **rules)

    answer = await ask(app, scopes.http(headers=[scopes.bearer(issued.session_token)]))

    assert answer[0] == status
    assert answer[1].get(b"x-auth-cause") == cause


@pytest.mark.parametrize(
    "rules",
    [
        {"roles": "payer"},
        {"scopes": "orders"},
        {"strategy": "cookies"},
        {"on_stale": "perhaps"},
        {"max_staleness": timedelta(seconds=-1)},
    ],
)
async def test_a_policy_that_cannot_be_meant_is_refused_when_the_route_is_made(authority, rules):
    with pytest.raises(keyfob.ConfigurationError):
        Auth(authority).protect(hello, **rules)


async def test_a_cookie_that_a_page_of_another_site_sends_changes_nothing(authority, ask, scopes):
    issued = await authority.login("alice", strategy="session")
    app = Auth(authority).protect(hello)
    headers = [scopes.cookie(issued.session_token), (b"sec-fetch-site", b"cross-site")]

    assert (await ask(app, scopes.http("POST", headers=headers)))[0] == 403
    assert (await ask(app, scopes.http("GET", headers=headers)))[0] == 200


async def test_an_old_browser_needs_the_csrf_token_of_its_session(authority, ask, scopes):
    issued = await authority.login("alice", strategy="session")
    other = await authority.login("mallory", strategy="session")
    app = Auth(authority).protect(hello)

    async def post(*more):
        return (await ask(app, scopes.http("POST", headers=[scopes.cookie(issued.session_token), *more])))[0]

    assert await post() == 403
    assert await post((b"x-csrf-token", authority.csrf_token(other.session_id).encode())) == 403
    right = (b"x-csrf-token", authority.csrf_token(issued.session_id).encode())
    assert await post(right, right) == 403
    assert await post(right) == 200


async def test_a_page_of_an_origin_of_ours_may_send_the_cookie(authority, ask, scopes):
    issued = await authority.login("alice", strategy="session")
    app = Auth(authority, origins=["https://app.example"]).protect(hello)

    async def post(origin):
        headers = [scopes.cookie(issued.session_token), (b"origin", origin)]
        return (await ask(app, scopes.http("POST", headers=headers)))[0]

    assert await post(b"https://app.example") == 200
    assert await post(b"https://auth.example") == 200
    assert await post(b"https://evil.example") == 403
    assert await post(b"null") == 403


async def test_a_request_with_two_credentials_is_refused(authority, ask, scopes):
    issued = await authority.login("alice", strategy="session")
    headers = [scopes.cookie(issued.session_token), scopes.bearer(issued.session_token)]

    status, answer, _ = await ask(Auth(authority).protect(hello), scopes.http(headers=headers))

    assert (status, answer[b"x-auth-cause"]) == (401, b"malformed")


async def test_an_application_that_nobody_protects_finds_no_principal(scopes):
    with pytest.raises(keyfob.Denied, match="not protected"):
        principal_of(scopes.http())


async def test_a_client_cannot_bring_a_principal_along(authority, ask, scopes):
    scope = scopes.http()
    scope["keyfob.principal"] = "alice"

    with pytest.raises(keyfob.Denied):
        principal_of(scope)
    assert (await ask(Auth(authority).protect(hello), scope))[0] == 401


async def test_the_lifespan_passes(authority):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await Auth(authority).protect(app)({"type": "lifespan"}, None, None)

    assert seen == ["lifespan"]


async def test_a_websocket_ends_when_its_principal_is_revoked(authority, connect, scopes):
    issued = await authority.login("alice", strategy="session")
    scope = scopes.websocket(headers=[scopes.bearer(issued.session_token)])
    async with connect(Auth(authority).protect(chat), scope) as connection:
        assert (await connection.next())["type"] == "websocket.accept"
        connection.put({"type": "websocket.receive", "text": "hello"})
        assert (await connection.next())["text"] == "hello"

        await authority.revoke("session", issued.session_id)

        assert await connection.next() == {"type": "websocket.close", "code": 1008, "reason": "revoked"}
        await connection.ended()


async def test_a_websocket_with_no_credential_is_refused_before_it_opens(authority, connect, scopes):
    app = Auth(authority).protect(chat)
    async with connect(app, scopes.websocket()) as connection:
        assert await connection.next() == {"type": "websocket.close", "code": 1008, "reason": "no_credential"}
    able = scopes.websocket(extensions={"websocket.http.response": {}})
    async with connect(app, able) as connection:
        start = await connection.next()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
        assert b"no_credential" in (await connection.next())["body"]


async def test_a_page_of_another_site_opens_no_websocket_with_the_cookie(authority, connect, scopes):
    issued = await authority.login("alice", strategy="session")
    app, mine = Auth(authority).protect(chat), scopes.cookie(issued.session_token)
    for more in [(b"origin", b"https://evil.example")], []:
        async with connect(app, scopes.websocket(headers=[mine, *more])) as connection:
            assert (await connection.next())["reason"] == "cross_origin"
    async with connect(
        app, scopes.websocket(headers=[mine, (b"origin", b"https://auth.example")])
    ) as connection:
        assert (await connection.next())["type"] == "websocket.accept"


async def test_an_event_stream_ends_when_its_principal_is_revoked(authority, connect, scopes):
    issued = await authority.login("alice", strategy="jwt")
    scope = scopes.http(headers=[scopes.bearer(issued.access_token)])
    app = Auth(authority).protect(streaming(b"text/event-stream"))
    async with connect(app, scope) as connection:
        await connection.next()
        assert (await connection.next())["body"] == b"first"

        await authority.revoke("subject", "alice")

        assert await connection.next() == {"type": "http.response.body", "body": b""}
        await connection.ended()


async def test_nothing_of_a_stream_goes_to_whoever_was_revoked_before_it_began(authority, connect, scopes):
    issued = await authority.login("alice", strategy="jwt")

    async def late(scope, receive, send):
        await authority.revoke("subject", "alice")
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
        await send(start)
        await send({"type": "http.response.body", "body": b"secret", "more_body": True})

    scope = scopes.http(headers=[scopes.bearer(issued.access_token)])
    async with connect(Auth(authority).protect(late), scope) as connection:
        assert (await connection.next())["type"] == "http.response.start"
        with pytest.raises(AssertionError, match="sent nothing"):
            await connection.next()


async def test_a_download_is_cut_off_and_not_completed(authority, connect, scopes):
    issued = await authority.login("alice", strategy="jwt")
    scope = scopes.http(headers=[scopes.bearer(issued.access_token)])
    app = Auth(authority).protect(streaming(b"application/zip"))
    async with connect(app, scope) as connection:
        await connection.next()
        await connection.next()

        await authority.revoke("subject", "alice")

        await connection.ended()
        with pytest.raises(AssertionError, match="sent nothing"):
            await connection.next()


async def test_whoever_is_revoked_between_the_check_and_the_first_piece_gets_no_second(
    authority, connect, scopes
):
    issued = await authority.login("alice", strategy="jwt")

    async def app(scope, receive, send):
        await authority.revoke("subject", "alice")
        await streaming(b"text/event-stream")(scope, receive, send)

    async with connect(
        Auth(authority).protect(app), scopes.http(headers=[scopes.bearer(issued.access_token)])
    ) as connection:
        await connection.next()
        pieces = [await connection.next()]
        while pieces[-1].get("more_body"):
            pieces.append(await connection.next())
        await connection.ended()

    assert b"".join(piece["body"] for piece in pieces) in {b"", b"first"}


async def test_what_follows_the_last_piece_is_not_ended(authority, connect, scopes):
    issued = await authority.login("alice", strategy="jwt")
    sent, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b"2"})
        sent.set()
        await go_on.wait()
        done.set()

    scope = scopes.http(headers=[scopes.bearer(issued.access_token)])
    async with connect(Auth(authority).protect(app), scope) as connection:
        await asyncio.wait_for(sent.wait(), DEADLINE)
        await authority.revoke("subject", "alice")
        go_on.set()
        await connection.ended()

    assert done.is_set()


async def test_an_error_of_the_application_passes_as_it_is(authority, connect, scopes):
    issued = await authority.login("alice", strategy="jwt")

    async def app(scope, receive, send):
        raise keyfob.Denied(keyfob.Cause.INSUFFICIENT_ROLE, "its own")

    async with connect(
        Auth(authority).protect(app), scopes.http(headers=[scopes.bearer(issued.access_token)])
    ) as connection:
        with pytest.raises(keyfob.Denied, match="its own"):
            await connection.next()
