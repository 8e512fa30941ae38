"""What an error of the server, of its driver or of the network means for whoever runs the server."""

from __future__ import annotations

from redis import exceptions

from keyfob.base.errors import ConfigurationError, StoreUnavailable

FAULTS = (exceptions.RedisError, OSError, TimeoutError, EOFError)
"""Whatever may come of asking the server."""

_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.OutOfMemoryError, "is out of memory; raise maxmemory"),
    (exceptions.ReadOnlyError, "is a replica, or a primary that was demoted; wait for the failover to end"),
    (exceptions.BusyLoadingError, "is still loading its data"),
    (exceptions.MasterDownError, "is a replica without its primary"),
    (exceptions.NoPermissionError, "refuses this user a command that Keyfob needs (docs/reference/redis.md)"),
    (exceptions.AuthenticationError, "refuses user or password of the store's URL, or wants some"),
    (exceptions.ClusterDownError, "is a cluster that is down"),
    (exceptions.MovedError, "is a node of a cluster; use redis+cluster://"),
    (exceptions.TimeoutError, "does not answer in time"),
    (TimeoutError, "does not answer in time"),
)
# What the driver has no class for: a word of the answer, and what it means.
_WORDS: tuple[tuple[str, str], ...] = (
    ("KEYFOB-MOVING", "takes no writes: it is being moved to another store"),
    ("KEYFOB-EMPTY", "holds no store that is open: it has moved, or has lost its data"),
    ("MISCONF", "cannot write to its disk; make room"),
    ("NOREPLICAS", "has too few replicas (min-replicas-to-write)"),
    ("BUSY", "is busy with a script for too long"),
    ("unknown command", "lacks a command that Keyfob needs; use Redis 7.0 or Valkey 7.2, or newer"),
)
_LOST = (
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.AuthenticationError,
    exceptions.MovedError,
)


# What the first word of an error says, for what must be told apart.
_CODES: dict[str, type[exceptions.RedisError]] = {
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "LOADING": exceptions.BusyLoadingError,
    "MASTERDOWN": exceptions.MasterDownError,
    "MOVED": exceptions.MovedError,
    "NOAUTH": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
    "NOSCRIPT": exceptions.NoScriptError,
    "OOM": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "WRONGPASS": exceptions.AuthenticationError,
}
_NO_PASSWORD = (
    "ERR AUTH <password> called without any password",
    "ERR Client sent AUTH, but no password is set",
)


class TooFewReplicas(exceptions.RedisError):
    """A write was not confirmed by as many replicas as were asked for."""

    def __init__(self) -> None:
        super().__init__(
            "did not confirm a write on as many replicas as ?replicas= asks for; whether it stays is not known"
        )


class WentBack(exceptions.RedisError):
    """The server lacks entries that it had acknowledged."""

    def __init__(self) -> None:
        super().__init__("has lost the end of its feed; it is being mended (docs/reference/redis.md)")


class WrongServer(exceptions.RedisError):
    """The server is not one that Keyfob may use; the message says why, without its name."""


def read_error(text: str) -> exceptions.RedisError:
    """Return what the server has answered instead of a reply."""
    code, _, rest = text.partition(" ")
    if kind := _CODES.get(code):
        return kind(rest)
    if text.startswith(_NO_PASSWORD):
        return exceptions.AuthenticationError(text)
    if text.startswith("ERR max number of clients"):
        return exceptions.ConnectionError(text)
    return exceptions.ResponseError(text)


def is_lost(error: BaseException) -> bool:
    """Say whether *error* tells that the connection leads nowhere, or to no primary, so that another must be made."""
    return not isinstance(error, exceptions.ResponseError) or isinstance(error, _LOST)


def unavailable(error: BaseException, name: str) -> StoreUnavailable:
    """Return what to raise for *error*: which server, what is wrong, what to do. Values and passwords stay out of it."""
    return StoreUnavailable(f"the Redis server {name} {_meaning(error)}")


def at_opening(error: BaseException, name: str) -> ConfigurationError | StoreUnavailable:
    """Return what to raise for *error* when a store is opened: a wrong password or an unfit server do not mend themselves."""
    if isinstance(error, WrongServer | exceptions.AuthenticationError | exceptions.NoPermissionError):
        return ConfigurationError(f"the Redis server {name} {_meaning(error)}")
    return unavailable(error, name)


def _meaning(error: BaseException) -> str:
    if isinstance(error, WrongServer | TooFewReplicas | WentBack):
        return str(error)
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return advice
    words = str(error) if isinstance(error, exceptions.ResponseError) else ""
    told = next((advice for word, advice in _WORDS if word in words), "does not answer")
    return f"{told} ({type(error).__name__})"
