"""Activity: that sessions were used, written in batches."""

from __future__ import annotations

from datetime import datetime

from keyfob.base.identifiers import SessionId
from keyfob.sessions.store import Seen, SessionStore

MAX_PENDING = 100_000  # sessions: past that, further activity is not noted until the next write


class Activity:
    """Collects activity and writes it when told to. Safe to call from any thread; losing it loses at most a touch interval."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._pending: dict[SessionId, datetime] = {}

    def note(self, session_id: SessionId, at: datetime) -> None:
        """Remember that the session was used at *at*. A later note replaces an earlier one."""
        if len(self._pending) < MAX_PENDING or session_id in self._pending:
            self._pending[session_id] = at

    async def write(self) -> int:
        """Write what was noted since the last call; return how many rows moved.

        What the store did not take stays noted.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        pending, self._pending = self._pending, {}
        if not pending:
            return 0
        # A thread that has just looked up the old dictionary may still add to it: it is copied in one step before it is walked.
        noted = list(pending.items())
        try:
            return await self._store.touch([Seen(session_id, at) for session_id, at in noted])
        except BaseException:
            for session_id, at in noted:
                self._pending.setdefault(session_id, at)
            raise
