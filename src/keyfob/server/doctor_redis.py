"""What is unsafe about a store in Redis. Pure functions of what the server says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from keyfob.server.finding import Finding, consider, unsafe
from keyfob.stores.condition import ClusterCondition, RedisCondition

ENOUGH_LEFT = 0.8
"""Of `maxmemory`: above it a burst of logins may fill the rest."""
_PAGE = "docs/reference/redis.md"


def check(condition: RedisCondition) -> Iterator[Finding]:
    """Give every finding about *condition*."""
    if condition.cluster is not None:
        yield from _cluster(condition.cluster)
        return
    if condition.fault is not None:
        yield unsafe("redis", condition.fault, "mend that first; what depends on it could not be looked at")
    if condition.evicts:
        yield unsafe(
            "redis-evicts",
            f"maxmemory-policy is {condition.policy}: full memory would drop sessions and revocations, and the server refuses to start",
            "set maxmemory-policy noeviction",
        )
    if condition.fault is None:
        yield from _durability(condition)
        yield from _memory(condition)


def _cluster(cluster: ClusterCondition) -> Iterator[Finding]:
    """Give what is so of the cluster, and then what is so of its nodes: the same of several once."""
    if cluster.uncovered:
        yield unsafe(
            "redis-slots",
            f"{cluster.uncovered} of 16384 slots have no primary that answers: whoever has sessions there is refused",
            "bring the node back, or let a replica take its place",
        )
    if cluster.without_replica:
        yield consider(
            "redis-replicas",
            f"{', '.join(cluster.without_replica)} have no replica: what they hold is away while they are",
            "give each primary a replica, or two where ?replicas= is set, so that it takes writes while one is away",
        )
    if cluster.needs_all_slots:
        yield consider(
            "redis-coverage",
            "cluster-require-full-coverage is yes: where one slot is away, all of the cluster refuses everybody",
            "set cluster-require-full-coverage no",
        )
    where: dict[Finding, list[str]] = {}
    for name, condition in cluster.nodes.items():
        for finding in check(condition):
            where.setdefault(finding, []).append(name)
    for finding, names in where.items():
        yield (
            finding if finding.id == "redis" else replace(finding, what=f"{', '.join(names)}: {finding.what}")
        )


def _durability(condition: RedisCondition) -> Iterator[Finding]:
    if not condition.has_append_file:
        yield unsafe(
            "redis-forgets",
            "appendonly is off: a restart loses sessions, accounts, keys and revocations",
            f"set appendonly yes; {_PAGE} says what appendfsync adds",
        )
    elif condition.is_behind_on_disk:
        yield unsafe(
            "redis-disk",
            "the last write to the server's disk failed",
            "make room on its disk, and look at its log",
        )
    if condition.has_append_file and condition.appendfsync not in {None, "always"}:
        yield consider(
            "redis-fsync",
            f"appendfsync is {condition.appendfsync}: a loss of power takes the last moments; what was revoked in them is mended "
            "by whoever still knows of it, else everybody signs in again",
            f"set appendfsync always where that is too much; see {_PAGE}",
        )
    if condition.replicas and not condition.least_replicas:
        yield consider(
            "redis-split",
            "min-replicas-to-write is 0: a primary that is cut off from its replicas takes writes that will be lost",
            "set min-replicas-to-write 1, and ?replicas=1 in the store's URL",
        )


def _memory(condition: RedisCondition) -> Iterator[Finding]:
    if condition.most_memory and condition.used_memory > ENOUGH_LEFT * condition.most_memory:
        yield consider(
            "redis-memory",
            f"{condition.used_memory / condition.most_memory:.0%} of maxmemory are used; when it is full, nobody can sign in",
            "raise maxmemory",
        )
