"""The feed in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.grants.rules import READ_WITHIN
from keyfob.revocation.entry import CHAIN_START, Entry, Head
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import LEAP
from keyfob.stores.memory.revoking import end, reappend
from keyfob.stores.memory.state import State
from keyfob.stores.revoking import check_continues, new_timeline


class MemoryFeedStore:
    """A `FeedStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def head(self) -> Head:
        """Return the head."""
        with self._state.step():
            return self._state.head()

    async def read_after(self, position: Position, limit: int) -> Sequence[Entry]:
        """Return up to *limit* consecutive entries after *position*: from the first one that is left, up to the next gap."""
        state = self._state
        with state.step():
            if position >= state.position:
                return []
            first = self._first_after(position)
            entries: list[Entry] = []
            for following in range(first, first + limit):
                entry = state.entries.get(Position(following))
                if entry is None:
                    break
                entries.append(entry)
            return entries

    def _read(self) -> int:
        """Return up to where every consumer of this timeline has read."""
        state = self._state
        cursors = [one.position for one in state.cursors.values() if one.timeline == state.timeline]
        return min(cursors, default=state.position)

    def _first_after(self, position: Position) -> int:
        """Return the position of the first entry after *position*, or one after the head: nearly always the very next, so no others are looked at."""
        following = position + 1
        if following in self._state.entries:
            return following
        return next((kept for kept in self._state.entries if kept > position), self._state.position + 1)

    async def live(self, now: datetime) -> tuple[Head, Sequence[Entry]]:
        """Return the live entries and the head."""
        state = self._state
        with state.step():
            live = [entry for entry in state.entries.values() if entry.until is None or entry.until > now]
            return state.head(), live

    async def extend_retention(self, *, credential: timedelta, session: timedelta) -> None:
        """Raise the longest lifetimes."""
        state = self._state
        with state.step():
            state.longest_credential = max(state.longest_credential, credential)
            state.longest_session = max(state.longest_session, session)

    async def reappend(
        self, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
    ) -> Head | None:
        """Append *entries* again where the head is still *instead_of*.

        Raises:
            ValueError: they do not continue it.
        """
        check_continues(entries, instead_of)
        state = self._state
        with state.step():
            return reappend(state, entries, event, now) if state.head() == instead_of else None

    async def begin_timeline(
        self, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
    ) -> Head | None:
        """Begin a new timeline where the head is still *instead_of*."""
        state = self._state
        with state.step():
            if state.head() != instead_of:
                return None
            state.timeline, state.chain = new_timeline(), CHAIN_START
            state.position = Position(max(state.position, past) + LEAP)
            for revocation in revocations:
                end(state, revocation, now)
            return state.head()

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* right after each step that appended; return what ends the subscription.

        Raises:
            StoreUnavailable: the store is closed.
        """
        with self._state.step():
            return self._state.wakers.add(wake)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Drop up to *limit* entries and cut-offs."""
        state = self._state
        with state.step():
            entries = [e.position for e in state.entries.values() if _is_over(e, now, self._read())]
            for position in entries[:limit]:
                del state.entries[position]
            left = limit - len(entries[:limit])
            cut_offs = [place for place, mark in state.cut_offs.items() if mark.until <= now]
            for place in cut_offs[:left]:
                del state.cut_offs[place]
            return len(entries[:limit]) + len(cut_offs[:left])


def _is_over(entry: Entry, now: datetime, read: int) -> bool:
    if entry.until is None or entry.until > now:
        return False
    return entry.position <= read or entry.until <= now - READ_WITHIN
