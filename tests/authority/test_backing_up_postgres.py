"""A back-up of one kind of store restored into another, and a restore that is killed while servers use the database."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from keyfob.authority import backing_up
from keyfob.authority.backing_up import Into, Outcome
from keyfob.base.clock import SystemClock
from keyfob.base.errors import Cause, ConfigurationError
from keyfob.revocation.entry import CHAIN_START
from keyfob.revocation.store import LEAP
from keyfob.stores.backup_file import BackupReader
from keyfob.stores.records import Kind
from keyfob.stores.transfer import tally

MASTER_KEY = bytes(range(32))
PATIENCE = 60  # seconds


async def back_up(url: str, file: Path, clock: Any, key: bytes | None = MASTER_KEY) -> backing_up.Backup:
    return await backing_up.back_up(
        url, file, master_key=key, clock=clock, on_progress=lambda total, count: None
    )


async def restore(file: Path, url: str, clock: Any, into: Into = Into.ANY) -> backing_up.Restored:
    return await backing_up.restore(
        file,
        url,
        into=into,
        master_key=MASTER_KEY,
        clock=clock,
        actor="test",
        on_progress=lambda total, count: None,
    )


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def ends(request: pytest.FixtureRequest, sqlite_url: str) -> tuple[str, str]:
    """A store to be backed up, and one to be restored into."""
    if request.param == "sqlite to postgresql":
        return sqlite_url, request.getfixturevalue("empty_postgres_url")
    return request.getfixturevalue("postgres_url"), sqlite_url


async def test_a_back_up_comes_back_in_another_kind_of_store(
    open_house: Any, clock: Any, tmp_path: Path, ends: tuple[str, str]
) -> None:
    here, there = ends
    house = await open_house(here)
    dora = await house.authority.accounts.add("dora", "correct horse battery", roles={"buyer"})
    issued = await house.authority.login("alice", strategy="hybrid")
    position = await house.head()
    await back_up(here, tmp_path / "backup", clock)
    await house.authority.revoke("session", issued.session_id)
    await house.authority.close()

    done = await restore(tmp_path / "backup", there, clock, Into.UNUSED)

    assert done.outcome is Outcome.ANEW
    assert done.head.position > position
    restored = await open_house(there)
    assert await restored.authority.accounts.find("dora") == dora
    assert await restored.refresh_cause(issued.refresh_token) is not None
    assert await restored.cause(issued.access_token) is not None
    fresh = await restored.authority.login("bob", strategy="hybrid")
    assert await restored.causes(fresh) == [None]


@pytest.fixture
async def backed_up(open_house: Any, clock: Any, tmp_path: Path, postgres_url: str) -> Any:
    """An authority on a database whose back-up is older: a session of it was ended since."""
    house = await open_house(postgres_url)
    ended = await house.authority.login("alice", strategy="hybrid")
    kept = await house.authority.login("bob", strategy="hybrid")
    await back_up(postgres_url, tmp_path / "backup", clock)
    await house.authority.revoke("session", ended.session_id)
    return house, ended, kept


async def content_of(house: Any) -> Any:
    async with house.authority.store.transfer.snapshot(house.clock.now()) as snapshot:
        return await tally(snapshot, set(Kind) - {Kind.EVENTS, Kind.CURSORS})  # both move by themselves


def restore_and_die(file: Path, url: str, pages_until_death: int) -> None:
    """Restore in a process that is killed before it has put the given number of pages in place."""
    import os

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
    backed_up: Any, clock: Any, tmp_path: Path, postgres_url: str
) -> None:
    house, ended, kept = backed_up
    before = await content_of(house)
    with (tmp_path / "backup").open("rb") as raw:
        once = sum(1 for _ in BackupReader(raw, master_key=MASTER_KEY).pages())
    process = multiprocessing.get_context("spawn").Process(
        target=restore_and_die, args=(tmp_path / "backup", postgres_url, once + 3)
    )
    process.start()
    await asyncio.to_thread(process.join, PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    assert await content_of(house) == before
    assert (await restore(tmp_path / "backup", postgres_url, clock)).outcome is Outcome.KEPT
    await house.authority.feed.beat()
    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.refresh_cause(kept.refresh_token) is None


async def test_a_database_that_lost_what_the_back_up_knows_begins_anew_under_a_running_server(
    backed_up: Any, open_house: Any, clock: Any, tmp_path: Path, postgres_url: str
) -> None:
    """As after a failover to a replica that lagged: the back-up knows an entry that the database lacks."""
    house, ended, kept = backed_up
    await back_up(postgres_url, tmp_path / "later", clock)
    await house.authority.close()
    raw = await asyncpg.connect(postgres_url)
    await raw.execute("DELETE FROM keyfob.entries WHERE position = (SELECT position FROM keyfob.meta)")
    await raw.execute(
        "UPDATE keyfob.meta SET position = position - 1,"
        " chain = coalesce((SELECT chain FROM keyfob.entries ORDER BY position DESC LIMIT 1), $1)",
        CHAIN_START,
    )
    await raw.execute("UPDATE keyfob.sessions SET ended_at = NULL, ended_position = NULL")
    await raw.close()
    running = await open_house(postgres_url)
    assert await running.refresh_cause(ended.refresh_token) is None, (
        "it lives again: nobody here knows better"
    )

    assert (await restore(tmp_path / "later", postgres_url, clock)).outcome is Outcome.ANEW

    await running.authority.feed.beat()
    for issued in (ended, kept):
        assert await running.refresh_cause(issued.refresh_token) is not None
        assert await running.cause(issued.access_token) is not None
    fresh = await running.authority.login("bob")
    assert await running.causes(fresh) == [None]


async def test_a_database_that_is_not_there_is_not_made_by_a_back_up(
    clock: Any, tmp_path: Path, postgres_url: str, empty_postgres_url: str
) -> None:
    with pytest.raises(ConfigurationError, match="holds no store"):
        await back_up(empty_postgres_url, tmp_path / "backup", clock)
    with pytest.raises(ConfigurationError, match="KEYFOB_MASTER_KEY"):
        await back_up(postgres_url, tmp_path / "backup", clock, key=None)


async def test_what_a_server_kept_of_the_feed_says_that_the_database_has_lost_entries(
    open_house: Any, clock: Any, tmp_path: Path, postgres_url: str
) -> None:
    state = tmp_path / "state"
    house = await open_house(postgres_url, state_folder=state)
    kept = await house.authority.login("bob", strategy="hybrid")
    await house.authority.revoke("subject", "nobody")
    await back_up(postgres_url, tmp_path / "backup", clock)
    for _ in range(2):
        await house.authority.revoke("subject", "nobody")
    await house.authority.feed.beat()
    known = await house.authority.store.feed.head()
    await house.authority.close()
    raw = await asyncpg.connect(postgres_url)
    await raw.execute(
        "WITH gone AS (DELETE FROM keyfob.entries WHERE position > 1)"
        " UPDATE keyfob.meta SET position = e.position, chain = e.chain FROM keyfob.entries AS e WHERE e.position = 1"
    )
    await raw.close()

    done = await backing_up.restore(
        tmp_path / "backup",
        postgres_url,
        into=Into.ANY,
        master_key=MASTER_KEY,
        clock=clock,
        actor="test",
        on_progress=lambda total, count: None,
        state_folder=state,
    )

    assert done.outcome is Outcome.ANEW
    assert done.head.position > known.position + LEAP
    again = await open_house(postgres_url, state_folder=state)
    assert await again.refresh_cause(kept.refresh_token) is not None
