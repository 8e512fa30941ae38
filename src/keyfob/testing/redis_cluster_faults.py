"""What may befall a part of a cluster, and who is in it: for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import Subject
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.keys import FEED_SLOT, slot_of_tag
from keyfob.stores.redis.cluster.slots import slot_of
from keyfob.stores.store import Store
from keyfob.testing.redis_cluster import RedisCluster, binary_command
from keyfob.testing.redis_server import RedisServer

WITHIN = 30.0  # seconds: a deadline, not an expectation


def slot_of_subject(store: Store, subject: str) -> int:
    """Return the slot of the sessions of *subject*."""
    return slot_of_tag(places.tag_of(store.salt, subject))


def subject_on(store: Store, cluster: RedisCluster, node: RedisServer, *, number: int = 0) -> Subject:
    """Return the *number*th subject whose sessions lie on *node*."""
    found = -1
    for each in range(10_000):
        subject = Subject(f"subject-{each}")
        found += cluster.owner(slot_of_subject(store, subject)) is node
        if found == number:
            return subject
    raise LookupError("no such subject")


def without_the_feed(cluster: RedisCluster) -> list[RedisServer]:
    """Return the nodes with slots that have not the feed."""
    feed = cluster.owner(FEED_SLOT)
    return [node for node in cluster.owners() if node is not feed]


async def until(condition: Callable[[], Any]) -> None:
    """Wait until *condition* is so."""
    async with asyncio.timeout(WITHIN):
        while True:
            with suppress(StoreUnavailable, OSError):
                found = condition()
                if await found if asyncio.iscoroutine(found) else found:
                    return
            await asyncio.sleep(0.02)


class Past:
    """What some keys of a cluster were at some moment, to which they can be made to go back as a lost replication would."""

    def __init__(self, cluster: RedisCluster, keys: list[bytes]) -> None:
        self._cluster = cluster
        self._kept = {key: self._ask(key, b"DUMP", key) for key in keys}

    def return_to(self) -> None:
        """Let all of the keys be what they were."""
        for key, dump in self._kept.items():
            self._ask(key, b"DEL", key)
            if dump is not None:
                self._ask(key, b"RESTORE", key, b"0", dump)

    def _ask(self, key: bytes, *words: bytes) -> Any:
        return binary_command(self._cluster.owner(slot_of(key)), *words)
