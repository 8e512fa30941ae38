"""`keyfob store copy` out of a cluster and into it, while it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from keyfob.base.errors import ConfigurationError, StoreMoved, StoreUnavailable
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, CutOff, Replayed, Rotated
from keyfob.stores.copying import Copier, Ends
from keyfob.stores.moving import Mark, Role
from keyfob.stores.opening import make_movable, open_movable, open_store, place_of
from keyfob.stores.redis.packing import event_fields
from keyfob.stores.transfer import tally
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    WINDOW,
    a_session,
    found,
    is_live,
    put,
    put_new,
    revocation,
)
from keyfob.testing.transfer_contract import fill


@pytest.fixture(params=["sqlite to cluster", "cluster to sqlite"])
def ends(request: pytest.FixtureRequest, cluster_url: str, tmp_path: Path) -> tuple[str, str]:
    """From where to where."""
    urls = {"cluster": cluster_url, "sqlite": f"sqlite:///{tmp_path}/other.db"}
    here, _, there = str(request.param).partition(" to ")
    return urls[here], urls[there]


@asynccontextmanager
async def copier(here: str, there: str, clock: FrozenClock) -> AsyncIterator[Copier]:
    source, target = await open_movable(here), await make_movable(there)
    try:
        async with source.exclusively():
            yield Copier(Ends(source, target, place_of(here), place_of(there)), clock=clock)
    finally:
        await source.close()
        await target.close()


async def test_all_that_it_holds_is_there_and_goes_on(ends: tuple[str, str], clock: FrozenClock) -> None:
    here, there = ends
    store: Any = await open_store(here, clock=clock)
    session = await fill(store, clock)
    late = a_session(store, clock, Subject("cut-off"))
    await store.sessions.end(revocation(Scope.SUBJECT, "cut-off", clock.now()), now=clock.now())
    await store.sessions.end(revocation(Scope.CLIENT, "gone", clock.now()), now=clock.now())
    again = await put_new(store, clock, Subject("cut-off"))
    head = await store.feed.head()
    async with store.transfer.snapshot(clock.now()) as snapshot:
        before = await tally(snapshot)
    async with copier(here, there, clock) as copying:
        await copying.copy()
        assert await copying.switch() == before
    moved: Any = await open_store(there, clock=clock)
    assert await is_live(moved, session.session_id, clock.now())
    assert await put(moved, late) == CutOff()
    assert await is_live(moved, again.session_id, clock.now())
    clock.advance(WINDOW)
    assert isinstance(await rotate(moved, session.session_id, 1, clock.now()), Rotated)
    ended = await moved.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
    assert not await is_live(moved, session.session_id, clock.now())
    assert ended.entry.position == head.position + 1
    with pytest.raises(StoreMoved):
        await until_refused(store, session.session_id)
    await moved.close()
    await store.close()


async def until_refused(store: Any, session_id: Any) -> None:
    while True:
        await store.sessions.find(session_id)


async def test_what_happens_meanwhile_is_in_force_after_it(ends: tuple[str, str], clock: FrozenClock) -> None:
    here, there = ends
    store = await open_store(here, clock=clock)
    revoked, rotated, ended = [await put_new(store, clock, Subject(f"s{n}")) for n in range(3)]
    async with copier(here, there, clock) as copying:
        await copying.copy()
        await store.sessions.end(revocation(Scope.SESSION, revoked.session_id, clock.now()), now=clock.now())
        await store.sessions.end(revocation(Scope.SUBJECT, ended.subject, clock.now()), now=clock.now())
        assert isinstance(await rotate(store, rotated.session_id, 0, clock.now()), Rotated)
        new = await put_new(store, clock, Subject("somebody in a slot that was not in use"))
        await store.sessions.write_data(new.session_id, b"cart", version=0, now=clock.now())
        await copying.copy()
        await store.sessions.write_data(new.session_id, b"more", version=1, now=clock.now())
        await copying.switch()
    await store.close()
    moved = await open_store(there, clock=clock)
    assert (await found(moved, revoked.session_id)).ended_position == 1
    assert (await found(moved, ended.session_id)).ended_position == 2
    assert isinstance(await rotate(moved, rotated.session_id, 0, clock.now()), Replayed)
    kept = await moved.sessions.read_data(new.session_id)
    assert kept is not None
    assert (kept.data, kept.version) == (b"more", 2)
    await moved.close()


async def test_what_was_revoked_is_in_the_rows_before_a_cluster_is_held_off(
    cluster_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    there = f"sqlite:///{tmp_path}/there.db"
    store: Any = await open_store(cluster_url, clock=clock)
    session = await put_new(store, clock)
    async with copier(cluster_url, there, clock) as copying:
        await copying.copy()
        server = store.sessions._server
        orders = server.orders()
        order = revocation(Scope.SESSION, session.session_id, clock.now())
        asked = {"order": orders.add(order), "now": 1, "event": event_fields(order.event), "owed": ""}
        await server.step("cluster/append", orders.keys, asked)  # and whoever did so is killed
        await copying.switch()
    await store.close()
    moved = await open_store(there, clock=clock)
    assert (await found(moved, session.session_id)).ended_position == 1
    await moved.close()


async def test_writers_are_held_off_in_every_part_of_a_cluster(cluster_url: str, clock: FrozenClock) -> None:
    store = await open_store(cluster_url, clock=clock)
    sessions = [await put_new(store, clock, Subject(f"s{number}")) for number in range(9)]
    source = await open_movable(cluster_url)
    marks = [Mark(role=role, copy_id="c", place="p") for role in (Role.SOURCE, Role.FENCED, Role.SOURCE)]
    assert await source.set_mark(marks[0], replaces=None)
    assert await source.set_mark(marks[1], replaces=marks[0])
    for write in (
        *(rotate(store, session.session_id, 0, clock.now()) for session in sessions),
        put_new(store, clock, Subject("s0")),
        put_new(store, clock, Subject("somebody new")),
        store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now()),
    ):
        with pytest.raises(StoreUnavailable, match="being moved"):
            await write
    for session in sessions:
        assert await is_live(store, session.session_id, clock.now())
    assert await source.set_mark(marks[2], replaces=marks[1])
    assert await source.set_mark(None, replaces=marks[2])
    for session in sessions:
        assert isinstance(await rotate(store, session.session_id, 0, clock.now()), Rotated)
    assert await put(store, a_session(store, clock, Subject("somebody else"))) == Added()
    await source.close()
    await store.close()


async def test_a_target_is_closed_until_it_is_whole(
    cluster_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    here = f"sqlite:///{tmp_path}/here.db"
    await (await open_store(here, clock=clock)).close()
    async with copier(here, cluster_url, clock) as copying:
        await copying.copy()
        with pytest.raises(ConfigurationError, match="being filled"):
            await open_store(cluster_url, clock=clock)
        await copying.switch()
    await (await open_store(cluster_url, clock=clock)).close()
