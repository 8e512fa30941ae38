"""The contract of every port, on the memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.account_store_contract import AccountStoreContract
from keyfob.testing.audit_store_contract import AuditStoreContract
from keyfob.testing.client_store_contract import ClientStoreContract
from keyfob.testing.feed_mending_contract import FeedMendingContract
from keyfob.testing.feed_store_contract import FeedStoreContract
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.key_store_contract import KeyStoreContract
from keyfob.testing.renewal_contract import RenewalContract
from keyfob.testing.report_store_contract import ReportStoreContract
from keyfob.testing.rotation_contract import RotationContract
from keyfob.testing.session_end_contract import SessionEndContract
from keyfob.testing.session_store_contract import SessionStoreContract
from keyfob.testing.throttle_store_contract import ThrottleStoreContract
from keyfob.testing.transfer_contract import TransferContract


class OnMemory:
    @pytest.fixture
    async def store(self, clock: FrozenClock) -> AsyncIterator[Store]:
        store = await open_store("memory://", clock=clock)
        yield store
        await store.close()


class TestSessionsInMemory(OnMemory, SessionStoreContract):
    pass


class TestRotationInMemory(OnMemory, RotationContract):
    pass


class TestSessionEndsInMemory(OnMemory, SessionEndContract):
    pass


class TestRenewalInMemory(OnMemory, RenewalContract):
    pass


class TestMendingAFeedInMemory(OnMemory, FeedMendingContract):
    """A feed that went back."""


class TestFeedInMemory(OnMemory, FeedStoreContract):
    pass


class TestKeysInMemory(OnMemory, KeyStoreContract):
    pass


class TestAccountsInMemory(OnMemory, AccountStoreContract):
    pass


class TestThrottleInMemory(OnMemory, ThrottleStoreContract):
    pass


class TestClientsInMemory(OnMemory, ClientStoreContract):
    pass


class TestAuditInMemory(OnMemory, AuditStoreContract):
    pass


class TestReportsInMemory(OnMemory, ReportStoreContract):
    pass


class TestTransferInMemory(OnMemory, TransferContract):
    @pytest.fixture
    async def other(self, clock: FrozenClock) -> AsyncIterator[Store]:
        other = await open_store("memory://", clock=clock)
        yield other
        await other.close()
