"""How long a client may take over the head of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest
import uvicorn

from keyfob.server import connection

Message = MutableMapping[str, Any]
DEADLINE = 20.0


class SlowApp:
    """Answers each request when allowed to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def app() -> SlowApp:
    return SlowApp()


@pytest.fixture
async def port(app: SlowApp, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    config = uvicorn.Config(app, http=connection.Connection, ws="none", lifespan="off", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    listener = await asyncio.get_running_loop().create_server(
        lambda: connection.Connection(config=config, server_state=server.server_state, app_state={}),
        "127.0.0.1",
        0,
    )
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()


async def answer_to(port: int, *pieces: bytes) -> bytes:
    """Send *pieces* and return everything until the server closes the connection."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@pytest.mark.parametrize("pieces", [(), (b"G",), (b"GET / HTTP/1.1\r\n", b"host: x\r\n")])
async def test_a_client_that_does_not_finish_its_head_is_told_and_left(
    port: int, pieces: tuple[bytes, ...]
) -> None:
    assert (await answer_to(port, *pieces)).startswith(b"HTTP/1.1 408 ")


async def test_a_later_request_has_the_same_bound(port: int, app: SlowApp) -> None:
    app.may_answer.set()
    answer = await answer_to(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HTTP/1.1\r\nho")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


async def test_a_request_that_is_complete_may_take_as_long_as_it_takes(port: int, app: SlowApp) -> None:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        # A second client, begun later, meets its bound first; the first one is still waited for.
        assert (await answer_to(port)).startswith(b"HTTP/1.1 408 ")
        app.may_answer.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()


async def test_half_a_request_during_an_answer_never_becomes_a_part_of_it(port: int, app: SlowApp) -> None:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT")
        assert await reader.read() == b""
        app.may_answer.set()
        writer.close()
        await writer.wait_closed()
