"""The snapshot: every live entry up to one position, one object that is signed whole.

    <compact JWS of the head> \\n
    <columns> \\n
    ...

Each further line is a JSON array for up to `LINE_ENTRIES` entries of one scope and reach:

    [scope, reach, [positions], [untils], [ids]]                  entries that spare nobody
    [scope, reach, [positions], [untils], [ids], [excepts]]       entries that each spare a session

Positions and untils (seconds since the epoch, rounded up; -1 is never) are written as differences from the one before, beginning at 0.
The whole is compressed with gzip. Nothing of it is used before the head's signature and the digest of all lines hold.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

import msgspec

from keyfob.base.clock import from_micros
from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import CHAIN_START, Entry, Reach, Scope
from keyfob.revocation.entry_table import Columns, EntryTable, until_seconds
from keyfob.revocation.wire import (
    MAX_POSITION,
    MAX_SIGNED,
    SNAPSHOT_TYPE,
    Sign,
    SnapshotHead,
    WireError,
    decode_snapshot_head,
    encode_snapshot_head,
)

LINE_ENTRIES = 500  # about 20 KiB a line; read in half a millisecond, between two of which other threads run
MAX_LINE = MAX_SIGNED  # bytes
MAX_SNAPSHOT = 1 << 30  # bytes, unpacked: some 20 million entries; a reader takes no more
_EPOCH = from_micros(0)
_PLAIN = (Scope.TOKEN, Scope.SESSION, Scope.SUBJECT, Scope.CLIENT)


class _Line(msgspec.Struct, array_like=True, frozen=True, omit_defaults=True):
    scope: Scope
    reach: Reach
    positions: list[int]
    untils: list[int]
    ids: list[str]
    excepts: list[str] | None = None


@dataclass(frozen=True, slots=True)
class SnapshotBody:
    """The lines after the head, their digest, and how many entries they hold."""

    lines: bytes
    digest: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was checked: its head, and its entries in a table."""

    head: SnapshotHead
    table: EntryTable


def encode_body(entries: Iterable[Entry]) -> SnapshotBody:
    """Write *entries* as lines. About 1.5 µs an entry: call it in a thread when there are many."""
    groups: dict[tuple[Scope, Reach, bool], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.scope, entry.reach, entry.spared is not None), []).append(entry)
    encoder = msgspec.json.Encoder()
    lines, count = [], 0
    for group in groups.values():
        count += len(group)
        for start in range(0, len(group), LINE_ENTRIES):
            lines.append(encoder.encode(_line(group[start : start + LINE_ENTRIES])))
            lines.append(b"\n")
    raw = b"".join(lines)
    return SnapshotBody(raw, hashlib.sha256(raw).digest(), count)


def pack(head: SnapshotHead, body: SnapshotBody, *, sign: Sign) -> bytes:
    """Return the whole snapshot, signed and compressed. The same input gives the same bytes."""
    first = sign(encode_snapshot_head(head), SNAPSHOT_TYPE).encode()
    return gzip.compress(first + b"\n" + body.lines, compresslevel=1, mtime=0)


class SnapshotReader:
    """Takes an unpacked snapshot in pieces of any size; `finish` gives it once it was found whole.

    *verify* takes a compact JWS and a `typ` and gives the payload, or raises.
    """

    def __init__(self, verify: Callable[[str, str], bytes]) -> None:
        self._verify = verify
        self._head: SnapshotHead | None = None
        self._table = EntryTable()
        self._digest = hashlib.sha256()
        self._pending = b""
        self._size = 0
        self._count = 0
        self._decoder = msgspec.json.Decoder(_Line)

    def feed(self, piece: bytes) -> None:
        """Take the next *piece*.

        Raises:
            WireError: a line of no snapshot, or too much. Whatever *verify* raises.
        """
        self._size += len(piece)
        if self._size > MAX_SNAPSHOT:
            raise WireError("the snapshot is too large")
        *lines, self._pending = (self._pending + piece).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._pending) > MAX_LINE:
            raise WireError("a line of the snapshot is too long")

    def finish(self) -> Snapshot:
        """Return the snapshot.

        Raises:
            WireError: it is cut short, or not what its head was signed for.
        """
        if self._head is None or self._pending:
            raise WireError("the snapshot is cut short")
        if self._digest.digest() != self._head.digest or self._count != self._head.count:
            raise WireError("the snapshot is not what its head says")
        return Snapshot(self._head, self._table)

    def _take(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            raise WireError("a line of the snapshot is too long")
        if self._head is None:
            try:
                text = line.decode("ascii")
            except UnicodeDecodeError:
                raise WireError("a snapshot without a head") from None
            self._head = decode_snapshot_head(self._verify(text, SNAPSHOT_TYPE))
            return
        self._digest.update(line)
        self._digest.update(b"\n")
        columns = _decoded(self._decoder, line)
        self._count += len(columns.ids)
        self._add(columns)

    def _add(self, line: _Line) -> None:
        positions, untils = _sums(line)
        if line.excepts is None and line.scope in _PLAIN:
            self._table.add_columns(
                Columns(scope=line.scope, reach=line.reach, positions=positions, untils=untils, ids=line.ids)
            )
            return
        for entry in _entries(line, positions, untils):
            self._table.add(entry)


class SnapshotLines:
    """Takes an unpacked snapshot in pieces of any size and gives its entries, unchecked: for whoever hears it beside a `SnapshotReader`."""

    def __init__(self) -> None:
        self._pending = b""
        self._is_past_head = False
        self._decoder = msgspec.json.Decoder(_Line)

    def feed(self, piece: bytes) -> Iterator[Entry]:
        """Give the entries of the lines that *piece* completes.

        Raises:
            WireError: a line of no snapshot.
        """
        *lines, self._pending = (self._pending + piece).split(b"\n")
        for line in lines:
            if self._is_past_head:
                columns = _decoded(self._decoder, line)
                yield from _entries(columns, *_sums(columns))
            self._is_past_head = True


def _decoded(decoder: msgspec.json.Decoder[_Line], line: bytes) -> _Line:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise WireError("a line of no snapshot") from None


def _sums(line: _Line) -> tuple[list[int], list[int]]:
    """Return positions and untils of a line whose columns are of one length."""
    positions, untils = list(accumulate(line.positions)), list(accumulate(line.untils))
    lengths = {len(positions), len(untils), len(line.ids), len(line.excepts or line.ids)}
    if len(lengths) != 1 or (positions and not 0 <= min(positions) <= max(positions) <= MAX_POSITION):
        raise WireError("a line of no snapshot")
    return positions, untils


def _line(entries: Sequence[Entry]) -> _Line:
    spares = entries[0].spared is not None
    return _Line(
        scope=entries[0].scope,
        reach=entries[0].reach,
        positions=_differences([entry.position for entry in entries]),
        untils=_differences([-1 if entry.until is None else until_seconds(entry.until) for entry in entries]),
        ids=[entry.id for entry in entries],
        excepts=[entry.spared or "" for entry in entries] if spares else None,
    )


def _differences(numbers: Sequence[int]) -> list[int]:
    return [number - before for before, number in zip((0, *numbers), numbers, strict=False)]


def _entries(line: _Line, positions: Sequence[int], untils: Sequence[int]) -> Iterator[Entry]:
    excepts: Sequence[str | None] = line.excepts or [None] * len(line.ids)
    for position, until, name, spared in zip(positions, untils, line.ids, excepts, strict=True):
        yield Entry(
            position=Position(position),
            at=_EPOCH,  # when it was made plays no part in what it covers
            scope=line.scope,
            id=name,
            reach=line.reach,
            until=_until(until),
            chain=CHAIN_START,
            spared=None if spared is None else SessionId(spared),
        )


def _until(seconds: int) -> datetime | None:
    if seconds < 0:
        return None
    try:
        return from_micros(seconds * 1_000_000)
    except OverflowError:
        raise WireError("an impossible moment") from None
