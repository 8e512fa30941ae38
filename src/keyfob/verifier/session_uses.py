"""The uses of sessions in this process that the authority is to hear of, so that a session used anywhere does not idle out."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from keyfob.base.identifiers import SessionId

MAX_PENDING = 100_000  # uses that wait to be reported; past that the oldest is forgotten


class SessionUses:
    """The uses of sessions that are to be reported. Any thread notes, one takes."""

    def __init__(self) -> None:
        self._pending: deque[tuple[SessionId, float]] = deque(maxlen=MAX_PENDING)

    def __len__(self) -> int:
        return len(self._pending)

    def note(self, session_id: SessionId, at: float) -> None:
        """Note that the session was used at *at*, in seconds since the epoch."""
        self._pending.append((session_id, at))

    def clear(self) -> None:
        """Forget all that is pending."""
        self._pending.clear()

    def take(self, limit: int) -> dict[SessionId, float]:
        """Take up to *limit* uses, the latest of each session."""
        taken: dict[SessionId, float] = {}
        with suppress(IndexError):
            for _ in range(limit):
                session_id, at = self._pending.popleft()
                taken[session_id] = max(at, taken.get(session_id, at))
        return taken
