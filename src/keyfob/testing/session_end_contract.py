"""What a `SessionStore` must do when something ends: cut-offs, parents and children, `end`."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import Reach, Scope
from keyfob.sessions.store import (
    Added,
    AlreadyEnded,
    CutOff,
    Ended,
    Seen,
    SessionData,
)
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    IDLE,
    LIFETIME,
    SHOP,
    TICK,
    Store,
    StoreContract,
    a_session,
    an_event,
    codes,
    entries,
    found,
    is_live,
    position,
    put,
    put_child,
    put_new,
    revocation,
)

CUT_OFFS = [(Scope.SUBJECT, ALICE), (Scope.CLIENT, "first-party"), (Scope.EVERYTHING, "")]
NO_ID = SessionId("not-an-id")
UNKNOWN_ID = SessionId("0" * 32)


class SessionEndContract(StoreContract):
    """`end`, and what `add` and `find` make of it."""

    # cut-offs

    @pytest.mark.parametrize(("scope", "id"), CUT_OFFS)
    async def test_a_login_under_way_is_cut_off(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        under_way = a_session(store, clock)
        outcome = await store.sessions.end(revocation(scope, id, clock.now()), now=clock.now())
        assert isinstance(outcome, Ended)
        assert await put(store, under_way) == CutOff()
        assert await store.sessions.find(under_way.session_id) is None
        assert await codes(store) == ["revoked"]
        assert await put(store, replace(under_way, as_of=outcome.entry.position)) == Added()
        assert await is_live(store, under_way.session_id, clock.now())

    @pytest.mark.parametrize(("scope", "id"), CUT_OFFS)
    async def test_a_cut_off_ends_what_stands(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        session = await put_new(store, clock)
        data_before = await store.sessions.read_data(session.session_id)
        clock.advance(1)
        outcome = await store.sessions.end(revocation(scope, id, clock.now()), now=clock.now())
        assert isinstance(outcome, Ended)
        gone = await found(store, session.session_id)
        assert (gone.ended_at, gone.ended_position) == (clock.now(), outcome.entry.position)
        assert replace(gone, ended_at=None, ended_position=None) == session
        assert await store.sessions.touch([Seen(session.session_id, clock.now())]) == 0
        assert data_before == SessionData(b"", 0)
        assert await store.sessions.read_data(session.session_id) is None
        assert not await store.sessions.write_data(session.session_id, b"x", version=0, now=clock.now())
        assert (await store.sessions.list(ALICE, now=clock.now(), after=None, limit=10)).sessions == []
        again = await store.sessions.end(
            revocation(Scope.SESSION, session.session_id, clock.now()), now=clock.now()
        )
        assert again == AlreadyEnded(outcome.entry.position)

    @pytest.mark.parametrize(
        ("scope", "id"),
        [(Scope.SUBJECT, BOB), (Scope.CLIENT, SHOP), (Scope.TOKEN, "jti"), (Scope.KEY, "kid")],
    )
    async def test_another_scope_ends_nothing(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        session = await put_new(store, clock)
        outcome = await store.sessions.end(revocation(scope, id, clock.now()), now=clock.now())
        assert isinstance(outcome, Ended)
        assert outcome.sessions == 0
        assert await found(store, session.session_id) == session
        assert await put(store, a_session(store, clock)) == Added()

    async def test_a_later_cut_off_covers_too_and_an_earlier_one_never_returns(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await store.sessions.end(revocation(Scope.CLIENT, SHOP, clock.now()), now=clock.now())
        between = replace(await put_new(store, clock, BOB), client_id=SHOP)
        await store.sessions.end(revocation(Scope.SUBJECT, BOB, clock.now()), now=clock.now())
        await store.sessions.end(revocation(Scope.CLIENT, SHOP, clock.now()), now=clock.now())
        for as_of, expected in ((0, CutOff()), (1, CutOff()), (2, CutOff()), (3, Added())):
            late = replace(a_session(store, clock, BOB), client_id=SHOP, as_of=Position(as_of))
            assert await put(store, late) == expected
        assert (await found(store, between.session_id)).ended_position == 2

    async def test_a_cut_off_outlives_the_longest_session(self, store: Store, clock: FrozenClock) -> None:
        await put_new(store, clock)  # for 30 days
        under_way = a_session(store, clock, BOB)
        await store.sessions.end(revocation(Scope.EVERYTHING, "", clock.now()), now=clock.now())
        clock.advance(LIFETIME)
        await store.feed.delete_expired(clock.now(), 100)
        assert await put(store, under_way) == CutOff()
        clock.advance(timedelta(minutes=5))
        assert await store.feed.delete_expired(clock.now(), 100) == 1

    async def test_retention_keeps_a_cut_off(self, store: Store, clock: FrozenClock) -> None:
        await store.feed.extend_retention(credential=timedelta(0), session=timedelta(days=400))
        under_way = a_session(store, clock)
        await store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
        clock.advance(timedelta(days=400))
        await store.feed.delete_expired(clock.now(), 100)
        assert await put(store, under_way) == CutOff()

    # parents and children

    @pytest.mark.parametrize("end", ["session", "first-party", "idle", "expired", "deleted"])
    async def test_a_child_is_over_with_its_parent(self, store: Store, clock: FrozenClock, end: str) -> None:
        parent = await put_new(store, clock)
        longer = clock.now() + 2 * LIFETIME
        child = replace(
            a_session(store, clock),
            client_id=SHOP,
            parent_session_id=parent.session_id,
            expires_at=longer,
            idle_timeout=None,
        )
        assert await put(store, child) == Added()
        assert await found(store, child.session_id) == child
        clock.advance(IDLE - TICK)
        assert await found(store, child.session_id) == child
        if end == "session":
            await store.sessions.end(
                revocation(Scope.SESSION, parent.session_id, clock.now()), now=clock.now()
            )
        elif end == "first-party":
            await store.sessions.end(revocation(Scope.CLIENT, "first-party", clock.now()), now=clock.now())
        elif end == "idle":
            clock.advance(TICK)
        else:
            await store.sessions.touch([Seen(parent.session_id, clock.now())])
            clock.set(parent.expires_at)
            if end == "deleted":
                assert await store.sessions.delete_expired(clock.now(), 10) == 1
        gone = await found(store, child.session_id)
        assert gone.ended_at is not None
        assert gone.ended_at <= clock.now()
        assert gone.ended_position == (1 if end in {"session", "first-party"} else 0)
        assert not (await store.sessions.list(ALICE, now=clock.now(), after=None, limit=10)).sessions
        late = replace(
            child, session_id=a_session(store, clock).session_id, created_at=clock.now(), as_of=Position(0)
        )
        assert await put(store, late) == CutOff()
        later = replace(late, as_of=await position(store))
        assert await put(store, later) == CutOff()

    async def test_a_child_of_nobody_or_of_somebody_else_is_cut_off(
        self, store: Store, clock: FrozenClock
    ) -> None:
        parent = await put_new(store, clock)
        for parent_id, subject in ((UNKNOWN_ID, ALICE), (parent.session_id, BOB)):
            child = replace(a_session(store, clock, subject), parent_session_id=parent_id)
            assert await put(store, child) == CutOff()

    async def test_a_child_has_no_children(self, store: Store, clock: FrozenClock) -> None:
        child = await put_child(store, clock, await put_new(store, clock))
        with pytest.raises(ValueError, match="no parent itself"):
            await put(store, replace(a_session(store, clock), parent_session_id=child.session_id))

    async def test_ending_a_child_leaves_its_parent(self, store: Store, clock: FrozenClock) -> None:
        parent = await put_new(store, clock)
        child = await put_child(store, clock, parent)
        outcome = await store.sessions.end(
            revocation(Scope.SESSION, child.session_id, clock.now()), now=clock.now()
        )
        assert isinstance(outcome, Ended)
        assert outcome.sessions == 1
        assert await is_live(store, parent.session_id, clock.now())

    # end

    async def test_a_session_is_ended_once(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        child = await put_child(store, clock, session)
        other = await put_new(store, clock)
        order = revocation(Scope.SESSION, session.session_id, clock.now())
        clock.advance(1)
        outcome = await store.sessions.end(order, now=clock.now())
        assert isinstance(outcome, Ended)
        assert outcome.sessions == 2
        assert (outcome.entry.scope, outcome.entry.id, outcome.entry.at) == (
            Scope.SESSION,
            session.session_id,
            clock.now(),
        )
        for over in (session, child):
            gone = await found(store, over.session_id)
            assert (gone.ended_at, gone.ended_position) == (clock.now(), outcome.entry.position)
        assert await is_live(store, other.session_id, clock.now())
        clock.advance(1)
        assert await store.sessions.end(order, now=clock.now()) == AlreadyEnded(outcome.entry.position)
        assert await entries(store) == [outcome.entry]
        assert await codes(store) == ["login"] * 3 + ["revoked"]

    @pytest.mark.parametrize("at_end", [IDLE, LIFETIME])
    async def test_what_ran_out_by_itself_was_ended_already(
        self, store: Store, clock: FrozenClock, at_end: timedelta
    ) -> None:
        session = replace(a_session(store, clock), idle_timeout=IDLE if at_end is IDLE else None)
        await put(store, session)
        clock.advance(at_end)
        order = revocation(Scope.SESSION, session.session_id, clock.now())
        assert await store.sessions.end(order, now=clock.now()) == AlreadyEnded(Position(0))
        assert await position(store) == 0

    @pytest.mark.parametrize("session_id", [UNKNOWN_ID, NO_ID])
    async def test_an_id_without_a_row_gets_its_entry(
        self, store: Store, clock: FrozenClock, session_id: SessionId
    ) -> None:
        outcome = await store.sessions.end(
            revocation(Scope.SESSION, session_id, clock.now()), now=clock.now()
        )
        assert isinstance(outcome, Ended)
        assert (outcome.sessions, outcome.entry.id) == (0, session_id)
        assert await entries(store) == [outcome.entry]

    async def test_a_subject_is_ended_with_all_that_lives(self, store: Store, clock: FrozenClock) -> None:
        gone = await put_new(store, clock)
        await store.sessions.end(revocation(Scope.SESSION, gone.session_id, clock.now()), now=clock.now())
        sessions = [await put_new(store, clock) for _ in range(3)]
        child = await put_child(store, clock, sessions[0])
        stranger = await put_new(store, clock, BOB)
        outcome = await store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
        assert isinstance(outcome, Ended)
        assert outcome.sessions == 4
        for session in (*sessions, child):
            assert (await found(store, session.session_id)).ended_position == outcome.entry.position
        assert (await found(store, gone.session_id)).ended_position == 1
        assert await is_live(store, stranger.session_id, clock.now())

    async def test_ending_a_subject_twice_is_two_entries(self, store: Store, clock: FrozenClock) -> None:
        for number in (1, 2):
            order = revocation(Scope.SUBJECT, ALICE, clock.now())
            outcome = await store.sessions.end(order, now=clock.now())
            assert isinstance(outcome, Ended)
            assert (outcome.entry.position, outcome.sessions) == (number, 0)

    @pytest.mark.parametrize(("scope", "id"), [(Scope.SUBJECT, ALICE), (Scope.EVERYTHING, "")])
    async def test_a_spared_session_lives_on_with_its_children(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        spared, other = await put_new(store, clock), await put_new(store, clock)
        child, under_way = await put_child(store, clock, spared), a_session(store, clock)
        order = revocation(scope, id, clock.now(), spared=spared.session_id)
        outcome = await store.sessions.end(order, now=clock.now())
        assert isinstance(outcome, Ended)
        assert outcome.entry.spared == spared.session_id
        for kept in (spared, child):
            assert await found(store, kept.session_id) == replace(kept, as_of=outcome.entry.position)
        assert not await is_live(store, other.session_id, clock.now())
        assert await put(store, under_way) == CutOff()
        second = await store.sessions.end(revocation(scope, id, clock.now()), now=clock.now())
        assert isinstance(second, Ended)
        assert (await found(store, spared.session_id)).ended_position == second.entry.position

    async def test_sparing_revives_nothing(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        await store.sessions.end(revocation(Scope.CLIENT, session.client_id, clock.now()), now=clock.now())
        order = revocation(Scope.SUBJECT, ALICE, clock.now(), spared=session.session_id)
        assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)
        assert (await found(store, session.session_id)).ended_position == 1
        assert await put(store, replace(a_session(store, clock), as_of=Position(1))) == CutOff()

    @pytest.mark.parametrize(("scope", "id"), CUT_OFFS)
    async def test_claims_end_nothing(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        session = await put_new(store, clock)
        under_way = a_session(store, clock)
        order = revocation(scope, id, clock.now(), reach=Reach.CLAIMS)
        outcome = await store.sessions.end(order, now=clock.now())
        assert isinstance(outcome, Ended)
        assert (outcome.sessions, outcome.entry.reach) == (0, Reach.CLAIMS)
        assert await found(store, session.session_id) == session
        assert await put(store, under_way) == Added()
        assert await codes(store) == ["login", "revoked", "login"]

    async def test_claims_of_one_session(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        order = revocation(Scope.SESSION, session.session_id, clock.now(), reach=Reach.CLAIMS)
        assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)
        assert await found(store, session.session_id) == session

    async def test_an_event_tells_of_a_revocation(self, store: Store, clock: FrozenClock) -> None:
        event = an_event(clock.now())
        await store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
        assert (await store.audit.list(limit=10)).events == [event]
