"""The answer to a server that came back without the end of its data: after a crash, a failover, a restored copy (design.md, precondition 7).

Each new connection is looked at before it is used. What was acknowledged to this process is never silently gone:

1. All that followed the server's head is held here: it is appended again, as it was, and what it ended is over again.
2. Not all of it is held: others may hold it, so nobody is answered for a moment. Then a new timeline begins, in which everything that was
   issued before is cut off.
3. The server shows another history up to the known position: a new timeline at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from keyfob.base.clock import Clock
from keyfob.base.events import Event
from keyfob.revocation.entry import Entry, Head, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.stores.redis import places
from keyfob.stores.redis.appending import Told, beginning, read_head, reappending
from keyfob.stores.redis.connecting import ask
from keyfob.stores.redis.evidence import Evidence, Mark
from keyfob.stores.redis.faults import WentBack, WrongServer
from keyfob.stores.redis.orders import Orders
from keyfob.stores.redis.packing import read_stream_entry
from keyfob.stores.redis.scripts import Scripts
from keyfob.stores.redis.wire import Connection

GRACE: Final = 3.0  # seconds: how long others, who may hold what is lost, have to append it
_TRIES: Final = 10  # others that were faster, one after another


class Rescue:
    """Looks at connections for one store."""

    def __init__(
        self,
        evidence: Evidence,
        scripts: Scripts,
        *,
        salt: bytes,
        orders: Callable[[], Orders],
        clock: Clock,
    ) -> None:
        """*orders* gives an empty collection of what a script is told of revocations."""
        self._evidence = evidence
        self._scripts = scripts
        self._salt = salt
        self._orders = orders
        self._clock = clock
        self._since: float | None = None
        self._turn = asyncio.Lock()

    async def check(self, connection: Connection) -> None:
        """Return when the server at the other end has all that this process knows of, or everything was cut off.

        Raises:
            Exception: `WentBack`: not yet. `WrongServer`: it is another store. Or one of `faults.FAULTS`.
        """
        async with self._turn:
            for _ in range(_TRIES):
                # Before the server is asked: what is appended meanwhile, on other connections, is not missed here.
                known, last = self._evidence.mark, self._evidence.last
                head = await self._head(connection)
                if not await self._has_gone_back(connection, head, known, last):
                    self._since = None
                    self._evidence.see(head.timeline, head.position)
                    return
                await self._mend(connection, head)
        raise WentBack

    async def _head(self, connection: Connection) -> Head:
        names = (b"timeline", b"position", b"chain", b"salt")
        *head, salt = await ask(connection, b"HMGET", places.META, *names)
        if salt != self._salt:
            raise WrongServer("holds another store than the one that was opened, or none; restart to use it")
        return read_head(head)

    async def _has_gone_back(
        self, connection: Connection, head: Head, known: Mark, last: Entry | None
    ) -> bool:
        if head.position < known[1]:  # of another timeline too: those that come later lie further
            return True
        if head.timeline != known[0] or last is None:
            return False
        return await self._is_forked(connection, last)

    async def _is_forked(self, connection: Connection, last: Entry) -> bool:
        number = f"{last.position}-0".encode()
        found = await ask(connection, b"XRANGE", places.ENTRIES, number, number)
        return bool(found) and read_stream_entry(found[0]).chain != last.chain

    async def _mend(self, connection: Connection, head: Head) -> None:
        evidence = self._evidence
        now, event = self._clock.now(), self._event("feed_reappended", head)
        if lost := evidence.lost_by(head):
            told = reappending(self._orders(), lost, instead_of=head, event=event, now=now)
            if await self._run(connection, "reappend", told):
                _log.error("the Redis server had lost entries of the feed: %d were appended again", len(lost))
            return
        if head.position < evidence.position and self._may_wait():
            raise WentBack
        event = self._event("feed_begun_anew", head)
        orders = [Revocation(scope=Scope.EVERYTHING, id="", event=event)]
        told = beginning(self._orders(), orders, instead_of=head, past=evidence.position, now=now)
        begun, *_ = await self._run(connection, "begin_timeline", told)
        if begun:
            _log.error("the Redis server had lost entries of the feed: a new timeline begins")

    def _may_wait(self) -> bool:
        elapsed = self._clock.elapsed()
        if self._since is None:
            self._since = elapsed
        return elapsed - self._since < GRACE

    async def _run(self, connection: Connection, name: str, told: Told) -> Any:
        keys, asked = told
        all_keys = (*places.STATE, *keys)
        argument = msgspec.msgpack.encode(asked)
        return await ask(connection, b"EVAL", self._scripts[name].text, len(all_keys), *all_keys, argument)

    def _event(self, code: str, head: Head) -> Event:
        facts: dict[str, str | int] = {
            "position": head.position,
            "known_position": self._evidence.position,
        }
        return Event(at=self._clock.now(), code=code, facts=facts)


_log = logging.getLogger(__name__)
