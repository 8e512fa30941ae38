"""What an error of PostgreSQL, of its driver or of the network means for whoever runs the server."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from keyfob.base.errors import ConfigurationError, StoreUnavailable

FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""Whatever may come of asking the server. (asyncpg's `DataError` is an `InterfaceError`.)"""

FENCED_STATE = "KF001"
"""The SQLSTATE with which the triggers of a store that is being moved refuse writers (moving.py)."""

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (asyncpg.LockNotAvailableError, "keeps a row locked for too long; end what holds it (pg_stat_activity)"),
    (asyncpg.QueryCanceledError, "took too long over a statement; look at its load and at pg_stat_activity"),
    (asyncpg.TooManyConnectionsError, "has no connection left; raise max_connections or lower ?connections="),
    (asyncpg.DiskFullError, "cannot grow: its disk is full; make room"),
    (asyncpg.ReadOnlySQLTransactionError, "is read-only: a standby, or a primary that was demoted"),
    (asyncpg.TargetServerAttributeNotMatched, "has no primary that takes writes; wait for the failover to end"),
    (asyncpg.InsufficientPrivilegeError, "refuses this user; grant it the schema keyfob (docs/reference/postgresql.md)"),
    (asyncpg.ProtocolViolationError, "refuses the settings of a connection: if it is a pooler, add pooler=HOST:PORT to the store's URL"),
    (asyncpg.UndefinedTableError, "has not Keyfob's tables any more; restore a backup, or run `keyfob migrate`"),
    (TimeoutError, "does not answer in time"),
    (asyncpg.PostgresWarning, "committed with a warning; look whether its synchronous standby is there (pg_stat_replication)"),
)  # fmt: skip
_OTHER = "does not answer"
_MISCONFIGURED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


_OF_THE_REQUEST = (
    asyncpg.DataError,
    asyncpg.exceptions.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.CharacterNotInRepertoireError,
)


class RefusedStep(StoreUnavailable):
    """The server is there, and refuses this very step: for a value in it, or for a lock that it waits for."""


def is_lost(error: BaseException) -> bool:
    """Say whether *error* tells that the connection, and others like it, may be no good any more."""
    return isinstance(error, _LOST) and not isinstance(error, asyncpg.DataError)


def is_worth_another_try(error: BaseException) -> bool:
    """Say whether the same step, which changed nothing, may well succeed at once on another connection. A timeout took long enough."""
    return isinstance(error, _AGAIN) or (is_lost(error) and not isinstance(error, TimeoutError))


def unavailable(error: BaseException, name: str) -> StoreUnavailable:
    """Return what to raise for *error*: which database, what is wrong, what to do. SQL, values and passwords stay out of it."""
    if getattr(error, "sqlstate", None) == FENCED_STATE:
        return StoreUnavailable(f"the database {name} is being moved to another store; try again in a moment")
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), _OTHER)
    kind = (
        RefusedStep
        if isinstance(error, (*_OF_THE_REQUEST, asyncpg.LockNotAvailableError))
        else StoreUnavailable
    )
    return kind(f"the database {name} {advice} ({_code(error)})")


def at_opening(error: BaseException, name: str) -> ConfigurationError | StoreUnavailable:
    """Return what to raise for *error* when a store is opened: a wrong password and an unknown database do not mend themselves."""
    if isinstance(error, _MISCONFIGURED):
        return ConfigurationError(
            f"the database {name} refuses user, password or database of the store's URL ({_code(error)})"
        )
    return unavailable(error, name)


def _code(error: BaseException) -> str:
    state: str | None = getattr(error, "sqlstate", None)
    return f"{type(error).__name__}, {state}" if state else type(error).__name__
