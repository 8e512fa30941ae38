"""Whatever ends a login, the OpenID clients under it are told, once each, sooner or later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest

import jwt
from keyfob.authority.client_logins import Origin
from keyfob.authority.issued import Issued
from keyfob.authority.logout_delivery import PER_CLIENT
from keyfob.authority.logout_post import BackchannelPolicy
from keyfob.base.errors import Denied, GrantRefused
from keyfob.base.events import Event
from keyfob.clients.registration import Registration
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.stores.opening import open_store
from keyfob.tokens.logout_token import LOGOUT_EVENT

from .receiver import PATIENCE, Receiver

LOOPBACK = BackchannelPolicy(networks=("127.0.0.0/8",))
PASSWORD = "correct horse battery"


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def told_house(open_house: Any, store_url: str) -> Any:
    return await open_house(store_url, backchannel=LOOPBACK)


async def add_client(house: Any, receiver: Receiver | None, client_id: str = "shop") -> None:
    url = None if receiver is None else receiver.url
    await house.authority.clients.add(
        client_id,
        scopes=["openid", "profile"],
        registration=Registration(
            redirect_uris=[f"https://{client_id}.example/cb"], backchannel_logout_uri=url
        ),
    )


async def login(house: Any, subject: str = "alice") -> Issued:
    return await house.authority.login(subject, strategy="session")


async def login_at(house: Any, parent: Issued, client_id: str = "shop", scopes: Any = ("openid",)) -> Issued:
    return await house.authority.login(
        parent.subject, client_id=client_id, scopes=scopes, parent_session_id=parent.session_id
    )


async def deliver(house: Any) -> None:
    """Queue what is over, and wait until what was begun is done."""
    await house.authority.backchannel.step()
    await house.authority.backchannel.delivery.settled()


async def waiting(house: Any) -> int:
    return (await house.authority.store.outbox.waiting()).deliveries


def read(house: Any, token: str, audience: str = "shop") -> dict[str, Any]:
    """Read a logout token as a client does."""
    key = house.authority.keys.public_keys()[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token,
        jwt.PyJWK(key.to_jwk()).key,
        algorithms=["ES256"],
        audience=audience,
        issuer="https://auth.example",
        options={
            "verify_exp": False,
            "verify_iat": False,
            "require": ["iss", "aud", "iat", "exp", "jti", "events"],
        },
    )
    assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
    assert claims["events"] == {LOGOUT_EVENT: {}}
    assert "nonce" not in claims
    assert claims["exp"] - claims["iat"] == 120
    return claims


async def by_logout(house: Any, parent: Issued, child: Issued) -> None:
    assert await house.authority.logout(parent.session_token)


async def by_logout_of_all(house: Any, parent: Issued, child: Issued) -> None:
    assert await house.authority.logout(parent.session_token, devices="all")


async def by_logout_of_the_others(house: Any, parent: Issued, child: Issued) -> None:
    other = await login(house)
    assert await house.authority.logout(other.session_token, devices="others")


async def by_a_list_of_devices(house: Any, parent: Issued, child: Issued) -> None:
    other = await house.authority.authenticate((await login(house)).session_token)
    assert await house.authority.end_session(other, parent.session_id)


async def by_a_token_revoked_at_the_client(house: Any, parent: Issued, child: Issued) -> None:
    assert await house.authority.logout(child.refresh_token)


async def by_theft(house: Any, parent: Issued, child: Issued) -> None:
    client = await house.authority.clients.get("shop")
    for expected in (nullcontext(), pytest.raises(GrantRefused)):
        await house.advance(31)
        with expected:
            await house.authority.user_tokens.for_refresh_token(client, child.refresh_token, origin=Origin())


async def by_an_administrator(house: Any, parent: Issued, child: Issued) -> None:
    await house.authority.revoke("session", parent.session_id)


async def by_the_subject(house: Any, parent: Issued, child: Issued) -> None:
    await house.authority.revoke("subject", "alice")


async def by_the_client(house: Any, parent: Issued, child: Issued) -> None:
    await house.authority.revoke("client", "shop")


async def by_everything(house: Any, parent: Issued, child: Issued) -> None:
    await house.authority.revoke("everything")


async def by_disabling(house: Any, parent: Issued, child: Issued) -> None:
    await house.authority.accounts.disable("alice", actor="test")


CAUSES = [
    by_logout,
    by_logout_of_all,
    by_logout_of_the_others,
    by_a_list_of_devices,
    by_a_token_revoked_at_the_client,
    by_theft,
    by_an_administrator,
    by_the_subject,
    by_the_client,
    by_everything,
    by_disabling,
]


@pytest.mark.parametrize("cause", CAUSES)
async def test_every_cause_tells_the_client(
    told_house: Any, shop: Receiver, cause: Callable[[Any, Issued, Issued], Awaitable[None]]
) -> None:
    await add_client(told_house, shop)
    parent = await login(told_house)
    child = await login_at(told_house, parent)
    await cause(told_house, parent, child)
    await deliver(told_house)
    await shop.wait_until(lambda: bool(shop.tokens))
    (token,) = shop.tokens
    claims = read(told_house, token)
    assert (claims["sub"], claims["sid"]) == ("alice", child.session_id)
    assert await waiting(told_house) == 0


@pytest.mark.parametrize("cause", ["password", "reset", "deleted"])
async def test_every_cause_of_an_account_tells_the_client(
    told_house: Any, shop: Receiver, cause: str
) -> None:
    house = told_house
    await add_client(house, shop)
    account = await house.authority.accounts.add("alice", PASSWORD)
    mine, other = await login(house, account.subject), await login(house, account.subject)
    kept, gone = await login_at(house, mine), await login_at(house, other)
    if cause == "password":
        principal = await house.authority.authenticate(mine.session_token)
        await house.authority.change_password(principal, PASSWORD, "another horse battery")
    elif cause == "reset":
        await house.authority.accounts.set_password(account.subject, "another horse battery", actor="test")
    else:
        await house.authority.accounts.delete(account.subject, actor="test")
    await deliver(house)
    expected = {gone.session_id} if cause == "password" else {kept.session_id, gone.session_id}
    await shop.wait_until(lambda: len(shop.tokens) >= len(expected))
    assert {read(house, token)["sid"] for token in shop.tokens} == expected


async def test_it_is_posted_as_a_form_and_nothing_else(told_house: Any, shop: Receiver) -> None:
    await add_client(told_house, shop)
    parent = await login(told_house)
    await login_at(told_house, parent)
    await by_logout(told_house, parent, parent)
    await deliver(told_house)
    await shop.wait_until(lambda: bool(shop.heads))
    lines = shop.heads[0].decode().split("\r\n")
    assert lines[0] == "POST /backchannel?from=keyfob HTTP/1.1"
    assert f"Host: 127.0.0.1:{shop.port}" in lines
    assert "Content-Type: application/x-www-form-urlencoded" in lines


async def test_each_client_is_told_of_its_own_session(told_house: Any, shop: Receiver) -> None:
    async with Receiver() as bank:
        await add_client(told_house, shop)
        await add_client(told_house, bank, "bank")
        parent = await login(told_house)
        at_shop = [await login_at(told_house, parent) for _ in range(2)]
        at_bank = await login_at(told_house, parent, "bank")
        await by_logout(told_house, parent, parent)
        await deliver(told_house)
        await shop.wait_until(lambda: len(shop.tokens) == 2)
        await bank.wait_until(lambda: len(bank.tokens) == 1)
        assert {read(told_house, token)["sid"] for token in shop.tokens} == {
            one.session_id for one in at_shop
        }
        assert read(told_house, bank.tokens[0], "bank")["sid"] == at_bank.session_id


async def test_who_is_not_concerned_hears_nothing(told_house: Any, shop: Receiver) -> None:
    """Another scope than openid, a client without an address, a login that goes on, roles that changed."""
    house = told_house
    await add_client(house, shop)
    await add_client(house, None, "quiet")
    parent, mine = await login(house), await login(house)
    await login_at(house, parent, scopes=("profile",))
    await login_at(house, parent, "quiet")
    await login_at(house, mine)
    await login_at(house, await login(house, "bob"))
    await house.authority.revoke("subject", "alice", reach="claims")
    await house.authority.logout(mine.session_token, devices="others")
    await house.authority.set_roles("bob", ["buyer"])
    await deliver(house)
    assert await waiting(house) == 0
    assert shop.tokens == []


async def test_a_login_that_comes_after_is_not_ended_by_what_comes_late(
    told_house: Any, shop: Receiver
) -> None:
    """The token names the session: however late it comes, it is about none that began since."""
    shop.answers = [503]
    await add_client(told_house, shop)
    first = await login_at(told_house, await login(told_house))
    await by_the_subject(told_house, first, first)
    await deliver(told_house)
    second = await login_at(told_house, await login(told_house))
    await told_house.advance(timedelta(hours=1))
    await deliver(told_house)
    await shop.wait_until(lambda: len(shop.tokens) == 2)
    sids = [read(told_house, token)["sid"] for token in shop.tokens]
    assert sids == [first.session_id] * 2
    assert second.session_id not in sids


@pytest.mark.parametrize(
    "answer",
    [
        400,
        404,
        500,
        301,
        b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"",
        b"x" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 200,
    ],
)
async def test_what_is_not_taken_is_told_again_with_a_token_of_its_own(
    quick_told: Any, shop: Receiver, answer: int | bytes
) -> None:
    house = quick_told
    shop.answers = [answer]
    await add_client(house, shop)
    parent = await login(house)
    await login_at(house, parent)
    await by_logout(house, parent, parent)
    await deliver(house)
    assert (house.authority.backchannel.delivery.failed, len(shop.tokens)) == (1, 1)
    assert await waiting(house) == 1
    await house.advance(timedelta(minutes=2))
    await deliver(house)
    await shop.wait_until(lambda: len(shop.tokens) == 2)
    first, second = (read(house, token) for token in shop.tokens)
    assert first["jti"] != second["jti"]
    assert second["iat"] - first["iat"] == 120
    assert house.authority.backchannel.delivery.delivered == 1


@pytest.fixture
async def quick_told(open_house: Any) -> Any:
    return await open_house(backchannel=LOOPBACK)


@pytest.mark.parametrize("answer", [200, 204, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\n\r\n"])
async def test_what_is_taken_is_not_told_again(quick_told: Any, shop: Receiver, answer: int | bytes) -> None:
    shop.answer = answer
    await add_client(quick_told, shop)
    parent = await login(quick_told)
    await login_at(quick_told, parent)
    await by_logout(quick_told, parent, parent)
    await deliver(quick_told)
    assert quick_told.authority.backchannel.delivery.delivered == 1
    assert await waiting(quick_told) == 0


async def test_nobody_is_told_longer_than_a_day_and_it_is_said(quick_told: Any, shop: Receiver) -> None:
    house, shop.answer = quick_told, 500
    said: list[Event] = []
    house.authority.backchannel.delivery._tell = said.append
    await add_client(house, shop)
    parent = await login(house)
    child = await login_at(house, parent)
    await by_logout(house, parent, parent)
    await deliver(house)
    for _ in range(200):
        await house.advance(timedelta(minutes=16))
        await deliver(house)
        if house.authority.backchannel.delivery.given_up:
            break
    assert await waiting(house) == 0
    assert [event.code for event in said] == ["backchannel_logout_failed", "backchannel_logout_given_up"]
    assert said[1].session_id == child.session_id
    assert said[1].client_id == "shop"
    assert 60 < len(shop.tokens) < 120


async def test_a_client_that_was_deleted_is_not_told(quick_told: Any, shop: Receiver) -> None:
    shop.answers = [500]
    await add_client(quick_told, shop)
    parent = await login(quick_told)
    await login_at(quick_told, parent)
    await by_logout(quick_told, parent, parent)
    await deliver(quick_told)
    await quick_told.authority.clients.delete("shop", actor="test")
    await quick_told.advance(timedelta(minutes=2))
    await deliver(quick_told)
    assert len(shop.tokens) == 1
    assert quick_told.authority.backchannel.delivery.dropped == 1
    assert await waiting(quick_told) == 0


async def test_an_address_that_is_not_public_is_not_reached_unless_it_is_named(
    open_house: Any, shop: Receiver
) -> None:
    """K-02: a client's address must not make the server speak to its neighbours."""
    house = await open_house()
    await add_client(house, shop)
    parent = await login(house)
    await login_at(house, parent)
    await by_logout(house, parent, parent)
    await deliver(house)
    assert house.authority.backchannel.delivery.failed == 1
    assert shop.heads == []


async def test_a_client_that_does_not_answer_holds_up_no_other(quick_told: Any, shop: Receiver) -> None:
    house = quick_told
    async with Receiver(None) as dead:
        await add_client(house, dead, "dead")
        await add_client(house, shop)
        parent = await login(house)
        for _ in range(150):
            await login_at(house, parent, "dead")
        alive = await login_at(house, parent)
        await by_logout(house, parent, parent)
        await house.authority.backchannel.step()
        await shop.wait_until(lambda: bool(shop.tokens))
        assert read(house, shop.tokens[0])["sid"] == alive.session_id
        async with asyncio.timeout(PATIENCE):
            while not house.authority.backchannel.delivery.delivered:
                await asyncio.sleep(0)
        assert dead.most_under_way <= PER_CLIENT
        await house.authority.backchannel.stop()
        await house.advance(2)
        assert await waiting(house) == 150


async def test_a_client_that_comes_back_is_told_everything(quick_told: Any, shop: Receiver) -> None:
    house = quick_told
    shop.answer = 503
    await add_client(house, shop)
    parent = await login(house)
    children = {(await login_at(house, parent)).session_id for _ in range(30)}
    await by_logout(house, parent, parent)
    await deliver(house)
    assert 0 < len(shop.tokens) <= PER_CLIENT
    shop.answer, shop.tokens = 200, []
    for _ in range(60):
        await house.advance(timedelta(minutes=16))
        await deliver(house)
        if len(shop.tokens) >= 30:
            break
    assert {read(house, token)["sid"] for token in shop.tokens} == children
    assert len(shop.tokens) == 30


async def test_more_than_fits_into_one_step_is_told_all_the_same(told_house: Any, shop: Receiver) -> None:
    house = told_house
    await add_client(house, shop)
    children = set()
    for number in range(5):
        parent = await login(house, f"user{number}")
        children |= {(await login_at(house, parent)).session_id for _ in range(50)}
    await by_everything(house, parent, parent)
    for _ in range(100):
        await deliver(house)
        if len(shop.tokens) >= len(children):
            break
        await house.advance(1)
    assert {read(house, token)["sid"] for token in shop.tokens} == children
    assert len(shop.tokens) == len(children)


async def test_of_two_servers_one_tells(open_house: Any, shared_url: str, shop: Receiver) -> None:
    houses = [await open_house(shared_url, backchannel=LOOPBACK) for _ in range(2)]
    await add_client(houses[0], shop)
    parents = [await login(houses[0], f"user{number}") for number in range(10)]
    children = {(await login_at(houses[0], parent)).session_id for parent in parents}
    for number, parent in enumerate(parents):
        await houses[number % 2].authority.logout(parent.session_token)
    for _ in range(100):
        await asyncio.gather(*(house.authority.feed.beat() for house in houses))
        await asyncio.gather(*(deliver(house) for house in houses))
        if len(shop.tokens) >= len(children):
            break
        houses[0].clock.advance(1)
    assert sorted(read(houses[0], token)["sid"] for token in shop.tokens) == sorted(children)
    assert await waiting(houses[0]) == 0


@pytest.mark.parametrize("days", [0, 2])
async def test_what_ended_while_no_server_ran_is_told_unless_it_is_too_late(
    open_house: Any, sqlite_url: str, clock: Any, shop: Receiver, days: int
) -> None:
    house = await open_house(sqlite_url, backchannel=LOOPBACK)
    await add_client(house, shop)
    parent = await login(house)
    child = await login_at(house, parent)
    await deliver(house)
    await house.authority.close()

    store = await open_store(sqlite_url, clock=clock)
    event = Event(at=clock.now(), code="revoked", actor="elsewhere")
    await store.sessions.end(
        Revocation(scope=Scope.SESSION, id=parent.session_id, reach=Reach.END, event=event), now=clock.now()
    )
    clock.advance(timedelta(days=days, hours=1))
    assert await store.feed.delete_expired(clock.now(), 1000) == (1 if days else 0)
    await store.close()

    again = await open_house(sqlite_url, backchannel=LOOPBACK)
    said: list[Event] = []
    again.authority.backchannel.queue._tell = said.append
    await deliver(again)
    if days:
        assert [(event.code, event.facts["entries"]) for event in said] == [("backchannel_entries_missed", 1)]
        assert again.authority.backchannel.queue.missed == 1
        assert shop.tokens == []
        return
    await shop.wait_until(lambda: bool(shop.tokens))
    assert read(again, shop.tokens[0])["sid"] == child.session_id
    assert said == []


async def test_a_child_of_a_login_that_is_over_never_comes_to_be(told_house: Any, shop: Receiver) -> None:
    """So that nobody is signed in at a client that was told before."""
    await add_client(told_house, shop)
    parent = await login(told_house)
    await by_logout(told_house, parent, parent)
    with pytest.raises(Denied):
        await login_at(told_house, parent)


async def test_where_nothing_moves_the_store_is_not_asked(quick_told: Any) -> None:
    await deliver(quick_told)

    async def asked(*_: object, **__: object) -> None:
        raise AssertionError("asked")

    for verb in ("cursor", "enqueue", "lease"):
        setattr(quick_told.authority.store.outbox, verb, asked)
    await quick_told.authority.backchannel.step()


async def test_where_no_client_wants_to_be_told_the_cursor_moves_and_no_session_is_looked_at(
    quick_told: Any,
) -> None:
    house = quick_told
    await add_client(house, None)
    await login_at(house, await login(house))

    async def asked(*_: object, **__: object) -> None:
        raise AssertionError("asked")

    house.authority.store.sessions.list_ended_children = asked
    await by_everything(house, *[await login(house)] * 2)
    await deliver(house)
    cursor = await house.authority.store.outbox.cursor("backchannel-logout")
    assert cursor.position == await house.head()
