"""Roles of today in every strategy, and an application's own source of claims."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied, InvalidRequest, StoreUnavailable
from keyfob.base.identifiers import ClientId, Strategy, Subject
from keyfob.revocation.entry import Reach, Scope
from keyfob.tokens.grant import SubjectClaims

OURS = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "client_id",
    "sid",
    "psid",
    "as_of",
    "tl",
    "strategy",
    "scope",
    "roles",
    "auth_time",
    "amr",
    "acr",
    "cnf",
]


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


async def roles_of(house: Any, token: str) -> set[str]:
    return set((await house.authority.authenticate(token)).roles)


async def test_changed_roles_are_in_force_with_the_next_request_of_a_session(house: Any) -> None:
    issued = await house.authority.login("alice", roles=["buyer", "boss"])
    assert await roles_of(house, issued.session_token) == {"buyer", "boss"}
    entry = await house.authority.set_roles("alice", ["buyer"], actor="admin", reason="demoted")
    assert (entry.scope, entry.id, entry.reach) == (Scope.SUBJECT, "alice", Reach.CLAIMS)
    assert await roles_of(house, issued.session_token) == {"buyer"}
    assert await house.cause(issued.session_token, roles={"boss"}) is Cause.INSUFFICIENT_ROLE
    await house.authority.set_roles("alice", ["buyer", "boss"])
    assert await house.cause(issued.session_token, roles={"boss"}) is None


async def test_a_hybrids_access_token_is_stale_and_a_refresh_has_todays_roles(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="hybrid", roles=["boss"])
    await house.authority.set_roles("alice", ["buyer"])
    assert await house.cause(issued.access_token) is Cause.STALE_CLAIMS
    refreshed = await house.authority.refresh(issued.refresh_token)
    assert await roles_of(house, refreshed.access_token) == {"buyer"}
    assert await house.cause(issued.access_token) is Cause.STALE_CLAIMS
    # A replay within the window has them, too.
    assert await roles_of(house, (await house.authority.refresh(issued.refresh_token)).access_token) == {
        "buyer"
    }


async def test_a_jwt_is_stale_and_a_new_login_has_todays_roles(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="jwt", roles=["boss"])
    await house.authority.set_roles("alice", ["buyer"])
    assert await house.cause(issued.access_token) is Cause.STALE_CLAIMS
    again = await house.authority.login("alice", strategy="jwt")
    assert await roles_of(house, again.access_token) == {"buyer"}


async def test_roles_that_stay_the_same_change_nothing(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="jwt", roles=["a", "b"])
    assert await house.authority.set_roles("alice", ["b", "a", "a"]) is None
    await house.authority.login("alice", roles=["b", "a"])
    assert await house.head() == 0
    assert await house.causes(issued) == [None]


async def test_roles_of_a_stranger_are_written_and_revoke_nothing(house: Any) -> None:
    assert await house.authority.set_roles("alice", ["a"]) is None
    issued = await house.authority.login("alice", strategy="jwt")
    assert await roles_of(house, issued.access_token) == {"a"}
    assert await house.head() == 0


async def test_the_first_roles_of_somebody_who_is_signed_in_are_in_force_at_once(house: Any) -> None:
    session = await house.authority.login("alice")
    jwt = await house.authority.login("alice", strategy="jwt")
    assert await roles_of(house, session.session_token) == set()
    assert await house.authority.set_roles("alice", ["suspended"]) is not None
    assert await roles_of(house, session.session_token) == {"suspended"}
    assert await house.causes(jwt) == [Cause.STALE_CLAIMS]


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_login_that_changes_roles_is_good_itself_and_makes_the_others_stale(
    house: Any, strategy: Strategy
) -> None:
    older = [await house.authority.login("alice", strategy=kind, roles=["a"]) for kind in Strategy]
    issued = await house.authority.login("alice", strategy=strategy, roles=["b"])
    assert await house.head() == 1
    token = issued.session_token or issued.access_token
    assert await roles_of(house, token) == {"b"}
    assert await house.causes(*older) == [None, Cause.STALE_CLAIMS, Cause.STALE_CLAIMS]
    assert await roles_of(house, older[0].session_token) == {"b"}
    if issued.refresh_token:
        assert await house.causes(await house.authority.refresh(issued.refresh_token)) == [None]
    # It is spared of that one entry alone.
    await house.authority.set_roles("alice", ["c"])
    assert await house.cause(token) is (None if strategy is Strategy.SESSION else Cause.STALE_CLAIMS)


@pytest.mark.parametrize("subject", ["", "a" * 256, "a\nb", "\ud800"], ids=ascii)
async def test_roles_of_a_subject_that_cannot_be_are_refused(house: Any, subject: str) -> None:
    with pytest.raises(InvalidRequest):
        await house.authority.set_roles(subject, ["a"])
    assert await house.head() == 0


@pytest.mark.parametrize(
    "roles", ["boss", ["a b"], [""], ["a"] * 3 + ["\n"], [f"r{n}" for n in range(65)]], ids=str
)
async def test_roles_that_cannot_be_are_refused(quick_house: Any, roles: Any) -> None:
    await quick_house.authority.login("alice", roles=["a"])
    with pytest.raises(InvalidRequest):
        await quick_house.authority.set_roles("alice", roles)
    assert await quick_house.head() == 0
    assert (await quick_house.authority.store.accounts.find_subject("alice")).roles == {"a"}


class Directory:
    """The application's own source: it says what it is told to."""

    def __init__(self, **claims: object) -> None:
        self.roles = frozenset({"from-directory"})
        self.claims: dict[str, object] = dict(claims)
        self.asked: list[tuple[Subject, ClientId]] = []
        self.error: Exception | None = None

    async def __call__(self, subject: Subject, client_id: ClientId, /) -> SubjectClaims:
        self.asked.append((subject, client_id))
        if self.error is not None:
            raise self.error
        return SubjectClaims(roles=self.roles, claims=self.claims)


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_source_of_ones_own_says_roles_and_further_claims(
    open_house: Any, store_url: str, strategy: Strategy
) -> None:
    directory = Directory(department="sales", levels=[1, 2], nested={"a": None})
    house = await open_house(store_url, claims_source=directory)
    issued = await house.authority.login("alice", strategy=strategy, roles=["ignored"])
    token = issued.session_token or issued.access_token
    for _ in range(2):
        principal = await house.authority.authenticate(token)
        assert principal.roles == {"from-directory"}
        assert dict(principal.claims) == {"department": "sales", "levels": [1, 2], "nested": {"a": None}}
    assert set(directory.asked) == {("alice", "first-party")}
    answer = await house.authority.introspect(token)
    assert answer["department"] == "sales"
    assert answer["roles"] == ["from-directory"]


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_further_claims_never_stand_in_for_ours(open_house: Any, strategy: Strategy) -> None:
    poison = dict.fromkeys([*OURS, "active", "token_type", "idle_exp"], "root")
    plain = await open_house(claims_source=Directory())
    house = await open_house(claims_source=Directory(**poison))
    tokens = []
    for one in (plain, house):
        issued = await one.authority.login("alice", strategy=strategy)
        tokens.append(issued.session_token or issued.access_token)
        if issued.access_token:
            claims = claims_of(issued.access_token)
            assert all(claims.get(name) != "root" for name in OURS)
    principal = await house.authority.authenticate(tokens[1])
    assert not set(principal.claims) & set(OURS)
    own = {"active", "token_type", "idle_exp"}
    for one, token in zip((plain, house), tokens, strict=True):
        answer = await one.authority.introspect(token)
        if one is plain:
            members = set(answer)
        assert set(answer) - own == members - own
        assert answer["active"] is True
        assert "root" not in {answer["token_type"], answer["sub"], answer.get("idle_exp") and "number"}
        assert answer.get("idle_exp") != "root"


async def test_nobody_can_write_into_the_claims_of_a_principal(open_house: Any) -> None:
    directory = Directory(department="sales")
    house = await open_house(claims_source=directory)
    issued = await house.authority.login("alice")
    principal = await house.authority.authenticate(issued.session_token)
    with pytest.raises(TypeError):
        principal.claims["department"] = "board"
    directory.claims["department"] = "board"
    assert (await house.authority.authenticate(issued.session_token)).claims["department"] == "sales"


async def test_after_an_entry_the_source_is_asked_again(open_house: Any, store_url: str) -> None:
    directory = Directory()
    house = await open_house(store_url, claims_source=directory)
    session = await house.authority.login("alice")
    hybrid = await house.authority.login("alice", strategy="hybrid")
    assert await roles_of(house, session.session_token) == {"from-directory"}
    directory.roles = frozenset({"demoted"})
    await house.authority.revoke("subject", "alice", reach="claims")
    assert await roles_of(house, session.session_token) == {"demoted"}
    assert await house.cause(hybrid.access_token) is Cause.STALE_CLAIMS
    refreshed = await house.authority.refresh(hybrid.refresh_token)
    assert await roles_of(house, refreshed.access_token) == {"demoted"}


async def test_a_source_that_refuses_or_fails_lets_nobody_in(open_house: Any, store_url: str) -> None:
    directory = Directory()
    house = await open_house(store_url, claims_source=directory)
    session = await house.authority.login("alice")
    hybrid = await house.authority.login("alice", strategy="hybrid")
    directory.error = Denied("revoked", "left the company")
    assert await house.cause(session.session_token) is Cause.REVOKED
    assert await house.refresh_cause(hybrid.refresh_token) is Cause.REVOKED
    with pytest.raises(Denied):
        await house.authority.login("alice")
    directory.error = StoreUnavailable("the directory is away")
    for call in (
        house.authority.authenticate(session.session_token),
        house.authority.refresh(hybrid.refresh_token),
        house.authority.login("alice"),
        house.authority.introspect(session.session_token),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    directory.error = None
    assert await house.causes(session) == [None]
    assert await house.head() == 0


async def test_claims_that_no_token_can_say_cost_nobody_the_session(open_house: Any) -> None:
    directory = Directory()
    house = await open_house(claims_source=directory)
    issued = await house.authority.login("alice", strategy="hybrid")
    directory.claims = {"number": 2**63}
    with pytest.raises(InvalidRequest):
        await house.authority.refresh(issued.refresh_token)
    await house.advance(600)
    directory.claims = {}
    assert await house.causes(await house.authority.refresh(issued.refresh_token)) == [None]


async def test_a_source_that_was_away_for_long_costs_nobody_the_session(
    open_house: Any, store_url: str
) -> None:
    """The refresh fails with 503 before it has rotated; the client tries again later than the replay window."""
    directory = Directory()
    house = await open_house(store_url, claims_source=directory)
    issued = await house.authority.login("alice", strategy="hybrid")
    directory.error = StoreUnavailable("the directory is away")
    with pytest.raises(StoreUnavailable):
        await house.authority.refresh(issued.refresh_token)
    await house.advance(600)
    directory.error = None
    assert await house.causes(await house.authority.refresh(issued.refresh_token)) == [None]
    assert await house.head() == 0
