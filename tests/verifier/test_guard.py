from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from keyfob.base.errors import Cause, Denied
from keyfob.revocation.entry import Reach, Scope
from keyfob.verifier.verifier import Verifier


async def revoke(server, *arguments, **options):
    return await asyncio.to_thread(server.revoke, *arguments, **options)


async def stay(guard, entered=None):
    async with guard:
        if entered is not None:
            entered.set()
        async with asyncio.timeout(15):
            await asyncio.Event().wait()


async def guarded(verifier, principal, entered=None, **options):
    """Stay inside until thrown out, and say why."""
    with pytest.raises(Denied) as denied:
        await stay(verifier.guard(principal, **options), entered)
    return denied.value.cause


@pytest.fixture
async def following(new_verifier):
    async with new_verifier() as verifier:
        yield verifier


@pytest.mark.parametrize(
    ("scope", "name", "reach", "cause"),
    [
        (Scope.SESSION, "a" * 32, Reach.END, Cause.REVOKED),
        (Scope.TOKEN, "j1", Reach.END, Cause.REVOKED),
        (Scope.SUBJECT, "alice", Reach.CLAIMS, Cause.STALE_CLAIMS),
        (Scope.CLIENT, "web", Reach.END, Cause.REVOKED),
        (Scope.EVERYTHING, "", Reach.END, Cause.REVOKED),
    ],
)
async def test_it_ends_when_the_principal_is_covered_by_either_reach(
    server, following, scope, name, reach, cause
):
    entered = asyncio.Event()
    inside = asyncio.create_task(guarded(following, following.verify(server.token()), entered))
    await entered.wait()
    await revoke(server, scope, name, reach)
    assert await inside is cause
    assert following._view.live._watches == {}


async def test_many_guards_end_at_one_entry_and_the_others_stay(server, following):
    mine = following.verify(server.token())
    other = following.verify(server.token(sub="bob", sid="c" * 32, jti="j2"))
    entered = [asyncio.Event() for _ in range(200)]
    ending = [asyncio.create_task(guarded(following, mine, event)) for event in entered]
    async with following.guard(other):
        for event in entered:
            await event.wait()
        await revoke(server, Scope.SUBJECT, "alice")
        assert set(await asyncio.gather(*ending)) == {Cause.REVOKED}
        assert following.stats().denials == {"revoked": 200}


async def test_an_entry_that_comes_between_verify_and_guard_is_seen(server, following):
    principal = following.verify(server.token())
    entry = await revoke(server, Scope.SUBJECT, "alice")
    await asyncio.to_thread(
        following._view.wait_for, lambda: following.stats().position >= entry.position, timeout=15
    )
    with pytest.raises(Denied, match="revoked"):
        async with following.guard(principal):
            raise AssertionError
    assert following._view.live._watches == {}


async def test_an_entry_between_registering_and_the_recheck_is_seen(server, following, monkeypatch):
    """Forced: the entry is applied while the guard registers."""
    principal = following.verify(server.token())
    live = following._view.live
    watch = type(live).watch

    def late(self, *arguments):
        server.revoke(Scope.SUBJECT, "alice")
        following._view.wait_for(lambda: following.stats().position >= 1, timeout=15)
        return watch(self, *arguments)

    monkeypatch.setattr(type(live), "watch", late)
    with pytest.raises(Denied, match="revoked"):
        async with following.guard(principal):
            raise AssertionError


async def test_it_ends_at_expiry_and_renewing_extends_it(server, following, verifier_clock):
    now = int(server.clock.time())
    principal = following.verify(server.token(exp=now + 2))
    entered = asyncio.Event()
    async with following.guard(principal) as guard:
        renewed = guard.renew(server.token(jti="j2"))
        assert guard.principal is renewed
        await guarded(following, principal, entered)
        assert following._view.time.now() >= now + 2
    assert following._view.live._watches == {}


async def test_after_renewal_the_old_credential_no_longer_matters(server, following):
    principal = following.verify(server.token())
    async with following.guard(principal) as guard:
        guard.renew(server.token(jti="j2"))
        entry = await revoke(server, Scope.TOKEN, "j1")
        await asyncio.to_thread(
            following._view.wait_for, lambda: following.stats().position >= entry.position, timeout=15
        )
        await asyncio.sleep(0)


async def test_after_renewal_the_new_credential_is_watched(server, following):
    entered = asyncio.Event()
    guard = following.guard(following.verify(server.token(jti="j3")))
    inside = asyncio.create_task(stay(guard, entered))
    await entered.wait()
    guard.renew(server.token(jti="j4"))
    await revoke(server, Scope.TOKEN, "j4")
    with pytest.raises(Denied, match="revoked"):
        await inside


async def test_a_call_that_was_under_way_for_the_old_credential_ends_nothing(server, following):
    async with following.guard(following.verify(server.token())) as guard:
        guard.renew(server.token(jti="j2"))
        guard._covered(Cause.REVOKED)  # by the writer, before it knew of the renewal
        await asyncio.sleep(0.01)


async def test_only_a_good_credential_of_the_same_subject_renews(server, following):
    async with following.guard(following.verify(server.token())) as guard:
        with pytest.raises(Denied, match="unknown_session"):
            guard.renew(server.token(sub="bob", jti="j2"))
        with pytest.raises(Denied, match="expired"):
            guard.renew(server.token(exp=1))


async def test_an_ended_guard_is_not_renewed(server, following):
    async def renew_too_late():
        async with following.guard(following.verify(server.token())) as guard:
            await revoke(server, Scope.TOKEN, "j1")
            try:
                await asyncio.Event().wait()
            finally:
                with pytest.raises(Denied, match="the guard has ended"):
                    guard.renew(server.token(jti="j2"))

    with pytest.raises(Denied, match="revoked"):
        await renew_too_late()


async def test_it_ends_when_the_verifier_is_stale_past_the_policy(server, following, verifier_clock):
    principal = following.verify(server.token())
    entered = asyncio.Event()
    inside = asyncio.create_task(guarded(following, principal, entered, max_staleness=timedelta(seconds=1)))
    await entered.wait()
    server.hangs = True
    assert await inside is Cause.VERIFIER_STALE
    verifier_clock.pass_by(6)
    with pytest.raises(Denied, match="verifier_stale"):
        async with following.guard(principal):
            raise AssertionError
    server.hangs = False


async def test_a_short_resync_ends_no_guard(server, following):
    async with following.guard(following.verify(server.token())):
        server.loop.call_soon_threadsafe(
            lambda: server.feed._fan_out.followers.end_all(b"event: resync\ndata: {}\n\n")
        )
        await asyncio.to_thread(
            following._view.wait_for,
            lambda: following.stats().resyncs > 0 and following.is_level,
            timeout=15,
        )
        await asyncio.sleep(0)


async def test_with_accept_the_bound_is_that_of_accept(server, new_verifier, verifier_clock):
    options = {"on_stale": "accept", "accept_within": timedelta(seconds=60)}
    async with new_verifier(**options) as verifier:
        principal = verifier.verify(server.token())
        server.hangs = True
        verifier_clock.pass_by(30)
        async with verifier.guard(principal):
            pass
        verifier_clock.pass_by(31)
        with pytest.raises(Denied, match="verifier_stale"):
            async with verifier.guard(principal):
                raise AssertionError
        server.hangs = False


async def test_a_cancellation_from_outside_and_an_error_inside_pass_through(server, following):
    principal = following.verify(server.token())
    entered = asyncio.Event()

    async def stay():
        async with following.guard(principal):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ZeroDivisionError):
        async with following.guard(principal):
            raise ZeroDivisionError
    assert following._view.live._watches == {}


async def test_a_cancellation_from_outside_at_the_same_time_is_not_swallowed(server, following):
    guard = following.guard(following.verify(server.token()))
    entered = asyncio.Event()
    task = asyncio.create_task(stay(guard, entered))
    await entered.wait()
    guard._end(Cause.EXPIRED)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_swallows_the_cancellation_is_told_all_the_same(server, following):
    async def swallow():
        async with following.guard(following.verify(server.token())):
            await revoke(server, Scope.TOKEN, "j1")
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with pytest.raises(Denied, match="revoked"):
        await swallow()
    assert asyncio.current_task().cancelling() == 0


async def test_what_has_ended_does_not_end_again_for_another_cause(server, following):
    guard = following.guard(following.verify(server.token()))
    entered = asyncio.Event()
    inside = asyncio.create_task(stay(guard, entered))
    await entered.wait()
    guard._end(Cause.EXPIRED)
    guard._end(Cause.VERIFIER_STALE)
    with pytest.raises(Denied, match="expired"):
        await inside
    guard._end(Cause.VERIFIER_STALE)  # a timer that fires late


async def test_a_timer_that_fires_early_looks_again(server, following):
    async with following.guard(following.verify(server.token())) as guard:
        guard._look()
        await asyncio.sleep(0)


async def test_a_guard_is_entered_once(server, following):
    guard = following.guard(following.verify(server.token()))
    with pytest.raises(RuntimeError):
        guard.renew(server.token())
    async with guard:
        pass
    with pytest.raises(RuntimeError):
        await guard.__aenter__()


async def test_an_entry_after_the_loop_is_gone_is_nothing(server, following):
    guard = following.guard(following.verify(server.token()))
    async with guard:
        loop, guard._loop = guard._loop, asyncio.new_event_loop()
        guard._loop.close()
        guard._covered(Cause.REVOKED)
        guard._loop = loop


async def test_without_a_feed_it_guards_the_expiry_alone(server):
    verifier = Verifier.from_jwks(server.key_sets.access, issuer=server.issuer, audience="orders")
    now = int(server.clock.time())
    assert await guarded(verifier, verifier.verify(server.token(exp=now + 1))) is Cause.EXPIRED


async def test_one_that_is_refused_at_its_door_is_counted_once(server, following):
    principal = following.verify(server.token())
    entry = await revoke(server, Scope.SUBJECT, "alice")
    await asyncio.to_thread(
        following._view.wait_for, lambda: following.stats().position >= entry.position, timeout=15
    )
    assert await guarded(following, principal) is Cause.REVOKED
    assert following.stats().denials == {"revoked": 1}
