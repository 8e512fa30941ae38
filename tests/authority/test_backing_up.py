"""A back-up and its restore: nothing that was ended after the back-up lives again, and a file that is not whole changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keyfob.authority import backing_up
from keyfob.authority.backing_up import Into, Outcome, Restored
from keyfob.authority.head_file import head_file_of
from keyfob.base.clock import SystemClock
from keyfob.base.errors import Cause, ConfigurationError
from keyfob.keys.store import KeyPurpose
from keyfob.revocation.entry import Scope
from keyfob.revocation.store import LEAP
from keyfob.stores.backup_file import BackupReader
from keyfob.stores.moving import Mark, Role
from keyfob.stores.opening import open_movable
from keyfob.stores.records import Kind

MASTER_KEY = bytes(range(32))


class Place:
    """A folder with databases and back-ups of one deployment; or PostgreSQL databases, by the names that files would have."""

    def __init__(self, folder: Path, clock: Any, *, databases: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._databases = databases
        self.database = folder / "keyfob.db"
        self.file = folder / "backup"
        self._clock = clock

    def url(self, name: str = "keyfob.db") -> str:
        if self._databases is not None:
            return self._databases[name]
        return f"sqlite:///{self.folder / name}?synchronous=normal"

    async def back_up(self, *, master_key: bytes = MASTER_KEY) -> backing_up.Backup:
        return await backing_up.back_up(
            self.url(), self.file, master_key=master_key, clock=self._clock, on_progress=ignore
        )

    async def restore(
        self, name: str = "keyfob.db", *, into: Into = Into.ANY, master_key: bytes = MASTER_KEY
    ) -> Restored:
        return await backing_up.restore(
            self.file,
            self.url(name),
            into=into,
            master_key=master_key,
            clock=self._clock,
            actor="test",
            on_progress=ignore,
        )


def ignore(total: int, count: int) -> None:
    """Nobody looks."""


@pytest.fixture
def place(tmp_path: Path, clock: Any) -> Place:
    return Place(tmp_path, clock)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_place(request: pytest.FixtureRequest, place: Place, tmp_path: Path, clock: Any) -> Place:
    if request.param == "sqlite":
        return place
    in_use, new = (request.getfixturevalue(name) for name in ("postgres_url", "empty_postgres_url"))
    return Place(tmp_path, clock, databases={"keyfob.db": in_use, "new.db": new})


async def grants(house: Any) -> tuple[Any, Any, Any]:
    """Two logins that are to be ended, by session and by subject, and one that is not."""
    return (
        await house.authority.login("alice", strategy="hybrid"),
        await house.authority.login("carol", strategy="session"),
        await house.authority.login("bob", strategy="hybrid"),
    )


async def end(house: Any, ended: Any, by_subject: Any) -> None:
    await house.authority.revoke("session", ended.session_id)
    assert await house.cause(by_subject.session_token) is None
    await house.authority.revoke("subject", "carol")


async def test_into_the_store_in_use_accounts_come_back_and_nobody_is_logged_out(
    open_house: Any, any_place: Place
) -> None:
    house = await open_house(any_place.url())
    dora = await house.authority.accounts.add("dora", "correct horse battery", roles={"buyer"})
    ended, by_subject, kept = await grants(house)
    await any_place.back_up()
    await end(house, ended, by_subject)
    later = await house.authority.login("bob", strategy="hybrid")
    rotated = await house.authority.refresh(kept.refresh_token)
    await house.authority.accounts.delete(dora.subject, actor="test")
    position = (await house.authority.store.feed.head()).position

    done = await any_place.restore()

    assert done.outcome is Outcome.KEPT
    assert done.head.position == position + 1
    await house.authority.feed.beat()
    assert await house.authority.accounts.find("dora") == dora
    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.causes(ended, by_subject) == [Cause.REVOKED, Cause.REVOKED]
    assert await house.cause(kept.access_token) is Cause.STALE_CLAIMS
    for issued in (rotated, later):
        again = await house.authority.refresh(issued.refresh_token)
        assert await house.cause(again.access_token) is None
    assert len(await house.events("store_restored")) == 1


async def test_into_a_new_store_everything_before_is_over(open_house: Any, any_place: Place) -> None:
    house = await open_house(any_place.url())
    ended, by_subject, kept = await grants(house)
    await any_place.back_up()
    await end(house, ended, by_subject)
    position = (await house.authority.store.feed.head()).position
    await house.authority.close()

    done = await any_place.restore("new.db", into=Into.UNUSED)

    assert done.outcome is Outcome.ANEW
    assert done.head.position > position + LEAP - 3
    restored = await open_house(any_place.url("new.db"))
    for issued in (ended, kept):
        assert await restored.refresh_cause(issued.refresh_token) is not None
        assert await restored.cause(issued.access_token) is not None
    assert await restored.cause(by_subject.session_token) is not None
    fresh = await restored.authority.login("bob", strategy="hybrid")
    assert await restored.causes(fresh) == [None]
    assert await restored.refresh_cause(fresh.refresh_token) is None
    assert len(await restored.events("store_restored")) == 1


async def test_a_new_store_holds_no_session_of_before_and_no_key_that_may_sign(
    open_house: Any, any_place: Place, clock: Any
) -> None:
    house = await open_house(any_place.url())
    await grants(house)
    await any_place.back_up()
    await house.authority.close()
    await any_place.restore("new.db", into=Into.UNUSED)

    store = await open_movable(any_place.url("new.db"))
    async with store.snapshot(clock.now()) as snapshot:
        assert await snapshot.count(Kind.SESSIONS) == 0
        keys = [row.stored for row in await snapshot.read(Kind.KEYS, after=None, limit=99)]
        entries = [row.entry for row in await snapshot.read(Kind.ENTRIES, after=None, limit=99)]
    await store.close()
    access = [key for key in keys if key.purpose is KeyPurpose.ACCESS]
    assert access
    assert all(key.revoked_at is not None for key in access)
    assert all(key.revoked_at is None for key in keys if key.purpose is not KeyPurpose.ACCESS)
    assert {entry.id for entry in entries if entry.scope is Scope.KEY} == {key.key_id for key in access}


async def test_a_store_that_lost_entries_is_not_believed(open_house: Any, place: Place) -> None:
    """What the head file beside it remembers is more than it holds: so everything is over."""
    house = await open_house(place.url())
    _, _, kept = await grants(house)
    await place.back_up()
    await house.authority.close()
    older = place.database.read_bytes()
    house = await open_house(place.url())
    for _ in range(3):
        await house.authority.revoke("subject", "nobody")
    await house.authority.feed.beat()
    known = await house.authority.store.feed.head()
    await house.authority.close()
    put_back(place.database, older)

    done = await place.restore()

    assert done.outcome is Outcome.ANEW
    assert done.head.position > known.position + LEAP
    again = await open_house(place.url())
    assert await again.refresh_cause(kept.refresh_token) is not None
    assert await again.events("feed_begun_anew") == [], "once is enough"


async def test_a_back_up_that_is_ahead_of_the_store_ends_everything(open_house: Any, place: Place) -> None:
    house = await open_house(place.url())
    await house.authority.close()
    older = place.database.read_bytes()
    house = await open_house(place.url())
    await house.authority.revoke("subject", "nobody")
    made = await place.back_up()
    assert made.records > 0
    await house.authority.close()
    put_back(place.database, older)
    head_file_of(place.database).unlink()

    assert (await place.restore()).outcome is Outcome.ANEW


async def test_another_history_at_the_position_of_the_back_up_ends_everything(
    open_house: Any, place: Place
) -> None:
    house = await open_house(place.url())
    await house.authority.close()
    older = place.database.read_bytes()
    house = await open_house(place.url())
    await house.authority.revoke("subject", "alice")
    await place.back_up()
    await house.authority.close()
    put_back(place.database, older)
    head_file_of(place.database).unlink(missing_ok=True)
    house = await open_house(place.url())
    for _ in range(2):
        await house.authority.revoke("subject", "nobody")
    await house.authority.close()
    head_file_of(place.database).unlink(missing_ok=True)

    assert (await place.restore()).outcome is Outcome.ANEW


async def test_a_running_authority_follows_into_the_new_timeline(open_house: Any, place: Place) -> None:
    house = await open_house(place.url())
    ended, by_subject, kept = await grants(house)
    await place.back_up()
    await end(house, ended, by_subject)
    for _ in range(3):
        await house.authority.revoke("subject", "nobody")
    await house.authority.feed.beat()
    known = await house.authority.store.feed.head()
    async with asyncio.timeout(10):  # nothing is left to be kept, so that what is put there now stays
        while backing_up.HeadFile.kept_beside(place.database, master_key=MASTER_KEY) != known:
            await asyncio.sleep(0)
    head = head_file_of(place.database).read_bytes()
    # The head of a later moment, as another machine on the same store would have kept it.
    forged = backing_up.HeadFile(
        head_file_of(place.database),
        issuer=json.loads(head.splitlines()[0])["issuer"],
        master_key=MASTER_KEY,
        failed=print,
    )
    forged.keep(type(known)(timeline=known.timeline, position=known.position + 5, chain=bytes(32)))

    done = await place.restore()

    assert done.outcome is Outcome.ANEW
    await house.authority.feed.beat()
    assert house.authority.feed.live.head == done.head
    for issued in (ended, by_subject, kept):
        assert await house.cause(issued.session_token or issued.access_token) is not None
    assert await house.refresh_cause(kept.refresh_token) is not None


def put_back(database: Path, content: bytes) -> None:
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(content)


# What is refused, with nothing changed


def content_of(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()


@pytest.fixture
async def backed_up(open_house: Any, place: Place) -> Place:
    house = await open_house(place.url())
    await grants(house)
    await place.back_up()
    await house.authority.close()
    return place


async def test_a_store_in_use_is_only_restored_into_when_that_is_said(backed_up: Place) -> None:
    before = content_of(backed_up.database)
    with pytest.raises(ConfigurationError, match="--force"):
        await backed_up.restore(into=Into.UNUSED)
    assert content_of(backed_up.database) == before


async def test_a_file_that_is_cut_short_anywhere_is_refused(backed_up: Place) -> None:
    whole, before = backed_up.file.read_bytes(), content_of(backed_up.database)
    for length in [0, 1, 50, *range(90, len(whole), 997), len(whole) - 1]:
        backed_up.file.write_bytes(whole[:length])
        with pytest.raises(ConfigurationError):
            await backed_up.restore()
    backed_up.file.write_bytes(whole + b"x")
    with pytest.raises(ConfigurationError):
        await backed_up.restore()
    assert content_of(backed_up.database) == before


async def test_a_file_that_was_altered_anywhere_is_refused(backed_up: Place) -> None:
    whole, before = backed_up.file.read_bytes(), content_of(backed_up.database)
    for index in [*range(0, 100, 7), *range(100, len(whole), 499), len(whole) - 1]:
        altered = bytearray(whole)
        altered[index] ^= 1
        backed_up.file.write_bytes(bytes(altered))
        with pytest.raises(ConfigurationError):
            await backed_up.restore()
    assert content_of(backed_up.database) == before


async def test_a_file_of_another_master_key_is_refused(backed_up: Place) -> None:
    before = content_of(backed_up.database)
    with pytest.raises(ConfigurationError, match="another master key"):
        await backed_up.restore(master_key=bytes(32))
    assert content_of(backed_up.database) == before


async def test_a_file_of_another_deployment_with_the_same_key_is_refused(
    backed_up: Place, open_house: Any
) -> None:
    other = await open_house(backed_up.url("other.db"))
    await other.authority.login("alice")
    await other.authority.close()
    before = content_of(backed_up.folder / "other.db")
    with pytest.raises(ConfigurationError, match="another deployment"):
        await backed_up.restore("other.db")
    assert content_of(backed_up.folder / "other.db") == before


async def test_a_file_of_a_newer_version_is_refused_by_name(backed_up: Place) -> None:
    whole = backed_up.file.read_bytes()
    backed_up.file.write_bytes(whole.replace(b'"version":1', b'"version":2', 1))
    with pytest.raises(ConfigurationError, match="version 2"):
        await backed_up.restore()


async def test_a_file_that_changes_while_it_is_restored_changes_nothing(
    backed_up: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, whole = content_of(backed_up.database), backed_up.file.read_bytes()
    pages = BackupReader.pages
    rounds = 0

    def swapped(self: BackupReader) -> Any:
        nonlocal rounds
        rounds += 1
        if rounds == 2:  # the first looks it through
            altered = bytearray(whole)
            altered[-1] ^= 1
            backed_up.file.write_bytes(bytes(altered))
        return pages(self)

    monkeypatch.setattr(BackupReader, "pages", swapped)
    with pytest.raises(ConfigurationError):
        await backed_up.restore()
    assert rounds == 2
    assert content_of(backed_up.database) == before


async def test_a_store_that_is_being_moved_is_not_restored_into(backed_up: Place) -> None:
    store = await open_movable(backed_up.url())
    await store.set_mark(Mark(role=Role.SOURCE, copy_id="c", place="elsewhere"), replaces=None)
    await store.close()
    with pytest.raises(ConfigurationError, match="being copied"):
        await backed_up.restore()


async def test_a_back_up_takes_nobodys_place_and_is_for_its_owner_alone(backed_up: Place) -> None:
    assert backed_up.file.stat().st_mode & 0o777 == 0o600
    before = backed_up.file.read_bytes()
    with pytest.raises(ConfigurationError, match="there already"):
        await backed_up.back_up()
    assert backed_up.file.read_bytes() == before
    assert [path.name for path in backed_up.folder.glob("backup*")] == ["backup"]
    assert MASTER_KEY not in before


async def test_a_back_up_under_a_master_key_that_does_not_fit_is_refused(backed_up: Place) -> None:
    backed_up.file.unlink()
    with pytest.raises(ConfigurationError, match="does not fit"):
        await backed_up.back_up(master_key=bytes(32))
    assert not backed_up.file.exists()


# A crash in the middle


def restore_and_die(folder: str, pages_until_death: int) -> None:
    """Restore in a process that is killed before it has put the given number of pages in place."""
    import asyncio
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
    asyncio.run(Place(Path(folder), SystemClock()).restore())


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
async def test_a_crash_leaves_the_old_store(backed_up: Place, part: float) -> None:
    before = content_of(backed_up.database)
    with backed_up.file.open("rb") as raw:
        once = sum(1 for _ in BackupReader(raw, master_key=MASTER_KEY).pages())
    more = round(part * (once - 1))
    process = multiprocessing.get_context("spawn").Process(
        target=restore_and_die, args=(str(backed_up.folder), once + more)
    )
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert content_of(backed_up.database) == before
    assert (await backed_up.restore()).outcome is Outcome.KEPT
