"""An authority in memory, and a plain ASGI client that can hold a connection open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

import keyfob

DEADLINE = 10.0  # seconds until a test gives up waiting


@pytest.fixture
async def authority() -> AsyncIterator[keyfob.Authority]:
    async with keyfob.Authority.open("memory://", issuer="https://auth.example") as opened:
        yield opened


class Connection:
    """One connection to an ASGI application: what it sent so far, and more on demand."""

    def __init__(self, app, scope) -> None:
        self._sent: asyncio.Queue = asyncio.Queue()
        self._to_app: asyncio.Queue = asyncio.Queue()
        self.task = asyncio.ensure_future(app(scope, self._to_app.get, self._sent.put))

    def put(self, message) -> None:
        self._to_app.put_nowait(message)

    async def next(self) -> dict:
        """Return the next message of the application; an error of the application is raised."""
        waiting = asyncio.ensure_future(self._sent.get())
        done, _ = await asyncio.wait(
            {waiting, self.task}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
        )
        if waiting in done:
            return waiting.result()
        waiting.cancel()
        assert self.task in done, "the application sent nothing in time"
        self.task.result()
        raise AssertionError("the application ended and sent nothing")

    async def ended(self) -> None:
        await asyncio.wait_for(self.task, DEADLINE)


def http_scope(method: str = "GET", path: str = "/", headers=()) -> dict:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("auth.example", 443),
    }


def websocket_scope(path: str = "/", headers=(), extensions=None) -> dict:
    scope = http_scope(path=path, headers=headers)
    del scope["method"]
    return {**scope, "type": "websocket", "scheme": "wss", "subprotocols": [], "extensions": extensions or {}}


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token.encode()


def cookie(token: str) -> tuple[bytes, bytes]:
    return b"cookie", b"__Host-session=" + token.encode()


@pytest.fixture
def scopes():
    """Make the scopes of connections, and the headers with a credential."""
    return SimpleNamespace(http=http_scope, websocket=websocket_scope, bearer=bearer, cookie=cookie)


@pytest.fixture
def connect():
    """Open connections that are ended with the test."""
    opened = []

    @asynccontextmanager
    async def connecting(app, scope):
        connection = Connection(app, scope)
        opened.append(connection)
        if scope["type"] == "http":
            connection.put({"type": "http.request", "body": b"", "more_body": False})
        else:
            connection.put({"type": "websocket.connect"})
        try:
            yield connection
        finally:
            connection.task.cancel()
            await asyncio.gather(connection.task, return_exceptions=True)

    return connecting


@pytest.fixture
def ask(connect):
    """Send one request and return status, headers and body."""

    async def asking(app, scope):
        async with connect(app, scope) as connection:
            start = await connection.next()
            body = b""
            while True:
                piece = await connection.next()
                body += piece.get("body", b"")
                if not piece.get("more_body", False):
                    return start["status"], dict(start["headers"]), body

    return asking
