"""One server, as the ports of the store use it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError, StoreMoved, StoreUnavailable
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Entry
from keyfob.stores.moving import Mark, refusal
from keyfob.stores.records import Kind
from keyfob.stores.redis import places
from keyfob.stores.redis.connecting import ask, connect, find_primary, take_leave
from keyfob.stores.redis.evidence import Evidence, is_behind
from keyfob.stores.redis.evidence import Mark as Reached
from keyfob.stores.redis.faults import FAULTS, WentBack, at_opening, unavailable
from keyfob.stores.redis.listening import Listener
from keyfob.stores.redis.marks import read_mark
from keyfob.stores.redis.options import RedisOptions, Topology
from keyfob.stores.redis.orders import Orders
from keyfob.stores.redis.packing import Reply, read_entry
from keyfob.stores.redis.pipelining import Command, Pipeline
from keyfob.stores.redis.rescue import Rescue
from keyfob.stores.redis.scripts import Script, Scripts
from keyfob.stores.redis.wire import Connection
from keyfob.stores.revoking import new_timeline
from keyfob.stores.rows import DamagedRow
from keyfob.stores.wakers import Wakers

T = TypeVar("T")

SCHEMA: Final = 2
_GOODBYE: Final = 2.0  # seconds: how long `close` waits for what is under way


class Asks(Protocol):
    """What carries requests to a server, or to several."""

    def ask(self, command: Command, *, script: Script | None = None, only_reads: bool) -> Awaitable[Any]:
        """Return what comes to the answer to *command*."""
        ...

    async def close(self, patience: float) -> None:
        """Finish what is under way, for *patience* seconds, and close every connection."""
        ...


class Server:
    """Carries out scripts and commands. Every verb raises `StoreUnavailable` for whatever the server or the network has to say.

    Everything happens on the event loop that opened it; what another loop asks for is carried over to it.
    """

    def __init__(self, options: RedisOptions, salt: bytes, *, clock: Clock) -> None:
        self.salt = salt
        self.evidence = Evidence()
        self.options = options
        self.wakers = Wakers()
        self._scripts = Scripts()
        self._packer = msgspec.msgpack.Encoder()
        self._rescue = Rescue(self.evidence, self._scripts, salt=salt, orders=self.orders, clock=clock)
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._refusal: StoreUnavailable | None = None
        self._pipeline, self._listener = self._lines()

    def _lines(self) -> tuple[Asks, Listener]:
        """Make what carries requests, and what listens."""
        pipeline = Pipeline(self.options, self.connect)
        listener = Listener(
            partial(connect, self.options),
            self.wakers,
            look=partial(find_primary, self.options) if self.options.topology is Topology.SENTINEL else None,
            on_failover=pipeline.leave,
            on_gone=self._note_move,
        )
        return pipeline, listener

    @classmethod
    async def open(cls, options: RedisOptions, *, clock: Clock) -> Server:
        """Connect, check that this version can work there, and make what is not there yet.

        Raises:
            ConfigurationError: a wrong password, too old or an unfit server, data of a newer Keyfob.
            StoreUnavailable: no primary answers.
        """
        try:
            async with asyncio.timeout(options.deadline.total_seconds()):
                connection = await connect(options)
                try:
                    salt = await read_salt(connection, Scripts()["open"], options)
                finally:
                    await take_leave(connection)
        except FAULTS as error:
            raise at_opening(error, options.name) from None
        return cls(options, salt, clock=clock)

    def orders(self, *keys: bytes) -> Orders:
        """Return an empty collection of what a script is told of revocations; *keys* are those that it needs anyhow."""
        return Orders(self.salt, *keys)

    async def carry(self, entries: Sequence[Entry]) -> None:
        """Carry *entries*, which were appended just now, to the rows that they are about. Here they were in the same step."""

    async def connect(self) -> Connection:
        """Connect, and see that the server still has what it acknowledged: only a restart, a failover or a restore takes it back.

        Raises:
            Exception: one of `faults.FAULTS`.
        """
        connection = await connect(self.options)
        try:
            await self._rescue.check(connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    def step(self, name: str, keys: Sequence[bytes], asked: Mapping[str, object]) -> Awaitable[Any]:
        """Carry out the script *name*, which may write, on the feed's keys and then *keys*, with *asked* as its argument."""
        return self.run(name, (*places.STATE, *keys), (self.encode(asked),))

    def encode(self, asked: Mapping[str, object]) -> bytes:
        """Return *asked* as scripts read it."""
        return self._packer.encode(asked)

    async def change(
        self, key: bytes, command: str, arguments: Sequence[object], *, record: tuple[Kind, str]
    ) -> Any:
        """Carry out one command on *key*, which changes *record*, unless the store is held off."""
        kind, name = record
        asked = {"command": command, "arguments": arguments, "kind": kind.value, "record": name}
        return await self.step("change", (key,), asked)

    def run(self, name: str, keys: Sequence[bytes], arguments: Sequence[object] = ()) -> Awaitable[Any]:
        """Carry out the script *name*, which may write."""
        return self._script(name, keys, arguments, only_reads=False)

    def look(self, name: str, keys: Sequence[bytes], arguments: Sequence[object] = ()) -> Awaitable[Any]:
        """Carry out the script *name*, which writes nothing: it is repeated if the connection is lost."""
        return self._script(name, keys, arguments, only_reads=True)

    def read(self, *command: object) -> Awaitable[Any]:
        """Return the answer to one command that reads."""
        return self._ask(command, only_reads=True)

    def _script(
        self, name: str, keys: Sequence[bytes], arguments: Sequence[object], *, only_reads: bool
    ) -> Awaitable[Any]:
        script = self._scripts[name]
        command = (b"EVALSHA", script.digest, len(keys), *keys, *arguments)
        return self._ask(command, script=script, only_reads=only_reads)

    def _ask(
        self, command: tuple[object, ...], *, script: Script | None = None, only_reads: bool
    ) -> Awaitable[Any]:
        """Ask, at once. On the way of a look-up there is no coroutine that does nothing but wait for another."""
        if self._refusal is not None:
            raise StoreMoved(str(self._refusal))
        if asyncio.get_running_loop() is self._loop:
            return self._pipeline.ask(command, script=script, only_reads=only_reads)

        async def ask() -> Any:
            return await self._pipeline.ask(command, script=script, only_reads=only_reads)

        return self.at_home(ask)

    async def together(self, steps: Iterable[Awaitable[T]]) -> list[T]:
        """Carry out *steps* at once; return their answers in order. If one fails the others are finished all the same."""
        answers = await asyncio.gather(*steps, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    def check_head(self, known: Reached, timeline: bytes | None, position: bytes | None) -> Position:
        """Return where the server stands. Refuse one that has no feed any more, or only one from before what was *known* when it was asked.

        Raises:
            StoreUnavailable: it has lost data.
        """
        if timeline is None or position is None:
            raise DamagedRow("the feed is gone")
        stands = Timeline(timeline.decode()), Position(int(position))
        if is_behind(*stands, known):
            raise unavailable(WentBack(), self.options.name)
        self.evidence.see(*stands)
        return stands[1]

    def appended(self, reply: Reply) -> Entry:
        """Return the entry that a script has just appended, remember it, and wake whoever follows."""
        entry = read_entry(reply)
        self.evidence.note(Timeline(reply[-1].decode()), [entry])
        self.wakers.wake()
        return entry

    def too_busy(self) -> StoreUnavailable:
        """Return what to raise where others were faster, again and again."""
        return StoreUnavailable(f"too many change the same at {self.options.name}; try again")

    def _note_move(self, mark: Mark | None) -> None:
        self._refusal = None if mark is None else refusal(mark, self.options.name)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* whenever the feed may have moved, by this process or another.

        Raises:
            StoreUnavailable: the store is closed.
        """
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        return self.wakers.add(wake)

    async def close(self) -> None:
        """Finish what is under way, for a moment, and close every connection. More than once is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        self.wakers.clear()
        await self.at_home(self._close)

    async def _close(self) -> None:
        await self._listener.close()
        await self._pipeline.close(_GOODBYE)

    async def at_home(self, begin: Callable[[], Coroutine[object, object, T]]) -> T:
        """Return what *begin* comes to on the event loop that opened the store.

        Raises:
            StoreUnavailable: that loop is closed.
        """
        if asyncio.get_running_loop() is self._loop:
            return await begin()
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begin(), self._loop))
        except RuntimeError:
            raise StoreUnavailable("the event loop that opened the store is closed") from None


async def read_salt(connection: Connection, script: Script, options: RedisOptions) -> bytes:
    """Make the state of the feed, unless it is there; return the salt.

    Raises:
        ConfigurationError: the data there are not those of an open store of this version.
    """
    schema, salt, move = await make_state(connection, script)
    if move:
        raise ConfigurationError(str(refusal(read_mark(move), options.name)))
    check_schema(schema, options.name)
    return bytes(salt or b"")


def check_schema(schema: bytes | None, name: str) -> None:
    """Refuse data that another version of Keyfob has written.

    Raises:
        ConfigurationError: it has.
    """
    if schema is None or int(schema) != SCHEMA:
        raise ConfigurationError(f"the data at {name} are not those of this version of Keyfob")


async def make_state(connection: Connection, script: Script) -> tuple[bytes | None, bytes | None, bytes]:
    """Make the state of the feed, unless it is there; return its schema, its salt, and the mark of a store that is closed (empty: it is not)."""
    command = (
        *(b"EVAL", script.text, 2, places.META, places.CLOSED),
        *(SCHEMA, os.urandom(32), new_timeline()),
    )
    schema, salt, move = await ask(connection, *command)
    return schema, salt, move or b""
