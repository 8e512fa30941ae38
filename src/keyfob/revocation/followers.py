"""The followers of a feed: each with a buffer of its own, so that none holds up the writer or another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator

from keyfob.base.errors import Unavailable
from keyfob.revocation.event_stream import StreamEvent, encode_event

_RETRY_AFTER = 5.0  # seconds
MAX_PIECE = 256 << 10
"""Bytes after which frames that wait are no longer joined: who does not read holds one piece in the socket, and frames shared with all others."""
RESYNC_FRAME = encode_event(StreamEvent("resync", "{}"))
"""Tells a follower to take the snapshot. It is not signed: who forges it only makes a follower fetch."""


class Follower:
    """One follower's buffer. Frames are shared between followers, so a frame held by many takes its memory once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._moved = asyncio.Event()
        self.has_ended = False

    def offer(self, frame: bytes) -> bool:
        """Buffer *frame*; say whether there was room. Without room, or after the end, nothing is buffered."""
        if self.has_ended or self._size + len(frame) > self._limit:
            return False
        self._frames.append(frame)
        self._size += len(frame)
        self._moved.set()
        return True

    def end(self, last: bytes = b"") -> None:
        """End the stream at once: what is buffered is dropped, *last* is all that still comes. The second time changes nothing."""
        if self.has_ended:
            return
        self._frames.clear()
        self._size = len(last)
        if last:
            self._frames.append(last)
        self.has_ended = True
        self._moved.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Give what was offered, joined where several wait, until the end."""
        while True:
            if self._frames:
                yield self._piece()
            elif self.has_ended:
                return
            else:
                self._moved.clear()
                await self._moved.wait()

    def _piece(self) -> bytes:
        """Take the first frame, and those behind it as long as all stay within `MAX_PIECE`."""
        taken = [self._frames.popleft()]
        size = len(taken[0])
        while self._frames and size + len(self._frames[0]) <= MAX_PIECE:
            taken.append(self._frames.popleft())
            size += len(taken[-1])
        self._size -= size
        return b"".join(taken)


def in_pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Join *frames* into pieces of up to `MAX_PIECE` bytes; a longer frame is a piece of its own."""
    taken: list[bytes] = []
    size = 0
    for frame in frames:
        if taken and size + len(frame) > MAX_PIECE:
            yield b"".join(taken)
            taken, size = [], 0
        taken.append(frame)
        size += len(frame)
    if taken:
        yield b"".join(taken)


class Followers:
    """All followers of one feed in one process."""

    def __init__(self, *, buffer: int, limit: int) -> None:
        self._buffer = buffer
        self._limit = limit
        self._followers: set[Follower] = set()
        self.overflows = 0
        """How many followers were too slow and were told to resynchronise."""

    def __len__(self) -> int:
        return len(self._followers)

    def require_room(self) -> None:
        """Refuse one more where *limit* are here.

        Raises:
            Unavailable: there is no room.
        """
        if len(self._followers) >= self._limit:
            raise Unavailable(f"{self._limit} followers are served here already", retry_after=_RETRY_AFTER)

    def join(self) -> Follower | None:
        """Add a follower: it gets every frame published from now on. None where there is no room."""
        if len(self._followers) >= self._limit:
            return None
        follower = Follower(self._buffer)
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Forget *follower*. Twice is once."""
        self._followers.discard(follower)

    def publish(self, frame: bytes) -> None:
        """Offer *frame* to all; who has no room for it is told to resynchronise, and is ended."""
        for follower in list(self._followers):
            if not follower.offer(frame):
                self.overflows += 1
                self._end(follower, RESYNC_FRAME)

    def end_all(self, last: bytes = b"") -> None:
        """End every stream at once, with *last* as its last frame."""
        for follower in list(self._followers):
            self._end(follower, last)

    def _end(self, follower: Follower, last: bytes) -> None:
        follower.end(last)
        self._followers.discard(follower)
