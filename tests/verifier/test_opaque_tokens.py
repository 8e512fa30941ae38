from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied
from keyfob.base.identifiers import SessionId, Strategy
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.revocation.entry import Reach, Scope
from keyfob.verifier import introspection
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.settings import FollowSettings
from keyfob.verifier.verifier import Verifier


def cause_of(check, *arguments, **options):
    with pytest.raises(Denied) as denied:
        check(*arguments, **options)
    return denied.value.cause


def reaches(verifier, position):
    return lambda: verifier.stats().position >= position and verifier.is_level


def other_kind(kind):
    return OpaqueToken.mint(kind, SessionId("b" * 32), OpaqueKeys(b"keys", b"tag", b"rotate")).text()


def test_a_session_token_is_introspected_once_and_then_answered_from_memory(server, verifier):
    token = server.opaque()
    principal = verifier.authenticate_blocking(token)
    assert principal.path == "introspection"
    assert principal.subject == "alice"
    assert principal.session_id == "b" * 32
    assert principal.strategy is Strategy.SESSION
    assert principal.roles == {"buyer"}
    assert principal.scopes == {"read", "write"}
    assert principal.audience == ("orders",)
    assert dict(principal.claims) == {"department": "books"}
    again = verifier.authenticate_blocking(token)
    assert again.path == "session cache"
    assert again == principal
    assert verifier.verify(token) == principal
    assert server.asked("/oauth/introspect") == 1
    assert verifier.stats().sessions == 1


async def test_many_who_ask_at_once_share_one_request(server, verifier):
    token = server.opaque()
    server.release.clear()
    asking = [asyncio.create_task(verifier.authenticate(token)) for _ in range(20)]
    blocking = asyncio.create_task(asyncio.to_thread(verifier.authenticate_blocking, token))
    while verifier.stats().introspections == 0:
        await asyncio.sleep(0)
    asking[0].cancel()  # who gives up takes the answer from nobody
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    server.release.set()
    principals = await asyncio.gather(*asking[1:], blocking)
    assert len(set(map(str, principals))) <= 2
    assert {principal.subject for principal in principals} == {"alice"}
    assert server.asked("/oauth/introspect") == 1


def test_verify_never_asks(server, verifier):
    with pytest.raises(Denied, match="authenticate") as denied:
        verifier.verify(server.opaque())
    assert denied.value.cause is Cause.UNKNOWN_SESSION
    assert server.asked("/oauth/introspect") == 0


def test_an_unknown_token_is_asked_about_once_in_five_seconds(server, verifier, verifier_clock):
    token = other_kind(OpaqueKind.SESSION)
    for _ in range(3):
        assert cause_of(verifier.authenticate_blocking, token) is Cause.UNKNOWN_SESSION
    assert server.asked("/oauth/introspect") == 1
    verifier_clock.pass_by(4.9)
    assert (
        cause_of(verifier.authenticate_blocking, token, max_staleness=timedelta(minutes=1))
        is Cause.UNKNOWN_SESSION
    )
    assert server.asked("/oauth/introspect") == 1
    verifier_clock.pass_by(0.2)
    assert (
        cause_of(verifier.authenticate_blocking, token, max_staleness=timedelta(minutes=1))
        is Cause.UNKNOWN_SESSION
    )
    assert server.asked("/oauth/introspect") == 2


def test_what_is_no_session_token_is_refused_without_asking(server, verifier):
    token = server.opaque()
    assert cause_of(verifier.authenticate_blocking, other_kind(OpaqueKind.REFRESH)) is Cause.WRONG_TYPE
    assert cause_of(verifier.authenticate_blocking, other_kind(OpaqueKind.ANONYMOUS)) is Cause.WRONG_TYPE
    for wrong in (
        "kfs_",
        token[:-1],
        token + "A",
        token[:50] + "!" + token[51:],
        token[:50] + "é" + token[51:],
    ):
        assert cause_of(verifier.authenticate_blocking, wrong) is Cause.MALFORMED
    assert server.asked("/oauth/introspect") == 0


@pytest.mark.meets("7662-4f")
def test_a_cached_session_that_is_ended_is_denied_without_asking(server, verifier, waits):
    token = server.opaque()
    verifier.authenticate_blocking(token)
    entry = server.revoke(Scope.SESSION, "b" * 32)
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.authenticate_blocking, token) is Cause.REVOKED
    assert cause_of(verifier.verify, token) is Cause.REVOKED
    assert server.asked("/oauth/introspect") == 1


def test_a_cached_session_whose_claims_changed_is_asked_about_anew(server, verifier, waits):
    token = server.opaque()
    verifier.authenticate_blocking(token)
    entry = server.revoke(Scope.SUBJECT, "alice", Reach.CLAIMS)
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.verify, token) is Cause.STALE_CLAIMS
    server.answers[token] = {**server.answers[token], "as_of": entry.position, "roles": []}
    assert verifier.authenticate_blocking(token).roles == frozenset()
    assert verifier.verify(token).roles == frozenset()


def test_an_answer_that_knew_less_than_the_feed_is_denied_and_not_asked_for_again_and_again(
    server, verifier, waits
):
    token = server.opaque()
    entry = server.revoke(Scope.SUBJECT, "alice", Reach.CLAIMS)
    waits(verifier, reaches(verifier, entry.position))
    server.answers[token] = {**server.answers[token], "as_of": 0}
    assert cause_of(verifier.authenticate_blocking, token) is Cause.STALE_CLAIMS
    assert server.asked("/oauth/introspect") == 1


def test_a_stale_answer_that_is_kept_after_a_revocation_is_still_covered(server, verifier, waits):
    """The answer was read before the entry and arrives after it: its `as_of` gives it away."""
    token = server.opaque()
    server.release.clear()
    causes = []
    asking = threading.Thread(target=lambda: causes.append(cause_of(verifier.authenticate_blocking, token)))
    asking.start()
    entry = server.revoke(Scope.SESSION, "b" * 32)
    waits(verifier, reaches(verifier, entry.position))
    server.release.set()
    asking.join(15)
    assert causes == [Cause.REVOKED]


@pytest.mark.meets("7662-4f")
def test_a_cached_session_is_read_anew_after_its_age_counted_from_before_the_read(
    server, verifier, verifier_clock, waits
):
    token = server.opaque()
    verifier.authenticate_blocking(token)
    verifier_clock.pass_by(299)
    verifier.verify(token, max_staleness=timedelta(hours=1))
    verifier_clock.pass_by(1.1)
    assert cause_of(verifier.verify, token, max_staleness=timedelta(hours=1)) is Cause.UNKNOWN_SESSION
    verifier.authenticate_blocking(token, max_staleness=timedelta(hours=1))
    assert server.asked("/oauth/introspect") == 2


@pytest.mark.meets("7662-R011")
def test_a_session_is_asked_about_when_it_may_be_idle_and_denied_at_its_end(server, verifier, verifier_clock):
    hour = timedelta(hours=1)
    now = int(server.clock.time())
    token = server.opaque(idle_exp=now + 60, exp=now + 120)
    verifier.authenticate_blocking(token)
    verifier_clock.pass_by(61)
    assert cause_of(verifier.verify, token, max_staleness=hour) is Cause.UNKNOWN_SESSION
    server.answers[token]["idle_exp"] = now + 200
    verifier.authenticate_blocking(token, max_staleness=hour)
    verifier_clock.pass_by(60)
    assert cause_of(verifier.verify, token, max_staleness=hour) is Cause.EXPIRED
    assert cause_of(verifier.authenticate_blocking, token, max_staleness=hour) is Cause.EXPIRED


def test_an_answer_ahead_of_the_verifier_is_taken_and_looked_at_again_each_time(server, verifier, waits):
    token = server.opaque(as_of=5)
    verifier.authenticate_blocking(token)
    verifier.verify(token)
    assert verifier._checker.sessions.get(token).checked == -1
    for number in range(5):
        entry = server.revoke(Scope.SUBJECT, f"user{number}")
    waits(verifier, reaches(verifier, entry.position))
    verifier.verify(token)
    assert verifier._checker.sessions.get(token).checked == verifier._view.live.changes


def test_nobody_is_asked_about_an_access_token_whose_claims_changed(server, verifier, waits):
    token = server.token()
    entry = server.revoke(Scope.SUBJECT, "alice", Reach.CLAIMS)
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.authenticate_blocking, token) is Cause.STALE_CLAIMS
    assert server.asked("/oauth/introspect") == 0


def test_an_answer_about_something_over_is_denied_as_expired(server, verifier):
    assert cause_of(verifier.authenticate_blocking, server.opaque(exp=1_000)) is Cause.EXPIRED


@pytest.mark.meets("10.3.1")
@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"aud": "stock"}, Cause.WRONG_AUDIENCE),
        ({"aud": []}, Cause.WRONG_AUDIENCE),
        ({"aud": None}, Cause.WRONG_AUDIENCE),
        ({"iss": "https://other.example"}, Cause.WRONG_ISSUER),
        ({"tl": "another"}, Cause.REVOKED),
        ({"tl": None}, Cause.REVOKED),
        ({"active": False}, Cause.UNKNOWN_SESSION),
        ({"active": "true"}, Cause.UNKNOWN_SESSION),
    ],
)
def test_an_answer_for_somebody_else_is_denied(server, verifier, changes, cause):
    assert cause_of(verifier.authenticate_blocking, server.opaque(**changes)) is cause


def test_an_answer_with_the_least_members_is_enough(server, verifier):
    token = server.opaque(
        iss=None,
        sid=None,
        strategy=None,
        roles=None,
        scope=None,
        idle_exp=None,
        auth_time=None,
        department=None,
    )
    principal = verifier.authenticate_blocking(token)
    assert principal.session_id is None
    assert principal.roles == frozenset()
    assert verifier.verify(token) == principal
    assert len(verifier._uses) == 0


@pytest.mark.meets("7662-R007")
@pytest.mark.parametrize(
    "changes",
    [{"sub": None}, {"exp": "soon"}, {"exp": 10**30}, {"as_of": None}, {"roles": "admin"}, {"iat": None}],
)
def test_an_answer_that_cannot_be_read_is_no_answer(server, verifier, changes):
    with pytest.raises(AuthorityUnavailable):
        verifier.authenticate_blocking(server.opaque(**changes))


@pytest.mark.parametrize("status", [500, 503, 404, 401, 302])
def test_an_authority_that_does_not_answer_is_unavailable_and_never_a_denial(server, verifier, status):
    server.status["/oauth/introspect"] = status
    token = server.opaque()
    with pytest.raises(AuthorityUnavailable):
        verifier.authenticate_blocking(token)
    del server.status["/oauth/introspect"]
    verifier.authenticate_blocking(token)


async def test_too_many_introspections_at_once_are_refused_at_once(server, verifier, monkeypatch):
    monkeypatch.setattr(introspection, "MAX_IN_FLIGHT", 2)
    server.release.clear()
    tokens = [server.opaque(sid=f"{number:032x}") for number in range(3)]
    first = [asyncio.create_task(verifier.authenticate(token)) for token in tokens[:2]]
    while verifier.stats().introspections < 2:
        await asyncio.sleep(0)
    with pytest.raises(AuthorityUnavailable, match="too many"):
        await verifier.authenticate(tokens[2])
    server.release.set()
    await asyncio.gather(*first)
    await verifier.authenticate(tokens[2])


def test_a_closed_verifier_asks_nobody(server, verifier):
    following = verifier._following
    verifier.close()
    with pytest.raises(AuthorityUnavailable, match="not started"):
        verifier.authenticate_blocking(server.opaque())
    with pytest.raises(AuthorityUnavailable, match="closed"):
        following.ask(server.opaque(), source="")


# Stale


def test_with_deny_nobody_is_asked_while_the_verifier_is_stale(server, verifier, verifier_clock):
    token = server.opaque()
    server.hangs = True
    verifier_clock.pass_by(60)
    assert cause_of(verifier.authenticate_blocking, token) is Cause.VERIFIER_STALE
    assert cause_of(verifier.authenticate_blocking, server.token()) is Cause.VERIFIER_STALE
    assert server.asked("/oauth/introspect") == 0
    server.hangs = False


async def test_with_introspect_the_authority_is_asked_while_the_verifier_is_stale(
    server, new_verifier, verifier_clock
):
    async with new_verifier(on_stale="introspect") as verifier:
        session, access = server.opaque(), server.token()
        server.answers[access] = {**server.answers[session], "sid": "a" * 32}
        await verifier.authenticate(session)
        assert (await verifier.authenticate(access)).path == "signature"
        server.hangs = True
        verifier_clock.pass_by(60)
        assert (await verifier.authenticate(session)).path == "introspection"
        assert (await verifier.authenticate(access)).path == "introspection"
        assert (await verifier.authenticate(access, roles={"buyer"})).path == "introspection"
        assert cause_of(verifier.verify, access) is Cause.VERIFIER_STALE
        with pytest.raises(Denied, match="insufficient_role"):
            await verifier.authenticate(access, roles={"admin"})
        server.answers[access] = {"active": False}
        with pytest.raises(Denied, match="unknown_session"):
            await verifier.authenticate(access)
        server.hangs = False


def test_with_introspect_the_authority_answers_before_the_verifier_is_level(server, new_verifier, waits):
    server.status["/feed/snapshot"] = 503
    verifier = new_verifier(on_stale="introspect")
    verifier.start()
    token = server.opaque()
    assert verifier.authenticate_blocking(token).path == "introspection"
    assert cause_of(verifier.verify, token) is Cause.VERIFIER_STALE
    entry = server.revoke(Scope.SESSION, "b" * 32)
    del server.status["/feed/snapshot"]
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.authenticate_blocking, token) is Cause.REVOKED


def test_with_accept_a_session_is_asked_about_within_the_bound(server, new_verifier, verifier_clock):
    with new_verifier(on_stale="accept", accept_within=timedelta(seconds=60)) as verifier:
        server.hangs = True
        verifier_clock.pass_by(30)
        verifier.authenticate_blocking(server.opaque())
        verifier_clock.pass_by(40)
        assert cause_of(verifier.authenticate_blocking, server.opaque()) is Cause.VERIFIER_STALE
        server.hangs = False


def test_the_word_introspect_is_not_for_verify(server, verifier, verifier_clock):
    server.hangs = True
    token = server.token()
    verifier_clock.pass_by(60)
    with pytest.raises(ConfigurationError):
        verifier.verify(token, on_stale="sometimes")
    assert cause_of(verifier.verify, token, on_stale="introspect") is Cause.VERIFIER_STALE
    server.hangs = False


# Use is reported


def test_the_use_of_a_session_is_reported_in_batches_at_most_once_an_interval(
    server, verifier, verifier_clock
):
    tokens = [server.opaque(sid=f"{number:032x}") for number in range(3)]
    upkeep = verifier._following.upkeep
    for token in tokens:
        verifier.authenticate_blocking(token)
        verifier.authenticate_blocking(token)

    def an_interval_later():
        server.clock.pass_by(60)
        verifier_clock.pass_by(60)
        upkeep.run_due()

    upkeep.run_due()
    assert server.seen == []
    an_interval_later()
    assert {seen["session_id"] for seen in server.seen} == {f"{number:032x}" for number in range(3)}
    assert server.asked("/sessions/seen") == 1
    upkeep.run_due()
    assert server.asked("/sessions/seen") == 1
    an_interval_later()
    assert server.asked("/sessions/seen") == 1  # not used since
    verifier.verify(tokens[0], max_staleness=timedelta(hours=1))
    verifier.verify(tokens[0], max_staleness=timedelta(hours=1))
    an_interval_later()
    assert server.asked("/sessions/seen") == 2
    assert [seen["session_id"] for seen in server.seen[3:]] == [f"{0:032x}"]


def test_what_could_not_be_reported_is_reported_later_and_at_the_end(server, verifier, verifier_clock):
    verifier.authenticate_blocking(server.opaque())
    server.status["/sessions/seen"] = 503
    verifier_clock.boot += 60
    verifier._following.upkeep.run_due()
    assert len(verifier._uses) == 1
    del server.status["/sessions/seen"]
    verifier.close()
    assert [seen["session_id"] for seen in server.seen] == ["b" * 32]


# The policy of the route


def test_the_policy_is_checked_on_every_path(server, verifier):
    token, access = server.opaque(), server.token(roles=["buyer"], scope="read")
    for check in (verifier.authenticate_blocking, verifier.verify):
        for credential in (token, access):
            check(credential, roles={"buyer"}, scopes={"read"}, max_auth_age=timedelta(minutes=5))
            assert cause_of(check, credential, roles={"buyer", "admin"}) is Cause.INSUFFICIENT_ROLE
            assert cause_of(check, credential, scopes={"other"}) is Cause.INSUFFICIENT_SCOPE
            assert cause_of(check, credential, max_auth_age=timedelta(0)) is Cause.REAUTHENTICATION_REQUIRED
    with pytest.raises(TypeError):
        verifier.verify(access, roles="buyer")


def test_the_policy_is_checked_on_the_first_answer_too(server, verifier):
    assert (
        cause_of(verifier.authenticate_blocking, server.opaque(), roles={"admin"}) is Cause.INSUFFICIENT_ROLE
    )


# Without a feed


async def test_a_verifier_of_given_keys_knows_of_no_revocation(server):
    verifier = Verifier.from_jwks(server.key_sets.access, issuer=server.issuer, audience=["orders", "stock"])
    token = server.token(as_of=10**9, tl="anything")
    assert verifier.verify(token).path == "signature"
    assert verifier.verify(token).path == "verdict cache"
    assert (await verifier.authenticate(token)).subject == "alice"
    assert verifier.is_level
    assert cause_of(verifier.verify, token, max_staleness=timedelta(days=1)) is Cause.VERIFIER_STALE
    with pytest.raises(Denied, match="unknown_session"):
        await verifier.authenticate(server.opaque())
    assert cause_of(verifier.verify, server.token(aud="other")) is Cause.WRONG_AUDIENCE
    assert cause_of(verifier.verify, server.token(iss="https://other.example")) is Cause.WRONG_ISSUER
    assert cause_of(verifier.verify, server.token(exp=1)) is Cause.EXPIRED
    for index in range(0, len(token), 7):
        changed = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        with pytest.raises(Denied):
            verifier.verify(changed)
    assert verifier.stats().connections == 0
    verifier.close()


@pytest.mark.parametrize("jwks", [{"keys": []}, {}, b"[]", b"", {"keys": [{"kty": "oct", "k": "AAAA"}]}])
def test_keys_that_cannot_be_used_are_a_configuration_error(jwks):
    with pytest.raises(ConfigurationError, match="jwks"):
        Verifier.from_jwks(jwks, issuer="https://auth.example", audience="orders")


def test_a_token_that_expires_in_the_cache_is_denied_at_exactly_its_exp(server, verifier_clock):
    verifier = Verifier.from_jwks(
        server.key_sets.access, issuer=server.issuer, audience="orders", clock=verifier_clock
    )
    token = server.token()
    verifier.verify(token)
    verdict = verifier._checker.verdicts.get(token)
    now = verifier._view.time.now
    verdict.fresh_until = now() + 3_600
    verifier.verify(token)
    verdict.fresh_until = now()
    assert cause_of(verifier.verify, token) is Cause.EXPIRED


def test_a_verifier_that_leaves_the_audience_open_takes_any_of_the_issuer(server, verifier_clock, waits):
    """As a gateway does, which answers for every service behind its proxy."""
    settings = FollowSettings(
        issuer=server.issuer,
        audiences=None,
        credentials=("orders", "s3cret/+"),
        heartbeat=timedelta(seconds=0.1),
    )
    verifier = Verifier(
        issuer=server.issuer,
        audiences=settings.audiences,
        keys=JwksSource(),
        view=FeedView(verifier_clock),
        clock=verifier_clock,
        settings=settings,
        on_event=None,
    )
    with verifier:
        for audience in ("stock", "orders"):
            assert verifier.authenticate_blocking(server.opaque(aud=audience)).audience == (audience,)
            assert verifier.verify(server.token(aud=audience)).audience == (audience,)
