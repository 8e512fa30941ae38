"""The one function behind every revocation: each scope, each reach, in each strategy."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base import base64url
from keyfob.base.errors import Cause, Conflict, InvalidRequest, KeyfobError, NotFound
from keyfob.base.identifiers import Strategy
from keyfob.revocation.entry import Reach, Scope

SESSION, JWT, HYBRID = range(3)
R, S = Cause.REVOKED, Cause.STALE_CLAIMS


def header_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[0].encode()))


async def three(house: Any, subject: str = "alice", **options: Any) -> list[Any]:
    return [await house.authority.login(subject, strategy=strategy, **options) for strategy in Strategy]


async def test_a_subject_is_ended_everywhere_and_nobody_else_is(house: Any) -> None:
    mine, theirs = await three(house), await three(house, "bob")
    entry = await house.authority.revoke("subject", "alice", reason="stolen laptop", actor="admin")
    assert (entry.position, entry.scope, entry.id, entry.reach, entry.spared) == (
        1,
        Scope.SUBJECT,
        "alice",
        Reach.END,
        None,
    )
    assert await house.causes(*mine) == [R] * 3
    assert await house.refresh_cause(mine[HYBRID].refresh_token) is R
    assert await house.causes(*theirs) == [None] * 3
    [event] = await house.events("revoked")
    assert (event.reason, event.actor, event.subject) == ("stolen laptop", "admin", "alice")
    assert (await house.authority.list_sessions("alice")).sessions == []


async def test_a_subject_is_ended_but_for_one_session(house: Any) -> None:
    mine = await three(house)
    entry = await house.authority.revoke("subject", "alice", spared=mine[HYBRID].session_id)
    assert entry.spared == mine[HYBRID].session_id
    assert await house.causes(*mine) == [R, R, None]
    refreshed = await house.authority.refresh(mine[HYBRID].refresh_token)
    assert await house.causes(refreshed) == [None]
    await house.authority.revoke("subject", "alice", spared="not a session of anybody")
    assert await house.causes(refreshed) == [R]


@pytest.mark.parametrize("index", range(3), ids=list(Strategy))
async def test_a_session_is_ended_alone_and_once(house: Any, index: int) -> None:
    mine = await three(house)
    await house.authority.revoke("session", mine[index].session_id)
    assert await house.causes(*mine) == [R if place == index else None for place in range(3)]
    with pytest.raises(Conflict) as refused:
        await house.authority.revoke("session", mine[index].session_id)
    assert refused.value.code == "already_ended"
    assert await house.head() == 1


async def test_a_session_id_of_nobody_gets_its_entry_all_the_same(house: Any) -> None:
    entry = await house.authority.revoke("session", "0" * 32)
    assert (entry.position, entry.id) == (1, "0" * 32)


async def test_a_client_is_ended_with_all_that_it_holds(house: Any) -> None:
    await house.authority.clients.add("shop", strategies=list(Strategy))
    mine, own = await three(house, client_id="shop"), await three(house)
    entry = await house.authority.revoke("client", "shop")
    assert (entry.scope, entry.id) == (Scope.CLIENT, "shop")
    assert await house.causes(*mine, *own) == [R] * 3 + [None] * 3
    assert await house.refresh_cause(mine[HYBRID].refresh_token) is R
    again = await three(house, client_id="shop")
    assert await house.causes(*again) == [None] * 3


async def test_a_deleted_client_holds_nothing_and_gets_nothing(house: Any) -> None:
    await house.authority.clients.add("shop", strategies=list(Strategy))
    mine = await three(house, client_id="shop")
    entry = await house.authority.clients.delete("shop", actor="admin")
    assert (entry.scope, entry.id, entry.reach) == (Scope.CLIENT, "shop", Reach.END)
    assert await house.causes(*mine) == [R] * 3
    assert await house.refresh_cause(mine[HYBRID].refresh_token) is R
    with pytest.raises(NotFound):
        await house.authority.login("alice", client_id="shop")
    with pytest.raises(NotFound):
        await house.authority.clients.delete("shop", actor="admin")
    assert await house.head() == 1


async def test_everything_is_ended_and_a_new_login_is_good(house: Any) -> None:
    mine, theirs = await three(house), await three(house, "bob")
    entry = await house.authority.revoke("everything")
    assert (entry.scope, entry.id) == (Scope.EVERYTHING, "")
    assert await house.causes(*mine, *theirs) == [R] * 6
    assert await house.refresh_cause(mine[HYBRID].refresh_token) is R
    assert await house.causes(*await three(house)) == [None] * 3


async def test_one_token_is_ended_alone(house: Any) -> None:
    mine = await three(house)
    token_id = (await house.authority.authenticate(mine[HYBRID].access_token)).token_id
    refreshed = await house.authority.refresh(mine[HYBRID].refresh_token)
    entry = await house.authority.revoke("token", token_id)
    assert (entry.scope, entry.id) == (Scope.TOKEN, token_id)
    assert await house.causes(*mine, refreshed) == [None, None, R, None]


async def test_a_key_is_ended_and_another_one_signs(house: Any) -> None:
    mine = await three(house)
    key_id = house.authority.keys.signer().key_id
    assert header_of(mine[JWT].access_token)["kid"] == key_id
    entry = await house.authority.revoke("key", key_id)
    assert (entry.scope, entry.id, entry.until) == (Scope.KEY, key_id, None)
    assert house.authority.keys.signer().key_id != key_id
    assert await house.causes(*mine) == [None, Cause.UNKNOWN_KEY, Cause.UNKNOWN_KEY]
    refreshed = await house.authority.refresh(mine[HYBRID].refresh_token)
    assert header_of(refreshed.access_token)["kid"] == house.authority.keys.signer().key_id
    assert await house.causes(refreshed, *await three(house)) == [None] * 4
    assert key_id not in house.authority.keys.public_keys()
    with pytest.raises(NotFound):
        await house.authority.revoke("key", key_id)
    assert await house.head() == 1


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("subject", [None, S, S]),
        ("client", [None, S, S]),
        ("everything", [None, S, S]),
        ("session", [None, S, S]),
    ],
)
async def test_claims_are_re_read_and_nobody_is_logged_out(
    house: Any, scope: str, expected: list[Cause | None]
) -> None:
    mine = await three(house)
    targets = {"subject": ["alice"], "client": ["first-party"], "everything": [""]}
    for target in targets.get(scope, [issued.session_id for issued in mine]):
        entry = await house.authority.revoke(scope, target, reach="claims")
        assert entry.reach is Reach.CLAIMS
    assert await house.causes(*mine) == expected
    refreshed = await house.authority.refresh(mine[HYBRID].refresh_token)
    assert await house.causes(refreshed) == [None]
    assert len((await house.authority.list_sessions("alice")).sessions) == 3


@pytest.mark.parametrize(
    ("scope", "target", "more"),
    [
        ("", "", {}),
        ("user", "alice", {}),
        ("everything", "alice", {}),
        ("subject", "", {}),
        ("subject", "a" * 256, {}),
        ("subject", "a\nb", {}),
        ("subject", "\ud800", {}),
        ("client", "", {}),
        ("token", "", {}),
        ("session", "", {}),
        ("session", "nonsense", {}),
        ("session", "A" * 32, {}),
        ("key", "", {}),
        ("key", "nobody's", {}),
        ("token", "some", {"reach": "claims"}),
        ("subject", "alice", {"reach": "half"}),
        ("session", "0" * 32, {"spared": "0" * 32}),
        ("client", "first-party", {"spared": "0" * 32}),
    ],
)
async def test_a_revocation_that_makes_no_sense_is_refused_and_changes_nothing(
    quick_house: Any, scope: str, target: str, more: dict[str, Any]
) -> None:
    mine = await three(quick_house)
    with pytest.raises((InvalidRequest, NotFound)):
        await quick_house.authority.revoke(scope, target, **more)
    assert await quick_house.head() == 0
    assert await quick_house.causes(*mine) == [None] * 3
    assert await quick_house.events("revoked") == []


async def test_claims_of_a_key_are_refused(quick_house: Any) -> None:
    with pytest.raises(InvalidRequest):
        await quick_house.authority.revoke("key", quick_house.authority.keys.signer().key_id, reach="claims")
    assert await quick_house.head() == 0


async def test_a_long_reason_is_cut_and_stays_in_the_trail(quick_house: Any) -> None:
    await quick_house.authority.revoke("subject", "alice", reason="x" * 1000)
    [event] = await quick_house.events("revoked")
    assert event.reason == "x" * 500


async def test_many_revocations_at_once_have_a_place_each_and_are_in_force_when_they_return(
    house: Any,
) -> None:
    issued = [await house.authority.login(f"user{number}", strategy="jwt") for number in range(20)]

    async def ended(number: int) -> tuple[int, Cause | None]:
        entry = await house.authority.revoke("subject", f"user{number}")
        return entry.position, await house.cause(issued[number].access_token)

    answers = await asyncio.gather(*(ended(number) for number in range(20)))
    assert sorted(position for position, _ in answers) == list(range(1, 21))
    assert {cause for _, cause in answers} == {R}


async def test_what_was_ended_is_ended_after_a_restart(open_house: Any, sqlite_url: str) -> None:
    house = await open_house(sqlite_url)
    mine, theirs = await three(house), await three(house, "bob")
    await house.authority.revoke("subject", "alice")
    await house.authority.close()
    house = await open_house(sqlite_url)
    assert await house.causes(*mine, *theirs) == [R] * 3 + [None] * 3
    assert await house.refresh_cause(mine[HYBRID].refresh_token) is R
    assert await house.refresh_cause(theirs[HYBRID].refresh_token) is None


async def test_a_disabled_subject_is_out_until_enabled_and_what_was_ended_stays_ended(house: Any) -> None:
    mine = await three(house)
    entry = await house.authority.accounts.disable("alice", actor="admin")
    assert (entry.scope, entry.id, entry.reach) == (Scope.SUBJECT, "alice", Reach.END)
    assert await house.authority.accounts.disable("alice", actor="admin") is None
    assert await house.causes(*mine) == [R] * 3
    for strategy in Strategy:
        for roles in (None, ["boss"]):
            with pytest.raises(KeyfobError, match="disabled"):
                await house.authority.login("alice", strategy=strategy, roles=roles)
    assert await house.head() == 1
    assert await house.authority.accounts.enable("alice", actor="admin")
    assert await house.causes(*mine) == [R] * 3
    assert await house.causes(*await three(house)) == [None] * 3


async def test_children_end_with_their_parent(house: Any) -> None:
    parent = await house.authority.login("alice")
    child = await house.authority.login("alice", strategy="hybrid", parent_session_id=parent.session_id)
    other = await house.authority.login("alice", strategy="hybrid")
    assert (await house.authority.authenticate(child.access_token)).parent_session_id == parent.session_id
    await house.authority.logout(parent.session_token)
    assert await house.causes(parent, child, other) == [R, R, None]
    assert await house.refresh_cause(child.refresh_token) is R
    with pytest.raises(KeyfobError, match="revoked"):
        await house.authority.login("alice", parent_session_id=parent.session_id)


@pytest.mark.parametrize("reach", ["end", "claims"])
async def test_children_elsewhere_follow_the_client_of_their_parent(house: Any, reach: str) -> None:
    """The store and every verifier by one rule: what began from a login is covered with it, whoever holds it."""
    await house.authority.clients.add("shop", strategies=list(Strategy))
    parent = await house.authority.login("alice")
    children = [
        await house.authority.login(
            "alice", strategy=strategy, client_id="shop", parent_session_id=parent.session_id
        )
        for strategy in Strategy
    ]
    alone = await house.authority.login("alice", strategy="hybrid", client_id="shop")
    principals = [
        await house.authority.authenticate(child.session_token or child.access_token) for child in children
    ]
    assert {principal.parent_client_id for principal in principals} == {"first-party"}
    minted = [await house.authority.mint(principal, "orders") for principal in principals]
    answers = [
        await house.authority.introspect(child.session_token or child.access_token) for child in children
    ]
    assert {answer["pcid"] for answer in answers} == {"first-party"}
    assert await house.causes(parent, *children, alone) == [None] * 5
    await house.authority.revoke("client", "first-party", reach=reach)
    assert [house.authority.feed.live.cause(principal) for principal in principals] == [
        R if reach == "end" else Cause.STALE_CLAIMS
    ] * 3
    assert [await house.cause(token.text) for token in minted] == [
        R if reach == "end" else Cause.STALE_CLAIMS
    ] * 3
    assert await house.causes(alone) == [None]
    expected = {Strategy.SESSION: None, Strategy.JWT: Cause.STALE_CLAIMS, Strategy.HYBRID: Cause.STALE_CLAIMS}
    assert await house.causes(*children) == [
        R if reach == "end" else expected[strategy] for strategy in Strategy
    ]


async def test_the_client_of_a_child_takes_nothing_of_its_parent_with_it(house: Any) -> None:
    await house.authority.clients.add("shop")
    parent = await house.authority.login("alice")
    child = await house.authority.login("alice", client_id="shop", parent_session_id=parent.session_id)
    sibling = await house.authority.login("alice", strategy="hybrid", parent_session_id=parent.session_id)
    await house.authority.clients.delete("shop", actor="admin")
    assert await house.causes(parent, child, sibling) == [None, R, None]


@pytest.mark.parametrize("after", [timedelta(minutes=30), timedelta(hours=12)], ids=["idle", "expired"])
async def test_a_child_is_not_refreshed_once_its_parent_ran_out(house: Any, after: timedelta) -> None:
    parent = await house.authority.login("alice")
    child = await house.authority.login("alice", strategy="hybrid", parent_session_id=parent.session_id)
    await house.advance(after - timedelta(microseconds=1))
    if after < timedelta(hours=1):
        refreshed = await house.authority.refresh(child.refresh_token)
        assert await house.causes(refreshed) == [None]
    await house.advance(timedelta(microseconds=1))
    assert await house.refresh_cause(child.refresh_token) is R
    assert await house.head() == 0


@pytest.mark.parametrize("by", ["logout", "order", "password"])
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_who_spares_a_child_spares_its_family(house: Any, by: str, strategy: Strategy) -> None:
    """A child is over when its parent is: sparing it alone would spare it in the caches and not in the store."""
    subject = (await house.authority.accounts.add("alice", "correct horse battery")).subject
    parent = await house.authority.login(subject)
    child = await house.authority.login(subject, strategy=strategy, parent_session_id=parent.session_id)
    other = await house.authority.login(subject)
    token = child.session_token or child.access_token
    principal = await house.authority.authenticate(token)
    match by:
        case "logout":
            await house.authority.logout(child.refresh_token or token, devices="others")
        case "order":
            await house.authority.revoke("subject", subject, spared=child.session_id)
        case "password":
            child = await house.authority.change_password(
                principal, "correct horse battery", "a much better one"
            )
    entry = (await house.entries())[0]
    assert entry.spared == parent.session_id
    assert await house.causes(parent, child, other) == [None, None, R]
    if child.refresh_token:
        assert await house.refresh_cause(child.refresh_token) is None
    assert (await house.authority.introspect(child.session_token or child.access_token))["active"] is True
