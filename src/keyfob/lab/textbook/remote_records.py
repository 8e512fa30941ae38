"""The same store behind a socket, as several services share one: a line of JSON for each call, answered in order, any number under way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, cast

import msgspec

from keyfob.lab.textbook.records import Kind, Records, RecordsUnavailable, SqliteRecords, Taken

VERBS = ("add", "find", "take", "end", "end_family", "end_subject", "block_subject", "counts")


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call: its verb, and what the verb takes."""

    verb: str
    arguments: dict[str, Any]


class StoreProtocol(asyncio.Protocol):
    """The store's side of a connection."""

    def __init__(self, records: SqliteRecords) -> None:
        self._records = records
        self._pending = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no such base

    def data_received(self, data: bytes) -> None:
        """Answer every line that is whole, in order."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        assert self._transport is not None
        for line in lines:
            self._transport.write(self._answer(msgspec.json.decode(line, type=Call)) + b"\n")

    def _answer(self, call: Call) -> bytes:
        if call.verb not in VERBS:
            raise ValueError(f"{call.verb} is no verb of the store")
        if call.verb == "counts":
            return msgspec.json.encode({**self._records.counts, "cpu_seconds": time.process_time()})
        # No verb of the file waits for anything: its coroutine is over at the first step.
        step = getattr(self._records, call.verb)(**call.arguments)
        try:
            step.send(None)
        except StopIteration as done:
            return msgspec.json.encode(done.value)
        raise RuntimeError("a verb of the file waited")


class _Connection(asyncio.Protocol):
    """The caller's side."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[asyncio.Future[bytes]] = deque()
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_exception(RecordsUnavailable("the connection to the store was lost"))


class RemoteRecords(Records):
    """Records behind a socket. A call while the store is away fails at once; the next one tries to connect again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._counts = {"store_queries": 0, "network_calls": 0}

    @property
    def counts(self) -> dict[str, int]:
        """See `Records`."""
        return self._counts

    async def add(self, kind: Kind, key: str, *, subject: str, family: str, expires_at: float) -> None:
        """See `Records`."""
        await self._call("add", kind=kind, key=key, subject=subject, family=family, expires_at=expires_at)

    async def find(self, kind: Kind, key: str, *, now: float) -> str | None:
        """See `Records`."""
        return msgspec.json.decode(await self._call("find", kind=kind, key=key, now=now), type=str | None)

    async def take(self, kind: Kind, key: str, *, now: float) -> Taken | None:
        """See `Records`."""
        return msgspec.json.decode(await self._call("take", kind=kind, key=key, now=now), type=Taken | None)

    async def end(self, kind: Kind, key: str) -> None:
        """See `Records`."""
        await self._call("end", kind=kind, key=key)

    async def end_family(self, kind: Kind, family: str) -> None:
        """See `Records`."""
        await self._call("end_family", kind=kind, family=family)

    async def end_subject(self, kind: Kind, subject: str) -> None:
        """See `Records`."""
        await self._call("end_subject", kind=kind, subject=subject)

    async def block_subject(self, subject: str) -> None:
        """See `Records`."""
        await self._call("block_subject", subject=subject)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.close()
            await asyncio.sleep(0)

    async def _call(self, verb: str, **arguments: object) -> bytes:
        connection = await self._connected()
        assert connection.transport is not None
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        connection.waiting.append(future)
        connection.transport.write(msgspec.json.encode(Call(verb, arguments)) + b"\n")
        self._counts["store_queries"] += 1
        self._counts["network_calls"] += 1
        return await future

    async def _connected(self) -> _Connection:
        connection = self._connection
        if connection is not None and connection.transport is not None:
            return connection
        async with self._connecting:
            if self._connection is None or self._connection.transport is None:
                try:
                    _, self._connection = await asyncio.get_running_loop().create_connection(
                        _Connection, "127.0.0.1", self._port
                    )
                except OSError as error:
                    raise RecordsUnavailable(str(error)) from None
            return self._connection
