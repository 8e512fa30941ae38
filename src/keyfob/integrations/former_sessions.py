"""The sessions that an application kept before, as Flask-Session wrote them: read once more, and let run out.

Its stores hold a dict for each session id: in Redis MessagePack or JSON (pickle in its older versions), in files pickle after four bytes of
expiry. Pickle is read with the types of data alone, so that nothing in a file can make anything happen.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol, cast

import msgspec

from keyfob.base.clock import Clock, SystemClock

GRACE = timedelta(seconds=30)
"""How long a former session can still be read after it was taken over: for the requests that a browser sent at the same moment."""
MAX_FORMER = 1024 * 1024
"""Bytes of one former session that are read: above what an application keeps, below what could cost anything."""

_EXPIRY: Final = struct.Struct(
    "I"
)  # seconds since the epoch, 0 for never, in the order of bytes of the machine
_HASHES: Final = ("sha256", "md5")  # of file names: of cachelib since 0.17, and before
_PLAIN_TYPES: Final = frozenset(
    {
        ("builtins", "set"),
        ("builtins", "frozenset"),
        ("builtins", "bytearray"),
        ("collections", "OrderedDict"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("uuid", "UUID"),
    }
)


class FormerSessions(Protocol):
    """A store of an application's former sessions. May be used from any thread."""

    def read(self, sid: str) -> Mapping[str, object] | None:
        """Return the data of a session that has not run out; None if there is none, or it cannot be read."""
        ...

    def retire(self, sid: str) -> None:
        """Let a session run out after `GRACE`, or sooner where it would; a second time changes nothing."""
        ...


class RedisClient(Protocol):
    """What is needed of `redis.Redis`."""

    @property
    def get(self) -> Callable[[str], object]:
        """Return the value of a key."""
        ...

    @property
    def expire(self) -> Callable[..., object]:
        """Set when a key runs out; `lt` for sooner alone."""
        ...


class RedisFormerSessions:
    """Those in Redis or Valkey (7.0 and newer). *prefix* is `SESSION_KEY_PREFIX`. Errors of the client pass."""

    def __init__(self, client: RedisClient, *, prefix: str = "session:") -> None:
        self._client = client
        self._prefix = prefix

    def read(self, sid: str) -> Mapping[str, object] | None:
        """See `FormerSessions`."""
        found = self._client.get(self._prefix + sid)
        return read_former(found) if isinstance(found, bytes) else None

    def retire(self, sid: str) -> None:
        """See `FormerSessions`."""
        self._client.expire(self._prefix + sid, GRACE, lt=True)


class FileFormerSessions:
    """Those in a folder. *prefix* is `SESSION_KEY_PREFIX`."""

    def __init__(self, folder: str | Path, *, prefix: str = "session:", clock: Clock | None = None) -> None:
        self._folder = Path(folder)
        self._prefix = prefix
        self._clock = clock or SystemClock()

    def read(self, sid: str) -> Mapping[str, object] | None:
        """See `FormerSessions`."""
        for path in self._paths(sid):
            with suppress(FileNotFoundError), path.open("rb") as file:
                (until,) = _EXPIRY.unpack(file.read(_EXPIRY.size).ljust(_EXPIRY.size, b"\1"))
                if until == 0 or until >= self._clock.time():
                    return read_former(file.read(MAX_FORMER + 1))
        return None

    def retire(self, sid: str) -> None:
        """See `FormerSessions`."""
        latest = int(self._clock.time() + GRACE.total_seconds())
        for path in self._paths(sid):
            with suppress(FileNotFoundError), path.open("r+b") as file:
                (until,) = _EXPIRY.unpack(file.read(_EXPIRY.size).ljust(_EXPIRY.size, b"\1"))
                if until == 0 or until > latest:
                    file.seek(0)
                    file.write(_EXPIRY.pack(latest))

    def _paths(self, sid: str) -> list[Path]:
        key = (self._prefix + sid).encode("utf-8")
        return [self._folder / hashlib.new(name, key, usedforsecurity=False).hexdigest() for name in _HASHES]


def read_former(data: bytes) -> Mapping[str, object] | None:
    """Return the dict that Flask-Session wrote as *data*; None for anything else, and for more than `MAX_FORMER` bytes."""
    if len(data) > MAX_FORMER:
        return None
    for decode in (msgspec.msgpack.decode, msgspec.json.decode, _unpickled):
        with suppress(msgspec.DecodeError, pickle.UnpicklingError, UnicodeDecodeError, RecursionError):
            found = decode(data)
            if isinstance(found, dict) and all(isinstance(name, str) for name in found):
                return cast("dict[str, object]", found)
    return None


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of data. Whatever names another type is refused before anything of it is looked up."""

    def find_class(self, module: str, name: str) -> object:
        """Return a type of `_PLAIN_TYPES`."""
        if (module, name) not in _PLAIN_TYPES:
            raise pickle.UnpicklingError(f"{module}.{name} is no plain data")
        return cast("object", super().find_class(module, name))


def _unpickled(data: bytes) -> object:
    try:
        return cast("object", _PlainUnpickler(io.BytesIO(data)).load())
    except Exception as error:  # noqa: BLE001 - a broken pickle raises whatever its bytes happen to do
        raise pickle.UnpicklingError(type(error).__name__) from None
