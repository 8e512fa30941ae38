"""What may be chosen for a Redis store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

Address = tuple[str, int]
"""A host name or an address, and a port."""


class Topology(StrEnum):
    """How the servers are arranged: what the scheme of the URL says."""

    SINGLE = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """With what the server is to prove who it is, and this process to it. *ca_file* None: the authorities that the machine trusts."""

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    checks_name: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Where the server is, and how long anything may take.

    With `SENTINEL` the *addresses* are those of the sentinels, and *primary* is the name under which they know the primary; with `CLUSTER`
    those of some nodes, which know the others, and *connections* and *replicas* are those of each. A write is acknowledged when *replicas* replicas have it. `deadline` is by when a caller has its answer, `connections` how many batches are under
    way at once.
    """

    topology: Topology
    addresses: tuple[Address, ...]
    primary: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: Tls | None = None
    connections: int = 3
    replicas: int = 0
    connect_timeout: timedelta = timedelta(seconds=2)
    deadline: timedelta = timedelta(seconds=5)

    @property
    def name(self) -> str:
        """Return how messages call the server: without user and password."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"{self.primary} by {hosts}" if self.primary is not None else hosts
