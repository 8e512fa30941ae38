"""Rotation and renewal in PostgreSQL: lock, read, decide by the shared rules, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId
from keyfob.base.opaque import TokenDigest
from keyfob.revocation.entry import Reach
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    Current,
    Ended,
    Renewal,
    Renewed,
    Replayed,
    Reused,
    Rotated,
    RotateOutcome,
    Unknown,
)
from keyfob.stores import rotation
from keyfob.stores.postgres.coalescing import Left
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.reading import (
    Known,
    child_ids,
    lock_free_sessions,
    lock_sessions,
    read_ids,
    write_rows,
)
from keyfob.stores.postgres.revoking import Batch, end, lock_head
from keyfob.stores.revoking import of_session
from keyfob.stores.rotation import Verdict
from keyfob.stores.rows import Value, details, moment_micros, replays
from keyfob.stores.standing import is_live


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A refresh token that came, as `SessionStore.rotate` takes it."""

    session_id: SessionId
    presented: TokenDigest
    successor: TokenDigest
    generation: int
    now: datetime
    replay_window: timedelta
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewOrder:
    """A session whose secret is to be replaced, as `SessionStore.renew` takes it."""

    session_id: SessionId
    renewal: Renewal
    now: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class _Theft:
    """The row must be ended, for which more must be locked."""


async def rotate(transaction: Transaction, order: Presented) -> RotateOutcome:
    """Carry out *order*, waiting for whoever holds the row."""
    connection = transaction.connection
    # The children too: a theft ends them, and rows are locked in one go.
    ids = {order.session_id} | await child_ids(connection, [order.session_id])
    locked = await lock_sessions(connection, ids)
    if order.session_id not in locked:  # one that comes now is not locked, and nobody can know its id yet
        return Unknown()
    outcome = await _rotate_locked(transaction, [order])
    if not isinstance(outcome[0], _Theft):
        return outcome[0]
    session = (await read_ids(connection, locked)).session(order.session_id, order.now)
    assert session is not None
    ended = await end(transaction, of_session(order.session_id, order.event), order.now)
    if not isinstance(ended, Ended):  # a cut-off came meanwhile
        return Unknown()
    entry = ended.entry
    over = replace(session, ended_at=entry.at, ended_position=entry.position)
    return Reused(over, entry, rotation.since_rotation(session, order.now))


async def rotate_together(
    transaction: Transaction, orders: Sequence[Presented]
) -> Sequence[RotateOutcome | Left]:
    """Carry out *orders* of different sessions, but for thefts and those that somebody else holds: no batch waits for a row."""
    ids = {order.session_id for order in orders}
    free = await lock_free_sessions(transaction.connection, ids)
    outcomes = iter(
        await _rotate_locked(transaction, [order for order in orders if order.session_id in free])
    )
    # Not locked: somebody else holds it, or there is none; which of the two is found out when it is done alone.
    each = (next(outcomes) if order.session_id in free else Left.ALONE for order in orders)
    return [Left.ALONE if isinstance(outcome, _Theft) else outcome for outcome in each]


async def renew(transaction: Transaction, order: RenewOrder) -> Renewed | Unknown:
    """Carry out *order*, waiting for whoever holds the row."""
    if not await lock_sessions(transaction.connection, [order.session_id]):
        return Unknown()
    return (await _renew_locked(transaction, [order]))[0]


async def renew_together(
    transaction: Transaction, orders: Sequence[RenewOrder]
) -> Sequence[Renewed | Unknown | Left]:
    """Carry out *orders* of different sessions, but for those that somebody else holds."""
    free = await lock_free_sessions(transaction.connection, {order.session_id for order in orders})
    mine = [order for order in orders if order.session_id in free]
    outcomes = iter(await _renew_locked(transaction, mine) if mine else ())
    return [next(outcomes) if order.session_id in free else Left.ALONE for order in orders]


async def _renew_locked(transaction: Transaction, orders: Sequence[RenewOrder]) -> list[Renewed | Unknown]:
    connection = transaction.connection
    # The head before the rows are read: a cut-off that came in between would have a position below the new `as_of`.
    batch = Batch(await lock_head(connection))
    known = await read_ids(connection, {order.session_id for order in orders})
    outcomes = [_renew(batch, known, order) for order in orders]
    await batch.write(transaction)
    renewed = [outcome.session for outcome in outcomes if isinstance(outcome, Renewed)]
    await write_rows(
        connection,
        {
            session.session_id: {**_changes(session), "as_of": session.as_of, "details": details(session)}
            for session in renewed
        },
    )
    return outcomes


def _renew(batch: Batch, known: Known, order: RenewOrder) -> Renewed | Unknown:
    session = known.session(order.session_id, order.now)
    if session is None or not rotation.can_renew(session, order.renewal, order.now):
        return Unknown()
    entry = batch.append(of_session(order.session_id, order.event, reach=Reach.CLAIMS), order.now)
    return Renewed(replace(rotation.renewed(session, order.renewal, order.now), as_of=entry.position), entry)


async def _rotate_locked(
    transaction: Transaction, orders: Sequence[Presented]
) -> list[RotateOutcome | _Theft]:
    known = await read_ids(transaction.connection, {order.session_id for order in orders})
    outcomes = [_decide(known, order) for order in orders]
    moved = [outcome.session for outcome in outcomes if isinstance(outcome, Rotated | Current | Replayed)]
    await write_rows(transaction.connection, {session.session_id: _changes(session) for session in moved})
    return outcomes


def _decide(known: Known, order: Presented) -> RotateOutcome | _Theft:
    now = order.now
    session = known.session(order.session_id, now)
    if session is None or not is_live(session, now):
        return Unknown()
    assert known.position is not None
    match rotation.verdict(
        session,
        order.presented,
        order.successor,
        generation=order.generation,
        now=now,
        replay_window=order.replay_window,
    ):
        case Verdict.ROTATE:
            return Rotated(rotation.rotated(session, order.successor, now), known.position)
        case Verdict.KEEP:
            return Current(rotation.kept(session, now), known.position)
        case Verdict.REPLAY:
            after = rotation.replayed(session, now)
            return Replayed(after, known.position, after.window_closed and not session.window_closed)
        case Verdict.REUSE:
            return _Theft()
        case Verdict.REFUSE:
            return Unknown()


def _changes(session: Session) -> dict[str, Value]:
    """Return what a rotation may have changed."""
    return {
        "digest": session.digest,
        "generation": session.generation,
        "last_seen_at": to_micros(session.last_seen_at),
        "replays": replays(session),
        "rotated_at": moment_micros(session.rotated_at),
    }
