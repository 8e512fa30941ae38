"""Logging in: what each strategy gives, and what is refused with nothing changed."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from typing import Any

import pytest

from keyfob.authority.sign_in import SIGN_IN_LIMIT, Device
from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied, InvalidRequest, NotFound
from keyfob.base.identifiers import Strategy, is_session_id
from keyfob.base.opaque import OpaqueKind, kind_of

MICROSECOND = timedelta(microseconds=1)


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


@pytest.mark.parametrize(
    ("strategy", "transport", "session", "refresh", "access", "absolute"),
    [
        ("session", "cookie", True, False, False, timedelta(hours=12)),
        ("session", "body", True, False, False, timedelta(hours=12)),
        ("session", "bff", True, False, False, timedelta(hours=12)),
        ("jwt", "cookie", False, False, True, timedelta(minutes=10)),
        ("jwt", "body", False, False, True, timedelta(minutes=10)),
        ("jwt", "bff", True, False, False, timedelta(minutes=10)),
        ("hybrid", "cookie", False, True, True, timedelta(days=30)),
        ("hybrid", "body", False, True, True, timedelta(days=30)),
        ("hybrid", "bff", True, False, False, timedelta(days=30)),
    ],
)
async def test_each_strategy_gives_exactly_its_tokens(
    house: Any,
    strategy: str,
    transport: str,
    session: bool,
    refresh: bool,
    access: bool,
    absolute: timedelta,
) -> None:
    issued = await house.authority.login("alice", strategy=strategy, transport=transport, persistent=True)
    assert (issued.session_token is not None) is session
    assert (issued.refresh_token is not None) is refresh
    assert (issued.access_token is not None) is access
    assert (issued.expires_in is not None) is access
    assert issued.expires_in in {None, 600}
    assert issued.expires_at == house.clock.now() + absolute
    assert issued.expires_at.tzinfo is UTC
    assert (issued.strategy, issued.subject, issued.client_id, issued.persistent) == (
        Strategy(strategy),
        "alice",
        "first-party",
        True,
    )
    assert is_session_id(issued.session_id)
    if issued.session_token:
        assert kind_of(issued.session_token) is OpaqueKind.SESSION
    if issued.refresh_token:
        assert kind_of(issued.refresh_token) is OpaqueKind.REFRESH


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_what_a_login_gives_is_good_and_says_who_it_is(house: Any, strategy: Strategy) -> None:
    issued = await house.authority.login(
        "alice", strategy=strategy, roles=["buyer"], scopes=["b", "a"], amr=["pwd", "otp"], acr="2"
    )
    principal = await house.authority.authenticate(issued.session_token or issued.access_token)
    assert principal.subject == "alice"
    assert principal.session_id == issued.session_id
    assert principal.client_id == "first-party"
    assert principal.strategy is strategy
    assert principal.audience == ("https://auth.example",)
    assert principal.roles == {"buyer"}
    assert principal.scopes == {"a", "b"}
    assert (principal.amr, principal.acr) == (("pwd", "otp"), "2")
    assert principal.auth_time == principal.issued_at == house.clock.now()
    assert principal.as_of == await house.head()


async def test_the_defaults_are_the_strategy_session_and_the_issuer_as_audience(house: Any) -> None:
    issued = await house.authority.login("alice")
    assert issued.strategy is Strategy.SESSION
    assert not issued.persistent
    principal = await house.authority.authenticate(issued.session_token, audience="https://auth.example")
    assert (principal.roles, principal.scopes, principal.amr) == (frozenset(), frozenset(), ("pwd",))


async def test_no_repr_shows_a_token(house: Any) -> None:
    for strategy in Strategy:
        issued = await house.authority.login("alice", strategy=strategy)
        shown = repr(issued) + str(issued)
        for token in (issued.session_token, issued.refresh_token, issued.access_token):
            assert token is None or token not in shown
        assert "kf" not in shown.replace("keyfob", "")
        assert "eyJ" not in shown


async def test_every_login_is_a_session_of_its_own_with_tokens_of_its_own(house: Any) -> None:
    many = [await house.authority.login("alice", strategy="hybrid") for _ in range(5)]
    assert len({issued.session_id for issued in many}) == 5
    assert len({issued.refresh_token for issued in many}) == 5
    assert len({claims_of(issued.access_token)["jti"] for issued in many}) == 5


async def test_several_audiences_are_kept_in_their_order_and_once(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="jwt", audience=["orders", "stock", "orders"])
    assert claims_of(issued.access_token)["aud"] == ["orders", "stock"]
    assert (await house.authority.authenticate(issued.access_token)).audience == ("orders", "stock")


async def test_the_list_of_devices_shows_where_a_login_came_from(house: Any) -> None:
    device = Device(user_agent="x" * 300, address="192.0.2.7")
    issued = await house.authority.login("alice", device=device)
    [session] = (await house.authority.list_sessions("alice")).sessions
    assert session.session_id == issued.session_id
    assert (session.user_agent, session.address) == ("x" * 256, "192.0.2.7")
    assert await house.authority.list_sessions("bob") == await house.authority.list_sessions("")


@pytest.mark.parametrize(
    "subject", ["", "a" * 256, "a\x00b", "a\nb", "\ud800", "\x7f"], ids=lambda text: ascii(text)[:12]
)
async def test_a_subject_that_cannot_be_one_is_refused(quick_house: Any, subject: str) -> None:
    await refused(quick_house, InvalidRequest, subject, roles=["boss"])


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "cookie"},
        {"strategy": ""},
        {"audience": ""},
        {"audience": []},
        {"audience": ["orders", ""]},
        {"audience": "a" * 256},
        {"audience": ["a\nb"]},
        {"audience": [f"service{number}" for number in range(17)]},
        {"scopes": [""]},
        {"scopes": ["a b"]},
        {"scopes": ['"']},
        {"scopes": ["\\"]},
        {"scopes": ["é"]},
        {"scopes": ["a" * 101]},
        {"scopes": "orders"},
        {"scopes": [f"scope{number}" for number in range(65)]},
        {"roles": ["a b"]},
        {"roles": ["boss", ""]},
        {"roles": "boss"},
        {"transport": "pigeon"},
        {"amr": "pwd"},
        {"amr": [""]},
        {"amr": ["\ud800"]},
        {"amr": [f"factor{number}" for number in range(17)]},
        {"acr": ""},
        {"acr": "a\nb"},
    ],
    ids=lambda options: ascii(options)[:40],
)
async def test_options_that_cannot_be_are_refused(quick_house: Any, options: dict[str, Any]) -> None:
    await refused(quick_house, InvalidRequest, "alice", **{"roles": ["boss"], **options})


async def test_an_unknown_client_is_refused(quick_house: Any) -> None:
    for client_id in ("nobody", "", "\ud800", "a" * 300):
        await refused(quick_house, NotFound, "alice", client_id=client_id, roles=["boss"])


async def refused(house: Any, error: type[Exception], subject: str, **options: Any) -> None:
    """The login fails, and neither feed, sessions, roles nor audit trail have changed."""
    before = await state_of(house)
    with pytest.raises(error):
        await house.authority.login(subject, **options)
    assert await state_of(house) == before


async def state_of(house: Any) -> object:
    store = house.authority.store
    return (
        await store.feed.head(),
        (await house.authority.list_sessions()).sessions,
        await store.accounts.find_subject("alice"),
        (await house.authority.trail.list()).events,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "session"},
        {"strategy": "jwt"},
        {"audience": "stock"},
        {"audience": ["orders", "stock"]},
        {"audience": None},
        {"scopes": ["orders:delete"]},
        {"scopes": ["orders:read", "orders:delete"]},
    ],
    ids=str,
)
async def test_a_client_may_not_ask_for_more_than_it_has(quick_house: Any, options: dict[str, Any]) -> None:
    await quick_house.authority.clients.add("shop", scopes=["orders:read"], audiences=["orders"])
    await refused(
        quick_house,
        Denied,
        "alice",
        **{"client_id": "shop", "audience": "orders", "roles": ["boss"], **options},
    )


async def test_a_client_has_its_own_default_strategy_and_lifetime(house: Any) -> None:
    await house.authority.clients.add(
        "shop",
        scopes=["orders:read", "orders:write"],
        audiences=["orders", "stock"],
        access_lifetime=timedelta(minutes=5),
    )
    issued = await house.authority.login("alice", client_id="shop", audience="orders", scopes=["orders:read"])
    assert issued.strategy is Strategy.HYBRID
    assert issued.expires_in == 300
    principal = await house.authority.authenticate(issued.access_token)
    assert (principal.client_id, principal.scopes) == ("shop", {"orders:read"})
    refreshed = await house.authority.refresh(issued.refresh_token)
    assert refreshed.expires_in == 300


async def test_an_attempt_to_sign_in_lasts_two_minutes(house: Any) -> None:
    async with house.authority.sign_in() as attempt:
        house.clock.advance(SIGN_IN_LIMIT - MICROSECOND)
        await attempt.login("alice")
        house.clock.advance(MICROSECOND)
        await attempt.login("alice", strategy="jwt")
        house.clock.advance(MICROSECOND)
        with pytest.raises(Denied) as denied:
            await attempt.login("alice")
    assert denied.value.cause is Cause.EXPIRED


async def test_nobody_signs_in_outside_an_attempt(house: Any) -> None:
    attempt = house.authority.sign_in()
    with pytest.raises(RuntimeError):
        await attempt.login("alice")
    async with attempt:
        pass
    with pytest.raises(RuntimeError):
        await attempt.login("alice")
    assert await house.head() == 0
