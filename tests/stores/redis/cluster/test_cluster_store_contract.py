"""The contract of every port, on a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.redis.cluster.keys import FEED_SLOT
from keyfob.stores.redis.places import META
from keyfob.stores.store import Store
from keyfob.testing.account_store_contract import AccountStoreContract
from keyfob.testing.api_key_contract import ApiKeyContract
from keyfob.testing.audit_store_contract import AuditStoreContract
from keyfob.testing.client_store_contract import ClientStoreContract
from keyfob.testing.consent_store_contract import ConsentStoreContract
from keyfob.testing.ended_children_contract import EndedChildrenContract
from keyfob.testing.feed_mending_contract import FeedMendingContract
from keyfob.testing.feed_store_contract import FeedStoreContract
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.grant_store_contract import GrantStoreContract
from keyfob.testing.key_store_contract import KeyStoreContract
from keyfob.testing.outbox_store_contract import OutboxStoreContract
from keyfob.testing.redis_cluster import RedisCluster, binary_command
from keyfob.testing.renewal_contract import RenewalContract
from keyfob.testing.report_store_contract import ReportStoreContract
from keyfob.testing.rotation_contract import RotationContract
from keyfob.testing.session_end_contract import SessionEndContract
from keyfob.testing.session_store_contract import SessionStoreContract
from keyfob.testing.throttle_store_contract import ThrottleStoreContract
from keyfob.testing.transfer_contract import TransferContract


class OnCluster:
    @pytest.fixture
    async def store(self, clock: FrozenClock, cluster_url: str) -> AsyncIterator[Store]:
        store = await open_store(cluster_url, clock=clock)
        yield store
        await store.close()


class TestSessionsInACluster(OnCluster, SessionStoreContract):
    pass


class TestRotationInACluster(OnCluster, RotationContract):
    pass


class TestSessionEndsInACluster(OnCluster, SessionEndContract):
    pass


class TestRenewalInACluster(OnCluster, RenewalContract):
    pass


class TestApiKeysInACluster(OnCluster, ApiKeyContract):
    pass


class TestFeedInACluster(OnCluster, FeedStoreContract):
    pass


class TestFeedMendingInACluster(OnCluster, FeedMendingContract):
    pass


class TestKeysInACluster(OnCluster, KeyStoreContract):
    pass


class TestAccountsInACluster(OnCluster, AccountStoreContract):
    pass


class TestClientsInACluster(OnCluster, ClientStoreContract):
    pass


class TestAuditInACluster(OnCluster, AuditStoreContract):
    pass


class TestThrottleInACluster(OnCluster, ThrottleStoreContract):
    pass


class TestReportsInACluster(OnCluster, ReportStoreContract):
    pass


class TestEndedChildrenInACluster(OnCluster, EndedChildrenContract):
    pass


class TestGrantsInACluster(OnCluster, GrantStoreContract):
    pass


class TestConsentsInACluster(OnCluster, ConsentStoreContract):
    pass


class TestOutboxInACluster(OnCluster, OutboxStoreContract):
    pass


class TestTransferOfACluster(OnCluster, TransferContract):
    @pytest.fixture
    async def other(
        self, store: Store, redis_cluster: RedisCluster, own_cluster: RedisCluster, clock: FrozenClock
    ) -> AsyncIterator[Store]:
        """A second store of the same salt: both are copies of one."""
        own_cluster.flush()
        meta = binary_command(redis_cluster.owner(FEED_SLOT), b"HGETALL", META)
        binary_command(own_cluster.owner(FEED_SLOT), b"HSET", META, *meta, b"timeline", b"another")
        store = await open_store(own_cluster.url, clock=clock)
        yield store
        await store.close()
