"""The contract of every port, on the PostgreSQL store."""

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


class OnPostgres:
    @pytest.fixture
    async def store(self, clock: FrozenClock, postgres_url: str) -> AsyncIterator[Store]:
        store = await open_store(postgres_url, clock=clock)
        yield store
        await store.close()


class TestSessionsInPostgres(OnPostgres, SessionStoreContract):
    pass


class TestRotationInPostgres(OnPostgres, RotationContract):
    pass


class TestEndedChildrenInPostgres(OnPostgres, EndedChildrenContract):
    pass


class TestSessionEndsInPostgres(OnPostgres, SessionEndContract):
    pass


class TestRenewalInPostgres(OnPostgres, RenewalContract):
    pass


class TestFeedInPostgres(OnPostgres, FeedStoreContract):
    pass


class TestFeedMendingInPostgres(OnPostgres, FeedMendingContract):
    pass


class TestKeysInPostgres(OnPostgres, KeyStoreContract):
    pass


class TestAccountsInPostgres(OnPostgres, AccountStoreContract):
    reads_holder_along = True


class TestThrottleInPostgres(OnPostgres, ThrottleStoreContract):
    pass


class TestApiKeysInPostgres(OnPostgres, ApiKeyContract):
    pass


class TestClientsInPostgres(OnPostgres, ClientStoreContract):
    pass


class TestAuditInPostgres(OnPostgres, AuditStoreContract):
    pass


class TestReportsInPostgres(OnPostgres, ReportStoreContract):
    pass


class TestGrantsInPostgres(OnPostgres, GrantStoreContract):
    pass


class TestConsentsInPostgres(OnPostgres, ConsentStoreContract):
    pass


class TestOutboxInPostgres(OnPostgres, OutboxStoreContract):
    pass


class TestTransferInPostgres(OnPostgres, TransferContract):
    @pytest.fixture
    async def other(self, clock: FrozenClock, another_postgres_url: str) -> AsyncIterator[Store]:
        other = await open_store(another_postgres_url, clock=clock)
        yield other
        await other.close()
