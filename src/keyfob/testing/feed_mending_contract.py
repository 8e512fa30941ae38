"""What a `FeedStore` must do when its feed went back: take lost entries again, or begin a new timeline (design.md, precondition 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope, next_chain
from keyfob.revocation.store import LEAP
from keyfob.sessions.store import Added, CutOff
from keyfob.testing.feed_store_contract import append
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    PLENTY,
    Store,
    StoreContract,
    a_session,
    an_event,
    assert_chained,
    codes,
    entries,
    put,
    put_new,
    revocation,
)

RACERS = 8


def lost(
    head: Head,
    clock: FrozenClock,
    *orders: tuple[Scope, str],
    reach: Reach = Reach.END,
    spared: SessionId | None = None,
) -> Sequence[Entry]:
    """Return the entries that followed *head* in a history that this store lost."""
    position, chain, found = head.position, head.chain, []
    for scope, name in orders:
        position = Position(position + 1)
        facts = {
            "position": position,
            "at": clock.now(),
            "scope": scope,
            "id": name,
            "reach": reach,
            "spared": spared,
            "until": None if scope is Scope.KEY else clock.now() + timedelta(hours=1),
        }
        chain = next_chain(chain, **facts)  # type: ignore[arg-type]  # the fields of an entry
        found.append(Entry(**facts, chain=chain))  # type: ignore[arg-type]
    return found


class FeedMendingContract(StoreContract):
    """Entries appended again, and new timelines."""

    async def test_lost_entries_are_appended_as_they_were(self, store: Store, clock: FrozenClock) -> None:
        await append(store, clock)
        head = await store.feed.head()
        again = lost(head, clock, (Scope.TOKEN, "jti"), (Scope.KEY, "kid"), (Scope.CLIENT, "shop"))

        mended = await store.feed.reappend(
            again, instead_of=head, event=an_event(clock.now()), now=clock.now()
        )

        assert mended == await store.feed.head()
        assert mended == Head(timeline=head.timeline, position=Position(4), chain=again[-1].chain)
        found = await entries(store)
        assert list(found[1:]) == list(again)
        assert_chained(found)
        assert (await append(store, clock)).position == 5
        assert_chained(await entries(store))
        assert an_event(clock.now()).code in await codes(store)

    @pytest.mark.parametrize("scope", [Scope.SESSION, Scope.SUBJECT, Scope.CLIENT, Scope.EVERYTHING])
    async def test_what_lost_entries_ended_is_over_again(
        self, store: Store, clock: FrozenClock, scope: Scope
    ) -> None:
        session = await put_new(store, clock)
        head = await store.feed.head()
        targets = {
            Scope.SESSION: session.session_id,
            Scope.SUBJECT: ALICE,
            Scope.CLIENT: session.client_id,
            Scope.EVERYTHING: "",
        }
        under_way = replace(a_session(store, clock), as_of=head.position)

        again = lost(head, clock, (scope, targets[scope]))
        assert await store.feed.reappend(again, instead_of=head, event=an_event(clock.now()), now=clock.now())

        found = await store.sessions.find(session.session_id)
        assert found is not None
        assert found.session.ended_position == 1
        if scope is not Scope.SESSION:
            assert isinstance(await put(store, under_way), CutOff)

    async def test_what_they_spared_is_spared_again(self, store: Store, clock: FrozenClock) -> None:
        kept, ended = await put_new(store, clock), await put_new(store, clock)
        head = await store.feed.head()
        again = lost(head, clock, (Scope.SUBJECT, ALICE), spared=kept.session_id)

        await store.feed.reappend(again, instead_of=head, event=an_event(clock.now()), now=clock.now())

        found = {one.session_id: await store.sessions.find(one.session_id) for one in (kept, ended)}
        assert [one is not None and one.session.ended_at is not None for one in found.values()] == [
            False,
            True,
        ]
        spared = found[kept.session_id]
        assert spared is not None
        assert spared.session.as_of == 1

    async def test_claims_end_nothing_again(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        head = await store.feed.head()
        again = lost(head, clock, (Scope.SUBJECT, ALICE), reach=Reach.CLAIMS)

        await store.feed.reappend(again, instead_of=head, event=an_event(clock.now()), now=clock.now())

        found = await store.sessions.find(session.session_id)
        assert found is not None
        assert found.session.ended_at is None

    async def test_entries_that_do_not_continue_the_feed_are_refused(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await append(store, clock)
        head = await store.feed.head()
        again = list(lost(head, clock, (Scope.TOKEN, "a"), (Scope.TOKEN, "b")))
        start = Head(timeline=head.timeline, position=Position(0), chain=CHAIN_START)
        for forged in (
            [],
            again[1:],
            again[::-1],
            [again[0], again[0]],
            lost(start, clock, (Scope.KEY, "k")),
        ):
            with pytest.raises(ValueError, match="entries"):
                await store.feed.reappend(
                    forged, instead_of=head, event=an_event(clock.now()), now=clock.now()
                )
        assert await store.feed.head() == head

    async def test_a_head_that_has_moved_is_left_alone(self, store: Store, clock: FrozenClock) -> None:
        head = await store.feed.head()
        again = lost(head, clock, (Scope.TOKEN, "lost"))
        await append(store, clock)
        moved = await store.feed.head()

        assert (
            await store.feed.reappend(again, instead_of=head, event=an_event(clock.now()), now=clock.now())
            is None
        )
        orders = [revocation(Scope.EVERYTHING, "", clock.now())]
        assert (
            await store.feed.begin_timeline(orders, instead_of=head, past=Position(9), now=clock.now())
            is None
        )

        assert await store.feed.head() == moved
        assert len(await entries(store)) == 1

    @pytest.mark.parametrize("past", [0, 17])
    async def test_a_new_timeline_leaps_and_cuts_everything_off(
        self, store: Store, clock: FrozenClock, past: int
    ) -> None:
        session = await put_new(store, clock)
        key = await append(store, clock, Scope.KEY, "kid")
        head = await store.feed.head()
        orders = [
            revocation(Scope.EVERYTHING, "", clock.now()),
            revocation(Scope.KEY, "another", clock.now()),
        ]

        begun = await store.feed.begin_timeline(orders, instead_of=head, past=Position(past), now=clock.now())

        assert begun == await store.feed.head()
        assert begun is not None
        assert begun.timeline != head.timeline
        assert begun.position == max(past, head.position) + LEAP + 2
        new = await store.feed.read_after(Position(begun.position - 2), PLENTY)
        assert [(entry.scope, entry.id) for entry in new] == [(Scope.EVERYTHING, ""), (Scope.KEY, "another")]
        assert new[-1].chain == begun.chain
        found = await store.sessions.find(session.session_id)
        assert found is not None
        assert found.session.ended_position == new[0].position
        _, live = await store.feed.live(clock.now())
        assert key in live, "a revoked key stays so"
        late = replace(a_session(store, clock), as_of=head.position)
        assert isinstance(await put(store, late), CutOff)
        fresh = replace(a_session(store, clock), as_of=begun.position)
        assert await put(store, fresh) == Added()

    async def test_of_many_that_mend_at_once_one_wins(self, store: Store, clock: FrozenClock) -> None:
        head = await store.feed.head()
        orders = [revocation(Scope.EVERYTHING, "", clock.now())]
        again = lost(head, clock, (Scope.TOKEN, "lost"))

        outcomes = await asyncio.gather(
            *(
                store.feed.begin_timeline(orders, instead_of=head, past=Position(1), now=clock.now())
                if number % 2
                else store.feed.reappend(again, instead_of=head, event=an_event(clock.now()), now=clock.now())
                for number in range(RACERS)
            )
        )

        assert len([outcome for outcome in outcomes if outcome is not None]) == 1
        assert len((await store.feed.live(clock.now()))[1]) == 1
