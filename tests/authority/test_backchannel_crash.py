"""A server that is killed between any two steps of the back channel loses nothing: another one goes on."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from keyfob.authority.logout_post import BackchannelPolicy
from keyfob.base.clock import SystemClock
from keyfob.base.events import Event
from keyfob.clients.registration import Registration
from keyfob.revocation.entry import Scope
from keyfob.revocation.revocation import Revocation
from keyfob.stores.opening import open_store

from . import backchannel_child
from .receiver import PATIENCE, Receiver
from .test_backchannel_logout import read

LOOPBACK = BackchannelPolicy(networks=("127.0.0.0/8",))


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


class Ahead(SystemClock):
    """The machine's clock, two minutes on: what the one that died had leased is free again."""

    def now(self) -> Any:
        return super().now() + timedelta(minutes=2)

    def time(self) -> float:  # type: ignore[override]
        return super().time() + 120


@pytest.mark.parametrize(
    ("verb", "moment", "told_before"),
    [
        ("enqueue", "before", 0),
        ("enqueue", "after", 0),
        ("lease", "after", 0),
        ("delivered", "before", 1),
        ("delivered", "after", 1),
    ],
)
async def test_a_server_that_is_killed_leaves_everything_to_the_next(
    open_house: Any, sqlite_url: str, shop: Receiver, verb: str, moment: str, told_before: int
) -> None:
    house = await open_house(sqlite_url, clock=SystemClock())
    await house.authority.clients.add(
        "shop",
        scopes=["openid"],
        registration=Registration(redirect_uris=["https://shop.example/cb"], backchannel_logout_uri=shop.url),
    )
    parent = await house.authority.login("alice", strategy="session")
    child = await house.authority.login(
        "alice", client_id="shop", scopes=["openid"], parent_session_id=parent.session_id
    )
    await house.authority.close()
    await _end(sqlite_url, parent.session_id)

    process = multiprocessing.get_context("spawn").Process(
        target=backchannel_child.run, args=(sqlite_url, verb, moment)
    )
    process.start()
    await asyncio.to_thread(process.join, PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    assert len(shop.tokens) == told_before

    again = await open_house(sqlite_url, clock=Ahead(), backchannel=LOOPBACK)
    expected = told_before + (0 if (verb, moment) == ("delivered", "after") else 1)
    await shop.wait_until(lambda: len(shop.tokens) >= expected)
    async with asyncio.timeout(PATIENCE):
        while (await again.authority.store.outbox.waiting()).deliveries:
            await asyncio.sleep(0.01)
    assert len(shop.tokens) == expected
    assert {read(again, token)["sid"] for token in shop.tokens} == {child.session_id}


async def _end(url: str, session_id: str) -> None:
    """End a session as a server would that is gone the moment after."""
    store = await open_store(url, clock=SystemClock())
    now = SystemClock().now()
    order = Revocation(
        scope=Scope.SESSION, id=session_id, event=Event(at=now, code="revoked", actor="elsewhere")
    )
    await store.sessions.end(order, now=now)
    await store.close()
