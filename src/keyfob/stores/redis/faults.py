"""What an error of the server, of its driver or of the network means for whoever runs the server."""

from __future__ import annotations

from redis import exceptions

from keyfob.base.errors import ConfigurationError, StoreUnavailable

FAULTS = (exceptions.RedisError, OSError, TimeoutError, EOFError)
"""Whatever may come of asking the server."""

# What the reply begins with, or holds where a script was cut short by it; and what it means.
_ADVICE: tuple[tuple[str, str], ...] = (
    ("KEYFOB-BEHIND", "has lost the end of its feed; it is being mended (docs/reference/redis.md)"),
    ("KEYFOB-EMPTY", "has lost its data; restore a backup, or start anew and let everybody sign in again"),
    ("OOM", "is out of memory; raise maxmemory"),
    ("READONLY", "is a replica, or a primary that was demoted; wait for the failover to end"),
    ("LOADING", "is still loading its data"),
    ("MISCONF", "cannot write to its disk; make room"),
    ("NOREPLICAS", "has too few replicas (min-replicas-to-write)"),
    ("BUSY", "is busy with a script for too long"),
    ("NOAUTH", "wants a password; put it into the store's URL"),
    ("WRONGPASS", "refuses user or password of the store's URL"),
    ("NOPERM", "refuses this user a command that Keyfob needs (docs/reference/redis.md)"),
    ("MASTERDOWN", "is a replica without its primary"),
    ("CLUSTERDOWN", "is a cluster that is down"),
    ("MOVED", "is a node of a cluster; Keyfob needs a single server or Sentinel"),
    ("unknown command", "lacks a command that Keyfob needs; use Redis 7.0 or Valkey 7.2, or newer"),
)
_LOST = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH")
_MISCONFIGURED = (exceptions.AuthenticationError, exceptions.NoPermissionError)


class TooFewReplicas(exceptions.RedisError):
    """A write was not confirmed by as many replicas as were asked for."""


class WrongServer(exceptions.RedisError):
    """The server is not one that Keyfob may use; the message says why, without its name."""


def is_lost(error: BaseException) -> bool:
    """Say whether *error* tells that the connection leads nowhere, or to no primary, so that another must be made."""
    if not isinstance(error, exceptions.ResponseError):
        return True
    return any(word in str(error) for word in _LOST)


def unavailable(error: BaseException, name: str) -> StoreUnavailable:
    """Return what to raise for *error*: which server, what is wrong, what to do. Values and passwords stay out of it."""
    return StoreUnavailable(f"the Redis server {name} {_meaning(error)}")


def at_opening(error: BaseException, name: str) -> ConfigurationError | StoreUnavailable:
    """Return what to raise for *error* when a store is opened: a wrong password or an unfit server do not mend themselves."""
    if isinstance(error, WrongServer | _MISCONFIGURED[0] | _MISCONFIGURED[1]) or _is_refused(error):
        return ConfigurationError(f"the Redis server {name} {_meaning(error)}")
    return unavailable(error, name)


def _is_refused(error: BaseException) -> bool:
    return any(word in str(error) for word in ("NOAUTH", "WRONGPASS", "NOPERM"))


def _meaning(error: BaseException) -> str:
    if isinstance(error, WrongServer):
        return str(error)
    if isinstance(error, TooFewReplicas):
        return "did not confirm a write on as many replicas as ?replicas= asks for; whether it stays is not known"
    text = str(error)
    if isinstance(error, exceptions.ResponseError | exceptions.AuthenticationError):
        for word, advice in _ADVICE:
            if word in text:
                return f"{advice} ({word})"
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "does not answer in time"
    return f"does not answer ({type(error).__name__})"
