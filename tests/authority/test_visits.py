"""Visits: sessions that nobody has signed in to, good for the visitor's data and for nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyfob.authority.authority import Authority
from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import OpaqueKind
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "https://auth.example"
IDLE = timedelta(minutes=30)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def authority(clock):
    async with Authority.open("memory://", issuer=ISSUER, clock=clock) as opened:
        yield opened


async def cause_of(authority, token) -> Cause:
    with pytest.raises(Denied) as denied:
        await authority.authenticate(token)
    return denied.value.cause


async def test_the_token_of_a_visit_is_no_credential_in_whatever_form_it_comes(authority) -> None:
    token = (await authority.visits.begin()).token
    assert token.startswith("kfa_")
    for _ in range(2):  # what is remembered of one check must not answer another
        assert await authority.visits.find(token) is not None
        assert authority.authenticate_cached(token) is None
        assert await cause_of(authority, token) is Cause.WRONG_TYPE
        for prefix in ("kfs", "kfr", "kfk"):
            passed_off = f"{prefix}{token[3:]}"
            assert authority.authenticate_cached(passed_off) is None
            assert await cause_of(authority, passed_off) in {Cause.MALFORMED, Cause.WRONG_TYPE}
            assert await authority.visits.find(passed_off) is None
        assert await authority.introspect(token) == {"active": False}
        with pytest.raises(Denied, match="malformed"):
            await authority.refresh(token)


@pytest.mark.parametrize("strategy", ["session", "jwt", "hybrid"])
async def test_no_login_of_a_user_passes_for_a_visit(authority, strategy) -> None:
    issued = await authority.login("alice", strategy=strategy)
    for token in filter(None, (issued.session_token, issued.refresh_token, issued.access_token)):
        for text in (token, f"kfa{token[3:]}"):
            assert await authority.visits.find(text) is None
            with pytest.raises(Denied):
                await authority.visits.require(text)


async def test_every_visit_has_a_subject_of_its_own_and_keeps_data(authority) -> None:
    first, second = [await authority.visits.begin() for _ in range(2)]
    rows = [await authority.visits.require(visit.token) for visit in (first, second)]
    assert len({row.subject for row in rows}) == 2
    assert all(row.kind is OpaqueKind.ANONYMOUS and row.client_id == "first-party" for row in rows)
    assert await authority.write_data(first.session_id, b"tea", version=0)
    kept = await authority.read_data(second.session_id)
    assert kept is not None
    assert kept.data == b""


@pytest.mark.parametrize("devices", ["this", "all"])
async def test_logging_out_by_its_token_ends_a_visit_once_and_with_an_entry(authority, devices) -> None:
    visit = await authority.visits.begin()
    entry = await authority.logout(visit.token, devices=devices)
    assert entry is not None
    assert (entry.scope.value, entry.id) == ("session", visit.session_id)
    assert await authority.logout(visit.token, devices=devices) is None
    with pytest.raises(Denied, match="revoked"):
        await authority.visits.require(visit.token)
    assert await authority.visits.find(visit.token) is None
    assert await authority.read_data(visit.session_id) is None


async def test_a_visit_has_no_other_devices(authority) -> None:
    visit = await authority.visits.begin()
    assert await authority.logout(visit.token, devices="others") is None
    assert await authority.visits.find(visit.token) is not None


async def test_a_visit_idles_out_unless_it_goes_on(authority, clock) -> None:
    used, left = [await authority.visits.begin() for _ in range(2)]
    for _ in range(2):
        clock.advance(IDLE - timedelta(seconds=1))
        assert await authority.visits.find(used.token) is not None
        await authority.activity.write()
    assert await authority.visits.find(left.token) is None
    with pytest.raises(Denied, match="idle"):
        await authority.visits.require(left.token)


async def test_a_visit_says_when_it_ends_and_whether_its_cookie_lasts(authority, clock) -> None:
    visit = await authority.visits.begin(persistent=True)
    assert visit.expires_at == clock.now() + timedelta(hours=12)
    assert visit.persistent
    assert (await authority.visits.require(visit.token)).persistent
    assert visit.token not in repr(visit)


async def test_everything_that_ends_at_once_ends_visits(authority) -> None:
    visit = await authority.visits.begin()
    await authority.revoke("everything")
    assert await authority.visits.find(visit.token) is None


async def test_a_login_of_before_knows_no_more_than_it_says_and_no_less_than_nothing(authority) -> None:
    await authority.revoke("subject", "alice")
    for as_of in (0, -1):
        async with authority.sign_in(as_of=as_of) as attempt:
            with pytest.raises(Denied, match="revoked"):
                await attempt.login("alice")
    async with authority.sign_in(as_of=10**9) as attempt:  # nobody knows what is still to come
        issued = await attempt.login("alice", strategy="jwt")
    await authority.revoke("subject", "alice")
    with pytest.raises(Denied, match="revoked"):
        await authority.authenticate(issued.access_token)
