"""The contract of every port, on the memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.stores.memory import open_memory_store
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


class TestEndedChildrenInMemory(OnMemory, EndedChildrenContract):
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
    reads_holder_along = True


class TestThrottleInMemory(OnMemory, ThrottleStoreContract):
    pass


class TestApiKeysInMemory(OnMemory, ApiKeyContract):
    pass


class TestClientsInMemory(OnMemory, ClientStoreContract):
    pass


class TestAuditInMemory(OnMemory, AuditStoreContract):
    pass


class TestReportsInMemory(OnMemory, ReportStoreContract):
    pass


class TestGrantsInMemory(OnMemory, GrantStoreContract):
    pass


class TestConsentsInMemory(OnMemory, ConsentStoreContract):
    pass


class TestOutboxInMemory(OnMemory, OutboxStoreContract):
    pass


class TestTransferInMemory(OnMemory, TransferContract):
    @pytest.fixture
    async def other(self, clock: FrozenClock) -> AsyncIterator[Store]:
        other = await open_store("memory://", clock=clock)
        yield other
        await other.close()


class _Counted(dict[Position, Entry]):
    """Counts the entries that are gone through one after the other."""

    looked_at = 0

    def __iter__(self) -> Iterator[Position]:
        for position in super().__iter__():
            self.looked_at += 1
            yield position


async def test_reading_what_is_new_looks_at_nothing_that_is_old() -> None:
    clock = FrozenClock()
    store = open_memory_store(clock)
    for number in range(50):
        revocation = Revocation(
            scope=Scope.TOKEN, id=f"j{number}", reach=Reach.END, event=Event(at=clock.now(), code="revoked")
        )
        await store.sessions.end(revocation, now=clock.now())
    state = store.feed._state
    state.entries = counted = _Counted(state.entries)
    counted.looked_at = 0

    assert await store.feed.read_after(Position(50), 10) == []
    assert await store.feed.read_after(Position(60), 10) == []
    assert [entry.position for entry in await store.feed.read_after(Position(48), 10)] == [49, 50]
    assert counted.looked_at == 0

    for position in range(1, 41):  # expired
        del counted[Position(position)]
    assert [entry.position for entry in await store.feed.read_after(Position(3), 2)] == [41, 42]
    for position in range(41, 51):
        del counted[Position(position)]
    assert await store.feed.read_after(Position(3), 2) == []
