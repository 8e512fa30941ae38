"""What a verifier knew, kept over a restart: for services that must begin while the authority is away (`start="stale"`).

    "keyfob state 1\\n"
    kind (1 byte) | length (4 bytes, big-endian) | content | mac (32 bytes)
    ...

    K  the key sets, as `GET /feed/keys` gives them
    S  a piece of the snapshot, compressed; T ends it
    E  an event of the stream, as it came
    H  how far the authority's clock was ahead (8 bytes), and a level heartbeat, as it came

Everything but K is signed by the authority, and K is what the signatures are checked by: so each record carries a MAC over all before it,
under a key from the verifier's own client secret. Who can write the file but does not know the secret can delete it, cut it short or put an
older one there: each makes the verifier staler, by the signed time inside, and never fresher.

The file is written anew with each snapshot (a new file takes its place at once), and appended to from then on; nothing is read back before the
next start. One process writes: others of the same service read it at their start and leave it alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from keyfob.revocation.entry import Head
from keyfob.revocation.event_stream import StreamEvent, encode_event

MAGIC: Final = b"keyfob state 1\n"
KEYS, PIECE, SNAPSHOT_END, EVENT, LEVEL = b"K", b"S", b"T", b"E", b"H"
MAX_RECORD: Final = 4 << 20  # bytes: an event has at most 1 MiB
HEARTBEAT_INTERVAL: Final = 5.0
"""Seconds between two heartbeats that are kept: how much staler than it was a verifier may be after a restart."""
_LEAST_TAIL: Final = 4 << 20  # bytes after the snapshot at which a new one is worth its while
_HEAD: Final = struct.Struct(">cI")
_OFFSET: Final = struct.Struct(">d")
_MAC: Final = 32  # bytes
_LABEL: Final = b"keyfob state file\0"


@dataclass(frozen=True, slots=True)
class Kept:
    """One record that holds. `offset` is that of H, in seconds; the content of S is unpacked."""

    kind: bytes
    content: bytes = field(repr=False)
    offset: float = 0.0


class StateFile:
    """Keeps one verifier's state in a file. A `FeedTap`: the reader's thread alone calls it."""

    def __init__(
        self,
        path: Path,
        *,
        issuer: str,
        credentials: tuple[str, str],
        key_document: Callable[[], bytes | None],
        offset: Callable[[], float],
        elapsed: Callable[[], float],
        failed: Callable[[str], None],
    ) -> None:
        """*key_document* gives the key sets of the moment, *offset* how far the authority's clock is ahead; *failed* hears why nothing is kept."""
        self._path = path
        client_id, secret = credentials
        self._key = hmac.digest(secret.encode(), _LABEL + f"{issuer}\0{client_id}".encode(), "sha256")
        self._key_document = key_document
        self._offset = offset
        self._elapsed = elapsed
        self._failed = failed
        self._lock_file: BinaryIO | None = None
        self._file: BinaryIO | None = None
        self._mac = b""
        self._snapshot_size = 0
        self._tail = 0
        self._next_heartbeat = 0.0

    @property
    def wants_snapshot(self) -> bool:
        """Whether so much was appended that the file should begin anew."""
        return self._tail > max(_LEAST_TAIL, self._snapshot_size)

    def read(self) -> Iterator[Kept]:
        """Give the records of the file up to the first that does not hold; nothing where there is no file, or where others may write it."""
        with suppress(OSError), self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o022 or status.st_uid not in {os.geteuid(), 0}:
                self._failed(
                    f"{self._path} can be written by others and is not read; chmod 600 it, or delete it"
                )
                return
            if file.read(len(MAGIC)) != MAGIC:
                return
            mac = self._key
            while (record := _read_record(file, self._key, mac)) is not None:
                kept, mac = record
                yield kept

    def begin_snapshot(self) -> None:
        """A snapshot is about to come: it goes to a new file."""
        self._drop()
        self._tail = 0
        document = self._key_document()
        if document is None or not self._is_ours():
            return
        with self._keeping():
            new = os.open(
                self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            self._file = os.fdopen(new, "wb")
            self._file.write(MAGIC)
            self._mac = self._key
            self._write(KEYS, document)

    def take_snapshot(self, piece: bytes) -> None:
        """Keep the next piece of the snapshot."""
        for start in range(0, len(piece), MAX_RECORD // 2):
            self._append(PIECE, zlib.compress(piece[start : start + MAX_RECORD // 2], level=1))

    def begin(self, head: Head, *, snapshot: Head) -> None:
        """The snapshot was whole and holds: from now on the new file is the one that counts, unless more is held than is in there."""
        if head != snapshot:
            self._drop()
        self._append(SNAPSHOT_END, b"")
        if self._file is None:
            return
        with self._keeping():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._snapshot_size, self._tail = self._file.tell(), 0
            self._new.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def hear(self, event: StreamEvent, head: Head) -> None:
        """Keep *event*; of heartbeats one in a while."""
        if event.name != "heartbeat":
            self._append(EVENT, encode_event(event))
        elif self._elapsed() >= self._next_heartbeat:
            self._next_heartbeat = self._elapsed() + HEARTBEAT_INTERVAL
            self._append(LEVEL, _OFFSET.pack(self._offset()) + encode_event(event))
            if self._file is not None:
                with self._keeping():
                    self._file.flush()  # nothing more: what a loss of power takes away only makes it staler

    def close(self) -> None:
        """Write what is pending and let another process keep the file. Twice is once."""
        self._drop()
        lock, self._lock_file = self._lock_file, None
        if lock is not None:
            lock.close()

    @property
    def _new(self) -> Path:
        return self._path.with_name(self._path.name + ".new")

    def _is_ours(self) -> bool:
        """Say whether this process keeps the file, which is the first that wanted to."""
        if self._lock_file is not None:
            return True
        try:
            import fcntl  # not everywhere: where it is missing nothing is kept
        except ModuleNotFoundError:
            self._failed("this system has no file locks")
            return False
        with self._keeping():
            lock = self._path.with_name(self._path.name + ".lock").open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                return False
            self._lock_file = lock
        return self._lock_file is not None

    def _append(self, kind: bytes, content: bytes) -> None:
        if self._file is not None:
            with self._keeping():
                self._write(kind, content)

    def _write(self, kind: bytes, content: bytes) -> None:
        assert self._file is not None
        head = _HEAD.pack(kind, len(content))
        self._mac = _next_mac(self._key, self._mac, head, content)
        self._file.write(head + content + self._mac)
        self._tail += len(head) + len(content) + _MAC

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _keeping(self) -> _Keeping:
        return _Keeping(self)

    def stop(self, why: str) -> None:
        """Keep nothing more until the next snapshot, and say why."""
        self._drop()
        self._failed(f"{self._path} cannot be kept: {why}")


class _Keeping:
    """Turns an error of the file into an end of keeping: what a verifier answers never depends on it."""

    def __init__(self, owner: StateFile) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, OSError):
            return False
        self._owner.stop(error.strerror or type(error).__name__)
        return True


def _read_record(file: BinaryIO, key: bytes, before: bytes) -> tuple[Kept, bytes] | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    if length > MAX_RECORD:
        return None
    content, mac = file.read(length), file.read(_MAC)
    if not hmac.compare_digest(_next_mac(key, before, head, content), mac):
        return None
    if kind == PIECE:
        return Kept(kind, zlib.decompress(content)), mac
    if kind == LEVEL:
        return Kept(kind, content[_OFFSET.size :], _OFFSET.unpack_from(content)[0]), mac
    return Kept(kind, content), mac


def _next_mac(key: bytes, before: bytes, head: bytes, content: bytes) -> bytes:
    return hmac.digest(key, before + head + hashlib.sha256(content).digest(), "sha256")
