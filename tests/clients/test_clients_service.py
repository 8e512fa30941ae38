"""The client service on the memory store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import Conflict, Denied, InvalidRequest, KeyfobError, NotFound
from keyfob.base.identifiers import FIRST_PARTY, Strategy
from keyfob.clients.client import GrantType
from keyfob.clients.clients import MAX_CLIENT_ID, Clients
from keyfob.clients.registration import Registration
from keyfob.clients.scopes import MAX_SCOPES, OWN_SCOPES, checked_scopes
from keyfob.clients.secret import digest_of, is_one_of, new_secret
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.stores.memory import open_memory_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock


@pytest.fixture
def store() -> Store:
    return open_memory_store(FrozenClock())


@pytest.fixture
def applied() -> list[Entry]:
    return []


@pytest.fixture
def clients(store: Store, applied: list[Entry]) -> Clients:
    async def apply(entry: Entry) -> Entry:
        applied.append(entry)
        return entry

    async def outlive(lifetime: timedelta) -> None:
        await store.feed.extend_retention(credential=lifetime, session=timedelta(0))

    return Clients(store.clients, clock=FrozenClock(), applied=apply, outlive=outlive)


async def test_a_client_authenticates_with_the_secret_that_was_shown_once(
    clients: Clients, store: Store
) -> None:
    added = await clients.add("orders", scopes=["keyfob:feed"])
    assert added.secret.startswith("kfc_")
    assert len(added.secret) == 4 + 43
    assert added.secret not in repr(added)
    client = await clients.authenticate("orders", added.secret)
    assert client.client_id == "orders"
    kept = await store.clients.find(client.client_id)
    assert kept is not None
    assert kept.secret_digests == (digest_of(added.secret),)
    assert added.secret not in repr(kept)
    assert kept.secret_digests[0].hex() not in repr(kept)


async def test_a_secret_with_any_character_changed_is_refused(clients: Clients) -> None:
    secret = (await clients.add("orders")).secret
    for place in range(len(secret)):
        other = "A" if secret[place] != "A" else "B"
        with pytest.raises(Denied):
            await clients.authenticate("orders", secret[:place] + other + secret[place + 1 :])
    for wrong in ("", secret[:-1], secret + "A", secret.upper(), "\ud800", "x" * 10_000):
        with pytest.raises(Denied):
            await clients.authenticate("orders", wrong)


async def test_unknown_malformed_and_built_in_clients_are_refused_like_a_wrong_secret(
    clients: Clients,
) -> None:
    secret = (await clients.add("orders")).secret
    refusals = set()
    for client_id in ("nobody", "", "\x00", "x" * 1000, "Orders", FIRST_PARTY, "usr_x"):
        with pytest.raises(Denied) as refusal:
            await clients.authenticate(client_id, secret)
        refusals.add(str(refusal.value))
    with pytest.raises(Denied) as refusal:
        await clients.authenticate("orders", "kfc_" + "A" * 43)
    assert refusals == {str(refusal.value)}


async def test_secrets_are_never_the_same() -> None:
    assert len({new_secret() for _ in range(200)}) == 200


def test_either_of_two_secrets_fits_and_none_fits_none() -> None:
    first, second = new_secret(), new_secret()
    digests = (digest_of(first), digest_of(second))
    assert is_one_of(first, digests)
    assert is_one_of(second, digests)
    assert is_one_of(first, digests[:1])
    assert not is_one_of(second, digests[:1])
    assert not is_one_of(new_secret(), digests)
    assert not is_one_of(first, ())
    assert not is_one_of("", ())


async def test_the_first_party_is_always_there_and_cannot_be_added_or_deleted(clients: Clients) -> None:
    client = await clients.get(FIRST_PARTY)
    assert client.strategies == frozenset(Strategy)
    assert client.default_strategy is Strategy.SESSION
    assert await clients.list() == []
    with pytest.raises(InvalidRequest):
        await clients.add(FIRST_PARTY)
    with pytest.raises(NotFound):
        await clients.delete(FIRST_PARTY, actor="cli")
    with pytest.raises(NotFound):
        await clients.get("nobody")


@pytest.mark.meets("9700-2.6b", "9700-4.15.1a")
@pytest.mark.parametrize(
    "client_id", ["", "usr_orders", "a b", "a:b", "a/b", "ö", "a\n", "x" * (MAX_CLIENT_ID + 1)]
)
async def test_an_id_that_breaks_the_rule_is_refused(clients: Clients, client_id: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await clients.add(client_id)
    assert refusal.value.code == "invalid_client_id"
    assert await clients.find(client_id) is None


async def test_the_longest_id_is_taken(clients: Clients) -> None:
    added = await clients.add("x" * MAX_CLIENT_ID)
    assert await clients.find(added.client.client_id) is not None


async def test_of_several_that_add_one_id_at_once_one_wins_and_only_its_secret_is_good(
    clients: Clients,
) -> None:
    outcomes = await asyncio.gather(*(clients.add("orders") for _ in range(6)), return_exceptions=True)
    added = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(added) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 5
    assert await clients.authenticate("orders", added[0].secret)


async def test_a_deleted_client_is_refused_and_all_that_was_issued_to_it_is_revoked(
    clients: Clients, store: Store, applied: list[Entry]
) -> None:
    secret = (await clients.add("orders")).secret
    entry = await clients.delete("orders", actor="cli", reason="leaked")
    assert (entry.scope, entry.id, entry.reach) == (Scope.CLIENT, "orders", Reach.END)
    assert list(await store.feed.read_after(0, 10)) == [entry] == applied
    with pytest.raises(Denied):
        await clients.authenticate("orders", secret)
    with pytest.raises(NotFound):
        await clients.delete("orders", actor="cli")
    events = (await store.audit.list(limit=10)).events
    assert [event.code for event in events] == ["client_deleted", "client_added"]
    assert events[0].reason == "leaked"
    assert len(await store.feed.read_after(0, 10)) == 1


async def test_following_the_feed_implies_introspection_and_nothing_else(clients: Clients) -> None:
    assert (await clients.add("a", scopes=["keyfob:feed"])).client.scopes == {
        "keyfob:feed",
        "keyfob:introspect",
    }
    for scope in OWN_SCOPES - {"keyfob:feed"}:
        assert checked_scopes([scope]) == {scope}


@pytest.mark.parametrize(
    "scopes",
    [
        [""],
        ["a b"],
        ['a"b'],
        ["a\\b"],
        ["ö"],
        ["a\n"],
        ["x" * 101],
        ["keyfob:fed"],
        ["keyfob:"],
        "orders",
        [f"s{n}" for n in range(MAX_SCOPES + 1)],
    ],
)
async def test_scopes_that_are_no_scope_tokens_or_are_typing_errors_are_refused(
    clients: Clients, scopes: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await clients.add("orders", scopes=scopes)
    assert refusal.value.code == "invalid_scope"
    assert await clients.find("orders") is None


async def test_strategies_audiences_and_lifetimes_keep_their_bounds(clients: Clients) -> None:
    added = await clients.add(
        "app",
        strategies=[Strategy.JWT, Strategy.HYBRID],
        default_strategy=Strategy.JWT,
        audiences=["orders", "stock"],
        access_lifetime=timedelta(hours=24),
    )
    assert added.client.audiences == {"orders", "stock"}
    assert added.client.default_strategy is Strategy.JWT
    for wrong in (
        {"strategies": []},
        {"strategies": [Strategy.JWT]},  # the default, hybrid, is not among them
        {"audiences": [""]},
        {"audiences": ["a\x00"]},
        {"audiences": [f"a{n}" for n in range(65)]},
        {"access_lifetime": timedelta(0)},
        {"access_lifetime": timedelta(hours=24, microseconds=1)},
    ):
        with pytest.raises(InvalidRequest):
            await clients.add("other", **wrong)
    assert await clients.find("other") is None


@given(st.text(st.characters(exclude_categories=()), max_size=30), st.text(max_size=30))
def test_any_text_is_refused_with_our_error(client_id: str, secret: str) -> None:
    async def ask() -> None:
        clients = Clients(
            open_memory_store(FrozenClock()).clients, clock=FrozenClock(), applied=_never, outlive=_never
        )
        with pytest.raises(KeyfobError):
            await clients.authenticate(client_id, secret)

    asyncio.run(ask())


async def _never(asked: object) -> NoReturn:
    raise AssertionError(asked)


async def test_what_a_client_states_is_kept(clients: Clients) -> None:
    registration = Registration(
        name="The shop",
        redirect_uris=["https://shop.example/signed-in"],
        post_logout_redirect_uris=["https://shop.example/bye"],
        backchannel_logout_uri="https://shop.example/ended",
        backchannel_logout_session_required=True,
        cors_origins=["https://shop.example"],
        first_party=True,
        require_par=True,
    )
    added = await clients.add("shop", registration=registration)
    assert added.secret is not None
    for name in ("name", "backchannel_logout_uri", "first_party", "require_par"):
        assert getattr(added.client, name) == getattr(registration, name)
    assert added.client.redirect_uris == {"https://shop.example/signed-in"}
    assert added.client.grant_types == {GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN}
    assert await clients.get("shop") == added.client


async def test_a_public_client_has_nothing_to_prove_itself_with_and_is_never_given_it(
    clients: Clients,
) -> None:
    added = await clients.add(
        "app", registration=Registration(public=True, redirect_uris=["com.example.app:/signed-in"])
    )
    assert (added.secret, added.client.secret_digests, added.client.public) == (None, (), True)
    assert await clients.named("app") == added.client
    with pytest.raises(Denied):
        await clients.authenticate("app", "")
    for attempt in (
        clients.rotate_secret("app", actor="cli"),
        clients.replace_credentials("app", actor="cli"),
        clients.set_keys("app", b'{"keys": []}', actor="cli"),
    ):
        with pytest.raises(InvalidRequest):
            await attempt
    with pytest.raises(InvalidRequest):
        await clients.add("other", public_keys=b"{}", registration=Registration(public=True))


async def test_a_name_alone_is_enough_for_no_client_that_has_a_proof(clients: Clients) -> None:
    await clients.add("orders")
    for client_id in ("orders", "nobody", FIRST_PARTY, "", "\x00"):
        with pytest.raises(Denied) as refusal:
            await clients.named(client_id)
        assert refusal.value.cause == "bad_credentials"


@pytest.mark.meets("OA-25")
@pytest.mark.parametrize(
    ("grants", "registration"),
    [
        ([GrantType.AUTHORIZATION_CODE], {}),
        ([GrantType.CLIENT_CREDENTIALS], {"redirect_uris": ["https://a.example/"]}),
        ([GrantType.REFRESH_TOKEN], {}),
        ([GrantType.CLIENT_CREDENTIALS], {"public": True}),
        ([GrantType.TOKEN_EXCHANGE], {"public": True}),
        (None, {"public": True}),
    ],
)
async def test_grants_that_do_not_go_with_a_client_are_refused(
    clients: Clients, grants: list[GrantType] | None, registration: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await clients.add("x", grant_types=grants, registration=Registration(**registration))
    assert refusal.value.code == "invalid_grant_type"
    assert await clients.find("x") is None


async def test_a_device_needs_no_redirect_uri(clients: Clients) -> None:
    grants = [GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN]
    added = await clients.add("tv", grant_types=grants, registration=Registration(public=True))
    assert added.client.grant_types == set(grants)
