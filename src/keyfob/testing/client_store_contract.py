"""What a `ClientStore` must do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from keyfob.base.identifiers import ClientId, Strategy
from keyfob.clients.client import Client
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, CutOff
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    SHOP,
    Store,
    StoreContract,
    a_session,
    an_event,
    codes,
    entries,
    is_live,
    position,
    put,
    revocation,
)


def a_client(clock: FrozenClock, client_id: ClientId = SHOP) -> Client:
    """Return a client in which every field differs from its default."""
    return Client(
        client_id=client_id,
        created_at=clock.now(),
        secret_digests=(bytes(range(32)), bytes(range(32, 64))),
        scopes=frozenset({"orders:read", "keyfob:feed"}),
        strategies=frozenset({Strategy.JWT, Strategy.SESSION}),
        default_strategy=Strategy.JWT,
        audiences=frozenset({"orders", "https://stock.example"}),
        access_lifetime=timedelta(minutes=7, microseconds=1),
    )


class ClientStoreContract(StoreContract):
    """`add`, `find`, `list`, `delete`."""

    async def test_a_client_is_found_as_it_was_added(self, store: Store, clock: FrozenClock) -> None:
        for client in (a_client(clock), Client(client_id=ClientId("bare"), created_at=clock.now())):
            assert await store.clients.add(client, an_event(clock.now(), "client_added"))
            assert await store.clients.find(client.client_id) == client
        assert await store.clients.find(ClientId("SHOP")) is None
        assert await codes(store) == ["client_added"] * 2

    async def test_an_id_is_taken_once(self, store: Store, clock: FrozenClock) -> None:
        client = a_client(clock)
        event = an_event(clock.now(), "client_added")
        assert await store.clients.add(client, event)
        assert not await store.clients.add(replace(client, scopes=frozenset()), event)
        assert await store.clients.find(SHOP) == client
        assert await codes(store) == ["client_added"]

    async def test_a_list_is_by_id(self, store: Store, clock: FrozenClock) -> None:
        assert list(await store.clients.list()) == []
        clients = [a_client(clock, ClientId(name)) for name in ("a", "b", "c", "ß")]
        for client in reversed(clients):
            await store.clients.add(client, an_event(clock.now()))
        assert list(await store.clients.list()) == clients

    async def test_deleting_revokes_in_the_same_step(self, store: Store, clock: FrozenClock) -> None:
        await store.clients.add(a_client(clock), an_event(clock.now(), "client_added"))
        session = structs.replace(a_session(store, clock), client_id=SHOP)
        await put(store, session)
        under_way = structs.replace(a_session(store, clock), client_id=SHOP)
        entry = await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
        assert entry is not None
        assert (entry.scope, entry.id) == (Scope.CLIENT, SHOP)
        assert await entries(store) == [entry]
        assert await store.clients.find(SHOP) is None
        assert not await is_live(store, session.session_id, clock.now())
        assert await put(store, under_way) == CutOff()
        assert await codes(store) == ["client_added", "login", "revoked"]

    async def test_what_is_not_there_is_not_deleted(self, store: Store, clock: FrozenClock) -> None:
        order = revocation(Scope.CLIENT, SHOP, clock.now())
        assert await store.clients.delete(SHOP, revocation=order) is None
        await store.clients.add(a_client(clock), an_event(clock.now()))
        assert await store.clients.delete(SHOP, revocation=order)
        assert await store.clients.delete(SHOP, revocation=order) is None
        assert await position(store) == 1

    async def test_deleting_takes_its_own_revocation_alone(self, store: Store, clock: FrozenClock) -> None:
        await store.clients.add(a_client(clock), an_event(clock.now()))
        for wrong in (
            revocation(Scope.CLIENT, "other", clock.now()),
            revocation(Scope.SUBJECT, SHOP, clock.now()),
        ):
            with pytest.raises(ValueError, match="revokes that client"):
                await store.clients.delete(SHOP, revocation=wrong)
        assert await store.clients.find(SHOP) is not None

    async def test_an_id_used_again_begins_anew(self, store: Store, clock: FrozenClock) -> None:
        await store.clients.add(a_client(clock), an_event(clock.now()))
        entry = await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
        assert entry is not None
        assert await store.clients.add(a_client(clock), an_event(clock.now()))
        session = structs.replace(a_session(store, clock), client_id=SHOP, as_of=entry.position)
        assert await put(store, session) == Added()
        assert await is_live(store, session.session_id, clock.now())
