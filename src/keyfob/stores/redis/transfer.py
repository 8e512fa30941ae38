"""What moves a Redis store: its keys as records.

Redis has no snapshots. One moment is read in one transaction, which holds the server for as long as that takes (about a second for half a
million sessions), and kept by this process until it is given up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any, Final, Protocol, TypeVar

from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Head
from keyfob.stores.records import AccountRow, AnyRecord, Kind
from keyfob.stores.redis import places
from keyfob.stores.redis.appending import read_head
from keyfob.stores.redis.connecting import ask, take_leave
from keyfob.stores.redis.faults import FAULTS, unavailable
from keyfob.stores.redis.tables import read_record
from keyfob.stores.redis.transfer_commands import Command, Known, put_commands, remove_commands
from keyfob.stores.redis.transfer_records import Dump, read_records
from keyfob.stores.redis.wire import Connection

T = TypeVar("T")

TRIES: Final = 50  # others that changed the key space meanwhile, one after another
_LOOKS: Final = 6  # at the keys, before those that come meanwhile are left out
_KEYS_AT_ONCE: Final = 1_000


class RedisSnapshot:
    """A `Snapshot` of a Redis store: everything of one moment, sorted by key."""

    def __init__(self, records: dict[Kind, list[AnyRecord]]) -> None:
        self._records = records
        self._keys = {kind: [record.key for record in of_kind] for kind, of_kind in records.items()}

    async def read(self, kind: Kind, *, after: str | None, limit: int) -> Sequence[AnyRecord]:
        """Return up to *limit* records behind *after*."""
        start = 0 if after is None else bisect_right(self._keys[kind], after)
        return self._records[kind][start : start + limit]

    async def count(self, kind: Kind) -> int:
        """Return how many records of *kind* there are."""
        return len(self._records[kind])


async def _at_once(begin: Callable[[], Coroutine[object, object, T]]) -> T:
    return await begin()


def _nothing() -> None:
    return None


class AtHome(Protocol):
    """Carries work to the event loop to which a store belongs."""

    async def __call__(self, begin: Callable[[], Coroutine[object, object, T]]) -> T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a server is reached, what messages call it, and what is to be told when its data are no longer what they were."""

    connect: Callable[[], Awaitable[Connection]]
    name: str
    at_home: AtHome = _at_once
    on_loaded: Callable[[], None] = _nothing


class RedisTransfer:
    """A `Transfer` of a Redis store."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.name = access.name

    @asynccontextmanager
    async def snapshot(self, now: datetime) -> AsyncIterator[RedisSnapshot]:
        """Open one moment of the store."""
        yield await self.read_all(now)

    async def read_all(self, now: datetime) -> RedisSnapshot:
        """Return this moment of the store."""
        return RedisSnapshot(read_records(await self.alone(_dump), now))

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place, in one transaction."""
        await self.alone(partial(_change, records=records, kind=None, keys=()))
        self._access.on_loaded()

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys*, in one transaction."""
        await self.alone(partial(_change, records=(), kind=kind, keys=keys))

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*, in one transaction."""
        records = [
            record for page in pages for record in page
        ]  # before anything is changed: reading them may fail
        done = await self.alone(partial(_replace, records=records, kinds=kinds, instead_of=instead_of))
        if done:
            self._access.on_loaded()
        return done

    async def close(self) -> None:
        """Do nothing: each verb has a connection of its own, for as long as it takes."""

    async def connected(self) -> Connection:
        """Return a connection of one's own.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        try:
            return await self._access.connect()
        except FAULTS as error:
            raise unavailable(error, self.name) from None

    async def alone(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what *work* comes to on a connection of its own.

        Raises:
            StoreUnavailable: the server does not answer.
        """

        async def begin() -> T:
            connection = await self._access.connect()
            try:
                return await work(connection)
            finally:
                await take_leave(connection)

        try:
            return await self._access.at_home(begin)
        except FAULTS as error:
            raise unavailable(error, self.name) from None


async def state_key(connection: Connection) -> bytes:
    """Return where the state of the feed lies: of a store that is closed it was renamed."""
    is_closed = await ask(connection, b"EXISTS", places.CLOSED)
    return places.CLOSED if is_closed else places.META


async def _replace(
    connection: Connection, *, records: Sequence[AnyRecord], kinds: Collection[Kind], instead_of: Head
) -> bool:
    for _ in range(TRIES):
        # Every step that appends, adds a session or writes an event changes this key.
        await ask(connection, b"WATCH", places.META)
        head = read_head(await ask(connection, b"HMGET", places.META, b"timeline", b"position", b"chain"))
        if head != instead_of:
            await ask(connection, b"UNWATCH")
            return False
        dump = await _dump_tables(connection, await _session_keys(connection), places.META)
        known = Known.of(dump)
        removed = [
            command
            for kind, of_kind in read_records(dump, None).items()
            if kind in kinds
            for command in remove_commands(known, kind, [record.key for record in of_kind])
        ]
        if await transact(connection, [*removed, *put_commands(known, records)]) is not None:
            return True
    raise StoreUnavailable("too much changes while the store is replaced; try again")


async def _change(
    connection: Connection, *, records: Sequence[AnyRecord], kind: Kind | None, keys: Sequence[str]
) -> None:
    for _ in range(TRIES):
        await ask(connection, b"WATCH", places.META, places.CLOSED)
        state = await state_key(connection)
        known = await what_is_known(connection, records, kind, state)
        commands = [] if kind is None else remove_commands(known, kind, keys)
        if (
            await transact(connection, at_state(state, [*commands, *put_commands(known, records)]))
            is not None
        ):
            return
    raise StoreUnavailable("too much changes while the store is loaded; try again")


async def what_is_known(
    connection: Connection, records: Sequence[AnyRecord], kind: Kind | None, state: bytes
) -> Known:
    """Return what matters for *records*, or for the removal of some of *kind*: a page of sessions asks for nothing of a full store."""
    kinds = {record.kind for record in records} | ({kind} if kind is not None else set())
    accounts: dict[str, str] = {}
    if Kind.ACCOUNTS in kinds:
        flat = await ask(connection, b"HGETALL", places.ACCOUNTS)
        accounts = {row.subject: row.name for row in (read_record(raw, AccountRow) for raw in flat[1::2])}
    aliases: dict[str, str] = {}
    if Kind.ONE_TIMES in kinds:
        flat = await ask(connection, b"HGETALL", places.ALIASES)
        aliases = {key.decode(): name.decode() for name, key in zip(flat[::2], flat[1::2], strict=True)}
    streams, appended = {}, set()
    for of_kind, key in ((Kind.ENTRIES, places.ENTRIES), (Kind.EVENTS, places.EVENTS)):
        if of_kind in kinds:
            numbers = [int(record.key) for record in records if record.kind is of_kind]
            if kind is not of_kind and await _all_behind(connection, key, numbers):
                appended.add(key)
            else:
                items = await ask(connection, b"XRANGE", key, b"-", b"+")
                streams[key] = {int(number.partition(b"-")[0]): fields for number, fields in items}
    return Known(
        names={name: subject for subject, name in accounts.items()},
        accounts=accounts,
        aliases=aliases,
        streams=streams,
        written_events=int(await ask(connection, b"HGET", state, b"events") or 0),
        appended=frozenset(appended),
    )


async def _all_behind(connection: Connection, key: bytes, numbers: Sequence[int]) -> bool:
    """Say whether *numbers* ascend, and lie behind all that the stream ever had."""
    if any(following <= number for number, following in pairwise(numbers)):
        return False
    if not await ask(connection, b"EXISTS", key):
        return True
    described = await ask(connection, b"XINFO", b"STREAM", key)
    last = dict(zip(described[::2], described[1::2], strict=True))[b"last-generated-id"]
    return numbers[0] > int(last.partition(b"-")[0])


async def _dump(connection: Connection) -> Dump:
    """Return everything of one moment.

    On a store that is never quiet, sessions that were added while the keys were listed may be missing. A copier has them noted as changes,
    and a back-up gives no session back.
    """
    for tries_left in reversed(range(_LOOKS)):
        # Every step that adds a session changes what is watched: no key that matters is missed.
        await ask(connection, b"WATCH", places.META, places.CLOSED)
        keys = await _session_keys(connection)
        state = await state_key(connection)
        if not tries_left:
            await ask(connection, b"UNWATCH")
        replies = await transact(connection, at_state(state, reading(keys)))
        if replies is not None:
            return Dump.of(replies, keys)
    raise AssertionError("unreachable")


async def _dump_tables(connection: Connection, keys: Sequence[bytes], state: bytes) -> Dump:
    """Return the tables and the sessions of *keys*, outside of a transaction: under the watch of whoever asks."""
    return Dump.of(await connection.ask_all(at_state(state, reading(keys))), keys)


def reading(keys: Sequence[bytes]) -> list[Command]:
    """Return what reads all tables, and the rows of sessions and their data under *keys*."""
    tables: list[Command] = [(b"HGETALL", key) for key in places.HASHES]
    tables += [(b"XRANGE", key, b"-", b"+") for key in places.STREAMS]
    tables += [(b"ZRANGE", key, 0, -1, b"WITHSCORES") for key in places.SORTED]
    rows: list[Command] = [(b"HGETALL", key) for key in keys]
    return [*tables, *rows, *((b"HGETALL", places.data_beside(key)) for key in keys)]


def at_state(state: bytes, commands: Sequence[Command]) -> list[Command]:
    """Return *commands* with the state of the feed where it lies."""
    if state == places.META:
        return list(commands)
    return [tuple(state if part is places.META else part for part in command) for command in commands]


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


async def transact(connection: Connection, commands: Sequence[Command]) -> list[Any] | None:
    """Carry *commands* out as one; None if somebody changed what is watched."""
    replies: list[Any] | None = (await connection.ask_all([(b"MULTI",), *commands, (b"EXEC",)]))[-1]
    for reply in replies or ():
        if isinstance(reply, BaseException):  # nothing that this module sends can be refused there
            raise reply
    return replies
