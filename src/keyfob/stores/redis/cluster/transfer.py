"""What moves a cluster: the tables beside the feed in one transaction, the rows of sessions each by itself.

So a page of sessions that was interrupted may be in place in part; whoever carries it does so again. What is known of slots is made from the
records: a slot is brought on when it is used for the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from keyfob.base.clock import from_micros
from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import Entry, Head, Reach, Scope
from keyfob.stores.records import AnyRecord, FeedRow, Kind
from keyfob.stores.redis import places
from keyfob.stores.redis.appending import read_head
from keyfob.stores.redis.cluster.keys import FEED_SLOT, SLOTS, slot_of_tag, state_at
from keyfob.stores.redis.cluster.nodes import Nodes
from keyfob.stores.redis.cluster.orders import ALL, slots_of
from keyfob.stores.redis.cluster.slots import slot_of
from keyfob.stores.redis.connecting import ask
from keyfob.stores.redis.transfer import (
    TRIES,
    Access,
    RedisSnapshot,
    RedisTransfer,
    at_state,
    reading,
    state_key,
    transact,
    what_is_known,
)
from keyfob.stores.redis.transfer_commands import Command, Known, put_commands, remove_commands
from keyfob.stores.redis.transfer_records import Dump, read_records
from keyfob.stores.redis.wire import Connection

_SCANNED = 1_000  # keys of one look at the key space of a node
_AT_ONCE = 500  # commands that are under way at once
_OF_ALL = (b"client ", b"everything ")
_OWN = (b"session ", b"renewed ")  # how sessions were ended lately: no other store keeps that


class Rows:
    """The rows of sessions, wherever they are."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    async def keys(self) -> list[bytes]:
        """Return the keys of all rows."""
        found: set[bytes] = set()
        for address in self._nodes.primaries():
            cursor = b"0"
            while True:
                scan = (b"SCAN", cursor, b"MATCH", places.ALL_SESSIONS, b"COUNT", _SCANNED)
                cursor, keys = await self._nodes.at(address, *scan)
                found |= set(keys)
                if cursor == b"0":
                    break
        return sorted(found)

    async def read(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to *commands*, in their order."""
        return await self._ask(commands, only_reads=True)

    async def write(self, commands: Sequence[Command]) -> None:
        """Carry *commands* out, those of one key in their order."""
        by_key: dict[object, list[Command]] = {}
        for command in commands:
            by_key.setdefault(command[1], []).append(command)
        while by_key:
            await self._ask([of_one.pop(0) for of_one in by_key.values()], only_reads=False)
            by_key = {key: of_one for key, of_one in by_key.items() if of_one}

    async def _ask(self, commands: Sequence[Command], *, only_reads: bool) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(commands), _AT_ONCE):
            some = commands[start : start + _AT_ONCE]
            asked = (self._nodes.ask(command, only_reads=only_reads) for command in some)
            for answer in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(answer, BaseException):
                    raise answer
                answers.append(answer)
        return answers


class ClusterTransfer(RedisTransfer):
    """A `Transfer` of a cluster."""

    def __init__(self, access: Access, rows: Rows) -> None:
        super().__init__(access)
        self._rows = rows

    async def read_all(self, now: datetime) -> RedisSnapshot:
        """Return the store as it is now: the tables of one moment, and the rows of sessions as they were read after it."""
        return await self._access.at_home(partial(self._read_all, now))

    async def _read_all(self, now: datetime) -> RedisSnapshot:
        tables = await self.alone(_read_tables)
        return RedisSnapshot(read_records(await self._dump(tables), now))

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place."""
        await self._change(records, kind=None, keys=())
        self._access.on_loaded()

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys*."""
        await self._change((), kind=kind, keys=keys)

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*: the tables in one transaction, then rows of sessions, which these may cut off."""
        records = [
            record for page in pages for record in page
        ]  # before anything is changed: reading them may fail
        rest = await self.alone(partial(self._replace, records=records, kinds=kinds, instead_of=instead_of))
        if rest is None:
            return False
        await self._write(rest)
        self._access.on_loaded()
        return True

    async def _dump(self, tables: Sequence[Any]) -> Dump:
        keys = await self._rows.keys()
        commands = [(b"HGETALL", key) for key in (*keys, *map(places.data_beside, keys))]
        dump = Dump.of([*tables, *await self._rows.read(commands)], keys)
        cut_offs = dump.hashes[places.CUT_OFFS]
        for place in [place for place in cut_offs if place.startswith(_OWN)]:
            del cut_offs[place]
        return dump

    async def _change(self, records: Sequence[AnyRecord], *, kind: Kind | None, keys: Sequence[str]) -> None:
        async def work(connection: Connection) -> list[Command]:
            for _ in range(TRIES):
                await ask(connection, b"WATCH", places.META, places.CLOSED)
                state = await state_key(connection)
                known = await what_is_known(connection, records, kind, state)
                commands = [] if kind is None else remove_commands(known, kind, keys)
                commands += put_commands(known, records)
                here, there = split(commands, await _salt(connection, state, records))
                if await transact(connection, at_state(state, here)) is not None:
                    return there
            raise StoreUnavailable("too much changes while the store is loaded; try again")

        await self._write(await self.alone(work))

    async def _write(self, commands: Sequence[Command]) -> None:
        await self._access.at_home(partial(self._rows.write, commands))

    async def _replace(
        self,
        connection: Connection,
        *,
        records: Sequence[AnyRecord],
        kinds: Collection[Kind],
        instead_of: Head,
    ) -> list[Command] | None:
        for _ in range(TRIES):
            # Every step that appends or writes an event changes this key.
            await ask(connection, b"WATCH", places.META)
            head = read_head(await ask(connection, b"HMGET", places.META, b"timeline", b"position", b"chain"))
            if head != instead_of:
                await ask(connection, b"UNWATCH")
                return None
            dump = await self._dump(await connection.ask_all(reading(())))
            known = Known.of(dump)
            removed = [
                command
                for kind, of_kind in read_records(dump, None).items()
                if kind in kinds
                for command in remove_commands(known, kind, [record.key for record in of_kind])
            ]
            salt = await _salt(connection, places.META, records)
            here, there = split([*removed, *put_commands(known, records)], salt)
            anew, states = await _anew(connection, head, records)
            if await transact(connection, [*anew, *here]) is not None:
                return [*states, *there]
        raise StoreUnavailable("too much changes while the store is replaced; try again")


async def _read_tables(connection: Connection) -> list[Any]:
    replies = await transact(connection, at_state(await state_key(connection), reading(())))
    assert replies is not None  # nothing is watched
    return replies


async def _salt(connection: Connection, state: bytes, records: Sequence[AnyRecord]) -> bytes:
    """Return the salt that the store has once *records* are in place."""
    for record in records:
        if isinstance(record, FeedRow):
            return record.salt
    return bytes(await ask(connection, b"HGET", state, b"salt") or b"")


async def _anew(
    connection: Connection, head: Head, records: Sequence[AnyRecord]
) -> tuple[list[Command], list[Command]]:
    """Return what forgets all that is known of slots, where *records* begin a feed that lies before *head*: marks past it would mean nothing."""
    rows = [record for record in records if isinstance(record, FeedRow)]
    if not rows or rows[0].position > head.position:
        return [], []
    names = await ask(connection, b"HKEYS", SLOTS)
    slots = {int(name[1:]) for name in names if name[:1] in b"ul" and name[1:].isdigit()}
    return [(b"DEL", SLOTS)], [(b"DEL", state_at(slot)) for slot in sorted(slots)]


def split(commands: Iterable[Command], salt: bytes) -> tuple[list[Command], list[Command]]:
    """Return which of *commands* are done beside the feed, and which elsewhere; with what is known of slots by them."""
    here: list[Command] = []
    there: list[Command] = []
    for command in commands:
        key = command[1]
        assert isinstance(key, bytes)
        slot = slot_of(key)
        if slot != FEED_SLOT:
            there.append(command)
            here.append((b"HSETNX", SLOTS, b"u%d" % slot, b"0"))
        elif command[:2] == (b"XADD", places.ENTRIES):
            here += _entry(command, salt)
        else:
            here.append(command)
            if key == places.CUT_OFFS:
                _cut_off(command, salt, here, there)
    return here, there


def _entry(command: Command, salt: bytes) -> list[Command]:
    """Return what appends an entry, with the slots that it is about."""
    _, _, number, *fields = command
    texts = [part if isinstance(part, bytes) else str(part).encode() for part in fields]
    entry = _read_entry(number, dict(zip(texts[::2], texts[1::2], strict=True)))
    slots = slots_of(salt, entry)
    names = ["*"] if slots is ALL else [str(slot) for slot in sorted(slots)]
    if not names:
        return [command]
    if b"w" in texts[::2]:
        fields = fields[: 2 * texts[::2].index(b"w")]
    noted: list[Command] = [(b"HSET", SLOTS, f"l{name}", entry.position) for name in names]
    return [(b"XADD", places.ENTRIES, number, *fields, "w", " ".join(names)), *noted]


def _read_entry(number: object, fields: dict[bytes, bytes]) -> Entry:
    text = number.decode() if isinstance(number, bytes) else str(number)
    return Entry(
        position=Position(int(text.partition("-")[0])),
        at=from_micros(int(fields[b"a"])),
        scope=Scope(fields[b"s"].decode()),
        id=fields[b"i"].decode(),
        reach=Reach(fields[b"r"].decode()),
        spared=SessionId(fields[b"x"].decode()) if fields[b"x"] else None,
        until=None,
        chain=b"",
    )


def _cut_off(command: Command, salt: bytes, here: list[Command], there: list[Command]) -> None:
    """Add where else a cut-off is kept: with what is known of slots, or in the slot of its subject."""
    verb, _, place, *packed = command
    name = place if isinstance(place, bytes) else str(place).encode()
    if name.startswith(_OF_ALL):
        here.append((verb, SLOTS, b"c" + name, *packed))
    else:
        subject = name.removeprefix(b"subject ").decode()
        there.append((verb, state_at(slot_of_tag(places.tag_of(salt, subject))), name, *packed))
