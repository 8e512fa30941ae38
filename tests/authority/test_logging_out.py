"""Logging out: this device, the others, all; and the silence about everything else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.errors import Cause, InvalidRequest
from keyfob.base.identifiers import FIRST_PARTY, Strategy, Subject
from keyfob.revocation.entry import Reach, Scope
from keyfob.tokens.grant import Grant

STRATEGIES = list(Strategy)


async def three(house: Any, **options: Any) -> list[Any]:
    return [await house.authority.login("alice", strategy=strategy, **options) for strategy in STRATEGIES]


def key_of(issued: Any) -> str:
    """What the device would log out with."""
    return issued.refresh_token or issued.session_token or issued.access_token


@pytest.mark.parametrize("index", range(3), ids=STRATEGIES)
async def test_logout_ends_this_session_alone(house: Any, index: int) -> None:
    many = await three(house)
    before = await house.head()
    entry = await house.authority.logout(key_of(many[index]))
    assert (entry.scope, entry.id, entry.reach) == (Scope.SESSION, many[index].session_id, Reach.END)
    assert entry.position == before + 1 == await house.head()
    expected = [Cause.REVOKED if place == index else None for place in range(3)]
    assert await house.causes(*many) == expected
    [event] = await house.events("logout")
    assert (event.actor, event.session_id) == ("alice", many[index].session_id)


@pytest.mark.parametrize("index", range(3), ids=STRATEGIES)
async def test_logout_of_the_others_spares_this_one(house: Any, index: int) -> None:
    many = await three(house)
    bystander = await house.authority.login("bob")
    entry = await house.authority.logout(key_of(many[index]), devices="others")
    assert (entry.scope, entry.id, entry.spared) == (Scope.SUBJECT, "alice", many[index].session_id)
    expected = [None if place == index else Cause.REVOKED for place in range(3)]
    assert await house.causes(*many) == expected
    assert await house.causes(bystander) == [None]
    if many[index].refresh_token:
        refreshed = await house.authority.refresh(many[index].refresh_token)
        assert await house.causes(refreshed) == [None]
    # Again, it ends whatever has come since.
    newer = await house.authority.login("alice")
    assert await house.causes(newer) == [None]
    await house.authority.logout(key_of(many[index]), devices="others")
    assert await house.causes(newer, many[index]) == [Cause.REVOKED, None]


@pytest.mark.parametrize("index", range(3), ids=STRATEGIES)
async def test_logout_of_all_spares_nobody_and_a_new_login_is_good_at_once(house: Any, index: int) -> None:
    many = await three(house)
    bystander = await house.authority.login("bob")
    entry = await house.authority.logout(key_of(many[index]), devices="all")
    assert (entry.scope, entry.id, entry.spared) == (Scope.SUBJECT, "alice", None)
    assert await house.causes(*many) == [Cause.REVOKED] * 3
    assert await house.causes(*await three(house)) == [None] * 3
    assert await house.causes(bystander) == [None]
    assert await house.refresh_cause(many[2].refresh_token) is Cause.REVOKED
    head = await house.head()
    assert await house.authority.logout(key_of(many[index]), devices="all") is None
    assert await house.head() == head


@pytest.mark.parametrize("devices", ["this", "others", "all"])
async def test_a_second_logout_changes_nothing(house: Any, devices: str) -> None:
    for issued in await three(house):
        for token in filter(None, (issued.session_token, issued.access_token, issued.refresh_token)):
            await house.authority.logout(token)
            head = await house.head()
            assert await house.authority.logout(token, devices=devices) is None
            assert await house.head() == head


async def test_of_many_logouts_at_once_one_leaves_an_entry(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="hybrid")
    tokens = [issued.refresh_token, issued.access_token] * 8
    entries = await asyncio.gather(*(house.authority.logout(token) for token in tokens))
    assert len([entry for entry in entries if entry is not None]) == 1
    assert await house.head() == 1


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "kfs_",
        "kfr_" + "A" * 98,
        "kfs_" + "A" * 98,
        "kfk_" + "A" * 98,
        "a.b.c",
        "\ud800",
        "é" * 1000,
    ],
    ids=lambda text: ascii(text)[:12],
)
@pytest.mark.parametrize("devices", ["this", "others", "all"])
async def test_nonsense_logs_nobody_out(quick_house: Any, token: str, devices: str) -> None:
    issued = await quick_house.authority.login("alice")
    assert await quick_house.authority.logout(token, devices=devices) is None
    assert await quick_house.head() == 0
    assert await quick_house.causes(issued) == [None]


async def test_another_houses_tokens_log_nobody_out(open_house: Any) -> None:
    house, other = await open_house(), await open_house()
    for issued in await three(other):
        assert await house.authority.logout(key_of(issued), devices="all") is None
    assert await house.head() == 0


async def test_devices_are_this_others_or_all(quick_house: Any) -> None:
    issued = await quick_house.authority.login("alice")
    with pytest.raises(InvalidRequest):
        await quick_house.authority.logout(issued.session_token, devices="every")
    assert await quick_house.causes(issued) == [None]


async def test_an_expired_or_idle_credential_logs_nobody_out(house: Any) -> None:
    jwt = await house.authority.login("alice", strategy="jwt")
    session = await house.authority.login("alice", strategy="session")
    hybrid = await house.authority.login("alice", strategy="hybrid")
    await house.advance(timedelta(days=14))
    for issued in (jwt, session, hybrid):
        assert await house.authority.logout(key_of(issued), devices="all") is None
    assert await house.head() == 0


async def test_a_token_with_stale_roles_still_logs_out(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="jwt", roles=["a"])
    await house.authority.set_roles("alice", ["b"])
    assert await house.causes(issued) == [Cause.STALE_CLAIMS]
    assert (await house.authority.logout(issued.access_token)).id == issued.session_id
    assert await house.causes(issued) == [Cause.REVOKED]


async def test_an_earlier_refresh_token_still_logs_out_but_a_foreign_one_does_not(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="hybrid")
    token = issued.refresh_token
    for _ in range(3):
        await house.advance(60)
        token = (await house.authority.refresh(token)).refresh_token
    entry = await house.authority.logout(issued.refresh_token)
    assert (entry.scope, entry.id) == (Scope.SESSION, issued.session_id)
    assert await house.refresh_cause(token) is Cause.REVOKED


async def test_a_refresh_token_of_before_a_renewal_logs_nobody_out(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="hybrid")
    principal = await house.authority.authenticate(issued.access_token)
    renewed = await house.authority.renew(principal)
    head = await house.head()
    assert await house.authority.logout(issued.refresh_token) is None
    assert await house.head() == head
    assert await house.refresh_cause(renewed.refresh_token) is None


@pytest.mark.parametrize("devices", ["this", "others", "all"])
async def test_a_machine_logs_out_its_token_alone(house: Any, devices: str) -> None:
    authority = house.authority
    now = house.clock.now()
    grant = Grant(
        subject=Subject("robot"),
        client_id=FIRST_PARTY,
        strategy=None,
        audience=(authority.issuer,),
        ends_at=now + timedelta(minutes=5),
    )
    head = authority.feed.live.head
    one, two = (
        authority.issuing.issue(grant, as_of=head.position, timeline=head.timeline, now=now) for _ in range(2)
    )
    entry = await authority.logout(one.text, devices=devices)
    assert (entry.scope, entry.id) == (Scope.TOKEN, one.token_id)
    assert await house.cause(one.text) is Cause.REVOKED
    assert await house.cause(two.text) is None


async def test_one_ends_only_ones_own_sessions(house: Any) -> None:
    mine, mine_too = await three(house), await house.authority.login("alice")
    theirs = await house.authority.login("bob")
    principal = await house.authority.authenticate(mine[0].session_token)
    for foreign in (theirs.session_id, "", "nonsense", "f" * 32, "é", "\ud800"):
        assert await house.authority.end_session(principal, foreign) is None
    assert await house.head() == 0
    entry = await house.authority.end_session(principal, mine_too.session_id)
    assert (entry.scope, entry.id) == (Scope.SESSION, mine_too.session_id)
    assert await house.authority.end_session(principal, mine_too.session_id) is None
    assert await house.head() == 1
    assert await house.causes(mine[0], mine_too, theirs) == [None, Cause.REVOKED, None]


async def test_a_list_shows_live_sessions_alone_newest_first(house: Any) -> None:
    many = []
    for _ in range(5):
        many.append(await house.authority.login("alice"))
        await house.advance(1)
    await house.authority.login("bob")
    await house.authority.logout(many[2].session_token)
    page = await house.authority.list_sessions("alice", limit=3)
    assert [session.session_id for session in page.sessions] == [many[i].session_id for i in (4, 3, 1)]
    page = await house.authority.list_sessions("alice", limit=3, after=page.next)
    assert [session.session_id for session in page.sessions] == [many[0].session_id]
    assert page.next is None
    assert len((await house.authority.list_sessions()).sessions) == 5
    for nonsense in ("", "1", "x.y", "-1." + "0" * 32):
        with pytest.raises(InvalidRequest):
            await house.authority.list_sessions("alice", after=nonsense)
    await house.advance(timedelta(minutes=30))
    assert (await house.authority.list_sessions()).sessions == []
