"""A cluster, as the ports of the store use it: the feed and the small tables in one slot, the sessions in all others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from redis import exceptions

from keyfob.base.clock import Clock
from keyfob.base.errors import Unavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Entry
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.applier import Applier
from keyfob.stores.redis.cluster.catching_up import CatchingUp
from keyfob.stores.redis.cluster.debts import Debts
from keyfob.stores.redis.cluster.journal import Journal, Standing
from keyfob.stores.redis.cluster.keys import SLOTS
from keyfob.stores.redis.cluster.nodes import Nodes
from keyfob.stores.redis.cluster.orders import ClusterOrders
from keyfob.stores.redis.connecting import (
    check_node,
    connect_to,
    read_state,
    take_leave,
)
from keyfob.stores.redis.evidence import Mark as Reached
from keyfob.stores.redis.evidence import is_behind
from keyfob.stores.redis.faults import FAULTS, WrongServer, at_opening
from keyfob.stores.redis.listening import Listener
from keyfob.stores.redis.options import Address, RedisOptions
from keyfob.stores.redis.orders import Orders
from keyfob.stores.redis.packing import Reply, event_fields, read_stream_entry
from keyfob.stores.redis.scripts import Scripts
from keyfob.stores.redis.server import Asks, Server, read_salt
from keyfob.stores.redis.wire import Connection

_PAGE: Final = 1_000  # entries read in one piece
_PATIENCE: Final = (
    1.0  # seconds: how long whoever revokes waits for the rows, which the entry alone denies already
)


class ClusterServer(Server):
    """Carries out steps on a cluster. What has no slot of its own lies beside the feed, and is done as on one server."""

    def __init__(self, options: RedisOptions, salt: bytes, *, clock: Clock) -> None:
        self.journal = Journal(salt)
        super().__init__(options, salt, clock=clock)
        self._news: asyncio.Task[None] | None = None
        self.catching_up = CatchingUp(self, self.journal, clock=clock)
        self.debts = Debts(self, self.catching_up)
        self.applier = Applier(self, self.catching_up, self.debts, clock=clock)

    @classmethod
    async def open(cls, options: RedisOptions, *, clock: Clock) -> ClusterServer:
        """Find the nodes, check that this version can work there, and make what is not there yet.

        Raises:
            ConfigurationError: a wrong password, too old or an unfit node, data of a newer Keyfob.
            StoreUnavailable: the node that has the feed does not answer.
        """
        nodes = Nodes(options, partial(connect_to_node, options))
        try:
            async with asyncio.timeout(options.deadline.total_seconds()):
                salt = await _make(nodes, options)
        except FAULTS as error:
            raise at_opening(error, options.name) from None
        server = cls(options, salt, clock=clock)
        try:
            await server.nodes.refresh()
            await server.read_stock()
            server.applier.start()
        except BaseException:
            await server.close()
            raise
        return server

    def _lines(self) -> tuple[Asks, Listener]:
        self.nodes = Nodes(self.options, self._connect_to_node)
        listener = Listener(
            self.connect,
            self.wakers,
            look=self._look_for_feed,
            on_failover=self.nodes.leave,
            on_gone=self._note_move,
        )
        return self.nodes, listener

    def orders(self, *keys: bytes) -> Orders:
        """Return an empty collection of what a script beside the feed is told of revocations."""
        return ClusterOrders(self.salt, *keys)

    async def connect(self) -> Connection:
        """Connect to the node that has the feed.

        Raises:
            Exception: one of `faults.FAULTS`.
        """
        owner = self.nodes.feed_owner()
        if owner is None:
            raise exceptions.ClusterDownError("nobody has the slot of the feed")
        return await self._connect_to_node(owner)

    async def _connect_to_node(self, address: Address) -> Connection:
        connection = await connect_to_node(self.options, address)
        try:
            if address == self.nodes.feed_owner():
                await self._rescue.check(connection)
        except exceptions.MovedError:  # it has handed the feed on: whoever asks it for an entry is told so
            return connection
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _look_for_feed(self) -> Address:
        await self.nodes.refresh(if_due=True)
        owner = self.nodes.feed_owner()
        if owner is None:
            raise exceptions.ClusterDownError("nobody has the slot of the feed")
        return owner

    def check_head(self, known: Reached, timeline: bytes | None, position: bytes | None) -> Position:
        """Return where the feed stands. Refuse an answer from a feed that went back; the next connection is looked at, and the feed mended.

        Raises:
            StoreUnavailable: it has lost data.
        """
        if timeline is not None and position is not None:
            stands = Timeline(timeline.decode()), Position(int(position))
            if is_behind(*stands, known):
                self.nodes.leave()
        return super().check_head(known, timeline, position)

    async def read_news(self) -> Standing:
        """Return where the feed stands, and know every entry up to there.

        Raises:
            StoreUnavailable: the feed cannot be read, or has lost data.
        """
        return await self.at_home(self._read_news)

    async def _read_news(self) -> Standing:
        while True:
            known, after = self.evidence.mark, self.journal.position
            head, *rest = await self.look("cluster/news", (places.META, places.ENTRIES), (after, _PAGE))
            standing = self._standing(known, head)
            entries = [read_stream_entry(item) for item in rest[0]]
            self.evidence.note(standing.head.timeline, entries)
            if not self.journal.follow(standing, entries):
                return await self._read_stock()
            if self.journal.position >= standing.head.position:
                return standing

    async def read_stock(self) -> Standing:
        """Begin to follow anew: return where the feed stands, and know how far every slot must be.

        Raises:
            StoreUnavailable: the feed cannot be read, or has lost data.
        """
        return await self.at_home(self._read_stock)

    async def _read_stock(self) -> Standing:
        known = self.evidence.mark
        head, slots = await self.look("cluster/stock", (places.META, SLOTS))
        standing = self._standing(known, head)
        self.journal.load(standing, slots)
        return standing

    def _standing(self, known: Reached, reply: Sequence[bytes | None]) -> Standing:
        self.check_head(known, reply[0], reply[1])
        return Standing.of(reply)

    def appended(self, reply: Reply) -> Entry:
        """Return the entry that a script has just appended, remember it, and wake whoever follows."""
        entry = super().appended(reply)
        if asyncio.get_running_loop() is self._loop:
            self.journal.extend(Timeline(reply[-1].decode()), entry)
        self.catching_up.has_in_hand(entry)
        return entry

    async def carry(self, entries: Sequence[Entry]) -> None:
        """Carry *entries* to the rows that they are about, as far as those can be reached in a moment: the rest is the applier's."""
        await self.carried(entries)

    async def carried(self, entries: Sequence[Entry]) -> Mapping[Position, int]:
        """Do as `carry`, and return how many live sessions each entry ended, where that is known."""
        if not entries:
            return {}
        return await self.at_home(partial(self.catching_up.carry, entries, patience=_PATIENCE))

    async def keys_in(self, slot: int) -> list[bytes]:
        """Return the keys of *slot*."""
        return await self.at_home(partial(self.nodes.keys_in, slot))

    async def at(self, address: Address, *command: object) -> Any:
        """Return the answer of one node to a command that reads and has no key."""
        return await self.at_home(partial(self.nodes.at, address, *command))

    def forget(self) -> None:
        """Know nothing any more: the data were replaced on purpose."""
        self.evidence.forget()
        self.journal.forget()

    def note_mark(self, timeline: Timeline, position: Position) -> None:
        """Take note that a part of the cluster has seen *position*; the feed is asked whether it is there yet."""
        if timeline == self.journal.timeline:
            self.evidence.see(timeline, position)
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_task(self._read_quietly())

    async def _read_quietly(self) -> None:
        try:
            await self._read_news()
        except Unavailable as error:
            _log.warning("what a part of the cluster knows of the feed could not be seen there: %s", error)

    async def tell(self, event: Event) -> None:
        """Write *event* to the audit trail."""
        await self.step("write_event", (), {"event": event_fields(event)})

    async def _close(self) -> None:
        if self._news is not None:
            self._news.cancel()
            await asyncio.gather(self._news, return_exceptions=True)
        await self.applier.close()
        await self.catching_up.close()
        await super()._close()


async def connect_to_node(options: RedisOptions, address: Address) -> Connection:
    """Connect to a node, and see that it can be used.

    Raises:
        Exception: one of `faults.FAULTS`; `WrongServer` where it must not be used.
    """
    connection = await connect_to(address, options)
    try:
        check_node(await read_state(connection))
    except BaseException:
        connection.abort()
        raise
    return connection


async def _make(nodes: Nodes, options: RedisOptions) -> bytes:
    """Make the state of the feed, unless it is there; return the salt. A node that is away hinders only whose sessions it has."""
    await nodes.discover()
    owner = nodes.feed_owner()
    if owner is None:
        raise exceptions.ClusterDownError("nobody has the slot of the feed")
    for address in nodes.primaries():
        if address != owner:
            try:
                await take_leave(await connect_to_node(options, address))
            except WrongServer:
                raise
            except FAULTS:
                continue
    connection = await connect_to_node(options, owner)
    try:
        return await read_salt(connection, Scripts()["open"], options)
    finally:
        await take_leave(connection)


_log = logging.getLogger(__name__)
