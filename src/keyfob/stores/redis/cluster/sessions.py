"""Sessions in a cluster: the verbs of one subject are steps on one slot; what they revoke has its entry in the feed before."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from keyfob.base.clock import Clock, to_micros
from keyfob.base.errors import Unavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Subject
from keyfob.base.opaque import TokenDigest
from keyfob.revocation.entry import Entry, Reach, Scope
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
from keyfob.stores.redis.cluster.catching_up import CatchingUp
from keyfob.stores.redis.cluster.debts import Debts
from keyfob.stores.redis.cluster.feed import ClusterFeedStore
from keyfob.stores.redis.cluster.listing import ClusterListing
from keyfob.stores.redis.cluster.server import ClusterServer
from keyfob.stores.redis.packing import event_fields, raw, read_session
from keyfob.stores.redis.pieces import joined, names_of
from keyfob.stores.redis.reading import as_found
from keyfob.stores.redis.sessions import read_kept, refusal
from keyfob.stores.revoking import check_data
from keyfob.stores.standing import is_api_key, is_login, over_since
from keyfob.stores.texts import require_texts

_TRIES: Final = 20  # others that changed the row between its reading and its writing, or owed something, one after another
_PATIENCE: Final = (
    1.0  # seconds: how long whoever revokes waits for the rows, which the entry alone denies already
)
_NUMBER: Final = 16  # bytes of the number of a debt


class ClusterSessionStore:
    """A `SessionStore` in a cluster."""

    def __init__(self, server: ClusterServer, feed: ClusterFeedStore, clock: Clock) -> None:
        self._server = server
        self._feed = feed
        self._clock = clock
        self._slots: CatchingUp = server.catching_up
        self._debts: Debts = server.debts
        self._listing = ClusterListing(server)

    async def add(
        self, session: Session, *, limit: int, at_limit: AtLimit, event: Event
    ) -> Added | LimitReached | CutOff:
        """Add a session, as the port says; its event is written next to the feed before this returns.

        Raises:
            ValueError: an id of the wrong form, in use, or not of its subject; an `as_of` past the head; a parent that is a child itself.
        """
        asked = asking.addition(session, salt=self._server.salt, limit=limit, at_limit=at_limit, event=event)
        # Cut-offs are kept for as long as anything that they cover can live.
        await self._feed.extend_retention(
            credential=timedelta(0), session=session.expires_at - session.created_at
        )
        if session.as_of > self._server.journal.position:
            await self._server.read_news()
        tag = places.tag_of_session(session.session_id)
        outcome, *rest = await self._without_debts("add", tag, asked)
        if outcome == b"added":
            ended = [await self._debts.pay(packed) for packed in rest[0]]
            await self._server.tell(event)
            return Added(tuple(paid.entry for paid in ended if paid is not None))
        if outcome == b"cut off":
            return CutOff()
        if outcome == b"limit":
            return LimitReached()
        raise ValueError(refusal(outcome, session, rest))

    async def find(self, session_id: SessionId) -> Found | None:
        """Return the session, and up to which position what was revoked is in its row."""
        field = places.field_of(session_id)
        if not field:
            return None
        as_of, rest = await self._slots.look("find", places.tag_of_session(session_id), (field,))
        if not rest:
            return None
        return Found(as_found(field, rest, self._clock.now()), as_of)

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
        field, tag = places.field_of(session_id), places.tag_of_session(session_id)
        if not field:
            return Unknown()
        reuse = self._server.encode({"id": session_id, "event": event_fields(event)})
        told = asking.rotation(
            field, presented, successor, generation=generation, now=now, replay_window=replay_window
        )
        asked = {"now": to_micros(now)}
        outcome, *rest = await self._without_debts("rotate", tag, asked, (*told, reuse))
        if outcome == b"unknown":
            return Unknown()
        if outcome == b"reused":
            paid = await self._debts.pay(rest[3])
            if paid is None:
                return Unknown()
            return Reused(read_session(field, paid.row), paid.entry, timedelta(microseconds=int(rest[2])))
        position, session = Position(int(rest[0])), read_session(field, rest[1])
        if outcome == b"rotated":
            return Rotated(session, position)
        if outcome == b"current":
            return Current(session, position)
        return Replayed(session, position, closed_window=bool(rest[2]))

    async def renew(
        self, session_id: SessionId, renewal: Renewal, *, now: datetime, event: Event
    ) -> Renewed | Unknown:
        """Replace the secret: decided on the row as it was read, and owed if it is still that row."""
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
            outcome, *rest = await self._without_debts("renew", tag, asked)
            if outcome == b"owes":
                paid = await self._debts.pay(rest[0])
                return Unknown() if paid is None else Renewed(read_session(field, paid.row), paid.entry)
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
            self._step(
                "touch",
                places.tag_of_session(session_id),
                {"field": raw(places.field_of(session_id)), "uses": moments},
            )
            for session_id, moments in uses.items()
        )
        return sum(int(one[0]) for one in moved)

    async def end(self, revocation: Revocation, *, now: datetime) -> EndOutcome:
        """Append the entry, and carry it to the rows; what cannot be reached in a second is denied by the entry alone, until it is."""
        require_texts(revocation.id, revocation.spared)
        for _ in range(_TRIES):
            standing: Mapping[str, object] = {}
            if revocation.scope is Scope.SESSION and places.field_of(revocation.id):
                found = await self._standing(SessionId(revocation.id), now)
                if isinstance(found, AlreadyEnded):
                    return found
                standing = found
            orders = self._server.orders()
            asked = {
                "order": orders.add(revocation),
                "now": to_micros(now),
                "event": event_fields(revocation.event),
                "owed": "",
                **({} if revocation.reach is Reach.CLAIMS else standing),
            }
            outcome, *rest = await self._server.step("cluster/append", orders.keys, asked)
            if outcome == b"appended":
                return await self._ended(self._server.appended(rest[0]))
            position = Position(int(rest[0]))
            if "standing" not in standing or await self._is_over(SessionId(revocation.id), now):
                return AlreadyEnded(position)
        raise self._server.too_busy()

    async def _ended(self, entry: Entry) -> Ended:
        counts = await self._server.carried([entry])
        return Ended(entry, counts.get(entry.position, 0))

    async def _standing(self, session_id: SessionId, now: datetime) -> AlreadyEnded | Mapping[str, object]:
        """Say that a session is over, or what append.lua is told of it: nothing where it cannot be reached."""
        field, tag = places.field_of(session_id), places.tag_of_session(session_id)
        try:
            async with asyncio.timeout(_PATIENCE):
                reply = await self._without_debt(tag, field)
        except (Unavailable, TimeoutError):
            return {}  # the entry denies it all the same, and waits for the row
        if not reply:
            return {"has_no_row": True}
        over = over_since(as_found(field, reply, now), now)
        if over is not None:
            return AlreadyEnded(over.position)
        session = read_session(field, reply[0])
        return {
            "standing": {
                "subject": session.subject,
                "client": session.client_id,
                "as_of": session.as_of,
                "parent": session.parent_session_id or "",
            }
        }

    async def _without_debt(self, tag: str, field: bytes) -> Sequence[Any]:
        """Return the row of a session that owes nothing, with what find.lua gives beside it."""
        for _ in range(_TRIES):
            _, rest = await self._slots.look("cluster/find_with_debt", tag, (field,))
            if not rest or not rest[0]:
                return rest[1:]
            await self._debts.pay(rest[0])
        raise self._server.too_busy()

    async def _is_over(self, session_id: SessionId, now: datetime) -> bool:
        """Say whether a session of which the feed says so is over, once its row knows all that the feed does."""
        await self._server.read_news()
        found = await self._standing(session_id, now)
        return isinstance(found, AlreadyEnded) or "standing" not in found

    async def list(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live sessions, newest first. Those of everybody are looked for among all rows of all nodes."""
        return await self._listing.page(subject, now=now, after=after, limit=limit, wanted=is_login)

    async def list_api_keys(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live API keys, newest first, as `list` does sessions."""
        return await self._listing.page(subject, now=now, after=after, limit=limit, wanted=is_api_key)

    async def list_ended_children(self, entry: Entry, *, after: str | None, limit: int) -> SessionPage:
        """Return children that *entry* ended; those of a client or of everything are looked for slot by slot."""
        return await self._listing.ended_children(entry, after=after, limit=limit)

    async def read_data(self, session_id: SessionId) -> SessionData | None:
        """Return the data of a live session."""
        asked = {"field": raw(places.field_of(session_id)), "now": to_micros(self._clock.now())}
        outcome, *rest = await self._step("read_data", places.tag_of_session(session_id), asked)
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
        written = await self._step("write_data", places.tag_of_session(session_id), asked)
        return bool(written[0])

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* rows whose absolute end is reached. The server itself drops what nobody deletes, an hour after its end."""
        return await self._listing.sweep(now, limit)

    async def _step(
        self, name: str, tag: str, asked: Mapping[str, object], arguments: Sequence[object] = ()
    ) -> Sequence[Any]:
        keys = (places.sessions_at(tag), places.data_at(tag))
        return await self._slots.step(name, tag, keys, asked, arguments=arguments)

    async def _without_debts(
        self, name: str, tag: str, asked: Mapping[str, object], arguments: Sequence[object] = ()
    ) -> Sequence[Any]:
        """Do a step that must wait until nothing is owed for what it is about: what is owed is paid by whoever meets it."""
        for _ in range(_TRIES):
            told = {**asked, "owed": os.urandom(_NUMBER).hex()}
            outcome, *rest = await self._step(name, tag, told, arguments)
            if outcome != b"owed":
                return (outcome, *rest)
            for packed in rest[0]:
                await self._debts.pay(packed)
        raise self._server.too_busy()
