"""What this process knows of the feed: how far it had come, and its latest entries, with which a server that lost them can be mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Entry, Head
from keyfob.stores.revoking import check_continues

KEPT: Final = 4_096  # entries, about 2 MB: more than a second of revocations, which is what `appendfsync everysec` may lose

Mark = tuple[Timeline | None, Position]
"""How far the feed was known to have come at some moment."""


class Evidence:
    """Knows the latest of one timeline. A position once seen was acknowledged: a server that shows less later has gone back."""

    def __init__(self) -> None:
        self.timeline: Timeline | None = None
        self.position = Position(0)
        self._entries: dict[Position, Entry] = {}

    @property
    def mark(self) -> Mark:
        """Return how far the feed is known to have come."""
        return self.timeline, self.position

    @property
    def last(self) -> Entry | None:
        """Return the entry at the last known position, if it is held."""
        return self._entries.get(self.position)

    def see(self, timeline: Timeline, position: Position) -> None:
        """Take note that a server stands there. Another timeline is a new beginning, which lies further."""
        if timeline != self.timeline:
            self.timeline, self.position = timeline, Position(0)
            self._entries.clear()
        self.position = max(self.position, position)

    def note(self, timeline: Timeline, entries: Sequence[Entry]) -> None:
        """Take note of *entries*, in any order."""
        for entry in entries:
            self.see(timeline, entry.position)
            self._entries[entry.position] = entry
        if len(self._entries) > 2 * KEPT:
            for position in sorted(self._entries)[:-KEPT]:
                del self._entries[position]

    def forget(self) -> None:
        """Know nothing any more: the data were replaced on purpose."""
        self.timeline, self.position = None, Position(0)
        self._entries.clear()

    def lost_by(self, head: Head) -> Sequence[Entry]:
        """Return all that followed *head*; nothing where not all of it is held, or it does not continue *head*."""
        if head.timeline != self.timeline or self.position - head.position > len(self._entries):
            return ()
        following = range(head.position + 1, self.position + 1)
        lost = [self._entries[Position(number)] for number in following if number in self._entries]
        try:
            check_continues(lost, head)
        except ValueError:
            return ()
        return lost if len(lost) == len(following) else ()


def is_behind(timeline: Timeline, position: Position, known: Mark) -> bool:
    """Say whether a server that stands there, asked after *known* was known, has gone back."""
    return timeline == known[0] and position < known[1]
