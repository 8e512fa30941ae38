"""What one process sends on to the followers of its feed: everything as it is applied, and to one that comes back what it has missed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime

from keyfob.base.clock import Clock
from keyfob.base.errors import Unavailable
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry
from keyfob.revocation.feed_settings import FeedSettings
from keyfob.revocation.followers import RESYNC_FRAME, Followers, in_pieces
from keyfob.revocation.frames import FrameWriter
from keyfob.revocation.live_entries import LiveEntries
from keyfob.revocation.recent_entries import RecentBatch, RecentEntries
from keyfob.revocation.store import FeedStore
from keyfob.revocation.wire import MAX_BATCH, KeySets, parse_event_id


class FanOut:
    """The followers of one process, and the latest entries for those that were away. It belongs to the event loop of its feed."""

    def __init__(
        self,
        store: FeedStore,
        frames: FrameWriter,
        live: LiveEntries,
        *,
        clock: Clock,
        settings: FeedSettings,
        catch_up: Callable[[Position], Awaitable[None]],
        ask_for_beat: Callable[[], None],
    ) -> None:
        """*live* is what the feed has applied; *catch_up* makes it apply more, *ask_for_beat* has a heartbeat sent soon."""
        self.followers = Followers(buffer=settings.buffer, limit=settings.followers)
        self.recent = RecentEntries(Position(0), capacity=settings.recent)
        self.frames = frames
        self._store = store
        self._live = live
        self._clock = clock
        self._settings = settings
        self._catch_up = catch_up
        self._ask_for_beat = ask_for_beat
        self._announced: KeySets | None = None
        self._closed = False

    def beat(self, at: datetime) -> None:
        """Send the head, signed for *at*."""
        if self.followers:
            self.followers.publish(self.frames.heartbeat(self._live.head, at))

    def announce_keys(self) -> None:
        """Send the key sets if they have changed."""
        key_sets = self.frames.key_sets()
        if key_sets != self._announced:
            self._announced = key_sets
            if self.followers:
                self.followers.publish(self.frames.keys(key_sets, self._clock.now()))

    def send(self, entries: Sequence[Entry]) -> None:
        """Send *entries*, which continue what was sent, and keep them for a while."""
        batch = self.recent.add(entries)
        if self.followers:
            self.followers.publish(self._frame_of(batch))

    def restart(self, position: Position) -> None:
        """Begin anew at *position*: whoever follows must take the snapshot."""
        self.recent = RecentEntries(position, capacity=self._settings.recent)
        self.followers.end_all(RESYNC_FRAME)

    def close(self) -> None:
        """End all followers at once, and take no other. Twice is once."""
        self._closed = True
        self.followers.end_all()

    async def follow(self, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        """Give the frames of the event stream after *last_event_id*, as `Feed.follow` says."""
        if self._closed:
            return
        position = await self._resume_at(last_event_id)
        yield self.frames.keys(self.frames.key_sets(), self._clock.now())
        while position is not None and position < self.recent.start:
            batch = await self._read_missed(position)
            if batch is not None:
                yield self._frame_of(batch)
            position = batch.entries[-1].position if batch else None
        if position is None or self._closed:
            yield RESYNC_FRAME
            return
        # No await from here to the joining: nothing may be published in between.
        missed = [self._frame_of(batch) for batch in self.recent.after(position)]
        follower = self.followers.join()
        if follower is None:  # others were faster to the last places
            return
        try:
            for piece in in_pieces(missed):
                yield piece
            self._ask_for_beat()
            async for frames in follower.frames():
                yield frames
        finally:
            self.followers.leave(follower)

    async def _resume_at(self, last_event_id: str | None) -> Position | None:
        """Return the position after which to continue; None if that cannot be."""
        if last_event_id is None:
            return self._live.head.position
        parsed = parse_event_id(last_event_id)
        if parsed is None or parsed[0] != self._live.head.timeline:
            return None
        position = parsed[1]
        with suppress(Unavailable):  # a follower may have been ahead, at another authority
            await self._catch_up(position)
        missed = self._live.head.position - position
        return position if 0 <= missed <= self._settings.backlog else None

    async def _read_missed(self, position: Position) -> RecentBatch | None:
        """Read entries after *position*, up to those that are kept in memory; None if any are gone."""
        read = await self._store.read_after(position, MAX_BATCH)
        entries = tuple(entry for entry in read if entry.position <= self.recent.start)
        if not entries or entries[0].position != position + 1:
            return None
        return RecentBatch(entries)

    def _frame_of(self, batch: RecentBatch) -> bytes:
        return self.frames.batch(self._live.head.timeline, batch)
