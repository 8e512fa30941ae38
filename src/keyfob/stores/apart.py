"""A store in two places: sessions and the feed in one, accounts, clients and keys in another.

No transaction spans the two. A change of an account that revokes is one step of the store of accounts, which appends the entry to a feed of
its own, as it always does; the entries of that feed are what is owed to the other store:

1. The change and what it owes are durable together.
2. What is owed is carried out in the store of sessions, in order and each once: it notes there, in the same step, how far it has come.
3. Only then is the caller told. Whoever is killed in between leaves it to the others, which look whenever that feed moves, and each second.

A login that read the account before the change has an `as_of` from before the entry, and is ended by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from keyfob.base.clock import Clock
from keyfob.base.errors import StoreUnavailable, Unavailable
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Entry, Head, Reach, Scope
from keyfob.revocation.store import FeedStore
from keyfob.stores.mirroring import Mirror

_BATCH: Final = 100  # entries carried out in one step
_TRIES: Final = 50  # others that were faster, one after another
_LOOK: Final = 1.0  # seconds
_RECENT: Final = 500  # entries of the feed among which another process's work is looked for


class Owed:
    """What the store of accounts owes to the store of sessions."""

    def __init__(self, accounts: FeedStore, sessions: FeedStore, mirror: Mirror, *, clock: Clock) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._mirror = mirror
        self._clock = clock
        self._moved = asyncio.Event()
        self._stop: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Carry out what was owed when everybody was away, and go on doing so.

        Raises:
            StoreUnavailable: one of the stores does not answer.
        """
        await self.settle()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._moved.set)

        self._stop = self._accounts.subscribe(wake)
        self._task = loop.create_task(self._run(), name="keyfob accounts apart")

    async def close(self) -> None:
        """Stop. More than once is harmless."""
        self._stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def pay(self, owed: Entry) -> Entry:
        """Return the entry of the store of sessions that stands for *owed*, once it is there.

        Raises:
            StoreUnavailable: a store does not answer. What is owed stays owed.
        """
        for entry in await self.settle():
            if _stands_for(entry, owed):
                return entry
        head = await self._sessions.head()  # another process was faster
        recent = await self._sessions.read_after(Position(max(0, head.position - _RECENT)), _RECENT)
        for entry in reversed(recent):
            if _stands_for(entry, owed):
                return entry
        return replace(owed, position=head.position, chain=head.chain)

    async def settle(self) -> list[Entry]:
        """Carry out all that is owed; return what was appended.

        Raises:
            StoreUnavailable: a store does not answer, or others are faster again and again.
        """
        appended: list[Entry] = []
        for _ in range(_TRIES):
            reached, head = await self._mirror.reached(), await self._accounts.head()
            if reached == head:
                return appended
            entries, until = await self._next(reached, head)
            done = await self._mirror.carry_out(entries, instead_of=reached, reached=until)
            appended += done or ()
        raise StoreUnavailable("too much is owed by the store of accounts; try again")

    async def _next(self, reached: Head | None, head: Head) -> tuple[list[Entry], Head]:
        """Return what is to be carried out next, and how far that reaches."""
        if reached is None:
            return [], head  # these two were never together: nothing is owed yet
        if reached.timeline != head.timeline or reached.position >= head.position:
            return [
                self._all(head)
            ], head  # the accounts were restored or went back: what was owed is not known
        entries = list(await self._accounts.read_after(reached.position, _BATCH))
        if not entries or entries[0].position != reached.position + 1:
            return [self._all(head)], head
        last = entries[-1]
        return entries, Head(timeline=Timeline(head.timeline), position=last.position, chain=last.chain)

    def _all(self, head: Head) -> Entry:
        return Entry(
            position=head.position,
            at=self._clock.now(),
            scope=Scope.EVERYTHING,
            id="",
            reach=Reach.END,
            until=None,
            chain=head.chain,
        )

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._moved.wait()
            self._moved.clear()
            try:
                await self.settle()
            except Unavailable as error:
                _log.warning("what the store of accounts owes is not carried out yet: %s", error)


def _stands_for(entry: Entry, owed: Entry) -> bool:
    return (entry.scope, entry.id, entry.reach, entry.spared) == (
        owed.scope,
        owed.id,
        owed.reach,
        owed.spared,
    )


_log = logging.getLogger(__name__)
