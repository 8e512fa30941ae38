"""Back-ups of stores in Redis, and restores into them: nothing that was ended lives again, and a server that lost data is not believed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from keyfob.authority import backing_up
from keyfob.authority.backing_up import Into, Outcome
from keyfob.base.clock import SystemClock
from keyfob.base.errors import Cause, ConfigurationError
from keyfob.revocation.store import LEAP
from keyfob.stores.backup_file import BackupReader
from keyfob.stores.records import Kind
from keyfob.stores.transfer import tally

MASTER_KEY = bytes(range(32))
PATIENCE = 60  # seconds


async def back_up(url: str, file: Path, clock: Any) -> backing_up.Backup:
    return await backing_up.back_up(
        url, file, master_key=MASTER_KEY, clock=clock, on_progress=lambda total, count: None
    )


async def restore(
    file: Path, url: str, clock: Any, into: Into = Into.ANY, state_folder: Path | None = None
) -> backing_up.Restored:
    return await backing_up.restore(
        file,
        url,
        into=into,
        master_key=MASTER_KEY,
        clock=clock,
        actor="test",
        on_progress=lambda total, count: None,
        state_folder=state_folder,
    )


class Past:
    """What a database held at some moment."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._keys: dict[bytes, tuple[bytes, int]] = {}

    async def remember(self) -> None:
        for key in await self._raw.keys("*"):
            self._keys[key] = (await self._raw.dump(key), max(await self._raw.pttl(key), 0))

    async def return_to(self) -> None:
        """Make the database what it was, as an old copy or a replica that lagged would."""
        await self._raw.flushdb()
        for key, (dump, lifetime) in self._keys.items():
            await self._raw.restore(key, lifetime, dump)


@pytest.fixture
async def past(redis_url: str) -> AsyncIterator[Past]:
    async with Redis.from_url(redis_url) as raw:
        yield Past(raw)


@pytest.fixture(params=["sqlite to redis", "redis to sqlite", "postgresql to redis", "redis to postgresql"])
def ends(request: pytest.FixtureRequest, sqlite_url: str) -> list[str]:
    """A store to be backed up, and an empty one to be restored into."""
    names = {"sqlite": "sqlite_url", "redis": "redis_url"}
    here, there = request.param.split(" to ")
    return [
        str(request.getfixturevalue(names.get(here, "postgres_url"))),
        str(request.getfixturevalue(names.get(there, "empty_postgres_url"))),
    ]


async def test_a_back_up_comes_back_in_another_kind_of_store(
    open_house: Any, clock: Any, tmp_path: Path, ends: list[str]
) -> None:
    here, there = ends
    house = await open_house(here)
    dora = await house.authority.accounts.add("dora", "correct horse battery", roles={"buyer"})
    issued = await house.authority.login("alice", strategy="hybrid")
    opaque = await house.authority.login("alice", strategy="session")
    position = await house.head()
    await back_up(here, tmp_path / "backup", clock)
    await house.authority.revoke("session", issued.session_id)
    await house.authority.close()

    done = await restore(tmp_path / "backup", there, clock, Into.UNUSED)

    assert done.outcome is Outcome.ANEW
    assert done.head.position > position + LEAP
    restored = await open_house(there)
    assert await restored.authority.accounts.find("dora") == dora
    assert await restored.refresh_cause(issued.refresh_token) is not None
    assert await restored.cause(issued.access_token) is not None
    assert await restored.cause(opaque.session_token) is not None
    fresh = await restored.authority.login("bob", strategy="hybrid")
    assert await restored.causes(fresh) == [None]


async def content_of(house: Any) -> Any:
    async with house.authority.store.transfer.snapshot(house.clock.now()) as snapshot:
        return await tally(snapshot, set(Kind) - {Kind.EVENTS, Kind.CURSORS})  # both move by themselves


async def test_into_the_store_in_use_accounts_come_back_and_nobody_is_logged_out_or_back_in(
    open_house: Any, clock: Any, tmp_path: Path, redis_url: str
) -> None:
    house = await open_house(redis_url)
    await house.authority.accounts.add("dora", "correct horse battery")
    dora = await house.authority.accounts.find("dora")
    ended = await house.authority.login("alice", strategy="hybrid")
    kept = await house.authority.login("bob", strategy="hybrid")
    await back_up(redis_url, tmp_path / "backup", clock)
    await house.authority.accounts.delete("dora", actor="test")
    await house.authority.revoke("session", ended.session_id)
    later = await house.authority.login("carol", strategy="session")

    done = await restore(tmp_path / "backup", redis_url, clock)

    assert done.outcome is Outcome.KEPT
    await house.authority.feed.beat()
    assert await house.authority.accounts.find("dora") == dora
    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.refresh_cause(kept.refresh_token) is None
    assert await house.causes(later) == [None]
    with pytest.raises(ConfigurationError):
        await restore(tmp_path / "backup", redis_url, clock, Into.UNUSED)


async def test_a_server_that_lost_what_the_back_up_knows_begins_anew(
    open_house: Any, clock: Any, tmp_path: Path, redis_url: str, past: Past
) -> None:
    """Every process that knew of the revocation is gone, so nobody gives it back; the back-up alone has seen it."""
    house = await open_house(redis_url)
    ended = await house.authority.login("alice", strategy="hybrid")
    kept = await house.authority.login("bob", strategy="hybrid")
    await past.remember()
    await house.authority.revoke("session", ended.session_id)
    await back_up(redis_url, tmp_path / "backup", clock)
    await house.authority.close()
    await past.return_to()
    running = await open_house(redis_url)
    assert await running.refresh_cause(ended.refresh_token) is None, (
        "it lives again: nobody here knows better"
    )

    done = await restore(tmp_path / "backup", redis_url, clock)

    assert done.outcome is Outcome.ANEW
    await running.authority.feed.beat()
    for issued in (ended, kept):
        assert await running.refresh_cause(issued.refresh_token) is not None
        assert await running.cause(issued.access_token) is not None
    fresh = await running.authority.login("bob")
    assert await running.causes(fresh) == [None]


async def test_another_history_at_the_position_of_the_back_up_ends_everything(
    open_house: Any, clock: Any, tmp_path: Path, redis_url: str, past: Past
) -> None:
    house = await open_house(redis_url)
    kept = await house.authority.login("bob", strategy="hybrid")
    await past.remember()
    await house.authority.revoke("subject", "one")
    await back_up(redis_url, tmp_path / "backup", clock)
    await house.authority.close()
    await past.return_to()
    other = await open_house(redis_url)
    await other.authority.revoke("subject", "another")
    await other.authority.close()

    done = await restore(tmp_path / "backup", redis_url, clock)

    assert done.outcome is Outcome.ANEW
    again = await open_house(redis_url)
    assert await again.refresh_cause(kept.refresh_token) is not None


async def test_what_a_server_kept_of_the_feed_says_that_the_back_up_is_behind_too(
    open_house: Any, clock: Any, tmp_path: Path, redis_url: str, past: Past
) -> None:
    state = tmp_path / "state"
    house = await open_house(redis_url, state_folder=state)
    kept = await house.authority.login("bob", strategy="hybrid")
    await house.authority.revoke("subject", "nobody")
    await back_up(redis_url, tmp_path / "backup", clock)
    await past.remember()
    for _ in range(2):
        await house.authority.revoke("subject", "nobody")
    await house.authority.feed.beat()
    known = await house.authority.store.feed.head()
    await house.authority.close()
    await past.return_to()

    done = await restore(tmp_path / "backup", redis_url, clock, state_folder=state)

    assert done.outcome is Outcome.ANEW
    assert done.head.position > known.position + LEAP
    again = await open_house(redis_url, state_folder=state)
    assert await again.refresh_cause(kept.refresh_token) is not None


def restore_and_die(file: Path, url: str, pages_until_death: int) -> None:
    """Restore in a process that is killed before it has read the given number of pages."""
    read, given = BackupReader.pages, 0

    def dying(self: BackupReader) -> Any:
        nonlocal given
        for page in read(self):
            given += 1
            if given > pages_until_death:
                os.kill(os.getpid(), signal.SIGKILL)
            yield page

    BackupReader.pages = dying  # type: ignore[method-assign]
    asyncio.run(restore(file, url, SystemClock()))


async def test_a_restore_that_is_killed_in_the_middle_changes_nothing_and_can_be_repeated(
    open_house: Any, clock: Any, tmp_path: Path, redis_url: str
) -> None:
    house = await open_house(redis_url)
    ended = await house.authority.login("alice", strategy="hybrid")
    kept = await house.authority.login("bob", strategy="hybrid")
    await back_up(redis_url, tmp_path / "backup", clock)
    await house.authority.revoke("session", ended.session_id)
    before = await content_of(house)
    with (tmp_path / "backup").open("rb") as raw:
        once = sum(1 for _ in BackupReader(raw, master_key=MASTER_KEY).pages())
    process = multiprocessing.get_context("spawn").Process(
        target=restore_and_die, args=(tmp_path / "backup", redis_url, once + 3)
    )
    process.start()
    await asyncio.to_thread(process.join, PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    assert await content_of(house) == before
    assert (await restore(tmp_path / "backup", redis_url, clock)).outcome is Outcome.KEPT
    await house.authority.feed.beat()
    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.refresh_cause(kept.refresh_token) is None


async def test_a_server_without_a_store_is_not_given_one_by_a_back_up(
    clock: Any, tmp_path: Path, redis_url: str
) -> None:
    with pytest.raises(ConfigurationError):
        await back_up(redis_url, tmp_path / "backup", clock)
    async with Redis.from_url(redis_url) as raw:
        assert await raw.dbsize() == 0
