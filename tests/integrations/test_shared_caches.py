"""What caches are told: nobody is given the page of somebody else, and nobody who was cut off since the page of before."""

from __future__ import annotations

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import Depends, FastAPI, Response
from flask import Flask
from flask import Response as FlaskResponse
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, get
from litestar import Response as LitestarResponse

from keyfob.integrations import aiohttp as on_aiohttp
from keyfob.integrations import asgi, fastapi, flask, litestar
from keyfob.integrations.shared_caches import (
    kept_private,
    texts_varied,
    texts_varied_and_private,
    varied,
    varied_and_private,
    varying,
)
from keyfob.sync import Authority

ISSUER = "https://auth.example"

# What a route states of `Vary` and `Cache-Control`, and what becomes of it for somebody who was let in.
STATED = [
    ("", "", "Cookie, Authorization", "private"),
    ("Accept", "max-age=60", "Accept, Cookie, Authorization", "max-age=60, private"),
    ("cookie", "no-cache", "cookie, Authorization", "no-cache, private"),
    ("*", "no-store", "*", "no-store"),
    ("Authorization, Cookie", "Private, max-age=5", "Authorization, Cookie", "Private, max-age=5"),
    ("", "public, max-age=60", "Cookie, Authorization", "public, max-age=60"),
    ("", "s-maxage=10", "Cookie, Authorization", "s-maxage=10"),
    ("", 'private="set-cookie"', "Cookie, Authorization", 'private="set-cookie", private'),
]


@pytest.mark.parametrize(("vary", "control", "told_vary", "told_control"), STATED)
def test_what_the_application_says_stands_and_what_it_does_not_say_is_added(
    vary, control, told_vary, told_control
) -> None:
    assert (varying(vary), kept_private(control)) == (told_vary, told_control)
    assert (varying(told_vary), kept_private(told_control)) == (told_vary, told_control)  # twice is once


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Vary", "vary", "Cache-Control", "CACHE-CONTROL", "Content-Type", "Set-Cookie"]),
        st.sampled_from(["", "*", "Cookie", "private", "no-store", "max-age=1", "text/html", "a=b"]),
    ),
    max_size=6,
)


@given(HEADERS)
def test_any_headers_say_both_once_and_lose_nothing(headers) -> None:
    told = texts_varied_and_private(headers)
    for name in ("vary", "cache-control"):
        assert len([value for stated, value in told if stated.lower() == name]) == 1
    others = [header for header in headers if header[0].lower() not in {"vary", "cache-control"}]
    assert [header for header in told if header[0].lower() not in {"vary", "cache-control"}] == others
    assert texts_varied_and_private(told) == told  # twice is once
    as_bytes = [(name.encode().lower(), value.encode()) for name, value in headers]
    lower = [(name.lower().encode(), value.encode()) for name, value in told]
    assert sorted(varied_and_private(as_bytes)) == sorted(lower)
    assert sorted(varied(as_bytes)) == sorted(
        (name.lower().encode(), value.encode()) for name, value in texts_varied(headers)
    )


async def credential(authority) -> dict[str, str]:
    issued = await authority.login("alice", strategy="session")
    return {"Authorization": f"Bearer {issued.session_token}"}


def told(answer) -> tuple[str, str]:
    return answer.headers.get("Vary", ""), answer.headers.get("Cache-Control", "")


APART = ("Cookie, Authorization", "private")
STRANGER = ("Cookie, Authorization", "")
UNASKED = ("", "")
OWN = ("Accept, Cookie, Authorization", "public, max-age=60")
SAID = {"Vary": "Accept", "Cache-Control": "public, max-age=60"}


async def check(ask, bearer) -> None:
    """See what is told of the four routes of an application, through *ask*."""
    assert told(await ask("/guarded", bearer)) == APART
    assert told(await ask("/says", bearer)) == OWN
    assert told(await ask("/optional", bearer)) == APART
    assert told(await ask("/optional", {})) == STRANGER
    assert told(await ask("/open", bearer)) == UNASKED
    assert told(await ask("/guarded", {}))[1] == "no-store"  # a refusal is kept by nobody


async def test_an_asgi_application(authority) -> None:
    async def plain(scope, receive, send) -> None:
        headers = [(b"Cache-Control", b"max-age=9")] if scope["path"] == "/says" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    app = asgi.Auth(authority).protect(plain)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER) as client:
        bearer = await credential(authority)
        assert told(await client.get("/", headers=bearer)) == APART
        assert told(await client.get("/says", headers=bearer)) == (APART[0], "max-age=9, private")
        assert told(await client.get("/"))[1] == "no-store"


async def test_a_fastapi_application(authority) -> None:
    app, auth = FastAPI(), fastapi.Auth(authority)
    auth.install(app)

    @app.get("/guarded", dependencies=[Depends(auth.required())])
    async def guarded() -> str:
        return "x"

    @app.get("/says", dependencies=[Depends(auth.required())])
    async def says(response: Response) -> str:
        response.headers.update(SAID)
        return "x"

    @app.get("/optional", dependencies=[Depends(auth.optional())])
    async def optional() -> str:
        return "x"

    @app.get("/open")
    async def unasked() -> str:
        return "x"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER) as client:

        async def ask(path, headers):
            return await client.get(path, headers=headers)

        await check(ask, await credential(authority))


async def test_a_litestar_application(authority) -> None:
    auth = litestar.Auth(authority)

    @get("/guarded", guards=[auth.required()])
    async def guarded() -> str:
        return "x"

    @get("/says", guards=[auth.required()])
    async def says() -> LitestarResponse[str]:
        return LitestarResponse("x", headers=SAID)

    @get("/optional", guards=[auth.optional()])
    async def optional() -> str:
        return "x"

    @get("/open")
    async def unasked() -> str:
        return "x"

    app = Litestar([guarded, says, optional, unasked], plugins=[auth])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER) as client:

        async def ask(path, headers):
            return await client.get(path, headers=headers)

        await check(ask, await credential(authority))


async def test_an_aiohttp_application(authority) -> None:
    app, auth = web.Application(), on_aiohttp.Auth(authority)
    auth.install(app)

    @auth.required()
    async def guarded(_request) -> web.Response:
        return web.Response(text="x")

    @auth.required()
    async def says(_request) -> web.Response:
        return web.Response(text="x", headers=SAID)

    @auth.optional()
    async def optional(_request) -> web.Response:
        return web.Response(text="x")

    async def unasked(_request) -> web.Response:
        return web.Response(text="x")

    for path, handler in (
        ("/guarded", guarded),
        ("/says", says),
        ("/optional", optional),
        ("/open", unasked),
    ):
        app.router.add_get(path, handler)
    async with TestClient(TestServer(app)) as client:

        async def ask(path, headers):
            return await client.get(path, headers=headers)

        await check(ask, await credential(authority))


async def test_a_flask_application() -> None:
    with Authority.open("memory://", issuer=ISSUER) as authority:
        app = Flask(__name__)
        auth = flask.Auth(lambda: authority, app)

        @app.get("/guarded")
        @auth.required()
        def guarded() -> str:
            return "x"

        @app.get("/says")
        @auth.required()
        def says() -> FlaskResponse:
            return FlaskResponse("x", headers=SAID)

        @app.get("/optional")
        @auth.optional()
        def optional() -> str:
            return "x"

        @app.get("/open")
        def unasked() -> str:
            return "x"

        client = app.test_client()

        async def ask(path, headers):
            return client.get(path, headers=headers, base_url=ISSUER)

        token = authority.login("alice", strategy="session").session_token
        await check(ask, {"Authorization": f"Bearer {token}"})
