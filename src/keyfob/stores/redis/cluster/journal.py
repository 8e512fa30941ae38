"""What this process knows of the feed, so that it can say of each slot how far its rows must be, and what they lack.

It is complete up to `position`: from what the feed says of all slots at the beginning, and every entry since.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from keyfob.base.clock import from_micros
from keyfob.base.identifiers import Position, SessionId, Timeline
from keyfob.revocation.entry import Entry, Head, Reach, Scope
from keyfob.stores.redis.appending import read_head
from keyfob.stores.redis.cluster.orders import ALL, slots_of
from keyfob.stores.redis.cluster.slots import COUNT
from keyfob.stores.redis.packing import read_cut_off

KEPT: Final = 20_000  # entries, about 10 MB: what a slot lacks is read from the feed where it is older


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the feed stands; `longest_session` is how long its cut-offs matter, `applied` how far it was applied to all rows."""

    head: Head
    longest_session: timedelta
    applied: Position

    @classmethod
    def of(cls, reply: Sequence[Any]) -> Standing:
        """Read the first answer of news.lua and stock.lua.

        Raises:
            StoreUnavailable: the server has no feed.
        """
        *head, longest, applied = reply
        return cls(
            head=read_head(head),
            longest_session=timedelta(microseconds=int(longest or 0)),
            applied=Position(int(applied or 0)),
        )


class Journal:
    """Knows what concerns each slot."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self.timeline: Timeline | None = None
        self.position = Position(0)
        self.longest_session = timedelta(0)
        self.applied = Position(0)
        self._begin()

    def _begin(self) -> None:
        self._last = array("q", bytes(8 * COUNT))  # the last entry about each slot alone
        self._base = array("q", bytes(8 * COUNT))  # after which those about it are all held
        self._own: dict[int, list[Entry]] = {}
        self._kept: deque[int] = deque()
        self._cut_offs: dict[tuple[Scope, str, str | None], Entry] = {}
        self._of_all = 0
        self._used: set[int] = set()

    @property
    def used(self) -> Iterable[int]:
        """Return the slots that were in use when the feed was last asked for all of them."""
        return tuple(self._used)

    def forget(self) -> None:
        """Know nothing any more."""
        self.timeline, self.position = None, Position(0)
        self._begin()

    def uses(self, slot: int) -> None:
        """Take note that *slot* is in use."""
        self._used.add(slot)

    def load(self, standing: Standing, slots: Sequence[bytes]) -> None:
        """Take the answer of stock.lua: begin anew with it, unless it tells nothing new of the feed."""
        head = standing.head
        is_new = head.timeline != self.timeline or head.position > self.position
        if is_new:
            self._begin()
        for name, value in zip(slots[::2], slots[1::2], strict=True):
            kind, rest = name[:1], name[1:]
            if kind == b"c":
                if is_new:
                    self._cut_off(_cut_off(rest, value))
            elif kind == b"u" or rest != b"*":
                slot = int(rest)
                self._used.add(slot)
                if kind == b"l" and is_new:
                    self._last[slot] = self._base[slot] = int(value)
        if is_new:
            self._note(standing)

    def follow(self, standing: Standing, entries: Sequence[Entry]) -> bool:
        """Take *entries*, which reach up to *standing* or begin what does; False where they do not continue what is known."""
        if standing.head.timeline != self.timeline:
            return False
        fresh = [entry for entry in entries if entry.position > self.position]
        reached = self.position
        for entry in fresh:
            if entry.position != reached + 1:
                return False
            reached = entry.position
        for entry in fresh:
            self._take(entry)
        if reached == standing.head.position:
            self._note(standing)
        else:
            self.position = reached
        return bool(fresh) or reached >= standing.head.position

    def extend(self, timeline: Timeline, entry: Entry) -> None:
        """Take *entry*, which was appended just now, if it is the next one."""
        if timeline == self.timeline and entry.position == self.position + 1:
            self._take(entry)
            self.position = entry.position

    def need(self, slot: int) -> int:
        """Return the position that *slot* must have reached: that of the last entry about it."""
        return max(self._last[slot], self._of_all)

    def held_from(self, slot: int) -> int:
        """Return the position after which all entries about *slot* are held."""
        return self._base[slot]

    def missing(self, slot: int, after: int) -> list[Entry] | None:
        """Return what concerns *slot* after the position *after*; None where not all of it is held."""
        if after < self._base[slot]:
            return None
        return self.with_cut_offs(self._own.get(slot, ()), after, self.position)

    def with_cut_offs(self, entries: Iterable[Entry], after: int, last: int) -> list[Entry]:
        """Return those of *entries* that come after *after* up to *last*, and what covers the rows of every slot, in their order."""
        found = [entry for entry in (*entries, *self._cut_offs.values()) if after < entry.position <= last]
        return sorted(found, key=lambda entry: entry.position)

    def _note(self, standing: Standing) -> None:
        self.timeline, self.position = standing.head.timeline, standing.head.position
        self.longest_session, self.applied = standing.longest_session, standing.applied

    def _take(self, entry: Entry) -> None:
        slots = slots_of(self._salt, entry)
        if slots is ALL:
            self._cut_off(entry)
            return
        for slot in slots:
            self._last[slot] = entry.position
            self._used.add(slot)
            self._own.setdefault(slot, []).append(entry)
            self._kept.append(slot)
        while len(self._kept) > KEPT:
            slot = self._kept.popleft()
            held = self._own[slot]
            self._base[slot] = held.pop(0).position
            if not held:
                del self._own[slot]

    def _cut_off(self, entry: Entry) -> None:
        # Of those that spare the same session the last one says it all.
        self._cut_offs[entry.scope, entry.id, entry.spared] = entry
        self._of_all = max(self._of_all, entry.position)


def _cut_off(place: bytes, packed: bytes) -> Entry:
    """Return what is known of an entry that cuts off everybody's sessions: enough to apply it."""
    scope, _, rest = place.decode().partition(" ")
    id_, _, spared = rest.partition("\0")
    over, until = read_cut_off(packed)
    return Entry(
        position=over.position,
        at=from_micros(int.from_bytes(packed[8:16], "big")),
        scope=Scope(scope),
        id=id_,
        reach=Reach.END,
        until=until,
        chain=b"",
        spared=SessionId(spared) if spared else None,
    )
