"""A line to a server that can be cut: for tests of what happens when it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto


class Cut(Enum):
    """Where a connection is lost: before a message reaches the server, before its answer comes back, or in the middle of that answer."""

    BEFORE = auto()
    AFTER = auto()
    WITHIN = auto()


@dataclass(slots=True, eq=False)
class _Pair:
    """One connection of a client, and the one that leads on."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    cut: Cut | None = None

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


@dataclass(slots=True)
class _Trap:
    """What happens to the message that holds a text: the line is cut, or the line answers by itself."""

    text: bytes
    then: Cut | bytes


@dataclass(slots=True)
class Line:
    """A TCP proxy in front of a server on the loopback address: it can be silent, slow, hang up, and answer by itself.

    *port* is where the server is; once it is `open`, `port` is where the line is.
    """

    port: int
    latency: float = 0.0
    """Seconds by which each piece of an answer is late."""
    _onward: int = field(init=False)
    _may_pass: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _pairs: set[_Pair] = field(init=False, default_factory=set)
    _pumps: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _server: asyncio.Server | None = field(init=False, default=None)
    _trap: _Trap | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Lead to *port*."""
        self._onward, self.port = self.port, 0
        self._may_pass.set()

    async def open(self) -> None:
        """Take connections, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def fall_silent(self) -> None:
        """Hold back what comes, either way, until `speak`."""
        self._may_pass.clear()

    def speak(self) -> None:
        """Let everything pass, and what was held back first."""
        self._may_pass.set()

    def cut_at(self, text: bytes, cut: Cut) -> None:
        """Cut the connection that sends *text* next, once."""
        self._trap = _Trap(text, cut)

    def answer_with(self, answer: bytes, *, to: bytes) -> None:
        """Answer the next message that holds *to* with *answer*, once, in place of the server, which never hears of it."""
        self._trap = _Trap(to, answer)

    @property
    def is_armed(self) -> bool:
        """Say whether `cut_at` or `answer_with` has not happened yet."""
        return self._trap is not None

    def hang_up(self) -> None:
        """Reset every connection."""
        for pair in self._pairs:
            pair.abort()

    async def close(self) -> None:
        """Refuse new connections and hang up."""
        assert self._server is not None
        self._server.close()
        self.hang_up()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", self._onward)
        pair = _Pair(writer, back)
        self._pairs.add(pair)
        for way in (self._send_on(reader, pair), self._send_back(onward, pair)):
            pump = asyncio.create_task(way)
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _send_on(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                await self._may_pass.wait()
                if self._trap is not None and self._trap.text in piece:
                    trap, self._trap = self._trap, None
                    if isinstance(trap.then, bytes):
                        pair.client.write(trap.then)
                        continue
                    if trap.then is Cut.BEFORE:
                        break
                    pair.cut = trap.then
                pair.server.write(piece)
                await pair.server.drain()
        self._forget(pair)

    async def _send_back(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                await self._may_pass.wait()
                await asyncio.sleep(self.latency)
                if pair.cut is Cut.AFTER:
                    break
                if pair.cut is Cut.WITHIN:
                    pair.client.write(piece[: len(piece) // 2])
                    await pair.client.drain()
                    pair.client.close()  # not a reset, which would take back what was sent
                    break
                pair.client.write(piece)
                await pair.client.drain()
        self._forget(pair)

    def _forget(self, pair: _Pair) -> None:
        if pair.cut is Cut.WITHIN:
            pair.server.transport.abort()
        else:
            pair.abort()
        self._pairs.discard(pair)
