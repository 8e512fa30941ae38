"""What may be chosen for a PostgreSQL store."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import timedelta

Address = tuple[str, int]
"""A host name, an address or the folder of a Unix socket; and a port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresOptions:
    """Where the database is, and how long anything may take.

    Of several *addresses* the first that is a primary counts. *listen_at* is where the server itself is reached if *addresses* lead to a
    pooler (pgbouncer in transaction mode): there nothing is prepared, no session setting is made, and nobody can listen.

    `statement_timeout` bounds one statement, `lock_timeout` what it waits for others; `deadline` is by when a caller has its answer.
    """

    addresses: tuple[Address, ...]
    database: str
    user: str
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    listen_at: tuple[Address, ...] | None = None
    connections: int = 10
    connect_timeout: timedelta = timedelta(seconds=3)
    statement_timeout: timedelta = timedelta(seconds=5)
    lock_timeout: timedelta = timedelta(seconds=2)
    deadline: timedelta = timedelta(seconds=8)

    @property
    def is_pooled(self) -> bool:
        """Say whether a pooler is in between."""
        return self.listen_at is not None

    @property
    def name(self) -> str:
        """Return how messages call the database: without user and password."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"{self.database} at {hosts}"
