"""The snapshot as a relay serves it: the upstream's, byte for byte, looked at before."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, Denied
from keyfob.revocation.entry import Head
from keyfob.revocation.snapshot import SnapshotReader
from keyfob.revocation.snapshot_cache import MAX_AGE
from keyfob.revocation.wire import WireError
from keyfob.server.relay.relayed_feed import RelayedFeed
from keyfob.verifier.authority_client import AuthorityClient

MAX_PACKED: Final = 256 << 20  # bytes, compressed: some 8 million entries
_PAUSE: Final = 1.0  # seconds until a snapshot that cannot be continued is fetched anew, however many ask
_GZIP: Final = 16 + zlib.MAX_WBITS
_PIECE: Final = 1 << 20  # bytes unpacked at once, so that a small bomb does not fill the memory


@dataclass(frozen=True, slots=True)
class _Held:
    head: Head
    at: float  # seconds of the boot-time clock
    packed: bytes = field(repr=False)


class RelayedSnapshot:
    """Fetches the snapshot when a follower needs one, at most one at a time; who comes meanwhile gets the same.

    It is served for up to `MAX_AGE`, and past that while the upstream does not answer: what it lacks is kept as entries, and the time
    inside it says how old it is.
    """

    def __init__(
        self, client: AuthorityClient, feed: RelayedFeed, *, verify: Callable[[str, str], bytes], clock: Clock
    ) -> None:
        self._client = client
        self._feed = feed
        self._verify = verify
        self._elapsed = clock.elapsed
        self._turn = asyncio.Lock()
        self._held: _Held | None = None

    async def get(self) -> bytes:
        """Return a snapshot that can be continued from here.

        Raises:
            AuthorityUnavailable: there is none, and the upstream does not give one; or it gave one just now that cannot be continued.
        """
        async with self._turn:
            held = self._held
            if held is not None and self._is_good(held):
                return held.packed
            started = self._elapsed()
            try:
                head, packed = await asyncio.to_thread(self._fetch)
            except AuthorityUnavailable:
                if held is None or not self._continues(held):
                    raise
                return held.packed
            self._held = _Held(head, started, packed)
            return packed

    def _is_good(self, held: _Held) -> bool:
        """Say whether *held* can be served without asking the upstream.

        Raises:
            AuthorityUnavailable: it cannot be continued, and is so young that the upstream would give the same.
        """
        age = self._elapsed() - held.at
        if self._continues(held):
            return age < MAX_AGE
        if age < _PAUSE:
            raise AuthorityUnavailable(
                "the snapshot cannot be continued; there will be another", retry_after=_PAUSE
            )
        return False

    def _continues(self, held: _Held) -> bool:
        return held.head.timeline == self._feed.timeline and held.head.position >= self._feed.start

    def _fetch(self) -> tuple[Head, bytes]:
        reader, packed, unpacking = SnapshotReader(self._verify), bytearray(), zlib.decompressobj(_GZIP)
        try:
            with closing(self._client.packed_snapshot()) as pieces:
                for piece in pieces:
                    packed += piece
                    if len(packed) > MAX_PACKED:
                        raise AuthorityUnavailable("the upstream's snapshot is too large")
                    while piece:
                        reader.feed(unpacking.decompress(piece, _PIECE))
                        piece = unpacking.unconsumed_tail
            reader.feed(unpacking.flush())
            if not unpacking.eof:
                raise AuthorityUnavailable("the upstream's snapshot is cut short")
            return reader.finish().head.head, bytes(packed)
        except (WireError, Denied, zlib.error) as error:
            raise AuthorityUnavailable(f"the upstream's snapshot does not hold: {error}") from None
