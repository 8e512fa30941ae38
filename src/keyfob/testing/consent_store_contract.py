"""What a `ConsentStore` must do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import ClientId, Subject
from keyfob.clients.client import Client
from keyfob.grants.consent import Consent
from keyfob.revocation.entry import Scope
from keyfob.testing.account_store_contract import an_account
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.race_verbs import add_account
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    SHOP,
    Store,
    StoreContract,
    an_event,
    codes,
    revocation,
)

APP = ClientId("app")
READ, WRITE = frozenset({"orders:read"}), frozenset({"orders:write", "ünïcode"})


async def put_client(store: Store, clock: FrozenClock, client_id: ClientId = SHOP) -> None:
    """Add a client."""
    client = Client(client_id=client_id, created_at=clock.now())
    assert await store.clients.add(client, an_event(clock.now(), "client_added"))


async def give(
    store: Store, clock: FrozenClock, scopes: frozenset[str] = READ, subject: Subject = ALICE
) -> Consent | None:
    """Let *subject* allow the shop *scopes*."""
    return await store.consents.give(
        subject, SHOP, scopes, event=an_event(clock.now(), "consent_given", subject)
    )


class ConsentStoreContract(StoreContract):
    """`give`, `find`, `withdraw`, `list`, and how consents end."""

    async def test_consents_add_up(self, store: Store, clock: FrozenClock) -> None:
        await put_client(store, clock)
        made = clock.now()
        clock.advance(1)
        first = await give(store, clock)
        assert first == Consent(
            subject=ALICE,
            client_id=SHOP,
            client_created_at=made,
            scopes=READ,
            given_at=clock.now(),
            changed_at=clock.now(),
        )
        clock.advance(1)
        second = await give(store, clock, WRITE)
        assert second == replace(first, scopes=READ | WRITE, changed_at=clock.now())
        assert await give(store, clock) == second
        assert await store.consents.find(ALICE, SHOP) == second
        assert await codes(store) == ["client_added"] + ["consent_given"] * 3

    async def test_nothing_was_given_unless_it_was(self, store: Store, clock: FrozenClock) -> None:
        await put_client(store, clock)
        await put_client(store, clock, APP)
        await give(store, clock)
        for subject, client_id in ((BOB, SHOP), (ALICE, APP), (SHOP, ALICE), (ALICE, ClientId("shopp"))):
            assert await store.consents.find(Subject(subject), ClientId(client_id)) is None

    async def test_no_client_no_consent(self, store: Store, clock: FrozenClock) -> None:
        assert await give(store, clock) is None
        await put_client(store, clock)
        assert await store.consents.find(ALICE, SHOP) is None
        assert await codes(store) == ["client_added"]

    async def test_a_consent_is_withdrawn_once(self, store: Store, clock: FrozenClock) -> None:
        await put_client(store, clock)
        given = await give(store, clock)
        event = an_event(clock.now(), "consent_withdrawn")
        assert await store.consents.withdraw(BOB, SHOP, event=event) is None
        assert await store.consents.withdraw(ALICE, SHOP, event=event) == given
        assert await store.consents.withdraw(ALICE, SHOP, event=event) is None
        assert await store.consents.find(ALICE, SHOP) is None
        again = await give(store, clock, WRITE)
        assert again is not None
        assert again.scopes == WRITE
        assert (await codes(store)).count("consent_withdrawn") == 1

    async def test_a_list_is_of_one_subject_by_client(self, store: Store, clock: FrozenClock) -> None:
        event = an_event(clock.now())
        for client_id in ("shop", "app", "ß"):
            await put_client(store, clock, ClientId(client_id))
            await store.consents.give(ALICE, ClientId(client_id), READ, event=event)
        await store.consents.give(Subject("alice-two"), SHOP, READ, event=event)
        await store.consents.give(Subject("alic"), SHOP, READ, event=event)
        listed = await store.consents.list(ALICE)
        assert [(one.subject, one.client_id) for one in listed] == [
            (ALICE, "app"),
            (ALICE, "shop"),
            (ALICE, "ß"),
        ]
        assert list(await store.consents.list(BOB)) == []

    async def test_consents_end_with_the_account(self, store: Store, clock: FrozenClock) -> None:
        await put_client(store, clock)
        await add_account(store, an_account(clock))
        await give(store, clock)
        await give(store, clock, subject=Subject("alice-two"))
        order = revocation(Scope.SUBJECT, ALICE, clock.now())
        assert (
            await store.accounts.delete(BOB, revocation=revocation(Scope.SUBJECT, BOB, clock.now())) is None
        )
        assert await store.consents.find(ALICE, SHOP) is not None
        assert await store.accounts.delete(ALICE, revocation=order) is not None
        assert await store.consents.find(ALICE, SHOP) is None
        assert list(await store.consents.list(ALICE)) == []
        assert await store.consents.find(Subject("alice-two"), SHOP) is not None

    async def test_consents_end_with_the_client_whoever_has_its_id_later(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await put_client(store, clock)
        await give(store, clock)
        await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
        event = an_event(clock.now(), "consent_withdrawn")
        for has_another in (False, True):
            if has_another:
                clock.advance(1)
                await put_client(store, clock)
            assert await store.consents.find(ALICE, SHOP) is None
            assert list(await store.consents.list(ALICE)) == []
            assert await store.consents.withdraw(ALICE, SHOP, event=event) is None
        assert "consent_withdrawn" not in await codes(store)

    async def test_what_the_client_before_was_allowed_counts_for_nothing(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await put_client(store, clock)
        await give(store, clock, WRITE)
        await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
        clock.advance(1)
        await put_client(store, clock)
        given = await give(store, clock, READ)
        assert given is not None
        assert (given.scopes, given.given_at) == (READ, clock.now())
        assert await store.consents.delete_expired(clock.now(), 10) == 0

    async def test_cleaning_up_deletes_what_was_given_to_clients_that_are_gone(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await put_client(store, clock)
        await put_client(store, clock, APP)
        event = an_event(clock.now())
        for number in range(3):
            await give(store, clock, subject=Subject(f"subject-{number}"))
            await store.consents.give(Subject(f"subject-{number}"), APP, READ, event=event)
        assert await store.consents.delete_expired(clock.now(), 10) == 0
        await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
        assert await store.consents.delete_expired(clock.now(), 2) == 2
        clock.advance(1)
        await put_client(store, clock)
        assert await store.consents.delete_expired(clock.now(), 2) == 1
        assert await store.consents.delete_expired(clock.now(), 2) == 0
        assert len(await store.consents.list(Subject("subject-1"))) == 1

    async def test_texts_that_cannot_be_kept_are_refused_and_not_found(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await put_client(store, clock)
        event = an_event(clock.now(), "consent_given")
        for bad in ("n\0ul", "half \ud800"):
            for subject, client_id, scopes in ((bad, SHOP, READ), (ALICE, bad, READ), (ALICE, SHOP, {bad})):
                with pytest.raises(InvalidRequest):
                    await store.consents.give(
                        Subject(subject), ClientId(client_id), frozenset(scopes), event=event
                    )
            assert await store.consents.find(Subject(bad), SHOP) is None
            assert await store.consents.withdraw(ALICE, ClientId(bad), event=event) is None
            assert list(await store.consents.list(Subject(bad))) == []
        assert await codes(store) == ["client_added"]

    async def test_of_consents_at_once_none_is_lost(self, store: Store, clock: FrozenClock) -> None:
        await put_client(store, clock)
        scopes = [frozenset({f"scope-{number}"}) for number in range(5)]
        await asyncio.gather(*(give(store, clock, each) for each in scopes))
        found = await store.consents.find(ALICE, SHOP)
        assert found is not None
        assert found.scopes == frozenset[str]().union(*scopes)
