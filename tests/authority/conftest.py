"""An authority on a store, a clock that moves only when told to, and what tests ask of the two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keyfob.accounts.passwords import PasswordPolicy
from keyfob.authority.authority import Authority
from keyfob.authority.issued import Issued
from keyfob.base.errors import Cause, Denied
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "https://auth.example"
MASTER_KEY = bytes(range(32))
CHEAP = PasswordPolicy(memory_kib=8, iterations=1, threads=1, queue=8)


class House:
    """One authority, and what tests ask about it."""

    def __init__(self, authority: Authority, clock: FrozenClock) -> None:
        self.authority = authority
        self.clock = clock

    async def head(self) -> int:
        """The position of the feed, as the store says."""
        return (await self.authority.store.feed.head()).position

    async def entries(self, after: int = 0) -> Sequence[Entry]:
        return await self.authority.store.feed.read_after(Position(after), 1000)

    async def events(self, code: str) -> Sequence[Event]:
        return (await self.authority.trail.list(code=code)).events

    async def advance(self, by: timedelta | float) -> None:
        """Let time pass, and the heartbeat come that keeps this process sure of the feed."""
        self.clock.advance(by)
        await self.authority.feed.beat()

    async def cause(self, token: str | None, **policy: Any) -> Cause | None:
        """Why the token is refused; None if it is good."""
        assert token is not None
        return await cause_of(self.authority.authenticate(token, **policy))

    async def refresh_cause(self, token: str | None) -> Cause | None:
        assert token is not None
        return await cause_of(self.authority.refresh(token))

    async def causes(self, *many: Issued) -> list[Cause | None]:
        """Why the credential that each carries from request to request is refused."""
        return [await self.cause(issued.session_token or issued.access_token) for issued in many]


async def cause_of(call: Awaitable[object]) -> Cause | None:
    try:
        await call
    except Denied as denied:
        return denied.cause
    return None


OpenHouse = Callable[..., Awaitable[House]]


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def open_house(clock: FrozenClock) -> AsyncIterator[OpenHouse]:
    """Open authorities, on the clock of the test, and close them after it."""
    opened: list[Authority] = []

    async def open_one(store: str | Store = "memory://", **options: Any) -> House:
        options = {"issuer": ISSUER, "master_key": MASTER_KEY, "passwords": CHEAP, "clock": clock, **options}
        authority = await Authority.open(store, **options)
        opened.append(authority)
        return House(authority, options["clock"])

    yield open_one
    for authority in reversed(opened):
        await authority.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'keyfob.db'}?synchronous=normal"


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """Every store in turn."""
    return sqlite_url if request.param == "sqlite" else "memory://"


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """Every store that several processes can share."""
    return sqlite_url if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def quick_house(open_house: OpenHouse) -> House:
    """An authority on a store in memory, where the store makes no difference."""
    return await open_house()


@pytest.fixture
async def house(open_house: OpenHouse, store_url: str) -> House:
    """An authority with every default, on every store in turn."""
    return await open_house(store_url)
