"""Derived credentials: minted access tokens, and answers about tokens."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base import base64url
from keyfob.base.clock import to_seconds
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import FIRST_PARTY, ClientId, Strategy, Subject
from keyfob.sessions.policy import Lifetimes, SessionPolicy
from keyfob.tokens.grant import Grant, SubjectClaims

INACTIVE = {"active": False}


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


async def login(house: Any, strategy: Strategy | str, **options: Any) -> tuple[Any, str]:
    issued = await house.authority.login("alice", strategy=strategy, **options)
    return issued, issued.session_token or issued.access_token


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_minted_token_says_what_its_source_says_for_another_audience(
    house: Any, strategy: Strategy
) -> None:
    issued, token = await login(
        house, strategy, roles=["a"], scopes=["x"], amr=["pwd", "otp"], acr="2", audience=["web", "app"]
    )
    source = await house.authority.authenticate(token)
    minted = await house.authority.mint(source, "orders")
    principal = await house.authority.authenticate(minted.text, audience="orders")
    assert principal.audience == ("orders",)
    for name in (
        "subject",
        "session_id",
        "client_id",
        "strategy",
        "roles",
        "scopes",
        "auth_time",
        "amr",
        "acr",
        "as_of",
    ):
        assert getattr(principal, name) == getattr(source, name), name
    assert minted.token_id == principal.token_id
    assert minted.text not in repr(minted)
    assert await house.cause(minted.text, audience="web") is Cause.WRONG_AUDIENCE
    await house.authority.logout(token)
    assert await house.cause(minted.text) is Cause.REVOKED
    assert issued.session_id == principal.session_id


async def test_a_minted_token_has_the_position_of_its_source(house: Any) -> None:
    _, token = await login(house, "session", roles=["a"])
    source = await house.authority.authenticate(token)
    await house.authority.set_roles("alice", ["b"])
    # Whoever mints from a principal that was checked a moment ago gets a token that is stale at birth.
    minted = await house.authority.mint(source, "orders")
    assert claims_of(minted.text)["as_of"] == source.as_of
    assert await house.cause(minted.text) is Cause.STALE_CLAIMS
    fresh = await house.authority.mint(await house.authority.authenticate(token), "orders")
    assert await house.cause(fresh.text, roles={"b"}) is None


@pytest.mark.parametrize(
    ("left", "asked", "given"),
    [
        (599, None, 599),
        (600, None, 600),
        (601, None, 600),
        (100, 50, 50),
        (100, 100, 100),
        (100, 101, 100),
        (1, None, 1),
    ],
)
async def test_a_minted_token_never_outlives_its_source(
    quick_house: Any, left: int, asked: int | None, given: int
) -> None:
    _, token = await login(quick_house, "session")
    source = await quick_house.authority.authenticate(token)
    quick_house.clock.set(source.expires_at - timedelta(seconds=left))
    lifetime = None if asked is None else timedelta(seconds=asked)
    minted = await quick_house.authority.mint(source, "orders", lifetime=lifetime)
    assert minted.expires_in == given
    claims = claims_of(minted.text)
    assert claims["exp"] - claims["iat"] == given
    assert claims["exp"] <= to_seconds(source.expires_at)


async def test_nothing_is_minted_at_or_after_the_end_of_the_source(quick_house: Any) -> None:
    _, token = await login(quick_house, "jwt")
    source = await quick_house.authority.authenticate(token)
    for late in (0, 1):
        quick_house.clock.set(source.expires_at + timedelta(seconds=late))
        with pytest.raises(Denied) as denied:
            await quick_house.authority.mint(source, "orders")
        assert denied.value.cause is Cause.EXPIRED


@pytest.mark.meets("7662-R008", "7662-R024", "9470-6")
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_introspection_says_exactly_this(house: Any, strategy: Strategy) -> None:
    issued, token = await login(
        house,
        strategy,
        roles=["b", "a"],
        scopes=["y", "x"],
        amr=["pwd", "otp"],
        acr="2",
        audience=["orders", "stock"],
    )
    assert (
        await house.cause(token) is None
    )  # from now on it is cached, with an older position than the answer must have
    await house.authority.revoke("subject", "bob")
    now = to_seconds(house.clock.now())
    is_session = strategy is Strategy.SESSION
    expected = {
        "active": True,
        "iss": "https://auth.example",
        "sub": "alice",
        "client_id": "first-party",
        "aud": ["orders", "stock"],
        "exp": now + (12 * 3600 if is_session else 600),
        "iat": now,
        "as_of": 1 if is_session else 0,
        "tl": house.authority.feed.live.head.timeline,
        "token_type": "session" if is_session else "Bearer",
        "sid": issued.session_id,
        "strategy": strategy.value,
        "scope": "x y",
        "roles": ["a", "b"],
        "auth_time": now,
        "amr": ["pwd", "otp"],
        "acr": "2",
    }
    if is_session:
        expected["idle_exp"] = now + 1800
    else:
        expected["jti"] = claims_of(token)["jti"]
    assert await house.authority.introspect(token) == expected


@pytest.mark.meets("7662-R023")
async def test_members_without_a_value_are_left_out(house: Any) -> None:
    _, token = await login(house, "jwt", amr=[])
    answer = await house.authority.introspect(token)
    assert not {"scope", "roles", "amr", "acr", "psid", "idle_exp"} & set(answer)
    assert None not in answer.values()


async def test_a_child_says_whose_child_it_is(house: Any) -> None:
    parent, _ = await login(house, "session")
    child, token = await login(house, "hybrid", parent_session_id=parent.session_id)
    answer = await house.authority.introspect(token)
    assert (answer["psid"], answer["sid"]) == (parent.session_id, child.session_id)


async def test_a_machines_token_is_active_without_a_session(house: Any) -> None:
    authority = house.authority
    grant = Grant(
        subject=Subject("robot"),
        client_id=FIRST_PARTY,
        strategy=None,
        audience=("orders",),
        ends_at=house.clock.now() + timedelta(minutes=5),
    )
    head = authority.feed.live.head
    token = authority.issuing.issue(
        grant, as_of=head.position, timeline=head.timeline, now=house.clock.now()
    ).text
    answer = await authority.introspect(token)
    assert answer["sub"] == "robot"
    assert not {"sid", "strategy", "auth_time"} & set(answer)


@pytest.mark.meets("7662-4d")
@pytest.mark.parametrize(
    "token",
    ["", "nonsense", "a.b.c", "kfs_" + "A" * 98, "kfr_" + "A" * 98, "kfk_x", "\ud800", "é"],
    ids=ascii,
)
async def test_nonsense_is_inactive_and_nothing_more(quick_house: Any, token: str) -> None:
    assert await quick_house.authority.introspect(token) == INACTIVE


@pytest.mark.meets("7662-4a", "7662-4c")
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_what_is_over_is_inactive_and_nothing_more(house: Any, strategy: Strategy) -> None:
    _, ended = await login(house, strategy)
    _, stale = await login(house, strategy, roles=["a"])
    _, left = await login(house, strategy)
    await house.authority.logout(ended)
    assert await house.authority.introspect(ended) == INACTIVE
    await house.authority.set_roles("alice", ["b"])
    answer = await house.authority.introspect(stale)
    # A session is re-read; an access token cannot be.
    assert answer.get("roles") == ["b"] if strategy is Strategy.SESSION else answer == INACTIVE
    await house.advance(timedelta(minutes=30))
    assert await house.authority.introspect(left) == INACTIVE


async def test_a_refresh_token_is_worth_nothing_to_a_service(house: Any) -> None:
    issued, _ = await login(house, "hybrid")
    assert await house.authority.introspect(issued.refresh_token) == INACTIVE


async def test_an_idle_session_makes_its_access_token_inactive(open_house: Any) -> None:
    minutes = timedelta(minutes=1)
    lifetimes = {
        **SessionPolicy().lifetimes,
        Strategy.HYBRID: Lifetimes(idle=5 * minutes, absolute=60 * minutes),
    }
    house = await open_house(policy=SessionPolicy(lifetimes=lifetimes))
    _, token = await login(house, "hybrid")
    assert "idle_exp" not in await house.authority.introspect(token)
    await house.advance(5 * minutes)
    assert await house.authority.introspect(token) == INACTIVE


@pytest.mark.meets("10.3.1", "7662-R010", "7662-4e")
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_caller_learns_of_its_own_audiences_alone(house: Any, strategy: Strategy) -> None:
    authority = house.authority
    orders = (await authority.clients.add("orders", audiences=["orders", "returns"])).client
    mail = (await authority.clients.add("mail", audiences=["mail"])).client
    anyone = (await authority.clients.add("anyone")).client
    _, token = await login(house, strategy, audience=["orders", "stock"])
    assert (await authority.introspect(token, caller=orders))["active"] is True
    assert (await authority.introspect(token, caller=anyone))["active"] is True
    assert await authority.introspect(token, caller=mail) == INACTIVE


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("scope", ["session", "subject", "client", "everything"])
async def test_introspection_never_answers_from_a_cache(
    open_house: Any, sqlite_url: str, strategy: Strategy, scope: str
) -> None:
    first, second = await open_house(sqlite_url), await open_house(sqlite_url)
    issued, token = await login(first, strategy)
    assert await first.cause(token) is None
    assert (await first.authority.introspect(token))["active"] is True
    targets = {"session": issued.session_id, "subject": "alice", "client": "first-party", "everything": ""}
    await second.authority.revoke(scope, targets[scope])
    assert await first.authority.introspect(token) == INACTIVE


async def test_introspection_says_what_the_source_says_now_though_nothing_was_revoked(
    open_house: Any, store_url: str
) -> None:
    roles = {"boss"}

    async def source(subject: Subject, client_id: ClientId) -> SubjectClaims:
        return SubjectClaims(roles=frozenset(roles))

    house = await open_house(store_url, claims_source=source)
    _, token = await login(house, "session")
    assert (await house.authority.authenticate(token)).roles == {"boss"}  # cached from here on
    roles.clear()
    assert (await house.authority.introspect(token)).get("roles", []) == []


@pytest.mark.meets("7662-4c")
@pytest.mark.parametrize("strategy", ["jwt", "hybrid"])
@pytest.mark.parametrize("how", ["token", "roles"])
async def test_introspection_knows_of_entries_that_no_row_tells_of(
    open_house: Any, sqlite_url: str, strategy: str, how: str
) -> None:
    first, second = await open_house(sqlite_url), await open_house(sqlite_url)
    _, token = await login(first, strategy, roles=["a"])
    assert (await first.authority.introspect(token))["active"] is True
    await first.authority.feed.close()  # nobody tells it anything from now on: it has to ask
    if how == "token":
        await second.authority.revoke("token", claims_of(token)["jti"])
    else:
        await second.authority.set_roles("alice", [])
    assert await first.authority.introspect(token) == INACTIVE
