"""What looks through many sessions: lists, and the deletion of what has expired."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Entry, Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import SessionPage
from keyfob.stores.children import child_cursor, child_place, ends_sessions, is_ended_by, read_child_cursor
from keyfob.stores.redis import places
from keyfob.stores.redis.packing import Reply, cut_offs, read_session
from keyfob.stores.redis.server import Server
from keyfob.stores.revoking import cursor_number, read_session_cursor, session_cursor
from keyfob.stores.standing import Over, as_it_stands, is_live, over_since, over_without_parent
from keyfob.stores.texts import can_be_kept

_KEYS_AT_ONCE = 500  # keys of one look at the key space, whose rows are read in one round trip
MAX_SWEPT = 50_000  # keys that one deletion looks at: the next one goes on behind them
START = b"0"


class Listing:
    """Looks through the sessions of one store."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._swept = START

    async def page(
        self,
        subject: Subject | None,
        *,
        now: datetime,
        after: str | None,
        limit: int,
        wanted: Callable[[Session], bool],
    ) -> SessionPage:
        """Return live sessions of *subject*, or of everybody, that are *wanted*, newest first.

        Raises:
            InvalidRequest: *after* is no cursor.
        """
        before = None if after is None else read_session_cursor(after)
        if subject is not None and not can_be_kept(subject):
            return SessionPage([], None)
        newest: list[Session] = []
        async for sessions in self._live(subject, now):
            older = [one for one in sessions if wanted(one) and (before is None or _age(one) < before)]
            newest = heapq.nlargest(limit + 1, [*newest, *older], key=_age)
        page = newest[:limit]
        more = len(newest) > len(page) and page
        return SessionPage(page, session_cursor(page[-1], _age(page[-1])[0]) if more else None)

    async def ended_children(self, entry: Entry, *, after: str | None, limit: int) -> SessionPage:
        """Return children that *entry* ended: of one subject by parent and id, of all as the look at the key space comes across them.

        Raises:
            InvalidRequest: *after* is no cursor.
        """
        if not ends_sessions(entry):
            return SessionPage([], None)
        if entry.scope in {Scope.SESSION, Scope.SUBJECT}:
            if not can_be_kept(entry.id):
                return SessionPage([], None)
            behind = None if after is None else read_child_cursor(after)
            ended = sorted(await self._ended_at(self._key_of(entry), entry), key=child_place)
            rest = [session for session in ended if behind is None or child_place(session) > behind]
            page = rest[:limit]
            return SessionPage(page, child_cursor(page[-1]) if len(rest) > len(page) and page else None)
        return await self._ended_everywhere(entry, 0 if after is None else cursor_number(after))

    async def _ended_everywhere(self, entry: Entry, place: int) -> SessionPage:
        cursor, keys = await self._server.read(*scan(str(place).encode()))
        found = await self._server.together(self._ended_at(key, entry) for key in set(keys))
        everyone = [session for sessions in found for session in sessions]
        return SessionPage(everyone, None if cursor == START else cursor.decode())

    def _key_of(self, entry: Entry) -> bytes:
        if entry.scope is Scope.SESSION:
            return places.sessions_at(places.tag_of_session(entry.id))
        return places.sessions_at(places.tag_of(self._server.salt, entry.id))

    async def _ended_at(self, key: bytes, entry: Entry) -> list[Session]:
        known = self._server.evidence.mark
        head, position, rows = await self._server.look("rows_of", (places.META, places.CUT_OFFS, key))
        self._server.check_head(known, head, position)
        sessions = (read_session(field, row) for field, row, _ in rows)
        return [session for session in sessions if is_ended_by(session, entry)]

    async def sweep(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* rows whose absolute end is reached; go on where the sweep before has stopped."""
        gone = looked = 0
        while gone < limit and looked < MAX_SWEPT:
            start = self._swept
            found, keys = await self._server.read(*scan(start))
            for key in keys:
                if gone < limit:
                    asked = {"now": to_micros(now), "limit": limit - gone}
                    keys_of = (key, places.data_beside(key))
                    gone += int(await self._server.step("sweep", keys_of, asked))
            looked += len(keys)
            if gone < limit:
                self._swept = found
                if found == START:
                    break
        return gone

    async def _live(self, subject: Subject | None, now: datetime) -> AsyncIterator[list[Session]]:
        if subject is not None:
            key = places.sessions_at(places.tag_of(self._server.salt, subject))
            yield [session for session in await self._read(key, now) if session.subject == subject]
            return
        cursor = None
        while cursor != START:
            cursor, keys = await self._server.read(*scan(cursor or START))
            found = await self._server.together(self._read(key, now) for key in set(keys))
            yield [session for sessions in found for session in sessions]

    async def _read(self, key: bytes, now: datetime) -> list[Session]:
        """Return the sessions of one hash that are live at *now*."""
        known = self._server.evidence.mark
        head, position, rows = await self._server.look("rows_of", (places.META, places.CUT_OFFS, key))
        self._server.check_head(known, head, position)
        return live_of(rows, now)


def live_of(rows: Sequence[Reply], now: datetime) -> list[Session]:
    """Return the sessions of the rows of one hash, as rows_of.lua gives them, that are live at *now*."""
    own = {
        field: as_it_stands(read_session(field, row), cut_offs=cut_offs(cuts), parent=None)
        for field, row, cuts in rows
    }
    by_id = {session.session_id: session for session in own.values()}
    standing = (_under_parent(session, by_id, now) for session in by_id.values())
    return [session for session in standing if is_live(session, now)]


def _under_parent(session: Session, by_id: dict[SessionId, Session], now: datetime) -> Session:
    if session.parent_session_id is None:
        return session
    parent = by_id.get(session.parent_session_id)
    over: Over | None = over_without_parent(session) if parent is None else over_since(parent, now)
    return as_it_stands(session, cut_offs=(), parent=over)


def _age(session: Session) -> tuple[int, SessionId]:
    return to_micros(session.created_at), session.session_id


def scan(cursor: bytes) -> Sequence[object]:
    """Return the command that looks at the next keys of sessions behind *cursor*."""
    return (b"SCAN", cursor, b"MATCH", places.ALL_SESSIONS, b"COUNT", _KEYS_AT_ONCE)
