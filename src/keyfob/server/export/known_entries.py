"""The live entries with their ids, as a reader of the feed hears them: what a verifier holds are hashes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from keyfob.base import base64url
from keyfob.revocation import wire
from keyfob.revocation.canary import is_canary
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.event_stream import StreamEvent
from keyfob.revocation.snapshot import SnapshotLines


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known at one moment: everything that existed at `level_at`, which is None before there was such a moment in this timeline."""

    timeline: str
    position: int
    level_at: datetime | None
    entries: tuple[Entry, ...]


class KnownEntries:
    """A `FeedTap` that keeps every live entry but canaries, which are nobody's. The reader's thread tells it, another asks it.

    When it was level it learns from the heartbeats that it hears itself, which come after the entries that they count: the reader is level
    a moment before it has passed on why.
    """

    wants_snapshot = False

    def __init__(self) -> None:
        self.leveled = threading.Event()
        """Set when the feed was level for the first time."""
        self._lock = threading.Lock()
        self._timeline = ""
        self._position = 0
        self._level_at: datetime | None = None
        self._entries: dict[int, Entry] = {}
        self._lines = SnapshotLines()
        self._coming: list[Entry] = []

    def begin_snapshot(self) -> None:
        """Forget what came of one that did not end."""
        self._lines, self._coming = SnapshotLines(), []

    def take_snapshot(self, piece: bytes) -> None:
        """Keep the next piece apart until the whole is found good."""
        self._coming.extend(self._lines.feed(piece))

    def begin(self, head: Head, *, snapshot: Head) -> None:
        """Hold the snapshot, and of the same timeline what was held already: whatever was revoked stays revoked (`LiveEntries.join`)."""
        with self._lock:
            if head.timeline != self._timeline:
                self._entries.clear()
                self._timeline, self._level_at = head.timeline, None
            if snapshot.timeline == self._timeline:
                self._add(self._coming)
            self._position = head.position
        self._coming = []

    def hear(self, event: StreamEvent, head: Head) -> None:
        """Take *event*, which the reader has found good."""
        if event.name == "entry":
            batch = wire.decode_batch(_payload(event))
            with self._lock:
                self._add(batch.entries)
                self._position = head.position
        elif event.name == "heartbeat":
            at = wire.decode_heartbeat(_payload(event)).at
            with self._lock:
                self._level_at = at if self._level_at is None else max(at, self._level_at)
            self.leveled.set()

    def known(self, now: datetime) -> Known:
        """Return what is known, with the entries that are live at *now* by their position; forget the others."""
        with self._lock:
            over = [
                position
                for position, entry in self._entries.items()
                if entry.until is not None and entry.until <= now
            ]
            for position in over:
                del self._entries[position]
            return Known(
                timeline=self._timeline,
                position=self._position,
                level_at=self._level_at,
                entries=tuple(entry for _, entry in sorted(self._entries.items())),
            )

    def _add(self, entries: Sequence[Entry]) -> None:
        self._entries.update({entry.position: entry for entry in entries if not is_canary(entry)})


def _payload(event: StreamEvent) -> bytes:
    return base64url.decode(event.data.split(".")[1].encode("ascii"))
