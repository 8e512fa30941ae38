"""Sessions in Redis, accounts elsewhere: the contract of every port, and what happens to whoever is killed between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.revocation.entry import Reach, Scope
from keyfob.sessions.store import UNRECORDED, Added, CutOff
from keyfob.stores.opening import open_joined_store, open_store
from keyfob.stores.store import Store
from keyfob.testing.account_store_contract import AccountStoreContract, an_account
from keyfob.testing.audit_store_contract import AuditStoreContract
from keyfob.testing.client_store_contract import ClientStoreContract
from keyfob.testing.consent_store_contract import ConsentStoreContract
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.grant_store_contract import GrantStoreContract
from keyfob.testing.outbox_store_contract import OutboxStoreContract
from keyfob.testing.race_verbs import add_account
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    SHOP,
    a_session,
    an_event,
    codes,
    entries,
    is_live,
    position,
    put,
    put_new,
    revocation,
)

Opener = Callable[[], Awaitable[Store]]


@pytest.fixture
def accounts_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/accounts.db"


class OnBoth:
    @pytest.fixture
    async def store(self, clock: FrozenClock, redis_url: str, accounts_url: str) -> AsyncIterator[Store]:
        store = await open_joined_store(redis_url, accounts_url, clock=clock)
        yield store
        await store.close()


class TestAccountsApart(OnBoth, AccountStoreContract):
    pass


class TestClientsApart(OnBoth, ClientStoreContract):
    async def test_deleting_revokes_in_the_same_step(self, store: Store, clock: FrozenClock) -> None:
        """As the contract has it, but for the order of what is told of one moment, which two trails do not know."""
        await store.clients.add(
            Client(client_id=SHOP, created_at=clock.now()), an_event(clock.now(), "client_added")
        )
        clock.advance(1)
        session = changed(a_session(store, clock), client_id=SHOP)
        await put(store, session)
        under_way = changed(a_session(store, clock), client_id=SHOP)
        clock.advance(1)
        entry = await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
        assert entry is not None
        assert list(await entries(store)) == [entry]
        assert not await is_live(store, session.session_id, clock.now())
        assert await put(store, under_way) == CutOff()
        assert await codes(store) == ["client_added", "login", "revoked"]


class TestConsentsApart(OnBoth, ConsentStoreContract):
    pass


class TestGrantsApart(OnBoth, GrantStoreContract):
    pass


class TestOutboxApart(OnBoth, OutboxStoreContract):
    pass


class TestAuditInTwoPlaces(OnBoth, AuditStoreContract):
    pass


@pytest.fixture
async def opener(redis_url: str, accounts_url: str, clock: FrozenClock) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:

        async def opened() -> Store:
            store = await open_joined_store(redis_url, accounts_url, clock=clock)
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def joined(opener: Opener) -> Store:
    return await opener()


async def disable(store: Any, clock: FrozenClock) -> Any:
    """Bar alice, as a process does that is killed before it has told the store of sessions."""
    order = revocation(Scope.SUBJECT, ALICE, clock.now())
    return await store.accounts.set_disabled(ALICE, now=clock.now(), revocation=order)


async def test_a_change_ends_sessions_elsewhere_before_it_is_told(joined: Store, clock: FrozenClock) -> None:
    session, under_way = await put_new(joined, clock), a_session(joined, clock)
    entry = await disable(joined, clock)
    assert (entry.scope, entry.id, entry.reach) == (Scope.SUBJECT, ALICE, Reach.END)
    assert list(await entries(joined)) == [entry]
    assert not await is_live(joined, session.session_id, clock.now())
    assert await put(joined, under_way) == CutOff()
    assert await put(joined, changed(under_way, as_of=entry.position)) == Added()


async def test_what_a_killed_process_owed_is_carried_out_at_the_next_start(
    opener: Opener, accounts_url: str, clock: FrozenClock
) -> None:
    first = await opener()
    session = await put_new(first, clock)
    await first.close()
    alone = await open_store(accounts_url, clock=clock)
    await disable(alone, clock)
    await alone.close()

    second = await opener()
    assert not await is_live(second, session.session_id, clock.now())
    assert await position(second) == 1
    third = await opener()
    assert await position(third) == 1, "each entry is carried out once"


async def test_what_a_killed_process_owed_is_carried_out_by_those_that_run(
    joined: Store, accounts_url: str, clock: FrozenClock, until: Any
) -> None:
    session = await put_new(joined, clock)
    alone = await open_store(accounts_url, clock=clock)
    await disable(alone, clock)

    async def is_over() -> bool:
        return not await is_live(joined, session.session_id, clock.now())

    await until(is_over)
    await alone.close()


async def test_what_is_owed_outlives_its_entry(
    joined: Store, accounts_url: str, clock: FrozenClock, raw: Any
) -> None:
    """The store of sessions is away for longer than an entry lives: nothing is dropped before it is carried out."""
    session = await put_new(joined, clock)
    await raw.config_set("min-replicas-to-write", "1")
    with pytest.raises(StoreUnavailable):
        await disable(joined, clock)
    clock.advance(3600)
    with pytest.raises(StoreUnavailable):
        await joined.feed.delete_expired(clock.now(), 100)
    await raw.config_set("min-replicas-to-write", "0")
    await joined.feed.delete_expired(clock.now(), 100)
    assert not await is_live(joined, session.session_id, clock.now())


async def test_entries_that_are_gone_before_they_were_carried_out_cut_everything_off(
    opener: Opener, accounts_url: str, clock: FrozenClock
) -> None:
    first = await opener()
    sessions = [await put_new(first, clock), await put_new(first, clock, BOB)]
    await first.close()
    alone = await open_store(accounts_url, clock=clock)
    await disable(alone, clock)
    clock.advance(3600)
    assert await alone.feed.delete_expired(clock.now(), 100) > 0
    await alone.close()

    second = await opener()
    for session in sessions:
        assert not await is_live(second, session.session_id, clock.now())


async def test_a_restored_store_of_accounts_cuts_everything_off(
    opener: Opener, redis_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    first = await opener()
    session = await put_new(first, clock)
    await first.close()
    other = await open_joined_store(redis_url, f"sqlite:///{tmp_path}/other.db", clock=clock)
    assert not await is_live(other, session.session_id, clock.now())
    await other.close()


async def test_the_first_roles_of_somebody_who_is_signed_in_are_news(
    joined: Store, clock: FrozenClock
) -> None:
    await put_new(joined, clock)
    order = revocation(Scope.SUBJECT, ALICE, clock.now(), reach=Reach.CLAIMS)
    entry = await joined.accounts.set_roles(ALICE, frozenset({"buyer"}), revocation=order)
    assert entry is not None
    assert list(await entries(joined)) == [entry]


async def test_the_roles_of_a_session_are_asked_for_where_the_accounts_are(
    joined: Store, redis_url: str, clock: FrozenClock
) -> None:
    """Beside the session nothing is recorded: that must not be taken for "no roles, not barred"."""
    session = await put_new(joined, clock)
    order = revocation(Scope.SUBJECT, ALICE, clock.now(), reach=Reach.CLAIMS)
    await joined.accounts.set_roles(ALICE, frozenset({"buyer"}), revocation=order)
    found = await joined.sessions.find(session.session_id)
    assert found is not None
    assert found.holder is None
    beside = await open_store(redis_url, clock=clock)
    read = await beside.sessions.find(session.session_id)
    await beside.close()
    assert read is not None
    assert read.holder == UNRECORDED


async def test_one_trail_tells_of_both(joined: Store, clock: FrozenClock) -> None:
    await add_account(joined, an_account(clock))
    clock.advance(1)
    await put_new(joined, clock, BOB)
    clock.advance(1)
    await joined.clients.add(
        Client(client_id=ClientId("shop"), created_at=clock.now()), an_event(clock.now(), "client_added")
    )
    clock.advance(1)
    await put_new(joined, clock, BOB)
    told = await codes(joined)
    assert told[1:] == ["login", "client_added", "login"]
    for limit in (1, 2, 3):
        walked: list[str] = []
        after = None
        for _ in range(9):
            page = await joined.audit.list(after=after, limit=limit)
            walked += [event.code for event in page.events]
            after = page.next
            if after is None:
                break
        assert walked == told[::-1]


async def test_two_stores_that_do_not_go_together_are_refused(
    redis_url: str, accounts_url: str, clock: FrozenClock
) -> None:
    for url, beside in ((accounts_url, redis_url), ("memory://", accounts_url), (redis_url, "memory://")):
        with pytest.raises(ConfigurationError, match="accounts_store"):
            await open_joined_store(url, beside, clock=clock)
