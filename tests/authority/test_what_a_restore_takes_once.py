"""A restore never makes good again what was used, and brings back what people decided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyfob.authority import backing_up
from keyfob.authority.backing_up import Into, Outcome
from keyfob.base.identifiers import ClientId, Subject
from keyfob.clients.client import Client
from keyfob.grants.store import Missing, Taken, TakenBefore
from keyfob.stores.records import Kind
from keyfob.stores.restoring import ANEW, RECORDS
from keyfob.testing.grant_store_contract import CODE, a_record, numbered
from keyfob.testing.outbox_store_contract import LOGOUT, a_delivery, at
from keyfob.testing.store_contract import an_event

MASTER_KEY = bytes(range(32))
APP = ClientId("app")
READ = frozenset({"read"})


def ignore(total: int, count: int) -> None:
    """Nobody looks."""


@pytest.fixture
def urls(tmp_path: Path) -> Callable[[str], str]:
    return lambda name: f"sqlite:///{tmp_path / name}?synchronous=normal"


async def filled(house: Any, clock: Any) -> None:
    """Keep a code, a consent and a delivery."""
    store, now = house.authority.store, clock.now()
    await store.clients.add(Client(client_id=APP, created_at=now), an_event(now))
    assert await store.consents.give(Subject("bob"), APP, READ, event=an_event(now)) is not None
    for number in (1, 2):
        assert await store.grants.add(a_record(clock, number))
    await store.outbox.enqueue(LOGOUT, [a_delivery(clock)], cursor_from=None, cursor_to=at(1))


async def restored(source: Path, url: str, into: Into, clock: Any) -> Outcome:
    done = await backing_up.restore(
        source, url, into=into, master_key=MASTER_KEY, clock=clock, actor="test", on_progress=ignore
    )
    return done.outcome


@pytest.mark.parametrize("is_in_use", [True, False])
async def test_a_code_that_was_used_after_the_back_up_stays_used(
    open_house: Any, urls: Callable[[str], str], tmp_path: Path, clock: Any, is_in_use: bool
) -> None:
    """O-08, precondition 7: neither in the store in use, nor in a new one, in which no code of before is good, nor is anything to be delivered."""
    house = await open_house(urls("keyfob.db"))
    await filled(house, clock)
    file = tmp_path / "backup"
    await backing_up.back_up(urls("keyfob.db"), file, master_key=MASTER_KEY, clock=clock, on_progress=ignore)
    store = house.authority.store
    assert isinstance(await store.grants.take(CODE, numbered(1), now=clock.now()), Taken)
    withdrawn = await store.consents.withdraw(Subject("bob"), APP, event=an_event(clock.now()))
    assert withdrawn is not None
    if is_in_use:
        assert await restored(file, urls("keyfob.db"), Into.ANY, clock) is Outcome.KEPT
    else:
        await house.authority.close()
        assert await restored(file, urls("new.db"), Into.UNUSED, clock) is Outcome.ANEW
        house = await open_house(urls("new.db"))
        store = house.authority.store

    again = await store.grants.take(CODE, numbered(1), now=clock.now())
    unused = await store.grants.take(CODE, numbered(2), now=clock.now())
    left = await store.outbox.cursor(LOGOUT)
    if is_in_use:
        assert isinstance(again, TakenBefore)
        assert isinstance(unused, Taken)
        assert left == at(1)
    else:
        assert again == unused == Missing()
        assert left is None
    consent = await store.consents.find(Subject("bob"), APP)
    assert consent is not None
    assert consent.scopes == READ


def test_what_is_taken_once_never_comes_from_a_back_up() -> None:
    for kind in (Kind.ONE_TIMES, Kind.DELIVERIES, Kind.CURSORS, Kind.SESSIONS):
        assert kind not in RECORDS
        assert kind in ANEW
