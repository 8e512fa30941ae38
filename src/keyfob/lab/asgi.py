"""The least that the lab's own servers need of ASGI: requests, answers, routes, and serving on the loopback interface."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import uvicorn

MAX_BODY = 64 * 1024  # bytes: the largest form or JSON of the lab has a few hundred

_Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[_Message]]
Send = Callable[[_Message], Awaitable[None]]
Header = tuple[bytes, bytes]
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `headers` has each name once, in lower case; the body is read where a route asks for it."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    query: bytes
    receive: Receive

    def bearer(self) -> str | None:
        """Return the token of the Authorization header."""
        value = self.headers.get(b"authorization", b"")
        return value[7:].decode("latin-1") if value[:7].lower() == b"bearer " else None

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie."""
        for pair in self.headers.get(b"cookie", b"").decode("latin-1").split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value
        return None

    async def body(self) -> bytes:
        """Read the body.

        Raises:
            Refused: 413, it is longer than any of the lab's.
        """
        body = bytearray()
        while True:
            message = await self.receive()
            body += message.get("body", b"")
            if len(body) > MAX_BODY:
                raise Refused("body_too_large", status=413)
            if not message.get("more_body", False):
                return bytes(body)

    async def fields(self) -> dict[str, str]:
        """Read a JSON object or a form as texts by name; nothing for what is neither."""
        body = await self.body()
        if self.headers.get(b"content-type", b"").startswith(b"application/json"):
            try:
                decoded = msgspec.json.decode(body or b"{}", type=dict[str, object])
            except (msgspec.DecodeError, UnicodeDecodeError):
                return {}
            return {name: str(value) for name, value in decoded.items()}
        return dict(parse_qsl(body.decode("utf-8", "replace")))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    status: int
    body: bytes = b""
    headers: Sequence[Header] = ()


class Refused(Exception):
    """A request that is refused; `code` says why."""

    def __init__(self, code: str, *, status: int = 401) -> None:
        self.code = code
        self.status = status
        super().__init__(code)


Endpoint = Callable[[Request], Awaitable[Answer]]
JSON: Header = (b"content-type", b"application/json")
NO_STORE: Header = (b"cache-control", b"no-store")


def json_answer(document: object, *headers: Header, status: int = 200) -> Answer:
    """Answer with *document*."""
    return Answer(status, msgspec.json.encode(document), (JSON, NO_STORE, *headers))


class Routes:
    """The ASGI application: an endpoint by method and path. Another method of a known path is 405."""

    def __init__(self, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self._endpoints = dict(endpoints)
        self._paths = {path for _, path in endpoints}

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(
            scope["method"], scope["path"], dict(scope["headers"]), scope["query_string"], receive
        )
        try:
            answer = await self._endpoint(request)(request)
        except Refused as refused:
            answer = json_answer({"code": refused.code}, status=refused.status)
        length = (b"content-length", b"%d" % len(answer.body))
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [*answer.headers, length] if answer.status != 204 else list(answer.headers),
            }
        )
        await send({"type": "http.response.body", "body": answer.body})

    def _endpoint(self, request: Request) -> Endpoint:
        endpoint = self._endpoints.get((request.method, request.path))
        if endpoint is not None:
            return endpoint
        known = request.path in self._paths
        raise Refused("method_not_allowed" if known else "not_found", status=405 if known else 404)


def read_settings(kind: type[S]) -> S:
    """Read the settings that a process of the lab is given: one line of JSON on standard input. When that closes, the process ends.

    So nothing of the lab outlives whoever plays it, however that ends.
    """
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)
    threading.Thread(target=_end_with_input, daemon=True).start()
    return settings


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a process says once it serves: its port, and the client that its services are, where they need to be one."""

    port: int
    client_id: str = ""
    client_secret: str = ""


def announce(announcement: Announcement) -> None:
    """Say on standard output that a port is served."""
    sys.stdout.buffer.write(msgspec.json.encode(announcement) + b"\n")
    sys.stdout.flush()


def listener() -> socket.socket:
    """Return a socket that listens on a free port of the loopback interface."""
    # Named as TCP, so that asyncio sends without delay (TCP_NODELAY) on what it accepts.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    return listening


async def serve(app: Routes, listening: socket.socket) -> None:
    """Serve *app* until SIGTERM, and say so once requests are taken."""
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    announce(Announcement(port=listening.getsockname()[1]))
    await uvicorn.Server(config).serve(sockets=[listening])
