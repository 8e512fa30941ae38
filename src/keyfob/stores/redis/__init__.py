"""The store in Redis or Valkey: for very high rates, and sessions that need not outlive a disaster."""

from __future__ import annotations

from keyfob.base.clock import Clock
from keyfob.stores.condition import RedisCondition
from keyfob.stores.moving import Movable
from keyfob.stores.redis.accounts import RedisAccountStore
from keyfob.stores.redis.audit import RedisAuditStore
from keyfob.stores.redis.clients import RedisClientStore
from keyfob.stores.redis.cluster import inspect_cluster, open_cluster_movable, open_cluster_store
from keyfob.stores.redis.consents import RedisConsentStore
from keyfob.stores.redis.feed import RedisFeedStore
from keyfob.stores.redis.grants import RedisGrantStore
from keyfob.stores.redis.inspecting import inspect_single
from keyfob.stores.redis.keys import RedisKeyStore
from keyfob.stores.redis.mirroring import RedisMirror
from keyfob.stores.redis.moving import open_single_movable
from keyfob.stores.redis.options import RedisOptions, Topology
from keyfob.stores.redis.outbox import RedisOutboxStore
from keyfob.stores.redis.reports import RedisReportStore
from keyfob.stores.redis.server import SCHEMA, Server
from keyfob.stores.redis.sessions import RedisSessionStore
from keyfob.stores.redis.throttle import RedisThrottleStore
from keyfob.stores.redis.transfer import Access, RedisTransfer
from keyfob.stores.redis.url import SCHEMES, read_url
from keyfob.stores.store import Store

__all__ = [
    "SCHEMA",
    "SCHEMES",
    "RedisOptions",
    "inspect_redis_store",
    "open_movable",
    "open_redis_store",
    "read_url",
]


async def inspect_redis_store(options: RedisOptions) -> RedisCondition:
    """Return what the server, or each node of a cluster, says of itself. One that cannot be reached, or must not be used, is a fault."""
    if options.topology is Topology.CLUSTER:
        return await inspect_cluster(options)
    return await inspect_single(options)


async def open_movable(options: RedisOptions, *, makes: bool) -> Movable:
    """Open the store for a move, be it closed or not; with *makes* it is made if there is none.

    Raises:
        ConfigurationError: there is none, or the server cannot be used.
        StoreUnavailable: no primary answers.
    """
    if options.topology is Topology.CLUSTER:
        return await open_cluster_movable(options, makes=makes)
    return await open_single_movable(options, makes=makes)


async def open_redis_store(options: RedisOptions, *, clock: Clock) -> Store:
    """Open the store, making it if there is none.

    The store belongs to the event loop that opened it, and to its process; it may be used from other loops while that one runs.

    Raises:
        ConfigurationError: the server cannot be used; the message says why.
        StoreUnavailable: no primary answers.
    """
    if options.topology is Topology.CLUSTER:
        return await open_cluster_store(options, clock=clock)
    server = await Server.open(options, clock=clock)
    access = Access(
        connect=server.connect,
        name=options.name,
        at_home=server.at_home,
        on_loaded=server.evidence.forget,
    )
    return Store(
        sessions=RedisSessionStore(server, clock),
        feed=RedisFeedStore(server),
        keys=RedisKeyStore(server),
        accounts=RedisAccountStore(server),
        throttle=RedisThrottleStore(server),
        clients=RedisClientStore(server),
        audit=RedisAuditStore(server),
        reports=RedisReportStore(server),
        grants=RedisGrantStore(server),
        consents=RedisConsentStore(server),
        outbox=RedisOutboxStore(server),
        salt=server.salt,
        close=server.close,
        transfer=RedisTransfer(access),
        mirror=RedisMirror(server, clock),
    )
