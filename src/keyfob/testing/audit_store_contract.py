"""What an `AuditStore` must do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyfob.base.errors import InvalidRequest
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, SessionId, Subject
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import ALICE, BOB, TICK, Store, StoreContract, an_event


class AuditStoreContract(StoreContract):
    """`add`, `list`, cleaning up."""

    async def test_an_event_is_kept_as_it_was_written(self, store: Store, clock: FrozenClock) -> None:
        bare = Event(at=clock.now(), code="bare")
        full = Event(
            at=clock.now() + TICK,
            code="full",
            actor="usr_admin",
            subject=ALICE,
            session_id=SessionId("0" * 32),
            client_id=ClientId("shop"),
            address="2001:db8::1",
            reason='said "no" \\ 🔑',
            facts={"generation": 3, "late_by": "12 s", "ü": -1},
        )
        await store.audit.add(bare)
        await store.audit.add(full)
        page = await store.audit.list(limit=10)
        assert list(page.events) == [full, bare]
        assert page.next is None

    async def test_the_order_is_that_of_writing(self, store: Store, clock: FrozenClock) -> None:
        for number in range(3):
            await store.audit.add(an_event(clock.now() - timedelta(seconds=number), str(number)))
        assert [event.code for event in (await store.audit.list(limit=10)).events] == ["2", "1", "0"]

    async def test_a_list_goes_on_and_is_filtered(self, store: Store, clock: FrozenClock) -> None:
        written = []
        for number in range(12):
            subject = (ALICE, BOB, None)[number % 3]
            written.append(an_event(clock.now(), "even" if number % 2 == 0 else "odd", subject))
            await store.audit.add(written[-1])
        written.reverse()
        for subject in (None, ALICE, BOB, Subject("nobody")):
            for code in (None, "even", "other"):
                expected = [
                    event
                    for event in written
                    if subject in {None, event.subject} and code in {None, event.code}
                ]
                for limit in (1, 2, 4, 12, 13):
                    assert await self._walk(store, subject, code, limit) == expected

    async def test_what_is_written_meanwhile_does_not_shift_the_pages(
        self, store: Store, clock: FrozenClock
    ) -> None:
        for number in range(4):
            await store.audit.add(an_event(clock.now(), str(number)))
        page = await store.audit.list(limit=2)
        await store.audit.add(an_event(clock.now(), "late"))
        rest = await store.audit.list(after=page.next, limit=2)
        assert [event.code for event in (*page.events, *rest.events)] == ["3", "2", "1", "0"]
        assert rest.next is None

    @pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", " 1", "٣", "9" * 30])
    async def test_a_cursor_that_is_none_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(InvalidRequest):
            await store.audit.list(after=cursor, limit=10)

    async def test_old_events_are_deleted_up_to_the_limit(self, store: Store, clock: FrozenClock) -> None:
        start = clock.now()
        for number in range(4):
            await store.audit.add(an_event(start + number * TICK, str(number)))
        assert await store.audit.delete_expired(start, 10) == 0
        assert await store.audit.delete_expired(start + 4 * TICK, 0) == 0
        assert await store.audit.delete_expired(start + 2 * TICK, 1) == 1
        assert await store.audit.delete_expired(start + 2 * TICK, 10) == 1
        assert [event.code for event in (await store.audit.list(limit=10)).events] == ["3", "2"]

    async def test_a_cursor_outlives_a_deletion(self, store: Store, clock: FrozenClock) -> None:
        for number in range(4):
            await store.audit.add(an_event(clock.now() + number * TICK, str(number)))
        page = await store.audit.list(limit=1)
        await store.audit.delete_expired(clock.now() + timedelta(seconds=1), 10)
        await store.audit.add(an_event(clock.now(), "new"))
        assert (await store.audit.list(after=page.next, limit=10)).events == []
        assert [event.code for event in (await store.audit.list(limit=10)).events] == ["new"]

    async def _walk(self, store: Store, subject: Subject | None, code: str | None, limit: int) -> list[Event]:
        """Return all pages of a list together."""
        listed: list[Event] = []
        after = None
        for _ in range(20):
            page = await store.audit.list(subject=subject, code=code, after=after, limit=limit)
            assert len(page.events) <= limit
            listed += page.events
            after = page.next
            if after is None:
                return listed
        raise AssertionError("a list without an end")
