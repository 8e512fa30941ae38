"""From SQLite to Redis, to PostgreSQL, and back: an authority goes on at each, and whoever is signed in stays so; whoever is not, does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from keyfob.authority.authority import Authority
from keyfob.authority.issued import Issued
from keyfob.base.errors import Cause, Denied, StoreMoved, StoreUnavailable
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry
from keyfob.stores.copying import Copier, Ends
from keyfob.stores.opening import make_movable, open_movable, place_of
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import assert_chained

MASTER_KEY = bytes(range(32))
ISSUER = "https://login.example"
LATER = timedelta(
    seconds=31
)  # past the window in which a refresh token may be repeated, and twelve of them within the life of an access token
PATIENCE = 20  # seconds


@dataclass(slots=True)
class People:
    """Credentials of those who are signed in, and of those who are not any more."""

    clock: FrozenClock
    opaque: dict[str, Issued] = field(default_factory=dict)
    hybrid: dict[str, Issued] = field(default_factory=dict)
    ended: list[Issued] = field(default_factory=list)
    rotations: int = 0

    async def sign_in(self, authority: Authority, where: str) -> None:
        """Sign three people in; one of them out again, and another from everywhere."""
        self.opaque[where] = await authority.login(f"opaque-{where}", strategy="session")
        self.hybrid[where] = await authority.login(f"hybrid-{where}", strategy="hybrid", roles=["buyer"])
        for number in range(2):
            self.ended.append(await authority.login(f"gone-{where}", strategy="hybrid"))
            self.ended.append(await authority.login(f"left-{where}-{number}", strategy="session"))
            await authority.logout(self.ended[-1].session_token or "")
        await authority.revoke("subject", f"gone-{where}", actor="test")

    async def check(self, authority: Authority) -> None:
        """Let some time pass; see that each credential is what it was, and rotate those that can be."""
        self.clock.advance(LATER)
        await authority.feed.beat()
        for where, issued in self.opaque.items():
            assert (await authority.authenticate(issued.session_token or "")).subject == f"opaque-{where}"
        for where, issued in self.hybrid.items():
            principal = await authority.authenticate(issued.access_token or "")
            assert principal.subject == f"hybrid-{where}"
            assert principal.roles == frozenset({"buyer"})
            rotated = await authority.refresh(issued.refresh_token or "")
            assert rotated.refresh_token != issued.refresh_token
            if (
                self.rotations == 2
            ):  # a lost answer: the same token again gives the same successor; too often would look like theft
                again = await authority.refresh(issued.refresh_token or "")
                assert again.refresh_token == rotated.refresh_token
            self.hybrid[where] = rotated
        self.rotations += 1
        for issued in self.ended:
            for token in (issued.session_token, issued.access_token):
                if token is not None:
                    assert await cause_of(authority.authenticate(token)) is Cause.REVOKED
            if issued.refresh_token is not None:
                assert await cause_of(authority.refresh(issued.refresh_token)) is Cause.REVOKED


async def cause_of(call: Awaitable[object]) -> Cause | None:
    try:
        await call
    except Denied as denied:
        return denied.cause
    return None


async def refuse_as_moved(authority: Authority) -> None:
    """See that nobody can sign in any more, and that before long it is said why."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await authority.login("late", strategy="session")
            except StoreMoved:
                return
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                raise AssertionError("the store has moved")


async def copy(source: str, target: str, clock: FrozenClock, *, pages: int | None) -> bool:
    """Copy and switch; with *pages* give up after so many, as a copier that is ended would. Say whether it switched."""
    done = 0

    def count(_kind: object, _count: object) -> None:
        nonlocal done
        done += 1
        if done == pages:
            raise Interrupted

    here, there = await open_movable(source), await make_movable(target)
    try:
        async with here.exclusively():
            copying = Copier(
                Ends(here, there, place_of(source), place_of(target)), clock=clock, on_progress=count
            )
            try:
                await copying.copy()
                await copying.switch()
            except Interrupted:
                return False
            return True
    finally:
        await here.close()
        await there.close()


class Interrupted(Exception):
    """The copier was ended."""


@pytest.fixture
def stations(tmp_path: Path, redis_url: str, postgres_url: str) -> Sequence[tuple[str, str]]:
    """Every store on the way, by name."""
    return (
        ("sqlite", f"sqlite:///{tmp_path}/here.db"),
        ("redis", redis_url),
        ("postgresql", postgres_url),
        ("redis-again", f"{redis_url.removesuffix('/0')}/2"),
        ("sqlite-again", f"sqlite:///{tmp_path}/back.db"),
    )


async def test_nobody_is_logged_out_and_nobody_back_in_through_every_store(
    stations: Sequence[tuple[str, str]],
) -> None:
    clock = FrozenClock()
    people = People(clock)
    feed: list[Entry] = []
    for (where, url), (_, target) in pairwise(stations):
        async with Authority.open(url, issuer=ISSUER, master_key=MASTER_KEY, clock=clock) as authority:
            await people.check(authority)
            await people.sign_in(authority, where)
            assert not await copy(url, target, clock, pages=3), "it was ended in the middle"
            await people.sign_in(authority, f"{where}-meanwhile")
            await people.check(authority)
            assert await copy(url, target, clock, pages=None), "the next one goes on"
            await refuse_as_moved(authority)
        async with Authority.open(target, issuer=ISSUER, master_key=MASTER_KEY, clock=clock) as authority:
            entries = list(await authority.store.feed.read_after(Position(0), 10_000))
            assert_chained(entries)
            assert entries[: len(feed)] == feed
            feed = entries
            await people.check(authority)
    assert len(feed) == 2 * 3 * 4
