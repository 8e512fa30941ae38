"""The store in a cluster of Redis or Valkey: the feed and the small tables in one slot, sessions in all others (ADR 16)."""

from __future__ import annotations

from keyfob.base.clock import Clock
from keyfob.stores.redis.audit import RedisAuditStore
from keyfob.stores.redis.clients import RedisClientStore
from keyfob.stores.redis.cluster.accounts import ClusterAccountStore
from keyfob.stores.redis.cluster.feed import ClusterFeedStore
from keyfob.stores.redis.cluster.inspecting import inspect_cluster
from keyfob.stores.redis.cluster.moving import open_cluster_movable
from keyfob.stores.redis.cluster.server import ClusterServer
from keyfob.stores.redis.cluster.sessions import ClusterSessionStore
from keyfob.stores.redis.cluster.transfer import ClusterTransfer, Rows
from keyfob.stores.redis.consents import RedisConsentStore
from keyfob.stores.redis.grants import RedisGrantStore
from keyfob.stores.redis.keys import RedisKeyStore
from keyfob.stores.redis.mirroring import RedisMirror
from keyfob.stores.redis.options import RedisOptions
from keyfob.stores.redis.outbox import RedisOutboxStore
from keyfob.stores.redis.reports import RedisReportStore
from keyfob.stores.redis.throttle import RedisThrottleStore
from keyfob.stores.redis.transfer import Access
from keyfob.stores.store import Store

__all__ = ["inspect_cluster", "open_cluster_movable", "open_cluster_store"]


async def open_cluster_store(options: RedisOptions, *, clock: Clock) -> Store:
    """Open the store, making it if there is none.

    Raises:
        ConfigurationError: the cluster cannot be used; the message says why.
        StoreUnavailable: the node that has the feed does not answer.
    """
    server = await ClusterServer.open(options, clock=clock)
    feed = ClusterFeedStore(server)
    access = Access(
        connect=server.connect, name=options.name, at_home=server.at_home, on_loaded=server.forget
    )
    return Store(
        sessions=ClusterSessionStore(server, feed, clock),
        feed=feed,
        keys=RedisKeyStore(server),
        accounts=ClusterAccountStore(server),
        throttle=RedisThrottleStore(server),
        clients=RedisClientStore(server),
        audit=RedisAuditStore(server),
        reports=RedisReportStore(server),
        salt=server.salt,
        close=server.close,
        transfer=ClusterTransfer(access, Rows(server.nodes)),
        mirror=RedisMirror(server, clock),
        grants=RedisGrantStore(server),
        consents=RedisConsentStore(server),
        outbox=RedisOutboxStore(server),
    )
