"""Sessions in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from keyfob.base.clock import Clock, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId, Subject
from keyfob.base.opaque import TokenDigest
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    Added,
    CutOff,
    EndOutcome,
    Found,
    LimitReached,
    Renewal,
    Renewed,
    RotateOutcome,
    Seen,
    SessionData,
    SessionPage,
    Unknown,
)
from keyfob.stores.postgres.adding import Addition, add, add_together
from keyfob.stores.postgres.children import ended_children
from keyfob.stores.postgres.coalescing import Coalescer
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.partitions import Partitions
from keyfob.stores.postgres.reading import Known, day_of, lock_sessions, read_ids, read_where
from keyfob.stores.postgres.revoking import Order, end, end_together
from keyfob.stores.postgres.rotating import (
    Presented,
    RenewOrder,
    renew,
    renew_together,
    rotate,
    rotate_together,
)
from keyfob.stores.postgres.touching import PORTION, TOGETHER, Uses, touch, touch_together
from keyfob.stores.revoking import check_data, read_session_cursor, session_cursor
from keyfob.stores.rows import Value, session_key
from keyfob.stores.standing import is_api_key, is_live, is_login
from keyfob.stores.texts import can_be_kept, require_texts

AddOutcome = Added | LimitReached | CutOff

_MAX_SCANNED = 2_000  # rows: what a page of a list looks at, however few of them are live


class PostgresSessionStore:
    """A `SessionStore` in PostgreSQL."""

    def __init__(self, database: Database, partitions: Partitions, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._partitions = partitions
        deadline, transact = database.options.deadline, database.transact
        self._find: Coalescer[SessionId, Found | None] = Coalescer(self._find_together, deadline=deadline)
        self._add: Coalescer[Addition, AddOutcome] = Coalescer(
            lambda additions: transact(partial(add_together, additions=additions)),
            deadline=deadline,
            key=_subject_of,
            alone=lambda addition: transact(partial(add, addition=addition)),
        )
        self._rotate: Coalescer[Presented, RotateOutcome] = Coalescer(
            lambda orders: transact(partial(rotate_together, orders=orders)),
            deadline=deadline,
            key=_session_of,
            alone=lambda order: transact(partial(rotate, order=order)),
        )
        # They lock the head, one after another: while one batch is under way, the next gathers.
        self._end: Coalescer[Order, EndOutcome] = Coalescer(
            lambda orders: transact(partial(end_together, orders=orders)),
            deadline=deadline,
            key=_target_of,
            alone=self._end_alone,
            at_once=1,
        )
        self._renew: Coalescer[RenewOrder, Renewed | Unknown] = Coalescer(
            lambda orders: transact(partial(renew_together, orders=orders)),
            deadline=deadline,
            key=_session_of,
            alone=lambda order: transact(partial(renew, order=order)),
            at_once=1,
        )
        self._touch: Coalescer[Uses, int] = Coalescer(
            lambda requests: transact(partial(touch_together, requests=requests)),
            deadline=deadline,
            alone=lambda uses: transact(partial(touch, uses=uses)),
            at_once=1,
            most=TOGETHER,
        )

    async def add(
        self, session: Session, *, limit: int, at_limit: AtLimit, event: Event
    ) -> Added | LimitReached | CutOff:
        """Add a session, as the port says.

        Raises:
            ValueError: an id of the wrong form or in use, an `as_of` past the head, a parent that is a child itself.
            InvalidRequest: a text that cannot be kept.
        """
        require_texts(session.subject, session.client_id)
        addition = Addition(session=session, limit=limit, at_limit=at_limit, event=event)
        if session.parent_session_id is not None:
            return await self._database.transact(partial(add, addition=addition))
        return await self._database.at_home(lambda: self._add.ask(addition))

    async def find(self, session_id: SessionId) -> Found | None:
        """Return the session and the head position of one snapshot."""
        return await self._database.at_home(lambda: self._find.ask(session_id))

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
        order = Presented(
            session_id=session_id,
            presented=presented,
            successor=successor,
            generation=generation,
            now=now,
            replay_window=replay_window,
            event=event,
        )
        return await self._database.at_home(lambda: self._rotate.ask(order))

    async def renew(
        self, session_id: SessionId, renewal: Renewal, *, now: datetime, event: Event
    ) -> Renewed | Unknown:
        """Replace the secret, as the port says."""
        order = RenewOrder(session_id=session_id, renewal=renewal, now=now, event=event)
        return await self._database.at_home(lambda: self._renew.ask(order))

    async def touch(self, seen: Sequence[Seen]) -> int:
        """Write activity, a thousand rows in a step; return how many rows moved. Where a step fails, the earlier ones are done."""
        moved = 0
        for start in range(0, len(seen), PORTION):
            uses = tuple(seen[start : start + PORTION])
            moved += await self._database.at_home(partial(self._touch.ask, uses))
        return moved

    async def end(self, revocation: Revocation, *, now: datetime) -> EndOutcome:
        """Append the entry and end what is in its scope."""
        require_texts(revocation.id, revocation.spared)
        order = Order(revocation, now)
        if revocation.scope in {Scope.CLIENT, Scope.EVERYTHING}:
            return await self._end_alone(order)
        return await self._database.at_home(lambda: self._end.ask(order))

    async def list(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live sessions, newest first. A page may be short of *limit* although more follow, where few of many are live."""
        return await self._database.read(
            partial(_list, subject=subject, now=now, after=after, limit=limit, wanted=is_login)
        )

    async def list_api_keys(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live API keys, newest first, of a page as `list` gives them."""
        return await self._database.read(
            partial(_list, subject=subject, now=now, after=after, limit=limit, wanted=is_api_key)
        )

    async def list_ended_children(self, entry: Entry, *, after: str | None, limit: int) -> SessionPage:
        """Return children that *entry* ended, by parent and id."""
        return await self._database.read(partial(ended_children, entry=entry, after=after, limit=limit))

    async def read_data(self, session_id: SessionId) -> SessionData | None:
        """Return the data of a live session."""
        return await self._database.read(partial(_read_data, session_id=session_id, now=self._clock.now()))

    async def write_data(self, session_id: SessionId, data: bytes, *, version: int, now: datetime) -> bool:
        """Write the data of a live session if *version* is still its version.

        Raises:
            ValueError: *data* is too long.
        """
        check_data(data)
        return await self._database.transact(
            partial(_write_data, session_id=session_id, data=data, version=version, now=now)
        )

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Drop the partitions of days that are over, make those of the days to come, and delete up to *limit* expired rows elsewhere.

        A row in the partition of its day leaves with it, at the end of that day; until then it is expired, and found as such.
        """
        return await self._partitions.delete_expired(now, limit)

    async def _find_together(self, session_ids: Sequence[SessionId]) -> Sequence[Found | None]:
        known = await self._database.read(partial(read_ids, session_ids=set(session_ids)))
        now = self._clock.now()
        return [_found(known, session_id, now) for session_id in session_ids]

    async def _end_alone(self, order: Order) -> EndOutcome:
        return await self._database.transact(partial(end, revocation=order.revocation, now=order.now))


def _subject_of(addition: Addition) -> Subject:
    return addition.session.subject


def _target_of(order: Order) -> tuple[Scope, str]:
    return order.revocation.scope, order.revocation.id


def _session_of(order: Presented | RenewOrder) -> SessionId:
    return order.session_id


def _found(known: Known, session_id: SessionId, now: datetime) -> Found | None:
    session = known.session(session_id, now)
    if session is None:
        return None
    assert known.position is not None
    return Found(session, known.position, known.holders[session_id])


async def _list(
    connection: Connection,
    subject: Subject | None,
    *,
    now: datetime,
    after: str | None,
    limit: int,
    wanted: Callable[[Session], bool],
) -> SessionPage:
    page: list[Session] = []
    cursor = after
    for _ in range(0, _MAX_SCANNED, limit + 1):
        rows = await _older(connection, subject, now=now, after=cursor, limit=limit + 1)
        for row in rows:
            if wanted(row) and is_live(row, now):
                if len(page) == limit:
                    return SessionPage(page, cursor)
                page.append(row)
            cursor = session_cursor(row, to_micros(row.created_at))
        if len(rows) <= limit:
            return SessionPage(page, None)
    return SessionPage(page, cursor)


async def _older(
    connection: Connection, subject: Subject | None, *, now: datetime, after: str | None, limit: int
) -> list[Session]:
    """Return up to *limit* rows that nobody ended, newest first, live or not."""
    conditions = ["s.ended_at IS NULL"]
    values: list[Value] = [limit]
    age = "s.created_at"
    if subject is not None:
        if not can_be_kept(subject):
            return []
        values.append(subject)
        conditions.append(f"s.subject = ${len(values)}")
        age = "s.created_at + 0"  # no column of an index: the few rows of a subject are sorted, not looked for by age
    if after is not None:
        created_at, session_id = read_session_cursor(after)
        values += [created_at, session_key(session_id)]
        conditions.append(f"({age}, s.session_id) < (${len(values) - 1}, ${len(values)})")
    order = f"ORDER BY {age} DESC, s.session_id DESC LIMIT $1"
    known = await read_where(connection, f"{' AND '.join(conditions)} {order}", *values)
    return known.sessions(known.listed, now)


async def _read_data(connection: Connection, session_id: SessionId, now: datetime) -> SessionData | None:
    # The session first: what is read after it is at most newer than the state that allowed it.
    session = (await read_ids(connection, [session_id])).session(session_id, now)
    if session is None or not is_live(session, now):
        return None
    key = session_key(session_id)
    assert key is not None
    row = await connection.fetchrow(
        "SELECT data, version FROM keyfob.session_data WHERE day = $1 AND session_id = $2", day_of(key), key
    )
    return SessionData(b"", 0) if row is None else SessionData(row[0], row[1])


async def _write_data(
    transaction: Transaction, session_id: SessionId, data: bytes, version: int, now: datetime
) -> bool:
    connection = transaction.connection
    is_locked = bool(await lock_sessions(connection, [session_id]))
    present = await _read_data(connection, session_id, now) if is_locked else None
    if present is None or present.version != version:
        return False
    key = session_key(session_id)
    assert key is not None
    await connection.execute(
        "INSERT INTO keyfob.session_data (day, session_id, version, data) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (session_id, day) DO UPDATE SET version = excluded.version, data = excluded.data",
        day_of(key),
        key,
        version + 1,
        bytes(data),
    )
    return True
