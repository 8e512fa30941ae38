"""A small resource server, run as a process of its own: `python -m keyfob.demo.service`, with its settings as JSON on standard input.

It has no store and no private key. Every request is checked in memory; the feed tells it of revocations.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping

import msgspec
import uvicorn

from keyfob.base.errors import Cause, Denied, Unavailable
from keyfob.verifier.verifier import Verifier

_Message = MutableMapping[str, object]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

REPORTS = "/reports"
REPORTS_ROLE = "manager"


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is told when it starts."""

    name: str
    issuer: str
    client_id: str
    client_secret: str


class Service:
    """The ASGI application: `/reports` needs the role `manager`, everything else a good credential."""

    def __init__(self, name: str, verifier: Verifier) -> None:
        self._name = name
        self._verifier = verifier

    async def __call__(self, scope: Mapping[str, object], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        roles = {REPORTS_ROLE} if scope["path"] == REPORTS else set()
        try:
            principal = await self._verifier.authenticate(_bearer(scope), roles=roles)
        except Denied as denied:
            forbidden = denied.cause in {Cause.INSUFFICIENT_ROLE, Cause.INSUFFICIENT_SCOPE}
            await _answer(send, 403 if forbidden else 401, {"code": denied.code})
        except Unavailable as unavailable:
            await _answer(send, 503, {"code": unavailable.code})
        else:
            await _answer(
                send,
                200,
                {"service": self._name, "subject": principal.subject, "roles": sorted(principal.roles)},
            )


def _bearer(scope: Mapping[str, object]) -> str:
    headers = scope["headers"]
    assert isinstance(headers, list)
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:], "latin-1")
    raise Denied(Cause.NO_CREDENTIAL)


async def _answer(send: _Send, status: int, body: Mapping[str, object]) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def serve(settings: ServiceSettings) -> None:
    """Follow the feed, and serve on a free port of the loopback interface; print the port once level."""
    async with Verifier.follow(
        settings.issuer,
        audience=settings.name,
        credentials=(settings.client_id, settings.client_secret),
    ) as verifier:
        # Named as TCP, so that asyncio sends without delay (TCP_NODELAY) on what it accepts.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            Service(settings.name, verifier), lifespan="off", log_level="warning", access_log=False
        )
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    """Read the settings and serve until the process is ended."""
    asyncio.run(serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=ServiceSettings)))


if __name__ == "__main__":
    main()
