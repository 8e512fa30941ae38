"""One part of a cluster is down, lags, or has lost its end: the others go on, and nothing that was ended lives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace as changed

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Reach, Scope
from keyfob.sessions.store import Added, AlreadyEnded, CutOff, Ended, Rotated, Seen, Unknown
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.keys import FEED_SLOT, state_at
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_cluster import RedisCluster
from keyfob.testing.redis_cluster_faults import (
    Past,
    slot_of_subject,
    subject_on,
    until,
    without_the_feed,
)
from keyfob.testing.redis_server import RedisServer
from keyfob.testing.renewal_contract import renewal
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    a_session,
    an_event,
    assert_chained,
    codes,
    entries,
    found,
    is_live,
    position,
    put,
    put_new,
    revocation,
)

FAR = 40 * 24 * 3600  # seconds: past every cut-off


@pytest.fixture
def down(own_cluster: RedisCluster) -> Iterator[RedisServer]:
    """Give a node without the feed, which the test may stop and start again."""
    node = without_the_feed(own_cluster)[0]
    yield node
    node.resume()
    own_cluster.revive()


async def end_all(store: Store, subject: Subject, clock: FrozenClock) -> Ended:
    outcome = await store.sessions.end(revocation(Scope.SUBJECT, subject, clock.now()), now=clock.now())
    assert isinstance(outcome, Ended)
    return outcome


async def sign_in(store: Store, subject: Subject, clock: FrozenClock) -> Any:
    """Log in as an authority does: the position first, the session after."""
    session = changed(a_session(store, clock, subject), as_of=await position(store))
    return session, await put(store, session)


async def is_applied(store: Any) -> bool:
    server = store.sessions._server
    return (await server.read_news()).applied == server.journal.position


def rows_of(store: Store, subject: Subject) -> list[bytes]:
    """Return the keys of all that a slot holds of *subject*."""
    return [
        places.sessions_at(places.tag_of(store.salt, subject)),
        state_at(slot_of_subject(store, subject)),
    ]


class TestOneNodeIsDown:
    async def test_signing_in_again_works_after_sign_out_everywhere(
        self, on_own: Store, own_cluster: RedisCluster, down: RedisServer, clock: FrozenClock
    ) -> None:
        gone = subject_on(on_own, own_cluster, down)
        stays = subject_on(on_own, own_cluster, without_the_feed(own_cluster)[1])
        of_gone, of_stays = await put_new(on_own, clock, gone), await put_new(on_own, clock, stays)
        down.stop()
        assert (await end_all(on_own, gone, clock)).sessions == 0, "nobody can say"
        ended = await end_all(on_own, stays, clock)
        assert (ended.entry.position, ended.sessions) == (2, 1)
        session, outcome = await sign_in(on_own, stays, clock)
        assert outcome == Added()
        assert await is_live(on_own, session.session_id, clock.now())
        assert not await is_live(on_own, of_stays.session_id, clock.now())
        with pytest.raises(StoreUnavailable):
            await on_own.sessions.find(of_gone.session_id)
        down.start()
        await until(lambda: on_own.sessions.find(of_gone.session_id))
        assert not await is_live(on_own, of_gone.session_id, clock.now())
        await until(lambda: is_applied(on_own))

    async def test_its_sessions_are_ended_in_the_feed_at_once_and_in_their_rows_later(
        self, on_own: Store, own_cluster: RedisCluster, down: RedisServer, clock: FrozenClock
    ) -> None:
        subject = subject_on(on_own, own_cluster, down)
        session = await put_new(on_own, clock, subject)
        down.stop()
        order = revocation(Scope.SESSION, session.session_id, clock.now())
        outcome = await on_own.sessions.end(order, now=clock.now())
        assert isinstance(outcome, Ended)
        assert await on_own.sessions.end(order, now=clock.now()) == AlreadyEnded(outcome.entry.position)
        assert list(await entries(on_own)) == [outcome.entry]
        clock.advance(3600)
        assert await on_own.feed.delete_expired(clock.now(), 100) == 0, "not before its row knows it"
        down.start()
        await until(lambda: is_applied(on_own))
        assert (await found(on_own, session.session_id)).ended_position == outcome.entry.position
        assert await on_own.feed.delete_expired(clock.now(), 100) == 1
        assert (await found(on_own, session.session_id)).ended_position == outcome.entry.position

    async def test_everybody_is_signed_out_although_some_cannot_be_reached(
        self, on_own: Store, own_cluster: RedisCluster, down: RedisServer, clock: FrozenClock
    ) -> None:
        nodes = [down, *without_the_feed(own_cluster)[1:], own_cluster.owner(FEED_SLOT)]
        sessions = [
            await put_new(on_own, clock, subject_on(on_own, own_cluster, node, number=number))
            for node in nodes
            for number in range(2)
        ]
        down.pause()
        order = revocation(Scope.EVERYTHING, "", clock.now())
        assert isinstance(await on_own.sessions.end(order, now=clock.now()), Ended)
        for session in sessions[2:]:
            assert not await is_live(on_own, session.session_id, clock.now())
            _, outcome = await sign_in(on_own, session.subject, clock)
            assert outcome == Added()
        down.resume()
        await until(lambda: on_own.sessions.find(sessions[0].session_id))
        for session in sessions[:2]:
            assert not await is_live(on_own, session.session_id, clock.now())

    async def test_only_its_own_subjects_are_refused(
        self, on_own: Store, own_cluster: RedisCluster, down: RedisServer, clock: FrozenClock
    ) -> None:
        stays = subject_on(on_own, own_cluster, without_the_feed(own_cluster)[1])
        session = await put_new(on_own, clock, stays)
        away = a_session(on_own, clock, subject_on(on_own, own_cluster, down))
        down.stop()
        with pytest.raises(StoreUnavailable):
            await put(on_own, away)
        with pytest.raises(StoreUnavailable):
            await rotate(on_own, away.session_id, 0, clock.now())
        assert isinstance(await rotate(on_own, session.session_id, 0, clock.now()), Rotated)
        assert await put_new(on_own, clock, stays)
        listed = await on_own.sessions.list(stays, now=clock.now(), after=None, limit=9)
        assert len(listed.sessions) == 2
        with pytest.raises(StoreUnavailable):
            await on_own.sessions.list(None, now=clock.now(), after=None, limit=9)


class TestNobodyHasCarriedIt:
    """Somebody was killed between two steps: what he left is done by the next one who needs it, or by the applier."""

    async def append_only(self, store: Any, order: Any, clock: FrozenClock) -> None:
        """Append as `end` does, and die."""
        server = store.sessions._server
        orders = server.orders()
        asked = {"order": orders.add(order), "now": 1, "event": (1, "revoked", "", "{}"), "owed": ""}
        outcome, *_ = await server.step("cluster/append", orders.keys, asked)
        assert outcome == b"appended"

    @pytest.mark.parametrize("scope", [Scope.SESSION, Scope.SUBJECT, Scope.CLIENT, Scope.EVERYTHING])
    async def test_an_entry_that_was_only_appended_is_applied_before_its_row_is_read(
        self, on_own: Store, own_cluster: RedisCluster, clock: FrozenClock, scope: Scope, opened: Any
    ) -> None:
        session = await put_new(on_own, clock)
        under_way = a_session(on_own, clock)
        name = {
            Scope.SESSION: session.session_id,
            Scope.SUBJECT: session.subject,
            Scope.CLIENT: session.client_id,
            Scope.EVERYTHING: "",
        }[scope]
        await self.append_only(on_own, revocation(scope, name, clock.now()), clock)
        for store in (on_own, await opened(own_cluster.url)):
            await store.feed.head()
            answer = await store.sessions.find(session.session_id)
            assert answer is not None
            assert (answer.session.ended_position, answer.as_of) == (1, 1)
        if scope is not Scope.SESSION:
            assert await put(on_own, under_way) == CutOff()

    async def test_a_login_applies_what_its_slot_lacks_in_its_own_step(
        self, on_own: Any, clock: FrozenClock
    ) -> None:
        old = await put_new(on_own, clock)
        under_way = a_session(on_own, clock)
        await self.append_only(on_own, revocation(Scope.SUBJECT, old.subject, clock.now()), clock)
        new, outcome = await sign_in(on_own, old.subject, clock)
        assert outcome == Added()
        raw_row = await on_own.sessions._server.read(b"HGETALL", rows_of(on_own, old.subject)[0])
        assert len({name[:16] for name in raw_row[::2]}) == 2
        assert await is_live(on_own, new.session_id, clock.now())
        assert (await found(on_own, old.session_id)).ended_position == 1
        assert await put(on_own, under_way) == CutOff()

    @pytest.mark.parametrize("verb", ["rotate", "touch", "write_data", "read_data", "add", "renew"])
    async def test_no_step_is_done_on_rows_that_lack_what_is_known(
        self, on_own: Store, clock: FrozenClock, verb: str
    ) -> None:
        session, under_way = await put_new(on_own, clock), a_session(on_own, clock)
        await self.append_only(on_own, revocation(Scope.SUBJECT, session.subject, clock.now()), clock)
        await on_own.feed.head()
        now, sid = clock.now(), session.session_id
        match verb:
            case "rotate":
                assert await rotate(on_own, sid, 0, now) == Unknown()
            case "touch":
                assert await on_own.sessions.touch([Seen(sid, clock.advance(1))]) == 0
            case "write_data":
                assert not await on_own.sessions.write_data(sid, b"x", version=0, now=now)
            case "read_data":
                assert await on_own.sessions.read_data(sid) is None
            case "add":
                assert await put(on_own, under_way) == CutOff()
            case _:
                wanted, event = renewal(session, at=now), an_event(now)
                assert await on_own.sessions.renew(sid, wanted, now=now, event=event) == Unknown()

    async def test_the_applier_carries_it_though_nobody_asks(
        self, on_own: Any, own_cluster: RedisCluster, clock: FrozenClock
    ) -> None:
        session = await put_new(on_own, clock)
        await self.append_only(on_own, revocation(Scope.SUBJECT, session.subject, clock.now()), clock)
        await until(lambda: is_applied(on_own))
        raw = await on_own.sessions._server.read(b"HGET", rows_of(on_own, session.subject)[1], b"position")
        assert int(raw) == 1

    async def test_several_appliers_at_once_do_it_once(
        self, on_own: Any, own_cluster: RedisCluster, clock: FrozenClock, opened: Any
    ) -> None:
        others = [await opened(own_cluster.url) for _ in range(3)]
        sessions = [await put_new(on_own, clock, Subject(f"subject-{number}")) for number in range(30)]
        for session in sessions:
            order = revocation(Scope.SESSION, session.session_id, clock.now())
            await self.append_only(on_own, order, clock)
        appliers = [store.sessions._server.applier for store in (on_own, *others)]
        await asyncio.gather(*(applier.settle() for applier in appliers))
        for number, session in enumerate(sessions, 1):
            assert (await found(on_own, session.session_id)).ended_position == number
        assert await is_applied(on_own)

    @pytest.mark.parametrize("is_appended", [False, True])
    async def test_what_a_thief_left_owed_is_paid_by_whoever_comes(
        self,
        on_own: Any,
        clock: FrozenClock,
        is_appended: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        session = await put_new(on_own, clock)
        await rotate(on_own, session.session_id, 0, clock.now())
        now = clock.advance(60)

        class Killed(BaseException):
            pass

        debts = on_own.sessions._debts
        append = debts._append

        async def dies(debt: Any) -> None:
            if is_appended:
                await append(debt)
            raise Killed

        monkeypatch.setattr(debts, "_append", dies)
        with pytest.raises(Killed):
            await rotate(on_own, session.session_id, 0, now)
        monkeypatch.setattr(debts, "_append", append)
        assert await position(on_own) == int(is_appended)
        assert (await rotate(on_own, session.session_id, 1, now)) != Rotated, "nothing of it is used any more"
        assert not await is_live(on_own, session.session_id, now)
        (entry,) = await entries(on_own)
        assert (entry.id, entry.reach) == (session.session_id, Reach.END)
        assert (await codes(on_own)).count("reuse_detected") <= 1

    async def test_a_renewal_that_was_left_owed_is_paid_by_the_applier(
        self, on_own: Any, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = await put_new(on_own, clock)
        server = on_own.sessions._server

        async def dies(*_: object) -> None:
            raise asyncio.CancelledError

        pay = server.debts.pay
        monkeypatch.setattr(server.debts, "pay", dies)
        with pytest.raises(asyncio.CancelledError):
            await on_own.sessions.renew(
                session.session_id,
                renewal(session, at=clock.now()),
                now=clock.now(),
                event=an_event(clock.now()),
            )
        assert (await found(on_own, session.session_id)).generation == 0
        monkeypatch.setattr(server.debts, "pay", pay)
        clock.advance(60)
        await server.applier._collect()
        assert (await found(on_own, session.session_id)).generation == 1


class TestASlotWentBack:
    async def test_what_was_ended_in_it_is_ended_again(
        self, on_own: Store, own_cluster: RedisCluster, clock: FrozenClock, opened: Any
    ) -> None:
        sessions = [await put_new(on_own, clock) for _ in range(3)]
        past = Past(own_cluster, rows_of(on_own, sessions[0].subject))
        order = revocation(Scope.SESSION, sessions[0].session_id, clock.now())
        assert isinstance(await on_own.sessions.end(order, now=clock.now()), Ended)
        await until(lambda: is_applied(on_own))
        past.return_to()
        for store in (on_own, await opened(own_cluster.url)):
            gone = await found(store, sessions[0].session_id)
            assert gone.ended_position == 1
            assert await is_live(store, sessions[1].session_id, clock.now())
            past.return_to()
        await end_all(on_own, sessions[0].subject, clock)
        past.return_to()
        for session in sessions:
            assert not await is_live(on_own, session.session_id, clock.now())
        assert (await found(on_own, sessions[0].session_id)).ended_position == 1
        past.return_to()
        late = changed(a_session(on_own, clock), as_of=sessions[0].as_of)
        assert await put(on_own, late) == CutOff()

    async def test_where_the_feed_no_longer_knows_what_it_lost_all_of_it_is_over(
        self, on_own: Store, own_cluster: RedisCluster, clock: FrozenClock, opened: Any
    ) -> None:
        sessions = [await put_new(on_own, clock) for _ in range(3)]
        others = await put_new(on_own, clock, Subject("somebody-else"))
        past = Past(own_cluster, rows_of(on_own, sessions[0].subject))
        order = revocation(Scope.SESSION, sessions[0].session_id, clock.now())
        assert isinstance(await on_own.sessions.end(order, now=clock.now()), Ended)
        clock.advance(3600)
        assert await on_own.feed.delete_expired(clock.now(), 100) == 1
        past.return_to()
        assert not await is_live(on_own, sessions[0].session_id, clock.now())
        assert await is_live(on_own, sessions[1].session_id, clock.now()), (
            "this process still knows what it was"
        )
        past.return_to()
        fresh = await opened(own_cluster.url)
        for session in sessions:
            assert not await is_live(fresh, session.session_id, clock.now())
        assert await is_live(fresh, others.session_id, clock.now())
        assert (await codes(on_own))[-1] == "slot_begun_anew"
        _, outcome = await sign_in(on_own, sessions[0].subject, clock)
        assert outcome == Added()

    async def test_one_that_has_lost_all_begins_anew_and_refuses_who_is_under_way(
        self, on_own: Store, own_cluster: RedisCluster, clock: FrozenClock
    ) -> None:
        empty = Past(own_cluster, rows_of(on_own, Subject("alice")))
        session, under_way = await put_new(on_own, clock), a_session(on_own, clock)
        await end_all(on_own, session.subject, clock)
        clock.advance(3600)
        await on_own.feed.delete_expired(clock.now(), 100)
        empty.return_to()
        assert await on_own.sessions.find(session.session_id) is None
        assert await put(on_own, under_way) == CutOff()
        _, outcome = await sign_in(on_own, session.subject, clock)
        assert outcome == Added()
        assert "slot_begun_anew" in await codes(on_own)

    async def test_what_is_appended_while_it_is_brought_on_is_not_passed_over(
        self, on_own: Any, own_cluster: RedisCluster, clock: FrozenClock, opened: Any, monkeypatch: Any
    ) -> None:
        sessions = [await put_new(on_own, clock) for _ in range(3)]
        past = Past(own_cluster, rows_of(on_own, sessions[0].subject))
        order = revocation(Scope.SESSION, sessions[0].session_id, clock.now())
        assert isinstance(await on_own.sessions.end(order, now=clock.now()), Ended)
        past.return_to()
        fresh = await opened(own_cluster.url)
        server = fresh.sessions._server
        read = server.read
        later = revocation(Scope.SESSION, sessions[1].session_id, clock.now())

        async def read_and_hear_of_more(*command: Any) -> Any:
            answer = await read(*command)
            if command[0] == b"XRANGE":
                monkeypatch.setattr(server, "read", read)
                await TestNobodyHasCarriedIt().append_only(fresh, later, clock)
                await server.read_news()
            return answer

        monkeypatch.setattr(server, "read", read_and_hear_of_more)
        assert not await is_live(fresh, sessions[0].session_id, clock.now())
        assert server.journal.position == 2
        assert not await is_live(fresh, sessions[1].session_id, clock.now())
        assert await is_live(fresh, sessions[2].session_id, clock.now())

    async def test_one_that_another_process_made_meanwhile_has_lost_nothing(
        self, on_own: Any, clock: FrozenClock
    ) -> None:
        session = await put_new(on_own, clock)
        catching_up = on_own.sessions._server.catching_up
        await catching_up.bring(slot_of_subject(on_own, session.subject), -1)  # it was not there a moment ago
        assert await is_live(on_own, session.session_id, clock.now())
        assert await codes(on_own) == ["login"]

    async def test_cut_offs_of_everybody_come_back_long_after_their_entries(
        self, on_own: Store, own_cluster: RedisCluster, clock: FrozenClock
    ) -> None:
        session = await put_new(on_own, clock)
        past = Past(own_cluster, rows_of(on_own, session.subject))
        order = revocation(Scope.CLIENT, session.client_id, clock.now())
        assert isinstance(await on_own.sessions.end(order, now=clock.now()), Ended)
        clock.advance(3600)
        assert await on_own.feed.delete_expired(clock.now(), 100) == 1
        past.return_to()
        assert (await found(on_own, session.session_id)).ended_position == 1


class TestTheFeedWentBack:
    FEED = (
        places.META,
        places.ENTRIES,
        places.CUT_OFFS,
        places.UNTIL,
        places.DROPS,
        places.EVENTS,
        b"kf:{feed}:slots",
    )

    async def test_whoever_ended_a_session_ends_it_again(
        self, on_own: Store, own_cluster: RedisCluster, clock: FrozenClock
    ) -> None:
        session = await put_new(on_own, clock)
        past = Past(own_cluster, list(self.FEED))
        order = revocation(Scope.SESSION, session.session_id, clock.now())
        assert isinstance(await on_own.sessions.end(order, now=clock.now()), Ended)
        before = await on_own.feed.head()
        past.return_to()
        await until(lambda: on_own.feed.head())
        assert await on_own.feed.head() == before
        assert_chained(await entries(on_own))
        assert not await is_live(on_own, session.session_id, clock.now())
        assert (await codes(on_own))[-1] == "feed_reappended"

    async def test_a_slot_tells_of_what_nobody_else_remembers(
        self, on_own: Store, own_cluster: RedisCluster, clock: FrozenClock, opened: Any
    ) -> None:
        session, kept = await put_new(on_own, clock), await put_new(on_own, clock, Subject("bob"))
        past = Past(own_cluster, list(self.FEED))
        order = revocation(Scope.SESSION, session.session_id, clock.now())
        assert isinstance(await on_own.sessions.end(order, now=clock.now()), Ended)
        before = await on_own.feed.head()
        await on_own.close()
        past.return_to()
        fresh = await opened(own_cluster.url)  # knows nothing of the entry, and reads the row that it ended

        async def has_begun_anew() -> bool:
            clock.advance(1)
            await fresh.sessions.find(session.session_id)
            return (await fresh.feed.head()).timeline != before.timeline

        await until(has_begun_anew)
        for gone in (session, kept):
            assert not await is_live(fresh, gone.session_id, clock.now())
        _, outcome = await sign_in(fresh, session.subject, clock)
        assert outcome == Added()
