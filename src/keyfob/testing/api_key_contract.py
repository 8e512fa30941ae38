"""What a `SessionStore` must do with API keys, which are rows as logins are."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import Added, CutOff, LimitReached, Seen, Unknown
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    LIFETIME,
    TICK,
    Store,
    StoreContract,
    a_session,
    an_api_key,
    found,
    is_live,
    position,
    put,
    put_new,
    revocation,
)


class ApiKeyContract(StoreContract):
    """API keys beside logins."""

    async def test_a_key_is_found_as_it_was_added(self, store: Store, clock: FrozenClock) -> None:
        key = replace(an_api_key(store, clock), role_limit=("buyer", "payer"), label="ci\n🔑")
        assert await put(store, key) == Added()
        assert await found(store, key.session_id) == key

    async def test_no_list_shows_the_other_kind(self, store: Store, clock: FrozenClock) -> None:
        keys, logins = [], []
        for _ in range(3):
            clock.advance(1)
            keys.append(await _put_key(store, clock))
            clock.advance(1)
            logins.append(await put_new(store, clock))
        others = await _put_key(store, clock, BOB)
        assert await _ids(store, clock, ALICE) == [key.session_id for key in reversed(keys)]
        assert await _ids(store, clock, BOB) == [others.session_id]
        assert set(await _ids(store, clock, None)) == {key.session_id for key in (*keys, others)}
        page = await store.sessions.list(ALICE, now=clock.now(), after=None, limit=9)
        assert [one.session_id for one in page.sessions] == [one.session_id for one in reversed(logins)]

    @pytest.mark.parametrize("limit", [1, 2, 3, 9])
    async def test_pages_of_every_size_hold_the_same(
        self, store: Store, clock: FrozenClock, limit: int
    ) -> None:
        expected: list[str] = []
        for _ in range(3):
            clock.advance(1)
            expected.insert(0, (await _put_key(store, clock)).session_id)
            await put_new(store, clock)
        seen, after = [], None
        for _ in range(20):
            page = await store.sessions.list_api_keys(ALICE, now=clock.now(), after=after, limit=limit)
            seen += [one.session_id for one in page.sessions]
            after = page.next
            if after is None:
                break
        assert seen == expected

    async def test_logins_and_keys_have_limits_of_their_own(self, store: Store, clock: FrozenClock) -> None:
        key = await _put_key(store, clock)
        clock.advance(1)
        login = await put_new(store, clock)
        clock.advance(1)
        # A login makes room among the logins: the key, though older, stays.
        newer = replace(a_session(store, clock), as_of=await position(store))
        outcome = await put(store, newer, limit=1, at_limit=AtLimit.END_OLDEST)
        assert isinstance(outcome, Added)
        assert [entry.id for entry in outcome.ended] == [login.session_id]
        assert await is_live(store, key.session_id, clock.now())
        # And a key is refused at the limit of the keys, however few logins there are.
        another = replace(an_api_key(store, clock), as_of=await position(store))
        assert await put(store, another, limit=1, at_limit=AtLimit.DENY) == LimitReached()
        assert await put(store, another, limit=2, at_limit=AtLimit.DENY) == Added()
        assert await is_live(store, newer.session_id, clock.now())

    async def test_a_cut_off_covers_keys_listed_or_under_way(self, store: Store, clock: FrozenClock) -> None:
        key = await _put_key(store, clock)
        under_way = replace(an_api_key(store, clock), as_of=await position(store))
        await store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
        assert not await is_live(store, key.session_id, clock.now())
        assert await put(store, under_way) == CutOff()
        assert await _ids(store, clock, ALICE) == []

    async def test_a_key_outlives_logins_and_its_cut_off_outlives_the_key(
        self, store: Store, clock: FrozenClock
    ) -> None:
        key = replace(
            an_api_key(store, clock), as_of=await position(store), expires_at=clock.now() + 12 * LIFETIME
        )
        assert await put(store, key) == Added()
        await store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
        clock.advance(12 * LIFETIME - TICK)
        await store.feed.delete_expired(clock.now(), 100)
        assert not await is_live(store, key.session_id, clock.now())

    async def test_the_last_use_is_written_and_revives_nothing(
        self, store: Store, clock: FrozenClock
    ) -> None:
        key = await _put_key(store, clock)
        clock.advance(60)
        assert await store.sessions.touch([Seen(key.session_id, clock.now())]) == 1
        assert (await found(store, key.session_id)).last_seen_at == clock.now()
        await store.sessions.end(revocation(Scope.SESSION, key.session_id, clock.now()), now=clock.now())
        clock.advance(60)
        assert await store.sessions.touch([Seen(key.session_id, clock.now())]) == 0

    async def test_a_key_is_never_rotated(self, store: Store, clock: FrozenClock) -> None:
        key = await _put_key(store, clock)
        assert isinstance(await rotate(store, key.session_id, 0, clock.now()), Unknown)
        assert (await found(store, key.session_id)) == key
        assert await position(store) == 0

    async def test_a_key_leaves_at_its_end(self, store: Store, clock: FrozenClock) -> None:
        key = await _put_key(store, clock)
        clock.advance(LIFETIME - TICK)
        assert await _ids(store, clock, ALICE) == [key.session_id]
        clock.advance(TICK)
        assert await _ids(store, clock, ALICE) == []


async def _put_key(store: Store, clock: FrozenClock, subject: Subject = ALICE) -> Session:
    key = replace(an_api_key(store, clock, subject), as_of=await position(store))
    assert await put(store, key) == Added()
    return key


async def _ids(store: Store, clock: FrozenClock, subject: Subject | None) -> list[str]:
    page = await store.sessions.list_api_keys(subject, now=clock.now(), after=None, limit=9)
    assert page.next is None
    return [one.session_id for one in page.sessions]
