"""The contract of every port, on the SQLite store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

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


class OnSqlite:
    @pytest.fixture
    async def store(self, clock: FrozenClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = await open_store(f"sqlite:///{tmp_path}/keyfob.db", clock=clock)
        yield store
        await store.close()


class TestSessionsInSqlite(OnSqlite, SessionStoreContract):
    pass


class TestRotationInSqlite(OnSqlite, RotationContract):
    pass


class TestEndedChildrenInSqlite(OnSqlite, EndedChildrenContract):
    pass


class TestSessionEndsInSqlite(OnSqlite, SessionEndContract):
    pass


class TestRenewalInSqlite(OnSqlite, RenewalContract):
    pass


class TestMendingAFeedInSqlite(OnSqlite, FeedMendingContract):
    """A feed that went back."""


class TestFeedInSqlite(OnSqlite, FeedStoreContract):
    pass


class TestKeysInSqlite(OnSqlite, KeyStoreContract):
    pass


class TestAccountsInSqlite(OnSqlite, AccountStoreContract):
    reads_holder_along = True


class TestThrottleInSqlite(OnSqlite, ThrottleStoreContract):
    pass


class TestApiKeysInSqlite(OnSqlite, ApiKeyContract):
    pass


class TestClientsInSqlite(OnSqlite, ClientStoreContract):
    pass


class TestAuditInSqlite(OnSqlite, AuditStoreContract):
    pass


class TestReportsInSqlite(OnSqlite, ReportStoreContract):
    pass


class TestGrantsInSqlite(OnSqlite, GrantStoreContract):
    pass


class TestConsentsInSqlite(OnSqlite, ConsentStoreContract):
    pass


class TestOutboxInSqlite(OnSqlite, OutboxStoreContract):
    pass


class TestTransferInSqlite(OnSqlite, TransferContract):
    @pytest.fixture
    async def other(self, clock: FrozenClock, tmp_path: Path) -> AsyncIterator[Store]:
        other = await open_store(f"sqlite:///{tmp_path}/other.db", clock=clock)
        yield other
        await other.close()
