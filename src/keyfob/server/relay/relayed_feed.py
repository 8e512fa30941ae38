"""The frames of an upstream feed, as they came, and everybody who follows them here.

A frame is passed on byte for byte: positions, chain and signatures are the authority's, and so is the time inside a heartbeat. Nothing here
can make a follower believe that it is fresher than it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Head
from keyfob.revocation.event_stream import StreamEvent, encode_event
from keyfob.revocation.followers import RESYNC_FRAME, Followers, in_pieces
from keyfob.revocation.wire import parse_event_id

RECENT: Final = 50_000
"""Entries that are kept for followers that come back, in some 20 MB; one that missed more takes the snapshot. As many as an authority
reads back from its store, which a relay has not: a snapshot made in the middle of a burst must still be continued here."""
BUFFER: Final = 8 << 20
"""Bytes that a follower may lag behind."""
_AHEAD: Final = 2.0  # seconds that a follower which is ahead of this relay (it was at another) waits for it


@dataclass(frozen=True, slots=True)
class _Kept:
    """A frame of entries, the last of which is at `last`."""

    last: Position
    entries: int
    frame: bytes = field(repr=False)


class RelayedFeed:
    """What came from the upstream, for followers. Runs in one event loop."""

    def __init__(self, *, followers: int, recent: int = RECENT, buffer: int = BUFFER) -> None:
        self.followers = Followers(buffer=buffer, limit=followers)
        self._recent = recent
        self._kept: deque[_Kept] = deque()
        self._count = 0
        self._timeline: Timeline | None = None
        self._start = Position(0)
        self._position = Position(0)
        self._keys = b""
        self._heartbeat = b""
        self._moved = asyncio.Event()

    @property
    def start(self) -> Position:
        """Every entry after this position is kept."""
        return self._start

    @property
    def timeline(self) -> Timeline | None:
        """The timeline of what is kept; None before anything came."""
        return self._timeline

    def begin(self, head: Head) -> None:
        """Begin anew after *head*: whoever follows must take the snapshot."""
        self._kept.clear()
        self._count = 0
        self._timeline = head.timeline
        self._start = self._position = head.position
        self._heartbeat = b""
        self.followers.end_all(RESYNC_FRAME)
        self._wake()

    def hear(self, event: StreamEvent, head: Head) -> None:
        """Pass *event* on, after which the feed reaches *head*."""
        frame = encode_event(event)
        match event.name:
            case "keys":
                self._keys = frame
            case "heartbeat":
                self._heartbeat = frame
            case _:
                self._keep(frame, head.position)
        self.followers.publish(frame)
        self._wake()

    async def follow(self, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        """Give the frames after *last_event_id*; None begins at the head of this moment.

        First the keys, then what was missed, then the latest heartbeat (which may be old, and says so), then everything as it comes. An id
        that cannot be continued gives `resync`, and the end.
        """
        position = await self._resume_at(last_event_id)
        if position is None:
            yield RESYNC_FRAME
            return
        # No await from here to the joining: nothing may be published in between.
        missed = [kept.frame for kept in self._kept if kept.last > position]
        first = [frame for frame in (self._keys, *missed, self._heartbeat) if frame]
        follower = self.followers.join()
        if follower is None:
            return
        try:
            for piece in in_pieces(first):
                yield piece
            async for frames in follower.frames():
                yield frames
        finally:
            self.followers.leave(follower)

    def close(self) -> None:
        """End all followers. Twice is once."""
        self.followers.end_all()

    def _keep(self, frame: bytes, position: Position) -> None:
        entries = position - self._position
        self._kept.append(_Kept(position, entries, frame))
        self._position = position
        self._heartbeat = b""  # it does not count the entry; the next one does
        self._count += entries
        while self._count - self._kept[0].entries >= self._recent:
            oldest = self._kept.popleft()
            self._count -= oldest.entries
            self._start = oldest.last

    async def _resume_at(self, last_event_id: str | None) -> Position | None:
        """Return the position after which to continue; None if that cannot be."""
        if self._timeline is None:
            return None
        if last_event_id is None:
            return self._position
        parsed = parse_event_id(last_event_id)
        if parsed is None:
            return None
        timeline, position = parsed
        if timeline == self._timeline and position > self._position:
            await self._reach(position)
        if timeline != self._timeline or not self._start <= position <= self._position:
            return None
        return position

    async def _reach(self, position: Position) -> None:
        """Wait a moment until this relay is as far as *position*."""
        try:
            async with asyncio.timeout(_AHEAD):
                while self._position < position:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        self._moved.set()
