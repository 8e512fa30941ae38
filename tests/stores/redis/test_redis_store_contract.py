"""The contract of every port, on the Redis store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from keyfob.stores.opening import open_store
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
from keyfob.testing.renewal_contract import RenewalContract
from keyfob.testing.report_store_contract import ReportStoreContract
from keyfob.testing.rotation_contract import RotationContract
from keyfob.testing.session_end_contract import SessionEndContract
from keyfob.testing.session_store_contract import SessionStoreContract
from keyfob.testing.throttle_store_contract import ThrottleStoreContract
from keyfob.testing.transfer_contract import TransferContract


class OnRedis:
    @pytest.fixture
    async def store(self, clock: FrozenClock, redis_url: str) -> AsyncIterator[Store]:
        store = await open_store(redis_url, clock=clock)
        yield store
        await store.close()


class TestSessionsInRedis(OnRedis, SessionStoreContract):
    pass


class TestRotationInRedis(OnRedis, RotationContract):
    pass


class TestEndedChildrenInRedis(OnRedis, EndedChildrenContract):
    pass


class TestSessionEndsInRedis(OnRedis, SessionEndContract):
    pass


class TestRenewalInRedis(OnRedis, RenewalContract):
    pass


class TestApiKeysInRedis(OnRedis, ApiKeyContract):
    pass


class TestFeedInRedis(OnRedis, FeedStoreContract):
    pass


class TestFeedMendingInRedis(OnRedis, FeedMendingContract):
    pass


class TestKeysInRedis(OnRedis, KeyStoreContract):
    pass


class TestAccountsInRedis(OnRedis, AccountStoreContract):
    reads_holder_along = True


class TestThrottleInRedis(OnRedis, ThrottleStoreContract):
    pass


class TestClientsInRedis(OnRedis, ClientStoreContract):
    pass


class TestAuditInRedis(OnRedis, AuditStoreContract):
    pass


class TestReportsInRedis(OnRedis, ReportStoreContract):
    pass


class TestGrantsInRedis(OnRedis, GrantStoreContract):
    pass


class TestConsentsInRedis(OnRedis, ConsentStoreContract):
    pass


class TestOutboxInRedis(OnRedis, OutboxStoreContract):
    pass


class TestTransferOfRedis(OnRedis, TransferContract):
    @pytest.fixture
    async def other(self, clock: FrozenClock, another_redis_url: str) -> AsyncIterator[Store]:
        store = await open_store(another_redis_url, clock=clock)
        yield store
        await store.close()
