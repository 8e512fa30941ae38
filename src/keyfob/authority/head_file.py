"""The last known head of the feed, in a file: what tells a restarted authority that its database is an older copy.

It lies beside a SQLite database, and in the state folder of each server where the database is on another machine. Its first line is the
head, authenticated under the master key: whoever can write the file but does not know the key can at most delete it, or put an older one there,
and both are as if there were none. Its second line holds the last entries before that head, which their chain proves: where no more was lost,
they are appended again, and nobody is logged out. The file is written within milliseconds of each entry; a database that went back to a moment
after the last writing is not found out by it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from keyfob.authority.master_key import sync_folder
from keyfob.base import base64url
from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.mending import KEPT_ENTRIES
from keyfob.revocation.wire import WireError, decode_batch, encode_batch

_LABEL = b"keyfob head file"
_MAX_FILE = 1 << 20  # bytes; the head has about 200, an entry 200 to 2,000


class _Line(msgspec.Struct, frozen=True):
    issuer: str
    timeline: str
    position: int
    chain: str
    mac: str


class HeadFile:
    """Keeps the head of one database. Several processes may: the furthest head stays, and a later timeline lies further than any before."""

    def __init__(self, path: Path, *, issuer: str, master_key: bytes, failed: Callable[[str], None]) -> None:
        """*failed* hears why a head was not kept, or a file was passed over."""
        self._path = path
        self._issuer = issuer
        self._key = hmac.digest(master_key, _LABEL, "sha256")
        self._failed = failed

    def read(self) -> Head | None:
        """Return the head that was kept last; None if there is none that this deployment wrote."""
        kept = self.kept()
        return None if kept is None else kept[0]

    @staticmethod
    def kept_beside(database: Path, *, master_key: bytes) -> Head | None:
        """Return the head that any issuer of this master key kept beside *database*; None if there is none."""
        return _kept_at(head_file_of(database), master_key)

    @staticmethod
    def kept_in(folder: Path, *, salt: bytes, master_key: bytes) -> Head | None:
        """Return the furthest head that any issuer of this master key kept in *folder*, of the store that was made with *salt*."""
        kept = (_kept_at(path, master_key) for path in folder.glob(f"{_part(salt)}-*.head"))
        return max((head for head in kept if head is not None), key=lambda head: head.position, default=None)

    def kept(self) -> tuple[Head, Sequence[Entry]] | None:
        """Return the head that was kept last, and the entries up to it: nothing of these is proven before they continue what the store holds."""
        try:
            with self._path.open("rb") as file:
                raw = file.read(_MAX_FILE)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(f"{self._path} cannot be read: {error.strerror}")
            return None
        first, _, rest = raw.partition(b"\n")
        head = self._authentic(first)
        if head is None:
            self._failed(
                f"{self._path} is of another deployment or master key, or altered; it is passed over"
            )
            return None
        return head, _entries(rest, head)

    def keep(self, head: Head, entries: Sequence[Entry] = ()) -> None:
        """Put *head* into the file, with the last of *entries* before it, durably and whole, unless one as far or further is there. Never raises."""
        try:
            with _alone(
                self._path
            ):  # of two processes that read and then write, the slower would put the earlier head back
                known, held = self.kept() or (None, ())
                if known is None or known.position < head.position:
                    is_same = known is not None and known.timeline == head.timeline
                    self._write(head, _leading_to(head, held if is_same else (), entries))
        except OSError as error:
            self._failed(f"{self._path} cannot be written: {error.strerror}")

    def _authentic(self, raw: bytes) -> Head | None:
        line = _decoded(raw)
        if line is None:
            return None
        try:
            head = Head(
                timeline=Timeline(line.timeline),
                position=Position(line.position),
                chain=base64url.decode(line.chain.encode()),
            )
            mac = base64url.decode(line.mac.encode())
        except ValueError:
            return None
        is_ours = line.issuer == self._issuer and hmac.compare_digest(mac, self._mac(head))
        return head if is_ours else None

    def _write(self, head: Head, entries: Sequence[Entry]) -> None:
        line = _Line(
            issuer=self._issuer,
            timeline=head.timeline,
            position=head.position,
            chain=base64url.encode(head.chain),
            mac=base64url.encode(self._mac(head)),
        )
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(line) + b"\n")
                if entries:
                    file.write(encode_batch(self._issuer, head.timeline, entries) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(self._path.parent)

    def _mac(self, head: Head) -> bytes:
        said = msgspec.json.encode([self._issuer, head.timeline, head.position, base64url.encode(head.chain)])
        return hmac.digest(self._key, said, "sha256")


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except OSError:
        return None


def _decoded(raw: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(raw, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _entries(raw: bytes, head: Head) -> Sequence[Entry]:
    """Return the entries of the second line; none if they do not lead to *head*."""
    try:
        batch = decode_batch(raw)
    except WireError:
        return ()
    last = batch.entries[-1]
    leads_there = (batch.timeline, last.position, last.chain) == (head.timeline, head.position, head.chain)
    return batch.entries if leads_there else ()


def _leading_to(head: Head, older: Sequence[Entry], newer: Sequence[Entry]) -> Sequence[Entry]:
    """Return the last consecutive ones of *older* and *newer* up to *head*; none if the last of them is not that of *head*."""
    by_position = {entry.position: entry for entry in (*older, *newer)}
    found: list[Entry] = []
    position = head.position
    while position in by_position and len(found) < KEPT_ENTRIES:
        found.append(by_position[position])
        position = Position(position - 1)
    return found[::-1]


def _ignore(why: str) -> None:
    """Take what nobody wants to hear."""


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold every other process, and every other call, off *path*. Where the system has no such locks, nothing is held off."""
    with path.with_name(path.name + ".lock").open("ab") as lock:
        try:
            import fcntl
        except ModuleNotFoundError:
            yield
            return
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def head_file_of(database: Path) -> Path:
    """Return where the last known head of *database* is kept."""
    return database.with_name(database.name + ".head")


def head_file_in(folder: Path, *, salt: bytes, issuer: str) -> Path:
    """Return where in *folder* the last known head is kept of the store that was made with *salt*, as *issuer* serves it.

    A store that is made anew has another salt, and so begins without a known head; one that was put back has the same.
    """
    return folder / f"{_part(salt)}-{_part(issuer.encode())}.head"


def _part(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def _kept_at(path: Path, master_key: bytes) -> Head | None:
    raw = _read(path)
    line = None if raw is None else _decoded(raw.partition(b"\n")[0])
    if line is None:
        return None
    return HeadFile(path, issuer=line.issuer, master_key=master_key, failed=_ignore).read()


def make_state_folder(folder: Path) -> None:
    """Make *folder*, for its owner alone, where it is not there yet.

    Raises:
        ConfigurationError: it cannot be made, or nothing can be put there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"state_folder {folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"state_folder {folder} cannot be written by this server: give it to its user"
        )
