"""The answer to a feed that went back: a restored backup, a failover to a replica that lagged (design.md, precondition 7).

Evidence is two heads that a process of this issuer knows from the primary: one position with two chains, or a later head that is lower than an
earlier one. What a follower claims is no evidence; a head that the authority signed, and a follower hands back, is.

1. What this process, or what was kept beside it, still holds of the lost entries is appended again, as it was, if it continues what the store shows.
2. If that does not reach the last known head: a new timeline, whose positions leap past any that can have been handed out, in which everything
   that was issued before is cut off.

Each is one step of the store that says who won, so that any number of processes may mend at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from keyfob.base.clock import Clock
from keyfob.base.errors import StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Head, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import FeedStore

KEPT_ENTRIES = 64
"""How many of the last entries are kept with a head: what a replica that lagged, or a copy of a moment ago, may lack where little is revoked."""
_ATTEMPTS = (
    10  # others that were faster, one after another, before this process leaves it to the next heartbeat
)


class Heads(Protocol):
    """Keeps the last known head where an older copy of the store does not reach. May block."""

    def kept(self) -> tuple[Head, Sequence[Entry]] | None:
        """Return the head that was kept last, and the entries up to it as far as they were kept; None if there is none."""
        ...

    def keep(self, head: Head, entries: Sequence[Entry]) -> None:
        """Keep *head* and the last of *entries*, unless a later head is kept. It never raises: what cannot be kept is reported."""
        ...


class HeadKeeping:
    """Has heads kept in a thread, one after another, the latest of those that wait. Runs in one event loop."""

    def __init__(self, heads: Heads | None, *, recent: Callable[[], Sequence[Entry]]) -> None:
        """*recent* gives the latest entries that are held."""
        self._heads = heads
        self._recent = recent
        self._wanted: Head | None = None
        self._kept: Head | None = None
        self._task: asyncio.Task[None] | None = None

    def note(self, head: Head) -> None:
        """Have *head* kept, within milliseconds: what is revoked in these alone could be lost unseen."""
        self._wanted = head
        if self._heads is not None and head != self._kept and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._keep(self._heads))

    async def close(self) -> None:
        """Return when the last one is kept."""
        if self._task is not None:
            await self._task

    async def _keep(self, heads: Heads) -> None:
        while self._wanted is not None and self._wanted != self._kept:
            head = self._wanted
            await asyncio.to_thread(heads.keep, head, self._recent())
            self._kept = head


class Mending:
    """Mends the feed of one store."""

    def __init__(
        self,
        store: FeedStore,
        *,
        cut_off: Callable[[Event], Sequence[Revocation]],
        clock: Clock,
        report: Callable[[str, dict[str, str | int]], None],
    ) -> None:
        """*cut_off* gives what ends everything that was issued before, under the given event; *report* hears of each mending."""
        self._store = store
        self._cut_off = cut_off
        self._clock = clock
        self._report = report
        self._told: Head | None = None

    async def is_forked(self, known: Head, head: Head) -> bool:
        """Say whether the store, at *head* now, has another history up to *known*: told by the entry at that position, while it is there."""
        if head.timeline != known.timeline or head.position < known.position or not known.position:
            return False
        found = await self._store.read_after(Position(known.position - 1), 1)
        return bool(found) and found[0].position == known.position and found[0].chain != known.chain

    async def mend_behind(self, heads: Heads) -> None:
        """Mend a store that went back while no process was running, behind what *heads* kept.

        Raises:
            StoreUnavailable: as `mend`.
        """
        kept = await asyncio.to_thread(heads.kept)
        if kept is not None:
            known, held = kept
            await self.mend(known, held=held)

    async def mend(self, known: Head, *, held: Sequence[Entry] = ()) -> None:
        """Return when the store shows *known* again, or a new timeline. *held* are the latest entries up to *known*, as far as they are held.

        Raises:
            StoreUnavailable: the store does not answer, or others mend it at this moment.
        """
        for _ in range(_ATTEMPTS):
            head = await self._store.head()
            if not (went_back(head, known) or await self.is_forked(known, head)):
                return
            self._tell(head, known)
            if await self._append_again(head, known, held) or await self._begin_anew(head, known):
                return
        raise StoreUnavailable("the feed went back, and is being mended")

    async def _append_again(self, head: Head, known: Head, held: Sequence[Entry]) -> bool:
        lost = [entry for entry in held if entry.position > head.position]
        if head.timeline != known.timeline or not lost or lost[-1].chain != known.chain:
            return False
        event = self._event("feed_reappended", head, known)
        try:
            mended = await self._store.reappend(lost, instead_of=head, event=event, now=self._clock.now())
        except ValueError:  # another history, or some of them are no longer held
            return False
        if mended is not None:
            self._report("feed_reappended", {**event.facts, "entries": len(lost)})
        return mended is not None

    async def _begin_anew(self, head: Head, known: Head) -> bool:
        event = self._event("feed_begun_anew", head, known)
        begun = await self._store.begin_timeline(
            self._cut_off(event), instead_of=head, past=known.position, now=self._clock.now()
        )
        if begun is not None:
            self._report("feed_begun_anew", {**event.facts, "timeline": begun.timeline})
        return begun is not None

    def _tell(self, head: Head, known: Head) -> None:
        """Say it once, however often it is tried."""
        if known != self._told:
            self._told = known
            self._report("feed_went_back", {"position": head.position, "known_position": known.position})

    def _event(self, code: str, head: Head, known: Head) -> Event:
        facts: dict[str, str | int] = {"position": head.position, "known_position": known.position}
        return Event(at=self._clock.now(), code=code, facts=facts)


def went_back(head: Head, known: Head) -> bool:
    """Say whether a store at *head*, as it was read later, lacks what was *known* before. A later timeline lies further, never back."""
    if head.timeline != known.timeline:
        return head.position < known.position
    return head.position < known.position or (head.position == known.position and head.chain != known.chain)


def cut_off_everything(event: Event) -> Sequence[Revocation]:
    """Return what ends everything but keys."""
    return (Revocation(scope=Scope.EVERYTHING, id="", event=event),)
