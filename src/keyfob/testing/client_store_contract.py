"""What a `ClientStore` must do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from keyfob.base.identifiers import ClientId, Strategy
from keyfob.clients.change import Changed, ClientChange
from keyfob.clients.client import Client, GrantType
from keyfob.clients.store import UsedAssertion
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, CutOff
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    SHOP,
    TICK,
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
        public_keys=b'{"keys":[]}',
        grant_types=frozenset(GrantType),
        name="The shop",
        redirect_uris=frozenset({"https://shop.example/signed-in", "com.example.shop:/signed-in"}),
        post_logout_redirect_uris=frozenset({"https://shop.example/bye"}),
        backchannel_logout_uri="https://shop.example/ended",
        backchannel_logout_session_required=True,
        cors_origins=frozenset({"https://shop.example"}),
        first_party=True,
        public=True,
        require_par=True,
    )


class ClientStoreContract(StoreContract):
    """`add`, `find`, `list`, `change`, `delete`, and the memory of assertions."""

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

    async def test_a_change_is_applied_to_the_client_as_it_is(self, store: Store, clock: FrozenClock) -> None:
        client = a_client(clock)
        await store.clients.add(client, an_event(clock.now(), "client_added"))
        first, second = client.secret_digests
        for change, digests, keys in (
            (ClientChange(new_secret=_digest(1)), (_digest(1), first), client.public_keys),
            (ClientChange(new_secret=_digest(2), keep_secrets=0), (_digest(2),), client.public_keys),
            (ClientChange(keep_secrets=0, public_keys=b"{}"), (), b"{}"),
            (ClientChange(new_secret=second, public_keys=b""), (second,), b""),
        ):
            after = await store.clients.change(SHOP, change, order=an_event(clock.now(), "client_changed"))
            expected = replace(client, secret_digests=digests, public_keys=keys)
            assert after == Changed(client=expected)
            assert await store.clients.find(SHOP) == expected
        assert await codes(store) == ["client_added"] + ["client_changed"] * 4
        assert await position(store) == 0

    async def test_a_change_can_revoke_in_the_same_step(self, store: Store, clock: FrozenClock) -> None:
        await store.clients.add(a_client(clock), an_event(clock.now()))
        session = structs.replace(a_session(store, clock), client_id=SHOP)
        await put(store, session)
        order = revocation(Scope.CLIENT, SHOP, clock.now())
        after = await store.clients.change(SHOP, ClientChange(keep_secrets=0), order=order)
        assert after is not None
        assert after.client.secret_digests == ()
        assert await entries(store) == [after.entry]
        assert not await is_live(store, session.session_id, clock.now())
        with pytest.raises(ValueError, match="revokes that client"):
            await store.clients.change(
                SHOP, ClientChange(), order=revocation(Scope.CLIENT, "other", clock.now())
            )

    async def test_what_is_not_there_does_not_change(self, store: Store, clock: FrozenClock) -> None:
        order = revocation(Scope.CLIENT, SHOP, clock.now())
        for nothing in (order, an_event(clock.now())):
            assert await store.clients.change(SHOP, ClientChange(), order=nothing) is None
        assert await codes(store) == []
        assert await position(store) == 0

    async def test_of_changes_at_once_none_is_lost(self, store: Store, clock: FrozenClock) -> None:
        for number in range(10):
            client_id = ClientId(f"client-{number}")
            await store.clients.add(
                replace(a_client(clock, client_id), secret_digests=()), an_event(clock.now())
            )
            one, other = _digest(1), _digest(2)
            event = an_event(clock.now())
            await asyncio.gather(
                store.clients.change(client_id, ClientChange(new_secret=one), order=event),
                store.clients.change(client_id, ClientChange(new_secret=other), order=event),
                store.clients.change(client_id, ClientChange(public_keys=b"{}"), order=event),
            )
            found = await store.clients.find(client_id)
            assert found is not None
            assert (sorted(found.secret_digests), found.public_keys) == ([one, other], b"{}")

    async def test_a_digest_of_another_length_is_refused(self, store: Store, clock: FrozenClock) -> None:
        short = replace(a_client(clock), secret_digests=(b"short",))
        with pytest.raises(ValueError, match="32 bytes"):
            await store.clients.add(short, an_event(clock.now()))
        with pytest.raises(ValueError, match="32 bytes"):
            await store.clients.change(SHOP, ClientChange(new_secret=b"short"), order=an_event(clock.now()))
        with pytest.raises(ValueError, match="32 bytes"):
            await store.clients.take_assertion(UsedAssertion(b"short", clock.now()))

    async def test_an_assertion_is_taken_once(self, store: Store, clock: FrozenClock) -> None:
        until = clock.now() + timedelta(minutes=5)
        for number in range(10):
            used = UsedAssertion(_digest(number), until)
            taken = await asyncio.gather(*(store.clients.take_assertion(used) for _ in range(5)))
            assert sorted(taken) == [False] * 4 + [True]
            later = UsedAssertion(_digest(number), until + timedelta(minutes=5))
            assert not await store.clients.take_assertion(later)

    async def test_an_assertion_is_forgotten_at_its_end_and_not_before(
        self, store: Store, clock: FrozenClock
    ) -> None:
        until = clock.now() + timedelta(minutes=5)
        used = [UsedAssertion(_digest(number), until) for number in range(3)]
        for one in used:
            assert await store.clients.take_assertion(one)
        assert await store.clients.delete_expired(until - TICK, 10) == 0
        assert not await store.clients.take_assertion(used[0])
        assert await store.clients.delete_expired(until, 2) == 2
        assert await store.clients.delete_expired(until, 2) == 1
        assert await store.clients.take_assertion(used[0])


def _digest(number: int) -> bytes:
    return bytes([number]) * 32
