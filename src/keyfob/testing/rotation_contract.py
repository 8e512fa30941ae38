"""What a `SessionStore` must do when a refresh token is presented."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from msgspec import structs

from keyfob.base.identifiers import Position, SessionId
from keyfob.base.opaque import OpaqueKind
from keyfob.revocation.entry import Reach, Scope
from keyfob.sessions.store import (
    Current,
    Replayed,
    Reused,
    Rotated,
    RotateOutcome,
    Unknown,
)
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    IDLE,
    LIFETIME,
    TICK,
    WINDOW,
    Store,
    StoreContract,
    a_session,
    an_event,
    codes,
    digest_of,
    entries,
    found,
    is_live,
    position,
    put,
    put_child,
    put_new,
    revocation,
)


async def rotate(
    store: Store,
    session_id: SessionId,
    generation: int,
    now: datetime,
    *,
    window: timedelta = WINDOW,
    chain: str = "a",
) -> RotateOutcome:
    """Present the token of *generation*."""
    return await store.sessions.rotate(
        session_id,
        digest_of(generation, chain),
        digest_of(generation + 1, chain),
        generation=generation,
        now=now,
        replay_window=window,
        event=an_event(now, "refresh_reused"),
    )


class RotationContract(StoreContract):
    """`rotate`."""

    async def test_the_current_token_rotates(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        now = clock.advance(60)
        outcome = await rotate(store, session.session_id, 0, now)
        after = structs.replace(session, digest=digest_of(1), generation=1, rotated_at=now, last_seen_at=now)
        assert outcome == Rotated(after, Position(0))
        assert await found(store, session.session_id) == after
        assert await codes(store) == ["login"]
        assert await position(store) == 0

    async def test_a_login_is_no_rotation(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        assert isinstance(await rotate(store, session.session_id, 0, clock.now()), Rotated)

    async def test_success_is_as_of_the_head(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())
        for generation in (0, 1, 0):
            outcome = await rotate(store, session.session_id, generation, clock.now())
            assert isinstance(outcome, Rotated | Current | Replayed)
            assert outcome.as_of == 1

    @pytest.mark.parametrize("after", [timedelta(0), WINDOW - TICK])
    async def test_within_the_window_all_get_the_same_secret(
        self, store: Store, clock: FrozenClock, after: timedelta
    ) -> None:
        session = await put_new(store, clock)
        rotated_at = clock.advance(60)
        await rotate(store, session.session_id, 0, rotated_at)
        now = clock.advance(after)
        expected = structs.replace(
            session, digest=digest_of(1), generation=1, rotated_at=rotated_at, last_seen_at=now
        )
        assert await rotate(store, session.session_id, 1, now) == Current(expected, Position(0))
        assert await found(store, session.session_id) == expected
        expected = structs.replace(expected, replayed_since_rotation=True, replayed_rotations=1)
        for _ in range(3):
            assert await rotate(store, session.session_id, 0, now) == Replayed(expected, Position(0))
        assert await found(store, session.session_id) == expected

    async def test_at_the_window_the_current_token_rotates(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        await rotate(store, session.session_id, 0, clock.now())
        outcome = await rotate(store, session.session_id, 1, clock.advance(WINDOW))
        assert isinstance(outcome, Rotated)
        assert outcome.session.generation == 2

    async def test_at_the_window_the_parent_is_reused(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        child = await put_child(store, clock, session)
        await rotate(store, session.session_id, 0, clock.now())
        now = clock.advance(WINDOW)
        outcome = await rotate(store, session.session_id, 0, now)
        assert isinstance(outcome, Reused)
        entry = outcome.entry
        assert (entry.scope, entry.id, entry.reach, entry.position) == (
            Scope.SESSION,
            session.session_id,
            Reach.END,
            1,
        )
        assert outcome.late_by == WINDOW
        assert (outcome.session.ended_at, outcome.session.ended_position) == (now, 1)
        assert await found(store, session.session_id) == outcome.session
        assert not await is_live(store, child.session_id, now)
        assert await entries(store) == [entry]
        assert await codes(store) == ["login", "login", "refresh_reused"]
        for generation in (0, 1):
            assert await rotate(store, session.session_id, generation, now) == Unknown()

    async def test_an_earlier_generation_is_reused_at_once(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        await rotate(store, session.session_id, 0, clock.now())
        await rotate(store, session.session_id, 1, clock.advance(WINDOW))
        outcome = await rotate(store, session.session_id, 0, clock.advance(1))
        assert isinstance(outcome, Reused)
        assert outcome.late_by == timedelta(seconds=1)

    async def test_without_a_window_the_parent_is_reused_at_once(
        self, store: Store, clock: FrozenClock
    ) -> None:
        for skew in (timedelta(0), timedelta(seconds=1)):  # a clock that is behind another's makes no window
            session = await put_new(store, clock)
            await rotate(store, session.session_id, 0, clock.now(), window=timedelta(0))
            outcome = await rotate(store, session.session_id, 0, clock.now() - skew, window=timedelta(0))
            assert isinstance(outcome, Reused)
            assert outcome.late_by == timedelta(0)

    async def test_activity_never_moves_back(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        behind = clock.now() - timedelta(seconds=1)
        for generation in (0, 1, 0):
            assert not isinstance(
                await rotate(store, session.session_id, generation, behind), Unknown | Reused
            )
            assert (await found(store, session.session_id)).last_seen_at == session.last_seen_at

    # replays in a row

    async def test_the_third_replay_in_a_row_closes_the_window(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        closed = []
        for generation in range(3):
            await rotate(store, session.session_id, generation, clock.advance(WINDOW))
            outcome = await rotate(store, session.session_id, generation, clock.now())
            assert isinstance(outcome, Replayed)
            closed.append(outcome.closed_window)
        assert closed == [False, False, True]
        assert (await found(store, session.session_id)).window_closed
        assert isinstance(await rotate(store, session.session_id, 3, clock.now()), Rotated)
        outcome = await rotate(store, session.session_id, 3, clock.now())
        assert isinstance(outcome, Reused)

    async def test_a_rotation_without_a_replay_breaks_the_row(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        for generation in range(8):
            await rotate(store, session.session_id, generation, clock.advance(WINDOW))
            if generation % 3 != 2:
                outcome = await rotate(store, session.session_id, generation, clock.now())
                assert isinstance(outcome, Replayed)
                assert not outcome.closed_window
        assert not (await found(store, session.session_id)).window_closed

    async def test_many_replays_of_one_rotation_count_once(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        await rotate(store, session.session_id, 0, clock.now())
        for _ in range(10):
            outcome = await rotate(store, session.session_id, 0, clock.now())
            assert isinstance(outcome, Replayed)
            assert not outcome.closed_window
        assert (await found(store, session.session_id)).replayed_rotations == 1

    # unknown

    async def test_another_secret_is_unknown(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        await rotate(store, session.session_id, 0, clock.now())
        before = await found(store, session.session_id)
        for generation in (0, 1, 2, 3):
            assert await rotate(store, session.session_id, generation, clock.now(), chain="z") == Unknown()
        for generation in (2, 3):
            assert await rotate(store, session.session_id, generation, clock.now()) == Unknown()
        assert await found(store, session.session_id) == before
        assert await entries(store) == []

    async def test_a_generation_that_does_not_fit_the_secret_is_unknown(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = structs.replace(
            a_session(store, clock), generation=5, chain_generation=5, digest=digest_of(5)
        )
        await put(store, session)
        for generation in (4, 6):
            outcome = await store.sessions.rotate(
                session.session_id,
                digest_of(5),
                digest_of(6),
                generation=generation,
                now=clock.now(),
                replay_window=WINDOW,
                event=an_event(clock.now()),
            )
            assert outcome == Unknown()
        assert await rotate(store, session.session_id, 3, clock.now()) == Unknown()  # of another chain

    @pytest.mark.parametrize("session_id", ["0" * 32, "no id"])
    async def test_no_row_is_unknown(self, store: Store, clock: FrozenClock, session_id: str) -> None:
        assert await rotate(store, SessionId(session_id), 0, clock.now()) == Unknown()
        assert await store.sessions.find(SessionId(session_id)) is None

    @pytest.mark.parametrize("kind", [OpaqueKind.SESSION, OpaqueKind.API_KEY, None])
    async def test_another_kind_is_unknown(
        self, store: Store, clock: FrozenClock, kind: OpaqueKind | None
    ) -> None:
        session = structs.replace(a_session(store, clock), kind=kind)
        await put(store, session)
        assert await rotate(store, session.session_id, 0, clock.now()) == Unknown()
        assert await found(store, session.session_id) == session

    @pytest.mark.parametrize(
        ("scope", "id"),
        [
            (Scope.SESSION, None),
            (Scope.SUBJECT, "alice"),
            (Scope.CLIENT, "first-party"),
            (Scope.EVERYTHING, ""),
        ],
    )
    async def test_what_is_over_is_unknown(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str | None,  # noqa: A002
    ) -> None:
        session = await put_new(store, clock)
        await rotate(store, session.session_id, 0, clock.now())
        place = session.session_id if id is None else id
        await store.sessions.end(revocation(scope, place, clock.now()), now=clock.now())
        for generation in (0, 1):
            assert await rotate(store, session.session_id, generation, clock.advance(WINDOW)) == Unknown()
        assert await position(store) == 1

    async def test_the_child_of_what_is_over_is_unknown(self, store: Store, clock: FrozenClock) -> None:
        parent = await put_new(store, clock)
        child = await put_child(store, clock, parent)
        await store.sessions.end(revocation(Scope.CLIENT, parent.client_id, clock.now()), now=clock.now())
        assert await rotate(store, child.session_id, 0, clock.now()) == Unknown()

    @pytest.mark.parametrize("limit", [IDLE, LIFETIME])
    async def test_a_session_ends_at_the_instant_of_its_limit(
        self, store: Store, clock: FrozenClock, limit: timedelta
    ) -> None:
        session = structs.replace(a_session(store, clock), idle_timeout=IDLE if limit is IDLE else None)
        await put(store, session)
        assert await rotate(store, session.session_id, 0, session.created_at + limit) == Unknown()
        assert isinstance(
            await rotate(store, session.session_id, 0, session.created_at + limit - TICK), Rotated
        )
