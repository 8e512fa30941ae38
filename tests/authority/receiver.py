"""The server of an OpenID client, as far as it is told that sessions are over: it keeps what it is posted, and answers as it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

PATIENCE = 60  # seconds: a machine that is very busy


class Receiver:
    """Listens on loopback. `answers` are given in turn, then `answer` for good: a status, or bytes as they are; None is silence."""

    def __init__(self, answer: int | bytes | None = 200, *, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.answers: list[int | bytes | None] = []
        self.heads: list[bytes] = []
        self.tokens: list[str] = []
        self.under_way = self.most_under_way = 0
        self.told = asyncio.Condition()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in set(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/backchannel?from=keyfob"

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        async with self.told, asyncio.timeout(PATIENCE):
            await self.told.wait_for(holds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            form: dict[str, Any] = parse_qs((await reader.readexactly(length)).decode())
            async with self.told:
                self.heads.append(head)
                self.tokens += form["logout_token"]
                answer = self.answers.pop(0) if self.answers else self.answer
                self.told.notify_all()
            if answer is None:
                await reader.read()  # until the other side goes
            else:
                writer.write(
                    answer
                    if isinstance(answer, bytes)
                    else f"HTTP/1.1 {answer} Answer\r\nContent-Length: 0\r\n\r\n".encode()
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.under_way -= 1
            self._open.discard(writer)
            writer.transport.abort()
