"""Between records and what lies in Redis. What scripts look at has a fixed place in a row; the rest is as in the other stores."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.base.opaque import OpaqueKind, TokenDigest
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.session import Session
from keyfob.stores.redis.places import field_of
from keyfob.stores.redis.squeezing import expand, squeeze
from keyfob.stores.rows import DamagedRow, details, event_to, replays, session_from, session_key, span_micros
from keyfob.stores.standing import Over

Reply = Any
"""What a script answers: the driver cannot know its types."""

_FIXED: Final = struct.Struct(">BBIIIqqqqqq32s")  # rows.lua reads the same
_END: Final = struct.Struct(">qq")
_LENGTH: Final = struct.Struct(">H")
_CUT_OFF: Final = struct.Struct(">qqq")
_KINDS: Final = {None: 0, OpaqueKind.SESSION: 1, OpaqueKind.REFRESH: 2, OpaqueKind.API_KEY: 3}
_HAS_DIGEST: Final = 1
_HAS_PARENT: Final = 2
_HAS_END: Final = 4
_ID: Final = 16  # bytes
_NONE: Final = -1
_NO_DIGEST: Final = bytes(32)


def raw(value: bytes) -> msgspec.Raw:
    """Return *value* as scripts can read it: MessagePack's type for bytes is not known to them, that for text holds any bytes."""
    length = len(value)
    if length < 32:
        return msgspec.Raw(bytes((0xA0 | length,)) + value)
    if length < 1 << 16:
        return msgspec.Raw(b"\xda" + length.to_bytes(2, "big") + value)
    return msgspec.Raw(b"\xdb" + length.to_bytes(4, "big") + value)


def session_row(session: Session) -> bytes:
    """Return the row of *session*."""
    subject, client = session.subject.encode(), session.client_id.encode()
    parent, end = session_key(session.parent_session_id), _end(session)
    has = (session.digest is not None) * _HAS_DIGEST
    return b"".join(
        (
            _FIXED.pack(
                _KINDS[session.kind],
                has | (parent is not None) * _HAS_PARENT | (end != b"") * _HAS_END,
                session.generation,
                session.chain_generation,
                replays(session),
                session.as_of,
                to_micros(session.created_at),
                to_micros(session.expires_at),
                to_micros(session.last_seen_at),
                _NONE if session.idle_timeout is None else span_micros(session.idle_timeout),
                _moment(session.rotated_at),
                session.digest or _NO_DIGEST,
            ),
            parent or b"",
            end,
            _LENGTH.pack(len(subject)),
            subject,
            _LENGTH.pack(len(client)),
            client,
            squeeze(details(session)),
        )
    )


def _end(session: Session) -> bytes:
    """Return what is kept of the end of *session*; nothing where nobody has ended it."""
    if session.ended_at is None:
        return b""
    position = session.ended_position
    return _END.pack(to_micros(session.ended_at), _NONE if position is None else position)


def read_session(field: bytes, row: bytes) -> Session:
    """Return the session of a row, as it was written: cut-offs are not applied."""
    try:
        return _read_session(field, row)
    except (struct.error, UnicodeDecodeError):
        raise DamagedRow("a session") from None


def _read_session(field: bytes, row: bytes) -> Session:
    (
        _, flags, generation, _, replays, as_of, created_at, expires_at, last_seen_at, idle, rotated_at, digest,
    ) = _FIXED.unpack_from(row)  # fmt: skip
    at, parent, ended_at, ended_position = _FIXED.size, None, _NONE, _NONE
    if flags & _HAS_PARENT:
        parent, at = row[at : at + _ID], at + _ID
    if flags & _HAS_END:
        ended_at, ended_position = _END.unpack_from(row, at)
        at += _END.size
    subject, at = _text(row, at)
    client, at = _text(row, at)
    return session_from(
        (
            field,
            Subject(subject),
            ClientId(client),
            TokenDigest(digest) if flags & _HAS_DIGEST else None,
            generation,
            Position(as_of),
            created_at,
            expires_at,
            last_seen_at,
            _known(idle),
            parent,
            replays,
            _known(rotated_at),
            _known(ended_at),
            cast("Position | None", _known(ended_position)),
            expand(row[at:]),
        )
    )


def _text(row: bytes, at: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(row, at)
    start = at + _LENGTH.size
    return row[start : start + length].decode(), start + length


def _moment(moment: datetime | None) -> int:
    return _NONE if moment is None else to_micros(moment)


def _known(number: int) -> int | None:
    return None if number == _NONE else number


def cut_offs(packed: Sequence[bytes]) -> list[Over]:
    """Return the cut-offs that a script gave; empty ones are none."""
    return [read_cut_off(one)[0] for one in packed if one]


def read_cut_off(packed: bytes) -> tuple[Over, datetime]:
    """Return a cut-off, and until when it is kept."""
    position, at, until = _CUT_OFF.unpack(packed)
    return Over(from_micros(at), Position(position)), from_micros(until)


def pack_cut_off(over: Over, until: datetime) -> bytes:
    """Return what `read_cut_off` reads."""
    return _CUT_OFF.pack(over.position, to_micros(over.at), to_micros(until))


def read_entry(reply: Reply) -> Entry:
    """Return the entry that a script shows: its fields in the order of the chain, then the chain (and whatever follows it)."""
    position, at, scope, id_, reach, spared, until, chain, *_ = reply
    return Entry(
        position=Position(int(position)),
        at=from_micros(int(at)),
        scope=Scope(scope.decode()),
        id=id_.decode(),
        reach=Reach(reach.decode()),
        spared=SessionId(spared.decode()) if spared else None,
        until=from_micros(int(until)) if until else None,
        chain=bytes(chain),
    )


def read_stream_entry(item: Reply) -> Entry:
    """Return the entry that lies in the stream under its position."""
    number, fields = item
    try:
        return read_entry((number.partition(b"-")[0], *fields[1::2]))
    except ValueError:
        raise DamagedRow("an entry of the feed") from None


class _EventBody(msgspec.Struct, frozen=True, kw_only=True):
    """All of an event but its moment, as scripts write it too."""

    code: str
    actor: str = "system"
    subject: Subject | None = None
    session_id: SessionId | None = None
    client_id: ClientId | None = None
    address: str | None = None
    reason: str | None = None
    facts: dict[str, str | int] = msgspec.field(default_factory=dict)


_bodies: Final = msgspec.json.Decoder(_EventBody)


def event_fields(event: Event) -> tuple[int, str, str, str]:
    """Return *event* as scripts take it: its moment, code and subject, and all of it as JSON."""
    at, code, *rest = event_to(event)
    names = ("actor", "subject", "session_id", "client_id", "address", "reason")
    body: dict[str, object] = {name: text for name, text in zip(names, rest, strict=False) if text}
    if event.facts:
        body["facts"] = event.facts
    return (
        int(at or 0),
        str(code),
        str(body.get("subject", "")),
        msgspec.json.encode({"code": code, **body}).decode(),
    )


def read_event(at: bytes, body: bytes) -> Event:
    """Return the event that was written."""
    try:
        read = _bodies.decode(body)
    except msgspec.MsgspecError:
        raise DamagedRow("an event") from None
    return Event(at=from_micros(int(at)), **msgspec.structs.asdict(read))


def order_fields(revocation: Revocation | Entry) -> dict[str, object]:
    """Return the scope of *revocation* as scripts take it, without its keys."""
    spared = revocation.spared or ""
    return {
        "scope": revocation.scope.value,
        "id": revocation.id,
        "field": raw(field_of(revocation.id) if revocation.scope is Scope.SESSION else b""),
        "reach": revocation.reach.value,
        "spared": spared,
        "spared_field": raw(field_of(spared) if spared else b""),
    }
