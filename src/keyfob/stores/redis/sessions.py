"""Sessions in Redis: those whose ids begin with the same 32 bits, as all of one subject do, are the fields of one hash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from keyfob.base.clock import Clock, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Subject
from keyfob.base.opaque import TokenDigest
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    Added,
    AlreadyEnded,
    Current,
    CutOff,
    Ended,
    EndOutcome,
    Found,
    LimitReached,
    Renewal,
    Renewed,
    Replayed,
    Reused,
    Rotated,
    RotateOutcome,
    Seen,
    SessionData,
    SessionPage,
    Unknown,
)
from keyfob.stores import rotation
from keyfob.stores.redis import asking, places
from keyfob.stores.redis.listing import Listing
from keyfob.stores.redis.packing import event_fields, raw, read_session
from keyfob.stores.redis.pieces import joined, names_of
from keyfob.stores.redis.reading import as_found, as_recorded
from keyfob.stores.redis.server import Server
from keyfob.stores.revoking import check_data
from keyfob.stores.standing import is_api_key, is_login
from keyfob.stores.texts import require_texts

_VERSION_SIZE = 8  # bytes before the data of a session
_TRIES = 20  # others that changed the row between its reading and its writing, one after another


class RedisSessionStore:
    """A `SessionStore` in Redis."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._listing = Listing(server)

    async def add(
        self, session: Session, *, limit: int, at_limit: AtLimit, event: Event
    ) -> Added | LimitReached | CutOff:
        """Add a session, as the port says.

        Raises:
            ValueError: an id of the wrong form, in use, or not of its subject; an `as_of` past the head; a parent that is a child itself.
        """
        tag = places.tag_of_session(session.session_id)
        asked = asking.addition(session, salt=self._server.salt, limit=limit, at_limit=at_limit, event=event)
        outcome, *rest = await self._server.step("add", _keys(tag), asked)
        if outcome == b"added":
            return Added(tuple(self._server.appended(entry) for entry in rest[0]))
        if outcome == b"cut off":
            return CutOff()
        if outcome == b"limit":
            return LimitReached()
        raise ValueError(refusal(outcome, session, rest))

    async def find(self, session_id: SessionId) -> Found | None:
        """Return the session, what is recorded of its subject, and the head position of the same moment."""
        place = places.place_of(session_id)
        if place is None:
            return None
        key, field = place
        known = self._server.evidence.mark
        keys = (places.META, places.CUT_OFFS, key, places.SUBJECTS)
        timeline, position, *rest = await self._server.look("find", keys, (field,))
        head = self._server.check_head(known, timeline, position)
        if not rest:
            return None
        recorded, *rows = rest
        return Found(as_found(field, rows, self._clock.now()), head, as_recorded(recorded))

    async def rotate(
        self,
        session_id: SessionId,
        presented: TokenDigest,
        successor: TokenDigest,
        *,
        generation: int,
        now: datetime,
        replay_window: timedelta,
        event: Event,
    ) -> RotateOutcome:
        """Make *successor* the current secret, as the port says."""
        place = places.place_of(session_id)
        if place is None:
            return Unknown()
        key, field = place
        told = asking.rotation(
            field, presented, successor, generation=generation, now=now, replay_window=replay_window
        )
        reuse = self._server.encode({"id": session_id, "event": event_fields(event)})
        outcome, *rest = await self._server.run("rotate", (*places.STATE, key), (*told, reuse))
        if outcome == b"unknown":
            return Unknown()
        position, session = Position(int(rest[0])), read_session(field, rest[1])
        if outcome == b"rotated":
            return Rotated(session, position)
        if outcome == b"current":
            return Current(session, position)
        if outcome == b"replayed":
            return Replayed(session, position, closed_window=bool(rest[2]))
        return Reused(session, self._server.appended(rest[3]), timedelta(microseconds=int(rest[2])))

    async def renew(
        self, session_id: SessionId, renewal: Renewal, *, now: datetime, event: Event
    ) -> Renewed | Unknown:
        """Replace the secret: decided on the row as it was read, and written if it is still that row."""
        field, tag = places.field_of(session_id), places.tag_of_session(session_id)
        for _ in range(_TRIES):
            row = joined(await self._server.read(b"HMGET", places.sessions_at(tag), *names_of(field)))
            if row is None:
                return Unknown()
            session = read_session(field, row)
            if not rotation.can_renew(session, renewal, now):
                return Unknown()
            renewed = rotation.renewed(session, renewal, now)
            asked = asking.renewal(renewed, instead_of=row, now=now, event=event)
            outcome, *rest = await self._server.step("renew", _keys(tag), asked)
            if outcome == b"renewed":
                return Renewed(read_session(field, rest[0]), self._server.appended(rest[1]))
            if outcome == b"unknown":
                return Unknown()
        raise self._server.too_busy()

    async def touch(self, seen: Sequence[Seen]) -> int:
        """Write activity; return how many rows moved. Each row is a step of its own."""
        uses: defaultdict[SessionId, list[int]] = defaultdict(list)
        for use in sorted(seen, key=lambda use: use.at):
            if places.field_of(use.session_id):
                uses[use.session_id].append(to_micros(use.at))
        moved = await self._server.together(
            self._server.step(
                "touch",
                _keys(places.tag_of_session(session_id)),
                {"field": raw(places.field_of(session_id)), "uses": moments},
            )
            for session_id, moments in uses.items()
        )
        return sum(int(one) for one in moved)

    async def end(self, revocation: Revocation, *, now: datetime) -> EndOutcome:
        """Append the entry and end what is in its scope."""
        require_texts(revocation.id, revocation.spared)
        orders = self._server.orders()
        asked = {
            "order": orders.add(revocation),
            "now": to_micros(now),
            "event": event_fields(revocation.event),
        }
        outcome, *rest = await self._server.step("end", orders.keys, asked)
        if outcome == b"over":
            return AlreadyEnded(Position(int(rest[0])))
        return Ended(self._server.appended(rest[1]), int(rest[0]))

    async def list(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live sessions, newest first. Those of everybody are looked for among all rows, which takes as long as there are many."""
        return await self._listing.page(subject, now=now, after=after, limit=limit, wanted=is_login)

    async def list_api_keys(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live API keys, newest first, as `list` does sessions."""
        return await self._listing.page(subject, now=now, after=after, limit=limit, wanted=is_api_key)

    async def list_ended_children(self, entry: Entry, *, after: str | None, limit: int) -> SessionPage:
        """Return children that *entry* ended; those of a client or of everything are looked for among all rows, as `list` does."""
        return await self._listing.ended_children(entry, after=after, limit=limit)

    async def read_data(self, session_id: SessionId) -> SessionData | None:
        """Return the data of a live session."""
        asked = {"field": raw(places.field_of(session_id)), "now": to_micros(self._clock.now())}
        outcome, *rest = await self._server.step("read_data", _keys(places.tag_of_session(session_id)), asked)
        if outcome != b"data":
            return None
        return read_kept(rest[0])

    async def write_data(self, session_id: SessionId, data: bytes, *, version: int, now: datetime) -> bool:
        """Write the data of a live session if *version* is still its version.

        Raises:
            ValueError: *data* is too long.
        """
        check_data(data)
        asked = {
            "field": raw(places.field_of(session_id)),
            "data": raw(bytes(data)),
            "version": version,
            "now": to_micros(now),
        }
        return bool(await self._server.step("write_data", _keys(places.tag_of_session(session_id)), asked))

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* rows whose absolute end is reached. The server itself drops what nobody deletes, an hour after its end."""
        return await self._listing.sweep(now, limit)


def read_kept(kept: bytes) -> SessionData:
    """Return what is kept for an application; empty: nothing yet."""
    if not kept:
        return SessionData(b"", 0)
    return SessionData(kept[_VERSION_SIZE:], int.from_bytes(kept[:_VERSION_SIZE], "big"))


def _keys(tag: str) -> tuple[bytes, bytes]:
    return places.sessions_at(tag), places.data_at(tag)


def refusal(outcome: bytes, session: Session, rest: Sequence[object]) -> str:
    """Return why a session was not added: the caller's mistake."""
    match outcome:
        case b"past":
            return f"as_of {session.as_of} is past the head of the feed, {rest[0]!r}"
        case b"taken":
            return "a session with this id stands already"
        case b"grandchild":
            return "the parent of a session has no parent itself"
        case _:
            return "the id of a session begins with 32 bits of its subject's hash"
