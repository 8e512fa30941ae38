"""What moves a Redis store: its keys as records.

Redis has no snapshots. One moment is read in one transaction, which holds the server for as long as that takes (about a second for half a
million sessions), and kept by this process until it is given up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Head
from keyfob.stores.records import AnyRecord, Kind
from keyfob.stores.redis import places
from keyfob.stores.redis.appending import read_head
from keyfob.stores.redis.connecting import Connection, ask
from keyfob.stores.redis.faults import FAULTS, unavailable
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.transfer_commands import Command, Known, put_commands, remove_commands
from keyfob.stores.redis.transfer_records import Dump, read_records

_TRIES: Final = 20  # others that changed the key space meanwhile, one after another
_KEYS_AT_ONCE: Final = 1_000


class RedisSnapshot:
    """A `Snapshot` of a Redis store: everything of one moment, sorted by key."""

    def __init__(self, records: dict[Kind, list[AnyRecord]]) -> None:
        self._records = records

    async def read(self, kind: Kind, *, after: str | None, limit: int) -> Sequence[AnyRecord]:
        """Return up to *limit* records behind *after*."""
        behind = (record for record in self._records[kind] if after is None or record.key > after)
        return [record for record, _ in zip(behind, range(limit), strict=False)]

    async def count(self, kind: Kind) -> int:
        """Return how many records of *kind* there are."""
        return len(self._records[kind])


class RedisTransfer:
    """A `Transfer` of a Redis store."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @asynccontextmanager
    async def snapshot(self, now: datetime) -> AsyncIterator[RedisSnapshot]:
        """Open one moment of the store."""
        dump = await self._server.at_home(lambda: self._alone(_dump))
        yield RedisSnapshot(read_records(dump, now))

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place, in one transaction."""
        await self._server.at_home(
            lambda: self._alone(lambda line: _change(line, records, kind=None, keys=()))
        )

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys*, in one transaction."""
        await self._server.at_home(lambda: self._alone(lambda line: _change(line, (), kind=kind, keys=keys)))

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*, in one transaction."""
        records = [
            record for page in pages for record in page
        ]  # before anything is changed: reading them may fail
        done: bool = await self._server.at_home(
            lambda: self._alone(lambda line: _replace(line, records, kinds, instead_of))
        )
        if done:
            self._server.evidence.forget()
        return done

    async def close(self) -> None:
        """Do nothing: the store itself is closed by whoever opened it."""

    async def _alone(self, work: Any) -> Any:
        """Return what *work* comes to on a connection of its own."""
        try:
            connection = await self._server.connect()
            try:
                return await work(connection)
            finally:
                await connection.disconnect(nowait=True)
        except FAULTS as error:
            raise unavailable(error, self._server.options.name) from None


async def _replace(
    connection: Connection, records: Sequence[AnyRecord], kinds: Collection[Kind], instead_of: Head
) -> bool:
    for _ in range(_TRIES):
        # Every step that appends, adds a session or writes an event changes this key.
        await ask(connection, b"WATCH", places.META)
        head = read_head(await ask(connection, b"HMGET", places.META, b"timeline", b"position", b"chain"))
        if head != instead_of:
            await ask(connection, b"UNWATCH")
            return False
        dump = await _dump_tables(connection, await _session_keys(connection))
        known = Known.of(dump)
        removed = [
            command
            for kind, of_kind in read_records(dump, None).items()
            if kind in kinds
            for command in remove_commands(known, kind, [record.key for record in of_kind])
        ]
        if await _transact(connection, [*removed, *put_commands(known, records)]) is not None:
            return True
    raise StoreUnavailable("too much changes while the store is replaced; try again")


async def _change(
    connection: Connection, records: Sequence[AnyRecord], *, kind: Kind | None, keys: Sequence[str]
) -> None:
    for _ in range(_TRIES):
        await ask(connection, b"WATCH", places.META)
        known = Known.of(await _dump_tables(connection, ()))
        commands = [] if kind is None else remove_commands(known, kind, keys)
        if await _transact(connection, [*commands, *put_commands(known, records)]) is not None:
            return
    raise StoreUnavailable("too much changes while the store is loaded; try again")


async def _dump(connection: Connection) -> Dump:
    """Return everything of one moment."""
    for _ in range(_TRIES):
        keys = await _session_keys(connection)
        await ask(connection, b"WATCH", places.META)
        known = set(await _session_keys(connection))
        if known - set(keys):
            continue  # sessions of others were added before the watch: look once more
        replies = await _transact(connection, _reading(keys))
        if replies is not None:
            return Dump.of(replies, keys)
    # Too busy to be caught between two logins: the list of keys is taken within the transaction as well, which takes longer.
    raise StoreUnavailable("too much changes while the store is read; try again")


async def _dump_tables(connection: Connection, keys: Sequence[bytes]) -> Dump:
    """Return the tables and the sessions of *keys*, outside of a transaction: under the watch of whoever asks."""
    commands = _reading(keys)
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    return Dump.of([await connection.read_response() for _ in commands], keys)


def _reading(keys: Sequence[bytes]) -> list[Command]:
    tables: list[Command] = [(b"HGETALL", key) for key in places.HASHES]
    tables += [(b"XRANGE", key, b"-", b"+") for key in places.STREAMS]
    tables += [(b"ZRANGE", key, 0, -1, b"WITHSCORES") for key in places.SORTED]
    rows: list[Command] = [(b"HGETALL", key) for key in keys]
    return [*tables, *rows, *((b"HGETALL", places.data_beside(key)) for key in keys)]


async def _session_keys(connection: Connection) -> list[bytes]:
    keys: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, found = await ask(
            connection, b"SCAN", cursor, b"MATCH", places.ALL_SESSIONS, b"COUNT", _KEYS_AT_ONCE
        )
        keys |= set(found)
        if cursor == b"0":
            return sorted(keys)


async def _transact(connection: Connection, commands: Sequence[Command]) -> list[Any] | None:
    """Carry *commands* out as one; None if somebody changed what is watched."""
    packed = connection.pack_commands([(b"MULTI",), *commands, (b"EXEC",)])
    await connection.send_packed_command(packed, check_health=False)
    for _ in range(len(commands) + 1):
        await connection.read_response()
    replies: list[Any] | None = await connection.read_response()
    return replies
