"""Sessions that nobody has signed in to: good for the visitor's data, and for nothing else."""

from __future__ import annotations

import pytest

from keyfob.authority.authority import Authority
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import ANONYMOUS

ISSUER = "https://auth.example"


@pytest.fixture
async def authority():
    async with Authority.open("memory://", issuer=ISSUER) as opened:
        yield opened


@pytest.mark.parametrize("audience", [ANONYMOUS, [ANONYMOUS, ISSUER]])
@pytest.mark.parametrize("strategy", ["session", "jwt", "hybrid"])
async def test_the_credential_of_a_visitor_is_taken_only_where_it_is_asked_for(
    authority, audience, strategy
) -> None:
    issued = await authority.login("visitor", strategy=strategy, audience=audience)
    token = str(issued.session_token or issued.access_token)
    for _ in range(2):  # what is remembered of one check must not answer another
        principal = await authority.authenticate(token, audience=ANONYMOUS)
        assert principal.subject == "visitor"
        assert authority.authenticate_cached(token) is None
        for asked in (None, ISSUER):
            with pytest.raises(Denied) as denied:
                await authority.authenticate(token, audience=asked)
            assert denied.value.cause is Cause.WRONG_AUDIENCE
    assert await authority.introspect(token) == {"active": False}


async def test_no_login_of_a_user_passes_for_a_visitor(authority) -> None:
    issued = await authority.login("alice", strategy="session")
    with pytest.raises(Denied, match="wrong_audience"):
        await authority.authenticate(issued.session_token, audience=ANONYMOUS)


async def test_the_session_of_a_visitor_can_be_ended_by_its_token(authority) -> None:
    issued = await authority.login("visitor", strategy="session", audience=ANONYMOUS)
    assert await authority.logout(issued.session_token) is not None
    with pytest.raises(Denied, match="revoked"):
        await authority.authenticate(issued.session_token, audience=ANONYMOUS)


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
