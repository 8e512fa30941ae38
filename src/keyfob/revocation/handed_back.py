"""What a follower hands back when it comes again: the latest that this issuer signed, and the follower held.

A bare claim is no evidence; what the feed's own key signed is. The furthest of it is looked at first, and the rest only where the store
turns out to have lost it: so whoever hands back much costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from keyfob.base.errors import Denied, InvalidRequest
from keyfob.base.identifiers import Timeline
from keyfob.revocation import wire
from keyfob.revocation.entry import Entry, Head

MAX_BATCHES: Final = 64
"""Batches in one hand-back; whoever lost more than they hold begins a new timeline."""

T = TypeVar("T")
Verify = Callable[[str, str], bytes]
"""Takes a compact JWS and a `typ`, gives the payload; raises `Denied` where it is not by a key of this feed."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The heartbeat at which a follower was level, and the batches that it heard last, oldest first. Nothing of it is trusted yet."""

    issuer: str
    heartbeat: str
    batches: Sequence[str]
    verify: Verify

    def head(self) -> Head:
        """Return the furthest head that is proven.

        Raises:
            InvalidRequest: something is not signed by this issuer's feed.
        """
        known = self._heartbeat()
        if not self.batches:
            return known
        timeline, entries = self._batch(self.batches[-1])
        last = entries[-1]
        if timeline == known.timeline and last.position > known.position:
            return Head(timeline=timeline, position=last.position, chain=last.chain)
        return known

    def entries(self, known: Head) -> Sequence[Entry]:
        """Return the entries up to *known* that are proven, by position, each once.

        Raises:
            InvalidRequest: as `head`.
        """
        proven: dict[int, Entry] = {}
        for text in self.batches:
            timeline, entries = self._batch(text)
            if timeline == known.timeline:
                proven |= {entry.position: entry for entry in entries if entry.position <= known.position}
        return [proven[position] for position in sorted(proven)]

    def _heartbeat(self) -> Head:
        heartbeat = self._read(self.heartbeat, wire.HEARTBEAT_TYPE, wire.decode_heartbeat)
        self._require_issuer(heartbeat.issuer)
        return heartbeat.head

    def _batch(self, text: str) -> tuple[Timeline, Sequence[Entry]]:
        batch = self._read(text, wire.ENTRIES_TYPE, wire.decode_batch)
        self._require_issuer(batch.issuer)
        return batch.timeline, batch.entries

    def _read(self, text: str, typ: str, decode: Callable[[bytes], T]) -> T:
        try:
            return decode(self.verify(text, typ))
        except (Denied, wire.WireError):
            raise _no_evidence() from None

    def _require_issuer(self, issuer: str) -> None:
        if issuer != self.issuer:
            raise _no_evidence()


def _no_evidence() -> InvalidRequest:
    return InvalidRequest("no_evidence", "What is handed back was not signed by this issuer's feed.")
