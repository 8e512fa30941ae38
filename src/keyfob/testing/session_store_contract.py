"""What a `SessionStore` must do: adding, finding, touching, listing. Ends and rotation have files of their own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from keyfob.base.at_once import at_once
from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import Position, SessionId, Subject
from keyfob.base.opaque import OpaqueKind
from keyfob.revocation.entry import Reach, Scope
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    MAX_DATA,
    Added,
    LimitReached,
    Seen,
    SessionData,
)
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    IDLE,
    LIFETIME,
    TICK,
    Store,
    StoreContract,
    a_full_session,
    a_session,
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

NO_ID = SessionId("not-an-id")
UNKNOWN_ID = SessionId("0" * 32)


class SessionStoreContract(StoreContract):
    """`add`, `find`, `touch`, `list`, the application's data, and cleaning up."""

    # add and find

    async def test_a_store_that_reads_at_once_makes_nobody_wait(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        if store.reads_at_once:
            read = at_once(store.sessions.find(session.session_id))
            assert read is not None
            assert read.session == session

    async def test_a_session_is_found_as_it_was_added(self, store: Store, clock: FrozenClock) -> None:
        for session in (a_session(store, clock), a_full_session(store, clock)):
            assert await put(store, session) == Added()
            assert await found(store, session.session_id) == session

    @pytest.mark.parametrize("kind", [OpaqueKind.SESSION, OpaqueKind.REFRESH, None])
    async def test_the_kind_is_kept(self, store: Store, clock: FrozenClock, kind: OpaqueKind | None) -> None:
        bare = replace(a_session(store, clock), idle_timeout=None, kind=kind)
        session = replace(bare, digest=bare.digest if kind else None)
        await put(store, session)
        assert await found(store, session.session_id) == session

    async def test_an_event_is_written_with_the_session(self, store: Store, clock: FrozenClock) -> None:
        await put_new(store, clock)
        assert await codes(store) == ["login"]

    async def test_what_has_no_row_is_none(self, store: Store) -> None:
        assert await store.sessions.find(UNKNOWN_ID) is None
        assert await store.sessions.find(NO_ID) is None
        assert await store.sessions.find(SessionId("A" * 32)) is None
        assert await store.sessions.find(SessionId("")) is None

    async def test_an_id_in_use_is_refused_and_changes_nothing(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        with pytest.raises(ValueError, match="stands already"):
            await put(store, replace(session, subject=BOB))
        assert await found(store, session.session_id) == session
        assert await codes(store) == ["login"]

    async def test_an_id_of_the_wrong_form_is_refused(self, store: Store, clock: FrozenClock) -> None:
        with pytest.raises(ValueError, match="32 lower-case hex digits"):
            await put(store, replace(a_session(store, clock), session_id=NO_ID))

    async def test_an_as_of_past_the_head_is_refused(self, store: Store, clock: FrozenClock) -> None:
        with pytest.raises(ValueError, match="past the head"):
            await put(store, replace(a_session(store, clock), as_of=Position(1)))

    async def test_found_is_as_of_the_head(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        for number in range(3):
            answer = await store.sessions.find(session.session_id)
            assert answer is not None
            assert answer.as_of == number
            await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())

    async def test_expiry_and_idleness_are_left_to_the_reader(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        clock.advance(LIFETIME)
        assert await found(store, session.session_id) == session

    # the cap

    async def test_the_cap_denies_at_the_limit(self, store: Store, clock: FrozenClock) -> None:
        for _ in range(2):
            assert await put(store, a_session(store, clock), limit=3) == Added()
        assert await put(store, a_session(store, clock), limit=3) == Added()
        refused = a_session(store, clock)
        assert await put(store, refused, limit=3) == LimitReached()
        assert await store.sessions.find(refused.session_id) is None
        assert await codes(store) == ["login"] * 3
        assert await put(store, a_session(store, clock, BOB), limit=3) == Added()

    async def test_the_cap_ends_the_oldest(self, store: Store, clock: FrozenClock) -> None:
        sessions = []
        for _ in range(4):
            sessions.append(await put_new(store, clock))
            clock.advance(1)
        outcome = await put(store, a_session(store, clock), limit=3, at_limit=AtLimit.END_OLDEST)
        assert isinstance(outcome, Added)
        assert [(entry.scope, entry.id, entry.reach) for entry in outcome.ended] == [
            (Scope.SESSION, old.session_id, Reach.END) for old in sessions[:2]
        ]
        assert list(outcome.ended) == list(await entries(store))
        assert [await is_live(store, old.session_id, clock.now()) for old in sessions] == [
            False,
            False,
            True,
            True,
        ]
        assert await codes(store) == ["login"] * 4 + ["revoked"] * 2 + ["login"]

    async def test_one_more_than_the_cap_allows_ends_one(self, store: Store, clock: FrozenClock) -> None:
        old = await put_new(store, clock)
        outcome = await put(store, a_session(store, clock), limit=1, at_limit=AtLimit.END_OLDEST)
        assert isinstance(outcome, Added)
        assert [entry.id for entry in outcome.ended] == [old.session_id]
        gone = await found(store, old.session_id)
        assert (gone.ended_at, gone.ended_position) == (outcome.ended[0].at, outcome.ended[0].position)

    async def test_children_and_the_children_of_the_oldest(self, store: Store, clock: FrozenClock) -> None:
        old = await put_new(store, clock)
        child = await put_child(store, clock, old)
        clock.advance(1)
        assert await put(store, a_session(store, clock), limit=2) == Added()
        assert isinstance(
            await put(store, a_session(store, clock), limit=2, at_limit=AtLimit.END_OLDEST), Added
        )
        assert not await is_live(store, child.session_id, clock.now())

    @pytest.mark.parametrize("end", ["ended", "cut off", "idle", "expired"])
    async def test_what_is_over_does_not_count(self, store: Store, clock: FrozenClock, end: str) -> None:
        session = await put_new(store, clock)
        if end == "ended":
            await store.sessions.end(
                revocation(Scope.SESSION, session.session_id, clock.now()), now=clock.now()
            )
        elif end == "cut off":
            await store.sessions.end(
                revocation(Scope.CLIENT, session.client_id, clock.now()), now=clock.now()
            )
        else:
            clock.advance(IDLE if end == "idle" else LIFETIME)
        late = replace(a_session(store, clock), as_of=await position(store))
        assert await put(store, late, limit=1) == Added()

    async def test_a_session_counts_up_to_the_instant_it_is_idle(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await put_new(store, clock)
        clock.advance(IDLE - TICK)
        assert await put(store, a_session(store, clock), limit=1) == LimitReached()

    # touch

    async def test_touching_moves_forward_only(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        start = clock.now()
        later = start + timedelta(minutes=5)
        assert await store.sessions.touch([Seen(session.session_id, later)]) == 1
        assert await found(store, session.session_id) == replace(session, last_seen_at=later)
        for not_later in (later, later - TICK, start):
            assert await store.sessions.touch([Seen(session.session_id, not_later)]) == 0
        assert (await found(store, session.session_id)).last_seen_at == later

    async def test_touching_never_creates(self, store: Store, clock: FrozenClock) -> None:
        assert await store.sessions.touch([]) == 0
        unknown = [Seen(UNKNOWN_ID, clock.now()), Seen(NO_ID, clock.now())]
        assert await store.sessions.touch(unknown) == 0
        assert await store.sessions.find(UNKNOWN_ID) is None

    async def test_touching_counts_rows(self, store: Store, clock: FrozenClock) -> None:
        one, other = await put_new(store, clock), await put_new(store, clock)
        at = clock.now()
        uses = [
            Seen(one.session_id, at + 3 * TICK),
            Seen(other.session_id, at + TICK),
            Seen(one.session_id, at + TICK),
        ]
        assert await store.sessions.touch(uses) == 2
        assert (await found(store, one.session_id)).last_seen_at == at + 3 * TICK

    async def test_the_order_within_a_batch_does_not_matter(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        early, late = (
            clock.now() + 2 * TICK,
            clock.now() + IDLE + TICK,
        )  # which only the early one keeps from being idle
        uses = [Seen(session.session_id, late), Seen(session.session_id, early)]
        assert await store.sessions.touch(uses) == 1
        assert (await found(store, session.session_id)).last_seen_at == late

    @pytest.mark.parametrize(("before_end", "moved"), [(TICK, 1), (timedelta(0), 0), (-TICK, 0)])
    async def test_touching_never_revives_what_is_idle(
        self, store: Store, clock: FrozenClock, before_end: timedelta, moved: int
    ) -> None:
        session = await put_new(store, clock)
        at = session.last_seen_at + IDLE - before_end
        assert await store.sessions.touch([Seen(session.session_id, at)]) == moved

    @pytest.mark.parametrize(("before_end", "moved"), [(TICK, 1), (timedelta(0), 0), (-TICK, 0)])
    async def test_touching_never_revives_what_is_expired(
        self, store: Store, clock: FrozenClock, before_end: timedelta, moved: int
    ) -> None:
        session = replace(a_session(store, clock), idle_timeout=None)
        await put(store, session)
        assert (
            await store.sessions.touch([Seen(session.session_id, session.expires_at - before_end)]) == moved
        )

    async def test_touching_never_revives_what_is_ended(self, store: Store, clock: FrozenClock) -> None:
        parent = await put_new(store, clock)
        child = await put_child(store, clock, parent)
        await store.sessions.end(revocation(Scope.SESSION, parent.session_id, clock.now()), now=clock.now())
        later = clock.now() + TICK
        uses = [Seen(parent.session_id, later), Seen(child.session_id, later)]
        assert await store.sessions.touch(uses) == 0

    # list

    async def test_a_list_is_newest_first_and_goes_on(self, store: Store, clock: FrozenClock) -> None:
        expected = []
        for number in range(7):
            subject = BOB if number % 3 == 2 else ALICE
            expected.append(await put_new(store, clock, subject))
            clock.advance(0 if number == 3 else 1)  # two of one moment
        expected.sort(key=lambda session: (session.created_at, session.session_id), reverse=True)
        of_alice = [session for session in expected if session.subject == ALICE]
        for limit in (1, 2, 3, 7, 8):
            assert await self._walk(store, clock, None, limit) == expected
            assert await self._walk(store, clock, ALICE, limit) == of_alice
        assert await self._walk(store, clock, Subject("nobody"), 5) == []

    async def test_a_list_shows_the_live_alone(self, store: Store, clock: FrozenClock) -> None:
        ended, cut_off, kept = (
            await put_new(store, clock),
            await put_new(store, clock, BOB),
            await put_new(store, clock),
        )
        short = replace(a_session(store, clock), expires_at=clock.now() + timedelta(days=1))
        await put(store, short)
        await store.sessions.end(revocation(Scope.SESSION, ended.session_id, clock.now()), now=clock.now())
        await store.sessions.end(revocation(Scope.SUBJECT, BOB, clock.now()), now=clock.now())
        assert cut_off.subject == BOB
        assert await self._walk(store, clock, None, 10) == sorted(
            [kept, short], key=lambda session: session.session_id, reverse=True
        )
        clock.advance(timedelta(days=1))
        assert await self._walk(store, clock, ALICE, 10) == [kept]
        clock.advance(IDLE - timedelta(days=1))
        assert await self._walk(store, clock, None, 10) == []

    @pytest.mark.parametrize(
        "cursor", ["", "x", "1", f"1.{NO_ID}", f".{UNKNOWN_ID}", f"-1.{UNKNOWN_ID}", f"٣.{UNKNOWN_ID}"]
    )
    async def test_a_cursor_that_is_none_is_refused(
        self, store: Store, clock: FrozenClock, cursor: str
    ) -> None:
        with pytest.raises(InvalidRequest):
            await store.sessions.list(ALICE, now=clock.now(), after=cursor, limit=10)

    # data

    async def test_data_is_compared_and_set(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        sid, now = session.session_id, clock.now()
        assert await store.sessions.read_data(sid) == SessionData(b"", 0)
        assert await store.sessions.write_data(sid, b"one", version=0, now=now)
        assert await store.sessions.read_data(sid) == SessionData(b"one", 1)
        assert not await store.sessions.write_data(sid, b"late", version=0, now=now)
        assert not await store.sessions.write_data(sid, b"early", version=2, now=now)
        assert await store.sessions.write_data(sid, b"", version=1, now=now)
        assert await store.sessions.read_data(sid) == SessionData(b"", 2)
        assert await found(store, sid) == session

    async def test_data_has_a_limit(self, store: Store, clock: FrozenClock) -> None:
        sid = (await put_new(store, clock)).session_id
        assert await store.sessions.write_data(sid, b"x" * MAX_DATA, version=0, now=clock.now())
        with pytest.raises(ValueError, match="at most 4096"):
            await store.sessions.write_data(sid, b"x" * (MAX_DATA + 1), version=1, now=clock.now())
        assert await store.sessions.read_data(sid) == SessionData(b"x" * MAX_DATA, 1)

    async def test_data_lives_and_dies_with_the_session(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        sid = session.session_id
        assert await store.sessions.write_data(sid, b"x", version=0, now=clock.now())
        assert not await store.sessions.write_data(sid, b"x", version=1, now=clock.now() + IDLE)
        clock.advance(IDLE - TICK)
        assert await store.sessions.read_data(sid) == SessionData(b"x", 1)
        clock.advance(TICK)
        assert await store.sessions.read_data(sid) is None
        assert await store.sessions.read_data(UNKNOWN_ID) is None
        assert not await store.sessions.write_data(UNKNOWN_ID, b"x", version=0, now=clock.now())
        clock.set(session.expires_at)
        assert await store.sessions.delete_expired(clock.now(), 1) == 1
        again = replace(a_session(store, clock), session_id=sid)
        assert await put(store, again) == Added()
        assert await store.sessions.read_data(sid) == SessionData(b"", 0)

    # cleaning up

    async def test_the_expired_are_deleted_up_to_the_limit(self, store: Store, clock: FrozenClock) -> None:
        sessions = [await put_new(store, clock) for _ in range(5)]
        await store.sessions.end(
            revocation(Scope.SESSION, sessions[0].session_id, clock.now()), now=clock.now()
        )
        clock.advance(1)
        late = await put_new(store, clock)
        assert await store.sessions.delete_expired(sessions[0].expires_at - TICK, 100) == 0
        assert await store.sessions.delete_expired(sessions[0].expires_at, 0) == 0
        assert await store.sessions.delete_expired(sessions[0].expires_at, 3) == 3
        assert await store.sessions.delete_expired(sessions[0].expires_at, 100) == 2
        assert await store.sessions.delete_expired(sessions[0].expires_at, 100) == 0
        left = [await store.sessions.find(session.session_id) for session in sessions]
        assert left == [None] * 5
        assert await found(store, late.session_id) == late
        assert await position(store) == 1

    async def _walk(
        self, store: Store, clock: FrozenClock, subject: Subject | None, limit: int
    ) -> list[Session]:
        """Return all pages of a list together."""
        listed: list[Session] = []
        after = None
        for _ in range(20):
            page = await store.sessions.list(subject, now=clock.now(), after=after, limit=limit)
            assert len(page.sessions) <= limit
            listed += page.sessions
            after = page.next
            if after is None:
                return listed
        raise AssertionError("a list without an end")
