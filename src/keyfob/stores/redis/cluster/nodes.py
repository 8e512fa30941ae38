"""Each request goes to the node that has its slot; many to one node, in one turn of the event loop, go in one piece.

1. A node that answers `MOVED` did nothing: the request goes to the one that it names, and who has what is asked anew.
2. `ASK`: this slot is on its way; the request goes there, once, behind `ASKING`.
3. `TRYAGAIN`: some of the keys have arrived and some not; it is asked again in a moment, until the deadline.
4. A node that does not answer, or a slot that nobody has, is `StoreUnavailable` for whoever needs it, and for nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis import exceptions

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.redis.cluster.keys import FEED_SLOT
from keyfob.stores.redis.cluster.slots import slot_of
from keyfob.stores.redis.cluster.topology import Topology, read_nodes
from keyfob.stores.redis.connecting import ask, connect_to
from keyfob.stores.redis.faults import FAULTS, unavailable
from keyfob.stores.redis.options import Address, RedisOptions
from keyfob.stores.redis.pipelining import Command, Pipeline
from keyfob.stores.redis.scripts import Script
from keyfob.stores.redis.wire import Connection

REDIRECTS: Final = (exceptions.AskError, exceptions.TryAgainError)  # MovedError is an AskError
_PAUSE: Final = 0.02  # seconds before a slot on its way is asked again
_FRESH: Final = 1.0  # seconds: how long what the nodes said is believed without asking
_ANSWER: Final = 1.0  # seconds: how long one node may take to say who has what


class Nodes:
    """Carries requests to the nodes of one cluster, from `open` to `close`."""

    def __init__(self, options: RedisOptions, connect: Callable[[Address], Awaitable[Connection]]) -> None:
        """*connect* makes a connection to a node that is used for requests."""
        self._options = options
        self._connect = connect
        self._topology = Topology()
        self._pipelines: dict[Address, Pipeline] = {}
        self._asked_at = -_FRESH
        self._turns = 0
        self._turn = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._is_closed = False

    async def ask(self, command: Command, *, script: Script | None = None, only_reads: bool) -> Any:
        """Return the answer to *command*, whose keys are all of one slot.

        Raises:
            StoreUnavailable: nobody has the slot, or the one who has it does not answer, not in time, or refuses.
        """
        key = command[3] if script is not None or command[0] == b"EVAL" else command[1]
        assert isinstance(key, bytes)
        slot = slot_of(key)
        address = self._topology.owner(slot)
        try:
            if address is not None:
                return await self._pipeline(address).ask(command, script=script, only_reads=only_reads)
            error: BaseException = exceptions.ClusterDownError("nobody has the slot")
            await self.refresh()
        except REDIRECTS as redirected:
            error = redirected
        except StoreUnavailable:
            self._refresh_soon()
            raise
        try:
            async with asyncio.timeout(self._options.deadline.total_seconds()):
                return await self._follow(slot, error, command, script=script, only_reads=only_reads)
        except TimeoutError as late:
            raise unavailable(late, self._options.name) from None

    async def at(self, address: Address, *command: object) -> Any:
        """Return the answer of one node to a command that reads and has no key."""
        return await self._pipeline(address).ask(command, only_reads=True)

    async def keys_in(self, slot: int) -> list[bytes]:
        """Return the keys of *slot*, as the node that has it knows them."""
        address = self._topology.owner(slot)
        if address is None:
            raise unavailable(exceptions.ClusterDownError("nobody has the slot"), self._options.name)
        count = await self.at(address, b"CLUSTER", b"COUNTKEYSINSLOT", slot)
        return list(await self.at(address, b"CLUSTER", b"GETKEYSINSLOT", slot, count)) if count else []

    def primaries(self) -> list[Address]:
        """Return the nodes that have slots."""
        return list(self._topology.owners())

    def feed_owner(self) -> Address | None:
        """Return the node that has the feed."""
        return self._topology.owner(FEED_SLOT)

    def leave(self) -> None:
        """Use no connection to the node with the feed for another batch: each new one is looked at first."""
        owner = self.feed_owner()
        if owner is not None:
            self._pipeline(owner).leave()

    async def refresh(self, *, if_due: bool = False) -> None:
        """Ask a node who has what, as `discover`.

        Raises:
            StoreUnavailable: none answers.
        """
        try:
            await self.discover(if_due=if_due)
        except FAULTS as error:
            raise unavailable(error, self._options.name) from None

    async def discover(self, *, if_due: bool = False) -> None:
        """Ask a node who has what: each time another one, since one that is cut off from the others does not know it.

        Raises:
            Exception: one of `faults.FAULTS`: none answers.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            if if_due and loop.time() - self._asked_at < _FRESH:
                return
            before = self.feed_owner()
            await self._ask_around()
            self._asked_at = loop.time()
            if before not in {None, self.feed_owner()}:
                self.leave()

    async def close(self, patience: float) -> None:
        """Finish what is under way, for *patience* seconds, and close every connection."""
        self._is_closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await asyncio.gather(*(pipeline.close(patience) for pipeline in self._pipelines.values()))

    def _pipeline(self, address: Address) -> Pipeline:
        found = self._pipelines.get(address)
        if found is None:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")

            async def connect() -> Connection:
                return await self._connect(address)

            found = self._pipelines[address] = Pipeline(self._options, connect, passes=REDIRECTS)
        return found

    async def _follow(
        self, slot: int, error: BaseException, command: Command, *, script: Script | None, only_reads: bool
    ) -> Any:
        while True:
            is_asking = False
            address = self._topology.owner(slot)
            match error:
                case exceptions.MovedError():
                    address = self._address(error, address)
                    if address != self._topology.owner(slot):
                        self._moved(slot, address)
                case exceptions.AskError():
                    address, is_asking = self._address(error, address), True
                case exceptions.TryAgainError():
                    await asyncio.sleep(_PAUSE)
                case _ if address is None:
                    raise unavailable(error, self._options.name)
            assert address is not None
            try:
                return await self._pipeline(address).ask(
                    command, script=script, only_reads=only_reads, is_asking=is_asking
                )
            except REDIRECTS as redirected:
                if isinstance(redirected, exceptions.MovedError) and is_asking:
                    await asyncio.sleep(_PAUSE)  # it has arrived elsewhere, or not yet
                error = redirected

    def _address(self, error: exceptions.AskError, asked: Address | None) -> Address:
        host = error.host or (asked[0] if asked else "")
        return host, int(error.port)

    def _moved(self, slot: int, address: Address) -> None:
        self._topology.moved(slot, address)
        if slot == FEED_SLOT:
            self.leave()
        self._refresh_soon()

    def _refresh_soon(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh_quietly())

    async def _refresh_quietly(self) -> None:
        try:
            await self.refresh()
        except StoreUnavailable:
            await asyncio.sleep(_PAUSE)  # whoever needs it asks again

    async def _ask_around(self) -> None:
        known = list(
            dict.fromkeys([*self._topology.owners(), *self._options.addresses, *self._topology.addresses])
        )
        self._turns += 1
        first = self._turns % len(known)
        error: BaseException = TimeoutError()
        for address in (*known[first:], *known[:first]):
            try:
                async with asyncio.timeout(_ANSWER):
                    await self._learn_from(address)
            except ValueError:
                continue
            except FAULTS as fault:
                error = fault
                continue
            return
        raise error

    async def _learn_from(self, address: Address) -> None:
        connection = await connect_to(address, self._options)
        try:
            text = await ask(connection, b"CLUSTER", b"NODES")
        finally:
            connection.abort()
        by_name = self._options.tls is not None
        self._topology.learn(read_nodes(text.decode(), asked=address, by_name=by_name))
