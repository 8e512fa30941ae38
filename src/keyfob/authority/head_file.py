"""The last known head of the feed, in a file beside the database: what tells a restarted authority that its database is an older copy.

The file holds one line, authenticated under the master key: whoever can write it but does not know the key can at most delete it, or put an
older one there, and both are as if there were none. It is written within milliseconds of each entry; a database that went back to a moment
after the last writing is not found out by it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from keyfob.authority.master_key import sync_folder
from keyfob.base import base64url
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Head

_LABEL = b"keyfob head file"
_MAX_FILE = 4096  # bytes; a line has about 200


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
        try:
            with self._path.open("rb") as file:
                raw = file.read(_MAX_FILE)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(f"{self._path} cannot be read: {error.strerror}")
            return None
        head = self._authentic(raw)
        if head is None:
            self._failed(
                f"{self._path} is of another deployment or master key, or altered; it is passed over"
            )
        return head

    @staticmethod
    def kept_beside(database: Path, *, master_key: bytes) -> Head | None:
        """Return the head that any issuer of this master key kept beside *database*; None if there is none."""
        raw = _read(head_file_of(database))
        line = None if raw is None else _decoded(raw)
        if line is None:
            return None
        file = HeadFile(head_file_of(database), issuer=line.issuer, master_key=master_key, failed=_ignore)
        return file.read()

    def keep(self, head: Head) -> None:
        """Put *head* into the file, durably and whole, unless one as far or further is there. Never raises."""
        try:
            with _alone(
                self._path
            ):  # of two processes that read and then write, the slower would put the earlier head back
                kept = self.read()
                if kept is None or kept.position < head.position:
                    self._write(head)
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

    def _write(self, head: Head) -> None:
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
