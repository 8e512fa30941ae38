"""What the feed needs of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.revocation import Revocation

RETENTION_MARGIN = timedelta(minutes=5)
"""How much longer than anything that it can cover an entry lives (design.md, precondition 6)."""


LEAP = 2**32
"""How far the positions of a new timeline lie past those of the one before: further than any that can have been handed out meanwhile."""


class FeedStore(Protocol):
    """Keeps the feed. Positions are consecutive and are handed out in commit order.

    Entries are appended by `SessionStore.end` and its like, in the step that ends the sessions. Each method is one atomic step.
    Raises `StoreUnavailable` when the store does not answer.
    """

    async def head(self) -> Head:
        """Return the last position, as a read of the primary: never older than what any finished call has appended."""
        ...

    async def read_after(self, position: Position, limit: int) -> Sequence[Entry]:
        """Return up to *limit* entries after *position*, ascending; the first one's position tells whether any are gone."""
        ...

    async def live(self, now: datetime) -> tuple[Head, Sequence[Entry]]:
        """Return the entries that can still cover something at *now*, ascending, and the head of the same moment."""
        ...

    async def extend_retention(self, *, credential: timedelta, session: timedelta) -> None:
        """Make sure, durably, that entries outlive credentials of *credential* and cut-offs sessions of *session*.

        Called before anything of such a lifetime is granted. It only ever raises; repeated calls are cheap and harmless. An entry's
        `until` is its moment + the longest credential lifetime + `RETENTION_MARGIN`; entries of scope `key` have none.
        """
        ...

    async def reappend(
        self, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
    ) -> Head | None:
        """Append *entries* again, as they were, behind *instead_of*, and end what is in their scope: what a store that went back has lost.

        Their positions and their chain continue *instead_of*. Of several that mend at once one wins: None where the head is another by
        now, and nothing was changed. *event* is written to the audit trail in the same step.

        Raises:
            ValueError: the entries do not continue *instead_of*.
        """
        ...

    async def begin_timeline(
        self, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
    ) -> Head | None:
        """Begin a new timeline, whose positions are 2^32 past *past* and past the head, and carry out *revocations* in it.

        The answer to a feed that went back where what was lost cannot be had again (design.md, precondition 7). Of several that mend at
        once one wins: None where the head is not *instead_of* by now, and nothing was changed. Entries of before stay until they expire.
        """
        ...

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* whenever the feed may have moved, in this process or another; return what ends the subscription.

        *wake* comes from any thread and must not block. It may come for nothing; it never fails to come within the store's polling
        interval.
        """
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Drop up to *limit* entries and cut-offs whose `until` is reached; return how many. The head never moves."""
        ...
