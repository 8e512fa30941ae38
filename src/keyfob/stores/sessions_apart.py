"""Sessions whose subjects are recorded in another store."""

from __future__ import annotations

from dataclasses import replace

from keyfob.base.identifiers import SessionId
from keyfob.sessions.store import Found, SessionStore


class SessionsApart:
    """A `SessionStore` that says nothing of who holds a session: what lies beside it is empty, and would be taken for "no roles, not barred"."""

    def __init__(self, sessions: SessionStore) -> None:
        """Pass everything on to *sessions*."""
        self._find = sessions.find
        self.add = sessions.add
        self.rotate = sessions.rotate
        self.renew = sessions.renew
        self.touch = sessions.touch
        self.end = sessions.end
        self.list = sessions.list
        self.list_api_keys = sessions.list_api_keys
        self.list_ended_children = sessions.list_ended_children
        self.read_data = sessions.read_data
        self.write_data = sessions.write_data
        self.delete_expired = sessions.delete_expired

    async def find(self, session_id: SessionId) -> Found | None:
        """Return the session; who holds it is to be asked for."""
        found = await self._find(session_id)
        return None if found is None else replace(found, holder=None)
