"""Between records and rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import cast

import msgspec

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position, SessionId, Strategy, Subject, is_session_id
from keyfob.base.opaque import OpaqueKind, TokenDigest
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.session import Session

Value = str | bytes | int | None
Row = tuple[Value, ...]
SessionRow = tuple[
    bytes, str, str, str, str | None, bytes | None, int, int, int, int, int, int, int, int | None, bytes | None,
    int, int, int | None, bytes | None, int | None, int | None, int | None, str,
]  # fmt: skip
EntryRow = tuple[int, int, str, str, str, str | None, int | None, bytes]

SESSION_COLUMNS = (
    "s.session_id, s.subject, s.client_id, s.strategy, s.kind, s.digest, s.generation, s.chain_generation, s.as_of,"
    " s.created_at, s.expires_at, s.last_seen_at, s.auth_time, s.idle_timeout, s.parent_session_id, s.flags,"
    " s.replayed_rotations, s.rotated_at, s.previous_digest, s.previous_until, s.ended_at, s.ended_position, s.details"
)
SESSION_WIDTH = 23
ENTRY_COLUMNS = "position, at, scope, id, reach, spared, until, chain"

_PERSISTENT, _REPLAYED, _WINDOW_CLOSED = 1, 2, 4
_MICROSECOND = timedelta(microseconds=1)
_STRATEGIES = {strategy.value: strategy for strategy in Strategy}
_KINDS = {kind.value: kind for kind in OpaqueKind}


class _Details(msgspec.Struct, frozen=True, array_like=True):
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    amr: tuple[str, ...]
    acr: str | None
    user_agent: str
    address: str


_details = msgspec.json.Decoder(_Details)
_names = msgspec.json.Decoder(frozenset[str])
_facts = msgspec.json.Decoder(dict[str, str | int])


def span(micros: int | None) -> timedelta | None:
    """Return the timedelta of *micros*."""
    return None if micros is None else timedelta(microseconds=micros)


def span_micros(span: timedelta | None) -> int | None:
    """Return *span* in whole microseconds."""
    return None if span is None else span // _MICROSECOND


def moment(micros: int | None) -> datetime | None:
    """Return the moment of *micros*."""
    return None if micros is None else from_micros(micros)


def moment_micros(moment: datetime | None) -> int | None:
    """Return *moment* in microseconds since the epoch."""
    return None if moment is None else to_micros(moment)


def session_key(session_id: SessionId | None) -> bytes | None:
    """Return the key of a row; None, which no row has, for what has not the form of a session id."""
    return bytes.fromhex(session_id) if session_id is not None and is_session_id(session_id) else None


def names(text: str) -> frozenset[str]:
    """Return the set that `names_text` wrote."""
    return _names.decode(text)


def names_text(names: Iterable[str]) -> str:
    """Return *names* as JSON, sorted."""
    return msgspec.json.encode(sorted(names)).decode()


def session_from(row: SessionRow) -> Session:
    """Return the session of a row of `SESSION_COLUMNS`."""
    (
        key, subject, client_id, strategy, kind, digest, generation, chain_generation, as_of,
        created_at, expires_at, last_seen_at, auth_time, idle_timeout, parent, flags,
        replayed_rotations, rotated_at, previous_digest, previous_until, ended_at, ended_position, details,
    ) = row  # fmt: skip
    more = _details.decode(details)
    return Session(
        session_id=SessionId(key.hex()),
        subject=Subject(subject),
        client_id=ClientId(client_id),
        strategy=_STRATEGIES[strategy],
        kind=None if kind is None else _KINDS[kind],
        digest=None if digest is None else TokenDigest(digest),
        generation=generation,
        chain_generation=chain_generation,
        as_of=Position(as_of),
        created_at=from_micros(created_at),
        expires_at=from_micros(expires_at),
        last_seen_at=from_micros(last_seen_at),
        auth_time=from_micros(auth_time),
        idle_timeout=span(idle_timeout),
        parent_session_id=None if parent is None else SessionId(parent.hex()),
        persistent=bool(flags & _PERSISTENT),
        replayed_since_rotation=bool(flags & _REPLAYED),
        window_closed=bool(flags & _WINDOW_CLOSED),
        replayed_rotations=replayed_rotations,
        rotated_at=moment(rotated_at),
        previous_digest=None if previous_digest is None else TokenDigest(previous_digest),
        previous_until=moment(previous_until),
        ended_at=moment(ended_at),
        ended_position=None if ended_position is None else Position(ended_position),
        audience=more.audience,
        scopes=more.scopes,
        amr=more.amr,
        acr=more.acr,
        user_agent=more.user_agent,
        address=more.address,
    )


def session_to(session: Session) -> Row:
    """Return the row of *session*, in the order of `SESSION_COLUMNS`."""
    return (
        session_key(session.session_id),
        session.subject,
        session.client_id,
        session.strategy.value,
        None if session.kind is None else session.kind.value,
        session.digest,
        session.generation,
        session.chain_generation,
        session.as_of,
        to_micros(session.created_at),
        to_micros(session.expires_at),
        to_micros(session.last_seen_at),
        to_micros(session.auth_time),
        span_micros(session.idle_timeout),
        session_key(session.parent_session_id),
        flags(session),
        session.replayed_rotations,
        moment_micros(session.rotated_at),
        session.previous_digest,
        moment_micros(session.previous_until),
        moment_micros(session.ended_at),
        session.ended_position,
        details(session),
    )


def flags(session: Session) -> int:
    """Return the flags of *session* as one number."""
    return (
        session.persistent * _PERSISTENT
        | session.replayed_since_rotation * _REPLAYED
        | session.window_closed * _WINDOW_CLOSED
    )


def details(session: Session) -> str:
    """Return what no statement looks at, as JSON."""
    return msgspec.json.encode(
        _Details(
            audience=session.audience,
            scopes=session.scopes,
            amr=session.amr,
            acr=session.acr,
            user_agent=session.user_agent,
            address=session.address,
        )
    ).decode()


def entry_from(row: EntryRow) -> Entry:
    """Return the entry of a row of `ENTRY_COLUMNS`."""
    position, at, scope, id_, reach, spared, until, chain = row
    return Entry(
        position=Position(position),
        at=from_micros(at),
        scope=Scope(scope),
        id=id_,
        reach=Reach(reach),
        spared=None if spared is None else SessionId(spared),
        until=moment(until),
        chain=chain,
    )


def entry_to(entry: Entry) -> Row:
    """Return the row of *entry*, in the order of `ENTRY_COLUMNS`."""
    return (
        entry.position,
        to_micros(entry.at),
        entry.scope.value,
        entry.id,
        entry.reach.value,
        entry.spared,
        moment_micros(entry.until),
        entry.chain,
    )


def write_event(connection: sqlite3.Connection, event: Event) -> None:
    """Append *event* to the audit trail."""
    connection.execute(
        "INSERT INTO events (at, code, actor, subject, session_id, client_id, address, reason, facts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            to_micros(event.at),
            event.code,
            event.actor,
            event.subject,
            event.session_id,
            event.client_id,
            event.address,
            event.reason,
            msgspec.json.encode(event.facts).decode() if event.facts else None,
        ),
    )


def event_from(row: Row) -> Event:
    """Return the event of a row: at, code, actor, subject, session_id, client_id, address, reason, facts."""
    at, code, actor, subject, session_id, client_id, address, reason, facts = row
    return Event(
        at=from_micros(cast("int", at)),
        code=cast("str", code),
        actor=cast("str", actor),
        subject=cast("Subject | None", subject),
        session_id=cast("SessionId | None", session_id),
        client_id=cast("ClientId | None", client_id),
        address=cast("str | None", address),
        reason=cast("str | None", reason),
        facts=_facts.decode(cast("str", facts)) if facts is not None else {},
    )
