"""The one place of the PostgreSQL store in which an entry is appended, and what it ends.

Each step that appends goes in the order of `locks.py`: lock the rows that it may change, by id; lock the head; read everything anew, for a
statement that waited saw its old snapshot; decide; write. While the head is locked nobody else appends, so positions are in commit order,
and no cut-off can come between reading a session and raising its `as_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from msgspec import structs

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Timeline
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import LEAP, RETENTION_MARGIN
from keyfob.sessions.session import Session
from keyfob.sessions.store import AlreadyEnded, Ended, EndOutcome
from keyfob.stores.postgres.coalescing import Left
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.reading import (
    Known,
    child_ids,
    lock_free_sessions,
    lock_sessions,
    read_ids,
    subject_ids,
    write_rows,
)
from keyfob.stores.revoking import leaves_cut_off, new_timeline, next_entry
from keyfob.stores.rows import ENTRY_COLUMNS, entry_to
from keyfob.stores.standing import is_live, over_since

_INSERT_ENTRIES = f"""
    WITH appended AS (
        INSERT INTO keyfob.entries ({ENTRY_COLUMNS})
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bytea[])
    )
    UPDATE keyfob.meta SET position = $9, at = greatest(at, $10), chain = $11 RETURNING pg_notify('{CHANNEL}', '')
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class LockedHead:
    """The row `meta`, which nobody else changes until the transaction ends."""

    head: Head
    at: datetime
    longest_credential: timedelta
    longest_session: timedelta


async def lock_head(connection: Connection) -> LockedHead:
    """Lock the head of the feed until the transaction ends, and return it."""
    row = await connection.fetchrow(
        "SELECT timeline, position, chain, at, longest_credential, longest_session FROM keyfob.meta FOR UPDATE"
    )
    assert row is not None
    return LockedHead(
        head=Head(timeline=Timeline(row[0]), position=Position(row[1]), chain=row[2]),
        at=from_micros(row[3]),
        longest_credential=timedelta(microseconds=row[4]),
        longest_session=timedelta(microseconds=row[5]),
    )


@dataclass(frozen=True, slots=True)
class Order:
    """A revocation, and the moment at which it is carried out."""

    revocation: Revocation
    now: datetime


async def lock_scope(connection: Connection, revocations: Sequence[Revocation | Entry]) -> set[SessionId]:
    """Lock the rows that *revocations* may change, waiting for others; return their ids. A row that comes later is not among them."""
    return await lock_sessions(connection, await _listed(connection, revocations))


async def _listed(connection: Connection, revocations: Sequence[Revocation | Entry]) -> set[SessionId]:
    subjects = [one.id for one in revocations if one.scope is Scope.SUBJECT and one.reach is Reach.END]
    families = {SessionId(one.id) for one in revocations if one.scope is Scope.SESSION}
    families |= {one.spared for one in revocations if one.spared is not None}
    return families | await child_ids(connection, families) | await subject_ids(connection, subjects)


async def end(transaction: Transaction, revocation: Revocation, now: datetime) -> EndOutcome:
    """Carry out *revocation*, as `SessionStore.end` says."""
    connection = transaction.connection
    ids = await lock_scope(connection, [revocation])
    batch = Batch(await lock_head(connection))
    outcome = _end(batch, await read_ids(connection, ids), Order(revocation, now))
    await batch.write(transaction)
    return outcome


async def end_together(transaction: Transaction, orders: Sequence[Order]) -> list[EndOutcome | Left]:
    """Carry out *orders* one after another, in one step, but for those about a row that somebody else holds.

    What an order of scope `client` or `everything` covers is not listed, so an order after it in the same step would not see it: these
    two scopes come alone.
    """
    connection = transaction.connection
    ids = await _listed(connection, [order.revocation for order in orders])
    free = await lock_free_sessions(connection, ids)
    batch = Batch(await lock_head(connection))
    known = await read_ids(connection, ids)
    held = {session_id for session_id in ids - free if known.has(session_id)}
    outcomes = [
        Left.ALONE if held & known.changed_by(order.revocation) else _end(batch, known, order)
        for order in orders
    ]
    await batch.write(transaction)
    return outcomes


def _end(batch: Batch, known: Known, order: Order) -> EndOutcome:
    revocation, now = order.revocation, order.now
    if revocation.scope is Scope.SESSION:
        session = known.session(SessionId(revocation.id), now)
        over = None if session is None else over_since(session, now)
        if over is not None:
            return AlreadyEnded(over.position)
    entry = batch.append(revocation, now)
    return Ended(entry, batch.take_effect(entry, known, now))


class Batch:
    """Entries that follow the locked head, and all that they change: decided one after another, and written together."""

    def __init__(self, head: LockedHead) -> None:
        self._locked = head
        self._head = head.head
        self._at = head.at
        self._entries: list[Entry] = []
        self._events: list[Event] = []
        self._ended: dict[SessionId, Entry] = {}
        self._kept: dict[SessionId, Entry] = {}

    def append(self, revocation: Revocation, now: datetime) -> Entry:
        """Append the entry of *revocation*, and its event."""
        entry = next_entry(
            revocation,
            position=self._head.position,
            chain=self._head.chain,
            last_at=self._at,
            now=now,
            longest=self._locked.longest_credential,
        )
        self.take(entry)
        self._events.append(revocation.event)
        return entry

    def take(self, entry: Entry) -> None:
        """Take *entry* in, which continues the head."""
        self._entries.append(entry)
        self._head = replace(self._head, position=entry.position, chain=entry.chain)
        self._at = max(self._at, entry.at)

    def take_effect(self, entry: Entry, known: Known, now: datetime) -> int:
        """Do to the sessions of *known* what *entry* says; return how many live ones it ended."""
        if entry.reach is Reach.CLAIMS:
            return 0
        live = [session for session in known.in_scope(entry, now) if is_live(session, now)]
        ending = [session for session in live if not _is_spared(session, entry.spared)]
        for session in ending:
            known.change(structs.replace(session, ended_at=entry.at, ended_position=entry.position))
            self._ended[session.session_id] = entry
        for session in known.family(entry.spared, now):
            if is_live(session, now):
                known.change(structs.replace(session, as_of=entry.position))
                self._kept[session.session_id] = entry
        return len(ending)

    async def write(self, transaction: Transaction) -> None:
        """Write everything."""
        connection = transaction.connection
        if not self._entries:
            return
        await insert_entries(transaction, self._entries)
        cutting = {(entry.scope, entry.id): entry for entry in self._entries if leaves_cut_off(entry)}
        await _cut_off(connection, list(cutting.values()), self._locked.longest_session)
        await write_rows(
            connection, {session_id: {"as_of": entry.position} for session_id, entry in self._kept.items()}
        )
        await write_rows(
            connection,
            {
                session_id: {"ended_at": to_micros(entry.at), "ended_position": entry.position}
                for session_id, entry in self._ended.items()
            },
        )
        if self._events:
            await write_events(connection, self._events)


async def reappend(
    transaction: Transaction, entries: Sequence[Entry], instead_of: Head, event: Event, now: datetime
) -> Head | None:
    """Append *entries*, which continue *instead_of*, as they were, and end what is in their scope; None if the head is another."""
    connection = transaction.connection
    ids = await lock_scope(connection, entries)
    locked = await lock_head(connection)
    if locked.head != instead_of:
        return None
    known = await read_ids(connection, ids)
    batch = Batch(locked)
    for entry in entries:
        batch.take(entry)
        batch.take_effect(entry, known, now)
    await batch.write(transaction)
    await write_events(connection, [event])
    return replace(instead_of, position=entries[-1].position, chain=entries[-1].chain)


async def begin_timeline(
    transaction: Transaction,
    revocations: Sequence[Revocation],
    instead_of: Head,
    past: Position,
    now: datetime,
) -> Head | None:
    """Begin a new timeline and carry out *revocations* in it; None if the head is not *instead_of*."""
    connection = transaction.connection
    await lock_scope(connection, revocations)  # rows before the head
    if (await lock_head(connection)).head != instead_of:
        return None
    await connection.execute(
        "UPDATE keyfob.meta SET timeline = $1, position = greatest(position, $2) + $3, chain = $4",
        new_timeline(),
        past,
        LEAP,
        CHAIN_START,
    )
    for revocation in revocations:
        await end(transaction, revocation, now)
    return (await lock_head(connection)).head


async def append_entry(
    transaction: Transaction, revocation: Revocation, now: datetime, *, head: LockedHead, longest: timedelta
) -> Entry:
    """Append the entry alone; *longest* is the longest lifetime of what it can cover."""
    entry = next_entry(
        revocation,
        position=head.head.position,
        chain=head.head.chain,
        last_at=head.at,
        now=now,
        longest=longest,
    )
    await insert_entries(transaction, [entry])
    return entry


async def insert_entries(transaction: Transaction, entries: Sequence[Entry]) -> None:
    """Put *entries* behind the locked head. A moment never goes back."""
    rows = [entry_to(entry) for entry in entries]
    last = entries[-1]
    # The notification is sent at the commit, and once, however many are asked for in one transaction.
    await transaction.connection.execute(
        _INSERT_ENTRIES,
        *([row[number] for row in rows] for number in range(len(rows[0]))),
        last.position,
        max(to_micros(entry.at) for entry in entries),
        last.chain,
    )
    transaction.has_moved = True


def _is_spared(session: Session, spared: SessionId | None) -> bool:
    """Say whether *session* is *spared* or a child of it."""
    return spared is not None and spared in {session.session_id, session.parent_session_id}


async def _cut_off(connection: Connection, entries: Sequence[Entry], longest_session: timedelta) -> None:
    """Leave a cut-off for each of *entries*, which are about different things."""
    if not entries:
        return
    await connection.execute(
        "INSERT INTO keyfob.cut_offs (scope, id, position, at, until)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])"
        " ON CONFLICT (scope, id) DO UPDATE SET position = excluded.position, at = excluded.at, until = excluded.until",
        [entry.scope.value for entry in entries],
        [entry.id for entry in entries],
        [entry.position for entry in entries],
        [to_micros(entry.at) for entry in entries],
        [to_micros(entry.at + longest_session + RETENTION_MARGIN) for entry in entries],
    )
