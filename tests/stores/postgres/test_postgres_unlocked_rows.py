"""A row that appears between a step's locking and its reading is none of its business: it is not locked, so nothing may be decided on it."""

from __future__ import annotations

from typing import Any

import asyncpg

from keyfob.sessions.store import Unknown
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.renewal_contract import renewal
from keyfob.testing.store_contract import an_event, put_new


async def test_a_session_that_is_not_there_when_it_is_locked_is_not_waited_for(
    store: Store, raw: Any, postgres_url: str, clock: FrozenClock
) -> None:
    """While a renewal waited for the head, the session might appear, and be rotated by somebody who does lock it."""
    session = await put_new(store, clock)
    await raw.execute("DELETE FROM keyfob.sessions")
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.fetch("SELECT 1 FROM keyfob.meta FOR UPDATE")
        order = renewal(session, at=clock.now())
        outcome = await store.sessions.renew(
            session.session_id, order, now=clock.now(), event=an_event(clock.now())
        )
        assert outcome == Unknown()
    await other.close()
