"""In what condition a database server is: what `keyfob doctor` looks at. Needs no driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class HostRole(StrEnum):
    """What a host of the store's URL is."""

    PRIMARY = "primary"
    STANDBY = "standby"
    AWAY = "away"


class Encryption(StrEnum):
    """How the way to the server is protected."""

    NEEDLESS = "needless"  # on this machine
    NONE = "none"
    UNVERIFIED = "unverified"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Where the store's URL leads: every host with its role, and how the way there is protected.

    `has_pooler` says that the URL names a pooler; `is_pooled` that one answers at its hosts, and `listens_through_pooler` that one answers
    where it says that the server itself is.
    """

    roles: Mapping[str, HostRole]
    encryption: Encryption
    has_pooler: bool
    is_pooled: bool = False
    listens_through_pooler: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the primary says of itself, as the store's user sees it. `settings` are those of PostgreSQL, as it writes them.

    `synchronous_standbys` is how many a commit may wait for; None if this user may not know. `clock_ahead` is by how much its clock is ahead of
    ours. `notified_after` is how long a notification took; None if it did not arrive.
    """

    settings: Mapping[str, str]
    is_superuser: bool
    synchronous_standbys: int | None
    clock_ahead: timedelta
    notified_after: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What is in the database. `version` 0: nothing of Keyfob's.

    `missing_days` are days to come that have no partition, and `overdue_since` the moment since which something waits to be cleaned up.
    """

    version: int
    current: int
    missing_days: int = 0
    overdue_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresCondition:
    """What was found at a `postgresql://` store. `fault` is why no more could be found."""

    hosts: Hosts
    server: Server | None = None
    schema: Schema | None = None
    fault: str | None = None
    connections: int = 0
    """How many each process may have."""

    @property
    def is_usable(self) -> bool:
        """Say whether this version's store could be opened there."""
        return self.schema is not None and self.schema.version == self.schema.current


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCondition:
    """What was found of a cluster: its nodes by their addresses, how many of the slots no primary answers for, and which have no replica.

    `needs_all_slots`: where one slot is not answered for, no other is either.
    """

    nodes: Mapping[str, RedisCondition]
    uncovered: int
    without_replica: Sequence[str]
    needs_all_slots: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCondition:
    """What a Redis server says of itself; `fault` is why it cannot be used. Memory is in bytes, 0 for no bound.

    `appendfsync` is None, and `least_replicas` 0, where the user may not read the server's settings.
    """

    fault: str | None = None
    policy: str = ""
    has_append_file: bool = False
    appendfsync: str | None = None
    is_behind_on_disk: bool = False
    replicas: int = 0
    least_replicas: int = 0
    used_memory: int = 0
    most_memory: int = 0
    cluster: ClusterCondition | None = None
    """Of a cluster everything is here, and nothing in the other fields."""

    @property
    def evicts(self) -> bool:
        """Say whether full memory would drop data."""
        return self.policy not in {"", "noeviction"}
