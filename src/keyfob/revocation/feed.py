"""The authority's side of the feed: it reads the store, holds the live entries, and fans them out to followers.

What is signed as level rests on a head that was read from the store *after* the moment it is signed for, and entries reach a follower
before the heartbeat that counts them. So a follower that stands at a heartbeat's position knew everything at the heartbeat's time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Self

from keyfob.base.clock import Clock
from keyfob.base.errors import StoreMoved, StoreUnavailable, Unavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.entry_table import EntryTable
from keyfob.revocation.fan_out import FanOut
from keyfob.revocation.feed_settings import FeedSettings
from keyfob.revocation.feed_stats import FeedStats
from keyfob.revocation.frames import FrameWriter
from keyfob.revocation.handed_back import HandedBack
from keyfob.revocation.live_entries import FeedGap, LiveEntries
from keyfob.revocation.mending import (
    KEPT_ENTRIES,
    HeadKeeping,
    Heads,
    Mending,
    cut_off_everything,
    went_back,
)
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.snapshot_cache import SnapshotCache
from keyfob.revocation.store import FeedStore
from keyfob.revocation.wire import MAX_BATCH, KeySets, Sign

_LARGE = 2_000  # entries: more than this are put into a table in a thread
_LEVEL_HEARTBEATS = 5  # how many may be missed before this process no longer answers from its caches
_HEARD_AT_ONCE = 16  # hand-backs that wait for the store; whoever is turned away comes again
_RETRY = 0.1  # seconds until a read that failed is tried again


class Feed:
    """Follows a `FeedStore` in one process. Everything but the wake-up runs in the event loop that started it."""

    def __init__(
        self,
        store: FeedStore,
        *,
        issuer: str,
        sign: Sign,
        key_sets: Callable[[], KeySets],
        clock: Clock,
        settings: FeedSettings,
        cut_off: Callable[[Event], Sequence[Revocation]],
        heads: Heads | None,
        on_event: Callable[[Event], None] | None,
        on_entries: Callable[[Sequence[Entry]], None] | None,
    ) -> None:
        self.live = LiveEntries()
        """What the rule is applied to in this process."""
        self.failures = 0
        self._store = store
        self._clock = clock
        self._settings = settings
        self._on_event = on_event
        self._on_entries = on_entries or _tell_nobody
        self._frames = FrameWriter(issuer, sign=sign, key_sets=key_sets)
        self._fan_out = FanOut(
            store,
            self._frames,
            self.live,
            clock=clock,
            settings=settings,
            catch_up=self.catch_up,
            ask_for_beat=self._ask_for_beat,
        )
        self._snapshots = SnapshotCache(store, self._frames, clock=clock)
        self._turn = asyncio.Lock()
        self._moved = asyncio.Event()
        self._beat_wanted = False
        self._hearing = 0
        self._mending = Mending(store, cut_off=cut_off, clock=clock, report=self._report)
        self._keeping = HeadKeeping(heads, recent=lambda: self._fan_out.recent.latest(KEPT_ENTRIES))
        self._level_within = _LEVEL_HEARTBEATS * settings.heartbeat.total_seconds()
        # When the entries were last known to be level with the store: wall clock and boot-time clock, in seconds.
        self._level = (-math.inf, -math.inf)
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    @classmethod
    async def start(
        cls,
        store: FeedStore,
        *,
        issuer: str,
        sign: Sign,
        key_sets: Callable[[], KeySets],
        clock: Clock,
        settings: FeedSettings | None = None,
        cut_off: Callable[[Event], Sequence[Revocation]] = cut_off_everything,
        heads: Heads | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_entries: Callable[[Sequence[Entry]], None] | None = None,
    ) -> Self:
        """Read what is live, and follow the store from then on. *sign* signs with the feed's key; *key_sets* are the keys of the moment.

        A store that went back behind what *heads* kept is mended first; *cut_off* gives what that may take (`Mending`).
        *on_entries* is told of entries after they are applied, of all that are live at the start and after a resynchronisation; it runs in
        the event loop and must not block.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        feed = cls(
            store,
            issuer=issuer,
            sign=sign,
            key_sets=key_sets,
            clock=clock,
            settings=settings or FeedSettings(),
            cut_off=cut_off,
            heads=heads,
            on_event=on_event,
            on_entries=on_entries,
        )
        loop = asyncio.get_running_loop()
        # Subscribe first: what is appended while the entries are read is then a wake-up, not a gap.
        feed._unsubscribe = store.subscribe(lambda: feed._wake_from(loop))
        try:
            async with feed._turn:
                if heads is not None:
                    await feed._mending.mend_behind(heads)
                await feed._resynchronise()
            await feed.beat()
        except BaseException:
            feed._unsubscribe()
            raise
        feed._task = loop.create_task(feed._run(), name="keyfob-feed")
        feed._task.add_done_callback(feed._stopped)
        return feed

    @property
    def heartbeat(self) -> timedelta:
        """How often the head is signed."""
        return self._settings.heartbeat

    def staleness(self) -> float:
        """Return the seconds since the entries were known to be level with the store, on the larger of wall and boot-time progress."""
        wall, boot = self._level
        return max(self._clock.time() - wall, self._clock.elapsed() - boot, 0.0)

    def is_level(self, within: timedelta | None = None) -> bool:
        """Say whether the entries were level with the store at most *within* ago (five heartbeats); else no cache may answer."""
        limit = self._level_within if within is None else within.total_seconds()
        wall, boot = self._level  # as in `staleness`, without its call: every cached answer asks this
        return self._clock.time() - wall <= limit and self._clock.elapsed() - boot <= limit

    async def catch_up(self, position: Position) -> None:
        """Return when the entries up to *position* are applied in this process.

        Raises:
            StoreUnavailable: the store does not answer, or does not show that position.
        """
        if self.live.head.position >= position:
            return
        async with self._turn:
            if self.live.head.position < position:
                await self._advance()
        if self.live.head.position < position:
            raise StoreUnavailable(f"the feed does not show position {position} yet")

    async def beat(self) -> None:
        """Read the head from the store, apply what is new, and send a heartbeat.

        Raises:
            StoreUnavailable: the store does not answer, or has gone back to an earlier position.
        """
        async with self._turn:
            self._beat_wanted = False
            at, boot = self._clock.now(), self._clock.elapsed()
            await self._level_with(await self._store.head())
            self._level = (at.timestamp(), boot)
            self.live.confirm(at)
            self.live.drop_expired(at)
            self._fan_out.announce_keys()
            self._fan_out.beat(at)
            self._keeping.note(self.live.head)

    async def hear(self, handed_back: HandedBack) -> None:
        """Compare the store with what a follower hands back, and mend a store that has lost it. Repeated, it changes nothing.

        Raises:
            InvalidRequest: it is no evidence.
            StoreUnavailable: the store does not answer, or is being mended.
            Unavailable: many followers come back at this moment.
        """
        known = handed_back.head()
        if self._accounts_for(known):
            return
        if self._hearing >= _HEARD_AT_ONCE:
            raise Unavailable("too many followers come back at once")
        self._hearing += 1
        try:
            async with self._turn:
                head = await self._store.head()
                if went_back(head, known) or await self._mending.is_forked(known, head):
                    await self._mend(known, held=handed_back.entries(known))
        finally:
            self._hearing -= 1

    def announce_keys(self) -> None:
        """Send the key sets to all followers if they have changed."""
        self._fan_out.announce_keys()

    def require_room(self) -> None:
        """Refuse one more follower where there are as many as are served at once.

        Raises:
            Unavailable: come back later, or follow another server.
        """
        self._fan_out.followers.require_room()

    def follow(self, last_event_id: str | None = None) -> AsyncGenerator[bytes, None]:
        """Give the frames of the event stream after *last_event_id*; None begins at the head of this moment.

        First the keys, then what was missed, then everything as it comes. An id that cannot be continued gives `resync`, and the end.
        Closing the iterator leaves the feed.
        """
        return self._fan_out.follow(last_event_id)

    async def snapshot(self) -> bytes:
        """Return the signed snapshot, compressed with gzip.

        Raises:
            StoreUnavailable: the store does not answer, or has gone back.
        """
        return await self._snapshots.get(self.live.head)

    def signed_time(self, nonce: str) -> bytes:
        """Return the time of this moment, signed with *nonce*: the body of `GET /feed/time`.

        Raises:
            InvalidRequest: *nonce* is not 16 to 64 characters of the base64url alphabet.
        """
        return self._frames.time(nonce, self._clock.now())

    def key_document(self) -> bytes:
        """Return the body of `GET /feed/keys`: the key sets, unsigned."""
        return self._frames.key_document()

    def stats(self) -> FeedStats:
        """Say where the feed stands."""
        return FeedStats(
            position=self.live.head.position,
            live=len(self.live),
            followers=len(self._fan_out.followers),
            overflows=self._fan_out.followers.overflows,
            failures=self.failures,
            staleness=self.staleness(),
        )

    async def close(self) -> None:
        """End all followers at once and stop following the store. Twice is once."""
        self._unsubscribe()
        self._unsubscribe = lambda: None
        self._fan_out.close()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._keeping.close()

    async def _run(self) -> None:
        """Advance at each wake-up, beat at each heartbeat; a store that fails makes the feed stale and is asked again."""
        loop, interval = asyncio.get_running_loop(), self._settings.heartbeat.total_seconds()
        next_beat = loop.time() + interval
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_beat):
                    await self._moved.wait()
            self._moved.clear()
            try:
                async with asyncio.timeout(3 * interval):
                    if self._beat_wanted or loop.time() >= next_beat:
                        await self.beat()
                        next_beat = loop.time() + interval
                    else:
                        async with self._turn:
                            await self._advance()
            except (Unavailable, TimeoutError) as error:
                self.failures += 1
                if isinstance(error, StoreMoved):
                    # Another store takes the revocations: what is held here is never level again.
                    self._level = (-math.inf, -math.inf)
                next_beat = loop.time() + min(_RETRY, interval)

    async def _level_with(self, head: Head) -> None:
        """Apply everything up to *head*, which was read from the store just now."""
        held = self.live.head
        if head.timeline != held.timeline:
            await self._resynchronise()
            return
        if went_back(head, held):
            await self._mend(held, held=self._fan_out.recent.entries())
            return
        if head.position > held.position:
            await self._advance()
        if self.live.head.position < head.position:  # what lies between is gone from the store
            await self._resynchronise()

    async def _advance(self) -> None:
        """Read what is new, apply it, and send it on."""
        while True:
            entries = await self._store.read_after(self.live.head.position, MAX_BATCH)
            if not entries:
                return
            try:
                self.live.apply(entries)
            except FeedGap:
                if await self._mending.is_forked(self.live.head, await self._store.head()):
                    await self._mend(self.live.head, held=self._fan_out.recent.entries())
                    return
                await self._resynchronise()
                return
            self._on_entries(entries)
            self._keeping.note(self.live.head)
            self._fan_out.send(entries)
            if len(entries) < MAX_BATCH:
                return
            await asyncio.sleep(0)

    async def _mend(self, known: Head, *, held: Sequence[Entry]) -> None:
        """Mend a store that went back behind *known*, and hold what it shows then. Nothing is signed as level meanwhile."""
        self._level = (-math.inf, -math.inf)
        await self._mending.mend(known, held=held)
        await self._resynchronise()

    def _accounts_for(self, known: Head) -> bool:
        """Say whether *known* is the past of what is held here, without asking the store; where it is false, the store decides."""
        head = self.live.head
        if known == head:
            return True
        if known.timeline != head.timeline:
            return known.position < head.position
        return self._fan_out.recent.holds(known)

    async def _resynchronise(self) -> None:
        """Read all that is live, in place of what is held; followers must do the same.

        Raises:
            StoreUnavailable: the store does not answer, or shows less than is held, for which `_mend` is there.
        """
        head, entries = await self._store.live(self._clock.now())
        if went_back(head, self.live.head):
            raise StoreUnavailable(f"the feed went back to position {head.position}")
        if len(entries) > _LARGE:
            table = await asyncio.to_thread(EntryTable.of, entries)
        else:
            table = EntryTable.of(entries)
        self.live.replace(head, table)
        self._on_entries(entries)
        self._fan_out.restart(head.position)

    def _ask_for_beat(self) -> None:
        self._beat_wanted = True
        self._moved.set()

    def _wake_from(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to be woken
            loop.call_soon_threadsafe(self._moved.set)

    def _stopped(
        self, task: asyncio.Task[None]
    ) -> None:  # it never ends by itself: if it does, the feed grows stale
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report("feed_stopped", {"error": type(error).__name__})

    def _report(self, code: str, facts: dict[str, str | int]) -> None:
        if self._on_event is not None:
            self._on_event(Event(at=self._clock.now(), code=code, facts=facts))


def _tell_nobody(entries: Sequence[Entry]) -> None:
    """Take entries that nobody wants to hear of."""
