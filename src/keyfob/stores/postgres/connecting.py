"""How a connection to the server is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from keyfob.stores.postgres.options import Address, PostgresOptions

Row = Sequence[Any]
"""A row of any statement: the driver cannot know its types."""


class OpenTransaction(Protocol):
    """What is used of a transaction of asyncpg, by hand or with `async with`."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def commit(self) -> None:
        """Commit."""
        ...

    async def rollback(self) -> None:
        """Roll back."""
        ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


class Connection(Protocol):
    """What is used of a connection of asyncpg."""

    async def execute(self, query: str, *args: object) -> str:
        """Carry out a statement; return its tag."""
        ...

    async def executemany(self, command: str, args: Iterable[Sequence[object]]) -> None:
        """Carry out a statement for each of *args*."""
        ...

    async def fetch(self, query: str, *args: object) -> list[Row]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        """Return the first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first column of the first row."""
        ...

    def transaction(self, *, isolation: str, readonly: bool = False) -> OpenTransaction:
        """Begin a transaction."""
        ...

    def add_log_listener(self, callback: Any) -> None:
        """Call *callback* with the connection and each warning or notice, before the statement that causes it returns."""
        ...

    def remove_log_listener(self, callback: Any) -> None:
        """Call it no more."""
        ...


class DirectConnection(Connection, Protocol):
    """What is used of a connection of one's own."""

    async def add_listener(self, channel: str, callback: Any) -> None:
        """Listen."""
        ...

    def get_server_pid(self) -> int:
        """Return the number of the server's process, as whoever answered said it."""
        ...

    def add_termination_listener(self, callback: Any) -> None:
        """Call *callback* when the connection is lost."""
        ...

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the driver's
        """Close it."""
        ...


class Pool(Protocol):
    """What is used of a pool of asyncpg."""

    def acquire(self, *, timeout: float) -> AbstractAsyncContextManager[Connection]:
        """Take a connection."""
        ...

    async def expire_connections(self) -> None:
        """Replace every connection before its next use."""
        ...

    async def close(self) -> None:
        """Close all, each when it is given back."""
        ...

    def terminate(self) -> None:
        """Close all at once."""
        ...


# Look-ups are by key: what the planner thinks of tables that have just been filled must not turn them into scans.
_PLANS = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}

# A commit that no standby confirmed is told by a warning alone: whatever the role's settings are, it must arrive.
_SETTINGS = {"application_name": "keyfob", "client_min_messages": "warning"}


async def connect(
    addresses: Sequence[Address], options: PostgresOptions, *, is_pooled: bool
) -> DirectConnection:
    """Connect to the first of *addresses* that is a primary and takes writes.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    connection: DirectConnection = await asyncpg.connect(
        **_arguments(addresses, options, is_pooled=is_pooled)
    )
    return connection


async def connect_to_any(address: Address, options: PostgresOptions) -> DirectConnection:
    """Connect to *address*, be it a primary or not: to look at it, never to rely on what it says.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    arguments = _arguments([address], options, is_pooled=True) | {"target_session_attrs": "any"}
    connection: DirectConnection = await asyncpg.connect(**arguments)
    return connection


async def make_pool(options: PostgresOptions) -> Pool:
    """Make a pool with one connection in it.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    pool: Pool = await asyncpg.create_pool(
        min_size=1,
        max_size=options.connections,
        reset=_leave,
        **_arguments(options.addresses, options, is_pooled=options.is_pooled),
    )
    return pool


async def _leave(_: object) -> None:
    """Reset nothing when a connection is given back, for a round trip less: nothing is left on one outside a transaction."""


def _arguments(
    addresses: Sequence[Address], options: PostgresOptions, *, is_pooled: bool
) -> dict[str, object]:
    milliseconds = {
        "statement_timeout": options.statement_timeout,
        "lock_timeout": options.lock_timeout,
        "idle_in_transaction_session_timeout": options.deadline,
    }
    settings = {name: str(round(span.total_seconds() * 1000)) for name, span in milliseconds.items()}
    return {
        "host": [host for host, _ in addresses],
        "port": [port for _, port in addresses],
        "user": options.user,
        "password": options.password,
        "database": options.database,
        "ssl": options.tls if options.tls is not None else False,
        "timeout": options.connect_timeout.total_seconds(),
        "command_timeout": options.statement_timeout.total_seconds() + 1,
        "target_session_attrs": "read-write",
        # A pooler gives each transaction another server connection: nothing may be left on one.
        "statement_cache_size": 0 if is_pooled else 256,
        "server_settings": None if is_pooled else {**_SETTINGS, **_PLANS, **settings},
    }
