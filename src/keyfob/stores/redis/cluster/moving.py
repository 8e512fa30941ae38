"""A cluster that is moved: its mark beside the feed, and in each slot that is in use.

1. The mark stands beside the feed first: a slot that comes into use from then on takes it over.
2. Then each slot has it: from here on its steps note what they change, or are refused.
3. Before it is held off, every entry is carried to the rows that it is about: no other store would do that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

from redis import exceptions

from keyfob.base.clock import SystemClock
from keyfob.base.errors import ConfigurationError
from keyfob.stores.moving import Changes, Mark, Role
from keyfob.stores.records import AnyRecord, Kind
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.keys import SLOTS, changes_at, state_at
from keyfob.stores.redis.cluster.nodes import Nodes
from keyfob.stores.redis.cluster.server import ClusterServer, connect_to_node
from keyfob.stores.redis.cluster.transfer import ClusterTransfer, Rows
from keyfob.stores.redis.connecting import ask, take_leave
from keyfob.stores.redis.faults import FAULTS, at_opening
from keyfob.stores.redis.moving import RedisMovable, noted_row
from keyfob.stores.redis.options import RedisOptions
from keyfob.stores.redis.scripts import Scripts
from keyfob.stores.redis.server import check_schema, make_state
from keyfob.stores.redis.transfer import Access, RedisSnapshot, state_key, transact
from keyfob.stores.redis.transfer_changes import changed_records, reading_changes
from keyfob.stores.redis.wire import Connection

_ROLES = {Role.SOURCE: b"source", Role.FENCED: b"fenced"}
_EACH = 2  # commands that read one record
_GOODBYE = 2.0  # seconds


class ClusterMovable(ClusterTransfer, RedisMovable):
    """A `Movable` cluster."""

    def __init__(self, options: RedisOptions, nodes: Nodes, scripts: Scripts) -> None:
        access = Access(connect=partial(_connect_to_feed, options, nodes), name=options.name)
        RedisMovable.__init__(self, access, scripts)
        self._rows = Rows(nodes)
        self._options = options
        self._nodes = nodes
        self._noted: dict[int, dict[bytes, bytes]] = {}
        self._is_marked = False

    @asynccontextmanager
    async def snapshot(self, now: datetime) -> AsyncIterator[RedisSnapshot]:
        """Open the store as it is; while it is being copied, once every slot notes what it changes."""
        await self._see_marked()
        async with RedisMovable.snapshot(self, now) as snapshot:
            yield snapshot

    async def set_mark(self, mark: Mark | None, *, replaces: Mark | None) -> bool:
        """Set the mark, beside the feed and then in each slot."""
        if mark is not None and mark.role is Role.FENCED:
            await self._settle()
        if not await super().set_mark(mark, replaces=replaces):
            return False
        await self._mark_slots(mark)
        return True

    async def changes(self, limit: int) -> Changes:
        """Return changed rows: of the tables as of one moment, and sessions as they are."""
        await self._see_marked()
        slots = await self._slots()
        keys = [places.CHANGES, *map(changes_at, slots)]
        noted = await self._rows.read([(b"ZRANGE", key, 0, limit - 1, b"WITHSCORES") for key in keys])
        through = max(self._noted, default=0) + 1
        rows: list[tuple[Kind, str]] = []
        seen: dict[bytes, bytes] = {}
        for key, flat in zip(keys, noted, strict=True):
            some = flat[: 2 * max(0, limit - len(rows))]
            rows += [noted_row(text) for text in some[::2]]
            if some:
                seen[key] = some[-1]
        if not rows:
            return Changes(through=0, put=(), removed=())
        found = await self._read_changed(rows)
        self._noted[through] = seen
        put: list[AnyRecord] = [record for record in found if record is not None]
        removed = [row for row, record in zip(rows, found, strict=True) if record is None]
        return Changes(through=through, put=put, removed=removed)

    async def forget_changes(self, through: int) -> None:
        """Forget the changes up to *through*: a row that changed again has a later number."""
        self._kept = None
        seen = self._noted.pop(through, {})
        await self._rows.write([(b"ZREMRANGEBYSCORE", key, b"-inf", last) for key, last in seen.items()])

    async def close(self) -> None:
        """Close every connection."""
        await self._nodes.close(_GOODBYE)

    async def _read_changed(self, rows: Sequence[tuple[Kind, str]]) -> list[AnyRecord | None]:
        tables = [row for row in rows if row[0] is not Kind.SESSIONS]
        sessions = [row for row in rows if row[0] is Kind.SESSIONS]

        async def work(connection: Connection) -> list[Any]:
            replies = await transact(connection, reading_changes(tables, await state_key(connection)))
            assert replies is not None  # nothing is watched
            return replies

        of_tables = iter(changed_records(tables, await self.alone(work)))
        read = reading_changes(sessions, places.META)
        of_sessions = iter(changed_records(sessions, await self._rows.read(read)))
        return [next(of_sessions if row[0] is Kind.SESSIONS else of_tables) for row in rows]

    async def _see_marked(self) -> None:
        """See that every slot has the mark: whoever set it may have been killed before that."""
        if not self._is_marked:
            mark = await self.mark()
            if mark is not None and mark.role in _ROLES:
                await self._mark_slots(mark)
            self._is_marked = True

    async def _mark_slots(self, mark: Mark | None) -> None:
        if mark is not None and mark.role is Role.FENCED:
            await self._settle()
        if mark is not None and mark.role not in _ROLES:
            return
        role = b"" if mark is None else _ROLES[mark.role]
        script = self._scripts["cluster/set_role"]
        await self._rows.write(
            [
                (b"EVAL", script.text, 2, state_at(slot), changes_at(slot), role)
                for slot in await self._slots()
            ]
        )

    async def _slots(self) -> list[int]:
        names = await self._nodes.ask((b"HKEYS", SLOTS), only_reads=True)
        return sorted({int(name[1:]) for name in names if name[:1] in b"ul" and name[1:].isdigit()})

    async def _settle(self) -> None:
        """Carry every entry to the rows that it is about.

        Raises:
            StoreUnavailable: some of them cannot be reached.
        """
        server = await ClusterServer.open(self._options, clock=SystemClock())
        try:
            await server.read_stock()
            _, failed = await server.catching_up.bring_on(tuple(server.journal.used))
        finally:
            await server.close()
        for error in failed.values():
            raise error


async def _connect_to_feed(options: RedisOptions, nodes: Nodes) -> Connection:
    await nodes.refresh(if_due=True)
    owner = nodes.feed_owner()
    if owner is None:
        raise exceptions.ClusterDownError("nobody has the slot of the feed")
    return await connect_to_node(options, owner)


async def open_cluster_movable(options: RedisOptions, *, makes: bool) -> ClusterMovable:
    """Open the store for a move, be it closed or not; with *makes* it is made if there is none.

    Raises:
        ConfigurationError: there is none, or the cluster cannot be used.
        StoreUnavailable: the node that has the feed does not answer.
    """
    scripts = Scripts()
    nodes = Nodes(options, partial(connect_to_node, options))
    try:
        connection = await _connect_to_feed(options, nodes)
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
    return ClusterMovable(options, nodes, scripts)
