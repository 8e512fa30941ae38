"""A Redis store that is moved: its mark, the changes that its scripts note, and how it is closed.

The mark stands with the state of the feed, which every script that writes reads first, so no writer can miss it: of a source it notes what it
changes, of one that is held off it is refused. To close a store that state is renamed: whoever has it open finds none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from keyfob.base.errors import ConfigurationError
from keyfob.stores.moving import Changes, Mark, Role
from keyfob.stores.records import AnyRecord, Kind
from keyfob.stores.redis import places
from keyfob.stores.redis.connecting import ask, connect, take_leave
from keyfob.stores.redis.faults import FAULTS, at_opening
from keyfob.stores.redis.listening import POLL_INTERVAL
from keyfob.stores.redis.marks import read_mark, write_mark
from keyfob.stores.redis.options import RedisOptions
from keyfob.stores.redis.scripts import Scripts
from keyfob.stores.redis.server import check_schema, make_state
from keyfob.stores.redis.transfer import Access, RedisSnapshot, RedisTransfer, state_key, transact
from keyfob.stores.redis.transfer_changes import changed_records, reading_changes
from keyfob.stores.redis.wire import Connection

_TRIES = 20


class RedisMovable(RedisTransfer):
    """A `Movable` Redis store."""

    readers_leave = timedelta(seconds=2 * POLL_INTERVAL)

    def __init__(self, access: Access, scripts: Scripts) -> None:
        super().__init__(access)
        self._scripts = scripts
        self._kept: tuple[str, RedisSnapshot] | None = None

    @asynccontextmanager
    async def snapshot(self, now: datetime) -> AsyncIterator[RedisSnapshot]:
        """Open one moment of the store. While it is being copied, the moment that was read first serves every page.

        What has changed since is noted, and carried behind it; so it is not to be used any more once such changes have been forgotten.
        """
        mark = await self.mark()
        if mark is None or mark.role is not Role.SOURCE:
            yield await self.read_all(now)
            return
        if self._kept is None or self._kept[0] != mark.copy_id:
            self._kept = (mark.copy_id, await self.read_all(now))
        yield self._kept[1]

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        """Hold a key that names a connection of this process: it is anybody's once the server knows that connection no more."""
        connection = await self.connected()
        try:
            if not await _take(connection):
                raise ConfigurationError(f"another copy of {self.name} is at work; wait for it, or end it")
            yield
        finally:
            await take_leave(connection)

    async def mark(self) -> Mark | None:
        """Return the mark."""
        return await self.alone(_mark)

    async def set_mark(self, mark: Mark | None, *, replaces: Mark | None) -> bool:
        """Set the mark, and open or close the store, in one script."""
        script = self._scripts["mark"]
        keys = (places.META, places.CLOSED, places.CHANGES)
        role = "" if mark is None else mark.role.value
        arguments = (write_mark(replaces), write_mark(mark), role)

        async def work(connection: Connection) -> bool:
            return bool(await ask(connection, b"EVAL", script.text, len(keys), *keys, *arguments))

        return await self.alone(work)

    async def changes(self, limit: int) -> Changes:
        """Return changed rows, read in one transaction."""
        return await self.alone(partial(_changes, limit=limit))

    async def forget_changes(self, through: int) -> None:
        """Forget the changes up to *through*: a row that changed again has a later number."""

        async def work(connection: Connection) -> None:
            await ask(connection, b"ZREMRANGEBYSCORE", places.CHANGES, b"-inf", through)

        self._kept = None
        await self.alone(work)


async def _take(connection: Connection) -> bool:
    """Take the key, if nobody has it whose connection is still there."""
    mine = await _name(connection)
    for _ in range(_TRIES):
        if await ask(connection, b"SET", places.COPIER, mine, b"NX"):
            return True
        await ask(connection, b"WATCH", places.COPIER)
        holder = await ask(connection, b"GET", places.COPIER)
        if holder is not None and await _is_connected(connection, holder, mine):
            await ask(connection, b"UNWATCH")
            return False
        if await transact(connection, [(b"SET", places.COPIER, mine)]) is not None:
            return True
    return False


async def _name(connection: Connection) -> bytes:
    """Return what names this connection among all that this server ever had: its run, and a number."""
    state: bytes = await ask(connection, b"INFO", b"server")
    run = next(line for line in state.splitlines() if line.startswith(b"run_id:"))
    return run + b":" + str(await ask(connection, b"CLIENT", b"ID")).encode()


async def _is_connected(connection: Connection, name: bytes, mine: bytes) -> bool:
    run, _, number = name.rpartition(b":")
    if run != mine.rpartition(b":")[0] or not number.isdigit():
        return False
    return bool((await ask(connection, b"CLIENT", b"LIST", b"ID", number)).strip())


async def _mark(connection: Connection) -> Mark | None:
    return read_mark(await ask(connection, b"HGET", await state_key(connection), b"move"))


async def _changes(connection: Connection, *, limit: int) -> Changes:
    noted = await ask(connection, b"ZRANGE", places.CHANGES, 0, limit - 1, b"WITHSCORES")
    if limit <= 0 or not noted:
        return Changes(through=0, put=(), removed=())
    rows = [noted_row(text) for text in noted[::2]]
    commands = reading_changes(rows, await state_key(connection))
    replies = await transact(connection, commands)
    assert replies is not None  # nothing is watched
    found = changed_records(rows, replies)
    put: list[AnyRecord] = [record for record in found if record is not None]
    removed: Sequence[tuple[Kind, str]] = [
        row for row, record in zip(rows, found, strict=True) if record is None
    ]
    return Changes(through=int(float(noted[-1])), put=put, removed=removed)


def noted_row(text: bytes) -> tuple[Kind, str]:
    kind, _, key = text.decode().partition(" ")
    return Kind(kind), key


async def open_single_movable(options: RedisOptions, *, makes: bool) -> RedisMovable:
    """Open the store for a move, be it closed or not; with *makes* it is made if there is none.

    Raises:
        ConfigurationError: there is none, or the server cannot be used.
        StoreUnavailable: no primary answers.
    """
    scripts = Scripts()
    try:
        connection = await connect(options)
        try:
            if makes:
                await make_state(connection, scripts["open"])
            elif not await ask(connection, b"EXISTS", places.META, places.CLOSED):
                raise ConfigurationError(f"there is no store at {options.name}; give another")
            check_schema(await ask(connection, b"HGET", await state_key(connection), b"schema"), options.name)
        finally:
            await take_leave(connection)
    except FAULTS as error:
        raise at_opening(error, options.name) from None
    return RedisMovable(Access(connect=partial(connect, options), name=options.name), scripts)
