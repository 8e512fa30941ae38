"""A connection: what goes out in one piece comes back as the same number of replies, in order.

redis-py has connections too. Theirs hand over one reply at a time, through a coroutine each, which takes longer than the server needs for a
look-up; here the parser (hiredis, the same) takes whatever has come in one go.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final, cast

from hiredis import Reader, pack_command
from redis.exceptions import InvalidResponse

from keyfob.stores.redis.faults import read_error

Command = Sequence[object]

_NOTHING: Final = object()


def packed(command: Command) -> bytes:
    """Return *command* as it is sent.

    Raises:
        UnicodeEncodeError: it holds a lone surrogate.
    """
    return bytes(pack_command(tuple(command)))  # type: ignore[arg-type]  # its stub knows tuples of one


class Connection(asyncio.Protocol):
    """One connection. It carries one piece at a time; whoever gives up on a piece hangs up."""

    def __init__(self) -> None:
        self.received: list[object] = []
        """The replies to the present piece so far, or to the last one: what had come before a connection was lost is known."""
        self._reader = Reader(protocolError=InvalidResponse, replyError=read_error, notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[list[object]] | None = None
        self._expected = 0
        self._lost: BaseException | None = None
        self._closed = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, host: str, port: int, *, tls: ssl.SSLContext | None) -> Connection:
        """Connect; with *tls* the server proves that it is *host*.

        Raises:
            OSError: nobody is there, or it is somebody else.
        """
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, port, ssl=tls)
        return connection

    @property
    def is_closed(self) -> bool:
        """Say whether nothing can be sent any more."""
        return self._lost is not None or self._transport is None or self._transport.is_closing()

    def send(self, piece: bytes, replies: int) -> asyncio.Future[list[object]]:
        """Send *piece*; return what comes to its *replies*. An error that the server answers is a reply too.

        The future raises `OSError` if the connection is lost, `InvalidResponse` if it is no Redis.

        Raises:
            OSError: it is closed.
        """
        if self.is_closed or self._transport is None:
            raise self._lost or ConnectionResetError("the connection is closed")
        answer = asyncio.get_running_loop().create_future()
        self.received, self._answer, self._expected = [], answer, replies
        self._transport.write(piece)
        return answer

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to *commands*.

        Raises:
            Exception: one of `faults.FAULTS`; the first that the server refuses is raised, when all were answered.
        """
        replies = await self.send(b"".join(map(packed, commands)), len(commands))
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies

    def keep_alive(self) -> None:
        """Let the operating system notice a server that is gone without a word."""
        assert self._transport is not None
        own = self._transport.get_extra_info("socket")
        if own is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Close it, and wait until it is: TLS has a farewell. Whoever is cancelled meanwhile has closed it at once."""
        if self._transport is None:
            return
        self._transport.close()
        try:
            await asyncio.shield(self._closed)
        except asyncio.CancelledError:
            self._transport.abort()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: read what has come."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                self.received.append(reply)
        except InvalidResponse as error:
            self._fail(error)
            return
        if self._answer is None or len(self.received) > self._expected:
            self._fail(InvalidResponse("a reply that nobody asked for"))
        elif len(self.received) == self._expected:
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result(self.received)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._lost = self._lost or exc or ConnectionResetError("the connection was closed")
        self._tell(self._lost)
        if not self._closed.done():
            self._closed.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._lost = error
        self._tell(error)
        self.abort()

    def _tell(self, error: BaseException) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
