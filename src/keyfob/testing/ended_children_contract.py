"""What a `SessionStore` must say about the children that an entry ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import Added, Ended
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    LIFETIME,
    SHOP,
    Store,
    StoreContract,
    a_session,
    position,
    put,
    put_child,
    put_new,
    revocation,
)

ENDING = [(Scope.SUBJECT, ALICE), (Scope.CLIENT, SHOP), (Scope.EVERYTHING, "")]


class EndedChildrenContract(StoreContract):
    """`list_ended_children`."""

    async def test_the_end_of_a_login_names_its_children_and_not_itself(
        self, store: Store, clock: FrozenClock
    ) -> None:
        parent, other = await put_new(store, clock), await put_new(store, clock)
        children = [await put_child(store, clock, parent) for _ in range(2)]
        await put_child(store, clock, other)
        entry = await _end(store, clock, Scope.SESSION, parent.session_id)
        assert await _ended(store, entry) == _ids(children)

    async def test_the_end_of_a_child_names_it_alone(self, store: Store, clock: FrozenClock) -> None:
        parent = await put_new(store, clock)
        child = await put_child(store, clock, parent)
        await put_child(store, clock, parent)
        entry = await _end(store, clock, Scope.SESSION, child.session_id)
        assert await _ended(store, entry) == _ids([child])

    @pytest.mark.parametrize(("scope", "id"), ENDING)
    async def test_a_cut_off_names_every_child_in_its_scope(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        logins = [await put_new(store, clock) for _ in range(2)]
        children = [await put_child(store, clock, login) for login in logins for _ in range(2)]
        bobs = await put_child(store, clock, await put_new(store, clock, BOB))
        entry = await _end(store, clock, scope, id)
        assert await _ended(store, entry) == _ids(children if scope is Scope.SUBJECT else [*children, bobs])

    @pytest.mark.parametrize(("scope", "id"), ENDING)
    async def test_pages_show_each_child_once(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        login = await put_new(store, clock)
        children = [await put_child(store, clock, login) for _ in range(7)]
        entry = await _end(store, clock, scope, id)
        assert await _ended(store, entry, limit=2) == _ids(children)

    async def test_pages_of_one_login_show_each_child_once(self, store: Store, clock: FrozenClock) -> None:
        login = await put_new(store, clock)
        children = [await put_child(store, clock, login) for _ in range(7)]
        entry = await _end(store, clock, Scope.SESSION, login.session_id)
        assert await _ended(store, entry, limit=3) == _ids(children)

    async def test_the_end_of_a_client_names_what_began_from_its_logins(
        self, store: Store, clock: FrozenClock
    ) -> None:
        login = await put_new(store, clock)
        child = await put_child(store, clock, login)
        entry = await _end(store, clock, Scope.CLIENT, login.client_id)
        assert await _ended(store, entry) == _ids([child])

    async def test_another_client_is_not_named(self, store: Store, clock: FrozenClock) -> None:
        await put_child(store, clock, await put_new(store, clock))
        entry = await _end(store, clock, Scope.CLIENT, "another")
        assert await _ended(store, entry) == []

    @pytest.mark.parametrize("spared", ["parent", "child"])
    async def test_what_is_spared_is_not_named(self, store: Store, clock: FrozenClock, spared: str) -> None:
        mine, other = await put_new(store, clock), await put_new(store, clock)
        child = await put_child(store, clock, mine)
        gone = await put_child(store, clock, other)
        kept = mine if spared == "parent" else child
        entry = await _end(store, clock, Scope.SUBJECT, ALICE, spared=kept.session_id)
        assert await _ended(store, entry) == _ids([gone])

    @pytest.mark.parametrize(("scope", "id"), ENDING)
    async def test_a_login_after_the_entry_is_not_named(
        self,
        store: Store,
        clock: FrozenClock,
        scope: Scope,
        id: str,  # noqa: A002
    ) -> None:
        entry = await _end(store, clock, scope, id)
        await put_child(store, clock, await put_new(store, clock))
        assert await _ended(store, entry) == []

    async def test_what_an_earlier_entry_ended_is_not_named_again(
        self, store: Store, clock: FrozenClock
    ) -> None:
        login = await put_new(store, clock)
        child = await put_child(store, clock, login)
        first = await _end(store, clock, Scope.SESSION, login.session_id)
        for scope, target in ENDING:
            assert await _ended(store, await _end(store, clock, scope, target)) == []
        assert await _ended(store, first) == _ids([child])

    async def test_a_child_that_ran_out_is_named_until_its_row_is_deleted(
        self, store: Store, clock: FrozenClock
    ) -> None:
        login = await put_new(store, clock)
        short = replace(
            a_session(store, clock),
            client_id=SHOP,
            parent_session_id=login.session_id,
            as_of=await position(store),
            idle_timeout=timedelta(minutes=1),
        )
        assert await put(store, short) == Added()
        clock.advance(timedelta(minutes=2))
        entry = await _end(store, clock, Scope.SUBJECT, ALICE)
        assert await _ended(store, entry) == _ids([short])
        clock.advance(LIFETIME + timedelta(days=2))
        await store.sessions.delete_expired(clock.now(), 100)
        assert await _ended(store, entry) == []

    async def test_an_entry_that_ends_nothing_names_nobody(self, store: Store, clock: FrozenClock) -> None:
        child = await put_child(store, clock, await put_new(store, clock))
        for scope, target, reach in (
            (Scope.SUBJECT, ALICE, Reach.CLAIMS),
            (Scope.SESSION, child.session_id, Reach.CLAIMS),
            (Scope.TOKEN, child.session_id, Reach.END),
            (Scope.KEY, child.session_id, Reach.END),
            (Scope.SESSION, "0" * 32, Reach.END),
            (Scope.SUBJECT, "nobody", Reach.END),
        ):
            assert await _ended(store, await _end(store, clock, scope, target, reach=reach)) == []

    async def test_a_cursor_that_no_page_gave_is_refused(self, store: Store, clock: FrozenClock) -> None:
        entry = await _end(store, clock, Scope.EVERYTHING, "")
        with pytest.raises(InvalidRequest):
            await store.sessions.list_ended_children(entry, after="x.y", limit=10)


async def _end(
    store: Store,
    clock: FrozenClock,
    scope: Scope,
    target: str,
    *,
    reach: Reach = Reach.END,
    spared: SessionId | None = None,
) -> Entry:
    order = revocation(scope, target, clock.now(), reach=reach, spared=spared)
    outcome = await store.sessions.end(order, now=clock.now())
    assert isinstance(outcome, Ended)
    return outcome.entry


async def _ended(store: Store, entry: Entry, *, limit: int = 100) -> list[SessionId]:
    found: list[SessionId] = []
    after: str | None = None
    while True:
        page = await store.sessions.list_ended_children(entry, after=after, limit=limit)
        found += [session.session_id for session in page.sessions]
        after = page.next
        if after is None:
            return sorted(found)


def _ids(sessions: list[Session]) -> list[SessionId]:
    return sorted(session.session_id for session in sessions)
