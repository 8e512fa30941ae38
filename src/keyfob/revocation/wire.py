"""The feed on the wire: what is signed, and how it is written. `docs/reference/feed.md` is the description for readers.

Every signed object is a compact JWS with a `typ` of its own, so none can stand for another. Moments are microseconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from keyfob.base import base64url
from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import Position, SessionId, Timeline
from keyfob.revocation.entry import Entry, Head, Reach, Scope

ENTRIES_TYPE = "keyfob-entries+jws"
HEARTBEAT_TYPE = "keyfob-heartbeat+jws"
KEYS_TYPE = "keyfob-keys+jws"
SNAPSHOT_TYPE = "keyfob-snapshot+jws"
TIME_TYPE = "keyfob-time+jws"

MAX_BATCH = 256  # entries in one signed batch: about 100 KiB
MAX_SIGNED = 1 << 20  # characters of a signed object of the feed
MAX_POSITION = 2**62

Sign = Callable[[bytes, str], str]
"""Takes a payload and a `typ`, gives a compact JWS by the feed's key."""


class WireError(ValueError):
    """What came is not of the feed's format. The message holds nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySets:
    """The public keys of an issuer as JWK sets: those of access tokens and those of the feed."""

    access: Mapping[str, object]
    feed: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Consecutive entries of one timeline."""

    issuer: str
    timeline: Timeline
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """At the moment `at` the feed reached no further than `head`."""

    issuer: str
    head: Head
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysNotice:
    """The key sets of the moment `at`."""

    issuer: str
    key_sets: KeySets
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTime:
    """The server's time while it answered the request with `nonce`."""

    issuer: str
    nonce: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHead:
    """The first line of a snapshot: what was live at `at`, when the feed reached `head`. `digest` is SHA-256 of all after that line."""

    issuer: str
    head: Head
    at: datetime
    count: int
    digest: bytes
    key_sets: KeySets


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True, rename={"spared": "except"}):
    position: int
    at: int
    scope: Scope
    id: str
    reach: Reach
    chain: str
    until: int | None = None
    spared: str | None = None


class _Batch(msgspec.Struct, frozen=True):
    iss: str
    timeline: str
    entries: list[_Entry]


class _Heartbeat(msgspec.Struct, frozen=True):
    iss: str
    timeline: str
    position: int
    chain: str
    time: int


class _Keys(msgspec.Struct, frozen=True):
    iss: str
    time: int
    access: dict[str, object]
    feed: dict[str, object]


class _Time(msgspec.Struct, frozen=True):
    iss: str
    nonce: str
    time: int


class _Snapshot(msgspec.Struct, frozen=True):
    iss: str
    timeline: str
    position: int
    chain: str
    time: int
    count: int
    digest: str
    access: dict[str, object]
    feed: dict[str, object]


class _KeyDocument(msgspec.Struct, frozen=True):
    issuer: str
    access: dict[str, object]
    feed: dict[str, object]


_Shape = TypeVar("_Shape", bound=msgspec.Struct)


def encode_batch(issuer: str, timeline: Timeline, entries: Sequence[Entry]) -> bytes:
    """Return the payload of a batch."""
    return msgspec.json.encode(
        _Batch(iss=issuer, timeline=timeline, entries=[_encode_entry(entry) for entry in entries])
    )


def decode_batch(payload: bytes) -> Batch:
    """Read the payload of a batch.

    Raises:
        WireError: it is none, or holds no entry or more than `MAX_BATCH`.
    """
    raw = _decode(payload, _Batch)
    if not 0 < len(raw.entries) <= MAX_BATCH:
        raise WireError("a batch of an impossible size")
    return Batch(
        issuer=raw.iss,
        timeline=Timeline(raw.timeline),
        entries=tuple(_decode_entry(entry) for entry in raw.entries),
    )


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Return the payload of a heartbeat."""
    head = heartbeat.head
    return msgspec.json.encode(
        _Heartbeat(
            iss=heartbeat.issuer,
            timeline=head.timeline,
            position=head.position,
            chain=base64url.encode(head.chain),
            time=to_micros(heartbeat.at),
        )
    )


def decode_heartbeat(payload: bytes) -> Heartbeat:
    """Read the payload of a heartbeat. Raises `WireError`."""
    raw = _decode(payload, _Heartbeat)
    return Heartbeat(issuer=raw.iss, head=_head(raw.timeline, raw.position, raw.chain), at=_moment(raw.time))


def encode_keys(issuer: str, key_sets: KeySets, at: datetime) -> bytes:
    """Return the payload of a keys event."""
    return msgspec.json.encode(
        _Keys(iss=issuer, time=to_micros(at), access=dict(key_sets.access), feed=dict(key_sets.feed))
    )


def decode_keys(payload: bytes) -> KeysNotice:
    """Read the payload of a keys event. The sets are as they came: `parse_jwk_set` judges them. Raises `WireError`."""
    raw = _decode(payload, _Keys)
    return KeysNotice(
        issuer=raw.iss, key_sets=KeySets(access=raw.access, feed=raw.feed), at=_moment(raw.time)
    )


def encode_key_document(issuer: str, key_sets: KeySets) -> bytes:
    """Return the body of `GET /feed/keys`: not signed, TLS is what it rests on."""
    return msgspec.json.encode(
        _KeyDocument(issuer=issuer, access=dict(key_sets.access), feed=dict(key_sets.feed))
    )


def decode_key_document(raw: bytes) -> tuple[str, KeySets]:
    """Read the body of `GET /feed/keys`: the issuer that it names, and the sets as they came. Raises `WireError`."""
    document = _decode(raw, _KeyDocument)
    return document.issuer, KeySets(access=document.access, feed=document.feed)


def encode_time(signed_time: SignedTime) -> bytes:
    """Return the payload of an answer to `GET /feed/time`."""
    return msgspec.json.encode(
        _Time(iss=signed_time.issuer, nonce=signed_time.nonce, time=to_micros(signed_time.at))
    )


def decode_time(payload: bytes) -> SignedTime:
    """Read the payload of an answer to `GET /feed/time`. Raises `WireError`."""
    raw = _decode(payload, _Time)
    return SignedTime(issuer=raw.iss, nonce=raw.nonce, at=_moment(raw.time))


def encode_snapshot_head(snapshot: SnapshotHead) -> bytes:
    """Return the payload of a snapshot's first line."""
    head = snapshot.head
    return msgspec.json.encode(
        _Snapshot(
            iss=snapshot.issuer,
            timeline=head.timeline,
            position=head.position,
            chain=base64url.encode(head.chain),
            time=to_micros(snapshot.at),
            count=snapshot.count,
            digest=base64url.encode(snapshot.digest),
            access=dict(snapshot.key_sets.access),
            feed=dict(snapshot.key_sets.feed),
        )
    )


def decode_snapshot_head(payload: bytes) -> SnapshotHead:
    """Read the payload of a snapshot's first line. Raises `WireError`."""
    raw = _decode(payload, _Snapshot)
    return SnapshotHead(
        issuer=raw.iss,
        head=_head(raw.timeline, raw.position, raw.chain),
        at=_moment(raw.time),
        count=raw.count,
        digest=_hash(raw.digest),
        key_sets=KeySets(access=raw.access, feed=raw.feed),
    )


def event_id(timeline: Timeline, position: Position) -> str:
    """Return the id of an event that ends at *position*: what a follower sends as `Last-Event-ID`."""
    return f"{timeline}:{position}"


def parse_event_id(text: str) -> tuple[Timeline, Position] | None:
    """Read a `Last-Event-ID`; None if it is none of ours."""
    timeline, colon, position = text.rpartition(":")
    if not colon or not timeline or not position.isascii() or not position.isdigit() or len(position) > 19:
        return None
    return Timeline(timeline), Position(int(position))


def _encode_entry(entry: Entry) -> _Entry:
    return _Entry(
        position=entry.position,
        at=to_micros(entry.at),
        scope=entry.scope,
        id=entry.id,
        reach=entry.reach,
        chain=base64url.encode(entry.chain),
        until=None if entry.until is None else to_micros(entry.until),
        spared=entry.spared,
    )


def _decode_entry(raw: _Entry) -> Entry:
    return Entry(
        position=_position(raw.position),
        at=_moment(raw.at),
        scope=raw.scope,
        id=raw.id,
        reach=raw.reach,
        until=None if raw.until is None else _moment(raw.until),
        chain=_hash(raw.chain),
        spared=None if raw.spared is None else SessionId(raw.spared),
    )


def _decode(payload: bytes, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(payload, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WireError("not what the feed says there") from None


def _head(timeline: str, position: int, chain: str) -> Head:
    return Head(timeline=Timeline(timeline), position=_position(position), chain=_hash(chain))


def _position(number: int) -> Position:
    if not 0 <= number <= MAX_POSITION:
        raise WireError("an impossible position")
    return Position(number)


def _moment(micros: int) -> datetime:
    try:
        return from_micros(micros)
    except OverflowError:
        raise WireError("an impossible moment") from None


def _hash(text: str) -> bytes:
    try:
        raw = base64url.decode(text.encode())
    except ValueError:
        raise WireError("a hash that is not base64url") from None
    if len(raw) != 32:
        raise WireError("a hash of the wrong length")
    return raw
