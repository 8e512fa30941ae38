"""Single records of a Redis store, as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keyfob.base.clock import from_micros
from keyfob.base.identifiers import SessionId
from keyfob.stores.records import (
    AccountRow,
    AnyRecord,
    AssertionRow,
    AttemptsRow,
    CanaryRow,
    ClientRow,
    ConsentRow,
    CursorRow,
    EntryRow,
    FamiliarRow,
    KeyRow,
    Kind,
    OneTimeRow,
    SessionRow,
    SubjectRow,
    VerifierRow,
)
from keyfob.stores.redis import places
from keyfob.stores.redis.packing import read_session, read_stream_entry
from keyfob.stores.redis.pieces import joined, names_of
from keyfob.stores.redis.reports import read_canary
from keyfob.stores.redis.sessions import read_kept
from keyfob.stores.redis.tables import read_record
from keyfob.stores.redis.transfer_records import (
    read_cut_off_row,
    read_delivery_row,
    read_event_row,
    read_feed_row,
)

Row = tuple[Kind, str]
Command = tuple[object, ...]

_TABLES = {
    Kind.KEYS: (places.SIGNING_KEYS, KeyRow),
    Kind.CLIENTS: (places.CLIENTS, ClientRow),
    Kind.SUBJECTS: (places.SUBJECTS, SubjectRow),
    Kind.ACCOUNTS: (places.ACCOUNTS, AccountRow),
    Kind.VERIFIERS: (places.VERIFIERS, VerifierRow),
    Kind.ONE_TIMES: (places.ONE_TIMES, OneTimeRow),
    Kind.CONSENTS: (places.CONSENTS, ConsentRow),
    Kind.CURSORS: (places.CURSORS, CursorRow),
}
_EACH = 2  # commands that read one record


def reading_changes(rows: Sequence[Row], state: bytes) -> list[Command]:
    """Return what reads *rows*, two commands each; *state* is the key of the feed's state."""
    return [command for row in rows for command in _reading(row, state)]


def changed_records(rows: Sequence[Row], replies: Sequence[Any]) -> list[AnyRecord | None]:
    """Return the record of each of *rows*; None where there is none any more."""
    return [
        _record(row, replies[_EACH * place], replies[_EACH * place + 1]) for place, row in enumerate(rows)
    ]


def _reading(row: Row, state: bytes) -> tuple[Command, Command]:
    kind, key = row
    nothing: Command = (b"HGET", state, b"nothing")
    if kind in _TABLES:
        return (b"HGET", _TABLES[kind][0], key), nothing
    match kind:
        case Kind.FEED:
            return (b"HGETALL", state), nothing
        case Kind.SESSIONS:
            sessions = places.sessions_at(places.tag_of_session(SessionId(key)))
            name = places.field_of(SessionId(key))
            return (b"HMGET", sessions, *names_of(name)), (b"HGET", places.data_beside(sessions), name)
        case Kind.ENTRIES | Kind.EVENTS:
            stream = places.ENTRIES if kind is Kind.ENTRIES else places.EVENTS
            return (b"XRANGE", stream, f"{int(key)}-0", f"{int(key)}-0"), nothing
        case Kind.CUT_OFFS:
            return (b"HGET", places.CUT_OFFS, key), nothing
        case Kind.ATTEMPTS:
            return (b"HGET", places.ATTEMPTS, key), (b"ZSCORE", places.ATTEMPTS_AT, key)
        case Kind.FAMILIAR:
            return (b"ZSCORE", places.FAMILIAR, key), nothing
        case Kind.CANARIES:
            return (b"HGET", places.CANARIES, str(int(key))), nothing
        case Kind.DELIVERIES:
            return (b"HGET", places.DELIVERIES, key), (b"ZSCORE", places.DUE, key)
        case _:
            return (b"ZSCORE", places.ASSERTIONS, bytes.fromhex(key)), nothing


def _record(row: Row, first: Any, second: Any) -> AnyRecord | None:
    kind, key = row
    if kind is Kind.SESSIONS:
        return _session(SessionId(key), first, second)
    if not first:
        return None
    if kind in _TABLES:
        return read_record(first, _TABLES[kind][1])  # type: ignore[arg-type]  # `_TABLES` pairs kinds with records
    match kind:
        case Kind.FEED:
            return read_feed_row(dict(zip(first[::2], first[1::2], strict=True)))
        case Kind.ENTRIES:
            return EntryRow(entry=read_stream_entry(first[0]))
        case Kind.EVENTS:
            return read_event_row(first[0])
        case Kind.CUT_OFFS:
            return read_cut_off_row(key.encode(), first)
        case _:
            return _small(kind, key, first, second)


def _session(session_id: SessionId, pieces: Sequence[bytes | None], data: bytes | None) -> SessionRow | None:
    row = joined(pieces)
    if row is None:
        return None
    kept = read_kept(data or b"")
    session = read_session(places.field_of(session_id), row)
    return SessionRow(session=session, data=kept.data, version=kept.version)


def _small(kind: Kind, key: str, first: bytes, second: bytes | None) -> AnyRecord:
    match kind:
        case Kind.ATTEMPTS:
            last_at = from_micros(int(float(second or b"0")))
            return AttemptsRow(place=key, count=int(first), last_at=last_at)
        case Kind.FAMILIAR:
            return FamiliarRow(place=key, since=from_micros(int(float(first))))
        case Kind.DELIVERIES:
            return read_delivery_row(first, second or b"0")
        case Kind.CANARIES:
            canary = read_canary(key.encode(), first)
            return CanaryRow(number=canary.number, position=canary.position, at=canary.at)
        case _:
            return AssertionRow(digest=bytes.fromhex(key), until=from_micros(int(float(first))))
