"""The snapshot as it is served: made once for many followers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from keyfob.base.clock import Clock
from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Head
from keyfob.revocation.frames import FrameWriter
from keyfob.revocation.snapshot import encode_body, pack
from keyfob.revocation.store import FeedStore
from keyfob.revocation.wire import KeySets, SnapshotHead

MAX_AGE = 30.0  # seconds: how long a snapshot is served after the feed has moved on
_SHARE = 10  # a snapshot that is behind is served for so many times the time that it took to make
_LARGE = 2_000  # entries: more than this are written in a thread


@dataclass(frozen=True, slots=True)
class _Made:
    head: Head
    at: float  # seconds of the boot-time clock
    took: float  # seconds
    key_sets: KeySets
    packed: bytes = field(repr=False)


class SnapshotCache:
    """Makes snapshots of a store, one at a time.

    While the feed has not moved, the same one is served, up to `MAX_AGE`. Once it has, the last one is still good to begin from, since
    a follower resumes after it; so making them takes at most a tenth of one core, however many ask.
    """

    def __init__(
        self,
        store: FeedStore,
        frames: FrameWriter,
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._frames = frames
        self._clock = clock
        self._turn = asyncio.Lock()
        self._made: _Made | None = None

    async def get(self, known: Head) -> bytes:
        """Return a snapshot of a feed that is known to reach *known*.

        Raises:
            StoreUnavailable: the store does not answer, or shows less than *known*.
        """
        async with self._turn:
            made = self._made
            if made is None or not self._is_good(made, known):
                made = self._made = await self._make(known)
            return made.packed

    def _is_good(self, made: _Made, known: Head) -> bool:
        if made.key_sets != self._frames.key_sets() or made.head.timeline != known.timeline:
            return False
        limit = MAX_AGE if made.head.position >= known.position else min(MAX_AGE, _SHARE * made.took)
        return self._clock.elapsed() - made.at < limit

    async def _make(self, known: Head) -> _Made:
        at, started = self._clock.now(), self._clock.elapsed()
        head, entries = await self._store.live(at)
        if head.timeline == known.timeline and head.position < known.position:
            raise StoreUnavailable(
                f"the feed went back: the store shows position {head.position}, known is {known.position}"
            )
        is_large = len(entries) > _LARGE
        body = await asyncio.to_thread(encode_body, entries) if is_large else encode_body(entries)
        key_sets = self._frames.key_sets()
        snapshot = SnapshotHead(
            issuer=self._frames.issuer,
            head=head,
            at=at,
            count=body.count,
            digest=body.digest,
            key_sets=key_sets,
        )
        if is_large:
            packed = await asyncio.to_thread(pack, snapshot, body, sign=self._frames.sign)
        else:
            packed = pack(snapshot, body, sign=self._frames.sign)
        return _Made(
            head=head, at=started, took=self._clock.elapsed() - started, key_sets=key_sets, packed=packed
        )
