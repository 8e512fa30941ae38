"""A change of privilege: new credentials, and what becomes of the old ones; passwords; the CSRF token."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.errors import Cause, Denied, InvalidRequest, NotFound
from keyfob.base.identifiers import Strategy
from keyfob.keys.store import KeyPurpose
from keyfob.revocation.entry import Reach, Scope

MICROSECOND = timedelta(microseconds=1)
WINDOW = timedelta(seconds=30)
PASSWORD, NEW = "correct horse battery", "a much better one"


async def account(house: Any) -> str:
    return (await house.authority.accounts.add("alice", PASSWORD)).subject


async def principal_of(house: Any, issued: Any) -> Any:
    return await house.authority.authenticate(issued.session_token or issued.access_token)


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_renewal_gives_the_same_session_fresh_credentials(house: Any, strategy: Strategy) -> None:
    issued = await house.authority.login("alice", strategy=strategy)
    await house.advance(60)
    renewed = await house.authority.renew(await principal_of(house, issued))
    for name in ("session_token", "refresh_token", "access_token"):
        old, new = getattr(issued, name), getattr(renewed, name)
        assert (old is None) == (new is None)
        assert old is None or old != new
    assert (renewed.session_id, renewed.expires_at) == (issued.session_id, issued.expires_at)
    assert await house.causes(renewed) == [None]
    [entry] = await house.entries()
    assert (entry.scope, entry.id, entry.reach) == (Scope.SESSION, issued.session_id, Reach.CLAIMS)
    assert len(await house.events("session_renewed")) == 1
    if renewed.refresh_token:
        assert await house.causes(await house.authority.refresh(renewed.refresh_token)) == [None]
    if strategy is Strategy.JWT:
        assert renewed.expires_in == 540


@pytest.mark.parametrize(
    ("after", "expected"),
    [(timedelta(0), None), (WINDOW - MICROSECOND, None), (WINDOW, Cause.UNKNOWN_SESSION)],
    ids=str,
)
@pytest.mark.parametrize("warm", [True, False], ids=["cached", "read"])
async def test_the_session_token_before_a_renewal_has_the_replay_window_left(
    house: Any, after: timedelta, expected: Cause | None, warm: bool
) -> None:
    issued = await house.authority.login("alice")
    renewed = await house.authority.renew(await principal_of(house, issued))
    if warm:
        assert await house.causes(issued, renewed) == [None, None]
    await house.advance(after)
    assert await house.causes(issued, renewed) == [expected, None]


@pytest.mark.parametrize("strategy", ["jwt", "hybrid"])
async def test_an_access_token_before_a_renewal_is_stale(house: Any, strategy: str) -> None:
    issued = await house.authority.login("alice", strategy=strategy)
    renewed = await house.authority.renew(await principal_of(house, issued))
    assert await house.causes(issued, renewed) == [Cause.STALE_CLAIMS, None]


async def test_a_refresh_token_before_a_renewal_is_dead_at_once_and_no_theft(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="hybrid")
    before = await house.authority.refresh(issued.refresh_token)
    renewed = await house.authority.renew(await principal_of(house, before))
    head = await house.head()
    for dead in (issued.refresh_token, before.refresh_token):
        assert await house.refresh_cause(dead) is Cause.UNKNOWN_SESSION
    assert await house.head() == head
    assert await house.refresh_cause(renewed.refresh_token) is None


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_session_that_is_over_is_not_renewed(house: Any, strategy: Strategy) -> None:
    issued = await house.authority.login("alice", strategy=strategy)
    principal = await principal_of(house, issued)
    await house.authority.revoke("session", issued.session_id)
    head = await house.head()
    with pytest.raises(Denied) as denied:
        await house.authority.renew(principal)
    assert denied.value.cause is Cause.REVOKED
    await house.advance(timedelta(days=30))
    with pytest.raises(Denied) as denied:
        await house.authority.renew(principal)
    assert denied.value.cause is Cause.UNKNOWN_SESSION
    await house.authority._parts.housekeeping.clean()
    with pytest.raises(Denied) as denied:
        await house.authority.renew(principal)
    assert denied.value.cause is Cause.UNKNOWN_SESSION
    assert await house.head() == head


async def test_of_many_renewals_at_once_one_succeeds(house: Any) -> None:
    issued = await house.authority.login("alice")
    principal = await principal_of(house, issued)
    answers = await asyncio.gather(
        *(house.authority.renew(principal) for _ in range(6)), return_exceptions=True
    )
    renewed = [answer for answer in answers if not isinstance(answer, Exception)]
    # Each has read the session before the first one renewed it, or renews the renewed one.
    assert len(renewed) >= 1
    assert await house.head() == len(renewed)
    assert None in await house.causes(*renewed)


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_changed_password_spares_and_renews_its_own_session(house: Any, strategy: Strategy) -> None:
    subject = await account(house)
    mine = await house.authority.login(subject, strategy=strategy)
    others = [await house.authority.login(subject, strategy=kind) for kind in Strategy]
    renewed = await house.authority.change_password(await principal_of(house, mine), PASSWORD, NEW)
    assert await house.causes(*others) == [Cause.REVOKED] * 3
    assert await house.refresh_cause(others[2].refresh_token) is Cause.REVOKED
    assert renewed.session_id == mine.session_id
    assert await house.causes(renewed) == [None]
    first, second = await house.entries()
    assert (first.scope, first.id, first.reach, first.spared) == (
        Scope.SUBJECT,
        subject,
        Reach.END,
        mine.session_id,
    )
    assert (second.scope, second.reach) == (Scope.SESSION, Reach.CLAIMS)
    if strategy is Strategy.SESSION:
        assert await house.causes(mine) == [None]
        await house.advance(WINDOW)
        assert await house.causes(mine, renewed) == [Cause.UNKNOWN_SESSION, None]
    else:
        assert await house.causes(mine) == [Cause.STALE_CLAIMS]
    if mine.refresh_token:
        assert await house.refresh_cause(mine.refresh_token) is Cause.UNKNOWN_SESSION
        assert await house.refresh_cause(renewed.refresh_token) is None
    await house.authority.accounts.authenticate("alice", NEW, address="")
    with pytest.raises(Denied):
        await house.authority.accounts.authenticate("alice", PASSWORD, address="")


async def test_a_wrong_or_unfit_password_changes_nothing(house: Any) -> None:
    subject = await account(house)
    mine, other = [await house.authority.login(subject, strategy="hybrid") for _ in range(2)]
    principal = await principal_of(house, mine)
    with pytest.raises(Denied) as denied:
        await house.authority.change_password(principal, "wrong horse battery", NEW)
    assert denied.value.cause is Cause.BAD_CREDENTIALS
    with pytest.raises(InvalidRequest):
        await house.authority.change_password(principal, PASSWORD, "short")
    assert await house.head() == 0
    assert await house.causes(mine, other) == [None, None]
    assert await house.refresh_cause(mine.refresh_token) is None


async def test_who_has_no_account_has_no_password(quick_house: Any) -> None:
    issued = await quick_house.authority.login("alice")
    with pytest.raises(NotFound):
        await quick_house.authority.change_password(await principal_of(quick_house, issued), PASSWORD, NEW)
    assert await quick_house.head() == 0


async def test_a_reset_by_an_administrator_spares_nobody(house: Any) -> None:
    subject = await account(house)
    many = [await house.authority.login(subject, strategy=kind) for kind in Strategy]
    entry = await house.authority.accounts.set_password(subject, NEW, actor="admin")
    assert (entry.scope, entry.id, entry.spared) == (Scope.SUBJECT, subject, None)
    assert await house.causes(*many) == [Cause.REVOKED] * 3


async def test_a_deleted_account_is_out_and_its_name_is_somebody_else(house: Any) -> None:
    subject = await account(house)
    many = [await house.authority.login(subject, strategy=kind) for kind in Strategy]
    await house.authority.accounts.delete(subject, actor="admin")
    assert await house.causes(*many) == [Cause.REVOKED] * 3
    again = await account(house)
    assert again != subject
    assert await house.causes(*many) == [Cause.REVOKED] * 3


async def test_a_csrf_token_is_good_for_its_session_alone(quick_house: Any) -> None:
    authority = quick_house.authority
    one, two = [(await authority.login("alice")).session_id for _ in range(2)]
    token = authority.csrf_token(one)
    assert authority.csrf_token(one) == token
    assert authority.csrf_matches(one, token)
    assert not authority.csrf_matches(two, token)
    for place in range(len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert not authority.csrf_matches(one, changed)
    for nonsense in ("", token[:-1], token + "A", token + "=", "é", "\ud800"):
        assert not authority.csrf_matches(one, nonsense)


async def test_a_csrf_token_outlives_a_rotation_of_its_key(quick_house: Any) -> None:
    authority = quick_house.authority
    session_id = (await authority.login("alice")).session_id
    token = authority.csrf_token(session_id)
    await authority.keys.rotate(KeyPurpose.CSRF)
    await quick_house.advance(timedelta(hours=2))
    await authority.keys.reload()
    assert authority.csrf_token(session_id) != token
    assert authority.csrf_matches(session_id, token)
    assert authority.csrf_matches(session_id, authority.csrf_token(session_id))


async def test_another_authority_has_other_csrf_tokens(open_house: Any) -> None:
    one, two = await open_house(), await open_house()
    assert not two.authority.csrf_matches("0" * 32, one.authority.csrf_token("0" * 32))
