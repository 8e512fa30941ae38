"""The canaries that this process denies, and since when."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from keyfob.base.clock import from_micros
from keyfob.base.errors import Cause
from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.base.principal import Principal
from keyfob.revocation.canary import is_canary
from keyfob.revocation.entry import Entry
from keyfob.verifier.feed_view import FeedView

MAX_PENDING = 64  # denials that wait to be reported: what one report takes. Past that the oldest is forgotten, and missed
_CANARY = "keyfob-canary"
_LONG = timedelta(days=1)


class CanaryLog:
    """Puts the rule to the test with every canary that the feed brings. One thread hears, one takes."""

    def __init__(self, view: FeedView) -> None:
        self._view = view
        self._pending: deque[tuple[Position, int]] = deque(maxlen=MAX_PENDING)

    def __len__(self) -> int:
        return len(self._pending)

    def hear(self, entries: Sequence[Entry]) -> None:
        """Take note of entries that were applied this moment.

        A canary counts when a credential of its session, issued with all that was known before, is denied now: by the very rule that every
        check applies, in the same table.
        """
        for entry in entries:
            if is_canary(entry) and self._view.live.cause(self._holder(entry)) is Cause.REVOKED:
                self._pending.append((entry.position, int(self._view.time.now() * 1_000_000)))

    def take(self) -> list[tuple[Position, int]]:
        """Take what is pending: positions, and since when they are denied, in microseconds by the authority's time."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._pending.popleft())
        return taken

    def put_back(self, taken: Sequence[tuple[Position, int]]) -> None:
        """Let *taken*, which could not be reported, wait again: the latest of it where there is no room for all."""
        room = MAX_PENDING - len(self._pending)
        self._pending.extendleft(reversed(taken[max(0, len(taken) - room) :]))

    def _holder(self, entry: Entry) -> Principal:
        issued_at = from_micros(int(self._view.time.now() * 1_000_000))
        return Principal(
            subject=Subject(_CANARY),
            client_id=ClientId(_CANARY),
            strategy=None,
            audience=(),
            issued_at=issued_at,
            expires_at=issued_at + _LONG,
            as_of=Position(entry.position - 1),
            session_id=SessionId(entry.id),
            timeline=self._view.live.head.timeline,
        )
