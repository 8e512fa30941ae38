"""A back-up: the records of one moment of a store, in a file that only whoever holds the master key can have written.

```
header   one line of JSON: {"format": "keyfob-backup", "version": 1, "made_at": microseconds, "records": count}
pages    each: its length as four bytes, big-endian; a MessagePack array of records, compressed with zlib
end      four zero bytes, and HMAC-SHA-256 over all before, under a key derived from the master key
```

Nothing but the header is read before the whole file is authentic. Both ways take as much memory as one page, whatever the size of the file.
"""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import BinaryIO, Final

import msgspec

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.errors import ConfigurationError
from keyfob.stores.records import AnyRecord

VERSION: Final = 1
_FORMAT: Final = "keyfob-backup"
_LABEL: Final = b"keyfob backup file"
_MAX_HEADER: Final = 1024  # bytes; a header has about 90
_MAX_PAGE: Final = (
    64 * 1024 * 1024
)  # bytes, unpacked: 500 sessions with the most data that each may carry are about half
_MAC: Final = 32  # bytes
_PIECE: Final = 1024 * 1024  # bytes read at once while the file is checked

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[list[AnyRecord]] = msgspec.msgpack.Decoder(list[AnyRecord])


class BackupHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `records` is how many follow; `made_at` is in microseconds since the epoch, UTC."""

    format: str
    version: int
    made_at: int
    records: int

    @property
    def moment(self) -> datetime:
        """Return when the back-up was made."""
        return from_micros(self.made_at)


class BackupWriter:
    """Writes one back-up to *file*, which is at its beginning. Without `finish` it is no back-up."""

    def __init__(self, file: BinaryIO, *, master_key: bytes, made_at: datetime, records: int) -> None:
        self._file = file
        self._mac = hmac.new(_key(master_key), digestmod="sha256")
        header = BackupHeader(format=_FORMAT, version=VERSION, made_at=to_micros(made_at), records=records)
        self._write(msgspec.json.encode(header) + b"\n")

    def add(self, page: Sequence[AnyRecord]) -> None:
        """Write one page.

        Raises:
            OSError: it cannot be written.
        """
        packed = zlib.compress(_encoder.encode(list(page)), level=1)
        self._write(len(packed).to_bytes(4, "big") + packed)

    def finish(self) -> None:
        """Write the end.

        Raises:
            OSError: it cannot be written.
        """
        self._write(bytes(4))
        self._file.write(self._mac.digest())

    def _write(self, raw: bytes) -> None:
        self._mac.update(raw)
        self._file.write(raw)


class BackupReader:
    """Reads the back-up in *file*, any number of times."""

    def __init__(self, file: BinaryIO, *, master_key: bytes) -> None:
        """Read the header, and check the whole file.

        Raises:
            ConfigurationError: it is no back-up, one of a newer Keyfob, cut short, altered, or of another master key.
        """
        self._file = file
        self._key = _key(master_key)
        self.header = _read_header(file)
        self._start = file.tell()
        self._check()

    def pages(self) -> Iterator[Sequence[AnyRecord]]:
        """Give the pages from the first on.

        The end is checked once more: what was changed in the file since it was opened raises before the last step of whoever loads it.

        Raises:
            ConfigurationError: the file was changed meanwhile.
        """
        self._file.seek(0)
        mac, count = hmac.new(self._key, self._file.read(self._start), "sha256"), 0
        while packed := self._next(mac):
            page = _unpacked(packed)
            count += len(page)
            yield page
        if not hmac.compare_digest(self._file.read(_MAC), mac.digest()) or count != self.header.records:
            raise _not_whole()

    def _next(self, mac: hmac.HMAC) -> bytes:
        length = self._file.read(4)
        mac.update(length)
        size = int.from_bytes(length, "big")
        if len(length) < 4 or size > _MAX_PAGE:
            raise _not_whole()
        packed = self._file.read(size)
        mac.update(packed)
        if len(packed) < size:
            raise _not_whole()
        return packed

    def _check(self) -> None:
        size = self._file.seek(0, 2)
        self._file.seek(0)
        mac, left = hmac.new(self._key, digestmod="sha256"), size - _MAC
        while left > 0 and (piece := self._file.read(min(_PIECE, left))):
            mac.update(piece)
            left -= len(piece)
        if left or not hmac.compare_digest(self._file.read(_MAC), mac.digest()):
            raise _not_whole()


def _key(master_key: bytes) -> bytes:
    return hmac.digest(master_key, _LABEL, "sha256")


def _read_header(file: BinaryIO) -> BackupHeader:
    file.seek(0)
    line = file.readline(_MAX_HEADER)
    try:
        header = msgspec.json.decode(line, type=BackupHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ConfigurationError("this is no back-up of keyfob") from None
    if header.format != _FORMAT or not line.endswith(b"\n"):
        raise ConfigurationError("this is no back-up of keyfob")
    if header.version != VERSION:
        raise ConfigurationError(
            f"this back-up is of version {header.version}, and this Keyfob reads version {VERSION}: "
            "restore it with the Keyfob that made it, or a newer one"
        )
    return header


def _unpacked(packed: bytes) -> Sequence[AnyRecord]:
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(packed, _MAX_PAGE)
        if not unpacking.eof:
            raise _not_whole()
        return _decoder.decode(raw)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError):
        raise _not_whole() from None


def _not_whole() -> ConfigurationError:
    return ConfigurationError(
        "the back-up is cut short, was altered, or was made under another master key; nothing was changed"
    )
