"""Precondition 7: a store that went back, under a running authority and before it starts, and what is done about it."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keyfob.authority.head_file import HeadFile, head_file_of
from keyfob.base.errors import Cause
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Scope
from keyfob.revocation.mending import KEPT_ENTRIES
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import LEAP
from keyfob.stores.memory import open_memory_store
from keyfob.stores.revoking import next_entry

from .past import Past

MASTER_KEY = bytes(range(32))


@pytest.fixture
async def store(clock: Any) -> Any:
    return open_memory_store(clock)


async def beat(*houses: Any) -> None:
    await asyncio.gather(*(house.authority.feed.beat() for house in houses))


async def test_what_a_running_authority_still_holds_is_appended_again(open_house: Any, store: Any) -> None:
    house = await open_house(store)
    ended, by_subject = (
        await house.authority.login("alice", strategy="hybrid"),
        await house.authority.login("carol"),
    )
    kept = await house.authority.login("bob", strategy="hybrid")
    past = Past(store)
    await house.authority.revoke("session", ended.session_id)
    await house.authority.revoke("subject", "carol")
    before = await store.feed.head()

    past.return_()
    # Before anybody has noticed: the row lives again, and what this process knows denies it.
    assert await house.cause(by_subject.session_token) is Cause.REVOKED
    await house.authority.feed.beat()

    assert await store.feed.head() == before
    assert await house.causes(ended, by_subject, kept) == [Cause.REVOKED, Cause.REVOKED, None]
    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.refresh_cause(kept.refresh_token) is None
    found = await store.sessions.find(ended.session_id)
    assert found.session.ended_at is not None
    assert len(await house.events("feed_reappended")) == 1
    assert house.authority.feed.is_level()


async def test_of_several_authorities_that_notice_one_mends(open_house: Any, store: Any) -> None:
    one, other = await open_house(store), await open_house(store)
    ended = await one.authority.login("alice", strategy="hybrid")
    past = Past(store)
    await one.authority.revoke("session", ended.session_id)
    before = await store.feed.head()
    await beat(one, other)

    past.return_()
    await beat(one, other)
    await beat(one, other)

    assert await store.feed.head() == before
    assert len(await one.events("feed_reappended")) == 1
    for house in (one, other):
        assert house.authority.feed.is_level()
        assert await house.causes(ended) == [Cause.REVOKED]


async def test_what_nobody_holds_any_longer_ends_everything(
    open_house: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(store)
    ended = await house.authority.login("alice", strategy="hybrid")
    others = [
        await house.authority.login("bob", strategy=strategy) for strategy in ("session", "jwt", "hybrid")
    ]
    key = set(house.authority.keys.public_keys())
    past = Past(store)
    await house.authority.revoke("session", ended.session_id)
    known = await store.feed.head()
    monkeypatch.setattr(house.authority.feed._fan_out.recent, "entries", list)

    past.return_()
    await house.authority.feed.beat()

    head = await store.feed.head()
    assert head.timeline != known.timeline
    assert head.position > known.position + LEAP
    causes = await house.causes(ended, *others)
    assert set(causes) <= {Cause.REVOKED, Cause.UNKNOWN_KEY}
    for issued in (ended, others[2]):
        assert await house.refresh_cause(issued.refresh_token) is Cause.REVOKED
    await settled(house)
    assert not key & set(house.authority.keys.public_keys())
    fresh = await house.authority.login("bob", strategy="hybrid")
    assert await house.causes(fresh) == [None]
    assert await house.refresh_cause(fresh.refresh_token) is None
    assert len(await house.events("feed_begun_anew")) >= 1


async def settled(house: Any) -> None:
    """Wait until the keys of the entries are out of use."""
    async with asyncio.timeout(10):
        while any(
            entry.id in house.authority.keys.public_keys()
            for entry in (await house.authority.store.feed.live(house.clock.now()))[1]
            if entry.scope is Scope.KEY
        ):
            await asyncio.sleep(0)


async def test_another_history_past_what_was_known_is_found_out(open_house: Any, store: Any) -> None:
    """The store went back, and somebody who did not know went on from there, further than what was known."""
    house = await open_house(store)
    ended, kept = await house.authority.login("alice", strategy="hybrid"), await house.authority.login("bob")
    past = Past(store)
    await house.authority.revoke("session", ended.session_id)
    known = await store.feed.head()
    house.authority.feed._unsubscribe()
    past.return_()
    stranger = await open_house(store)
    for _ in range(3):
        await stranger.authority.revoke("subject", "nobody")

    await house.authority.feed.beat()

    assert (await store.feed.head()).timeline != known.timeline
    assert await house.cause(ended.access_token) in {Cause.REVOKED, Cause.UNKNOWN_KEY}
    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.cause(kept.session_token) is Cause.REVOKED


async def test_a_login_after_the_mending_works_at_the_other_authority_too(
    open_house: Any, store: Any
) -> None:
    one, other = await open_house(store), await open_house(store)
    past = Past(store)
    await one.authority.revoke("subject", "alice")
    one.authority.feed._fan_out.recent._batches.clear()
    other.authority.feed._fan_out.recent._batches.clear()
    past.return_()
    await beat(one, other)
    await beat(one, other)
    await settled(one)

    fresh = await one.authority.login("alice", strategy="hybrid")

    await other.authority.feed.catch_up((await store.feed.head()).position)
    await other.authority.keys.reload()
    assert await other.cause(fresh.access_token) is None


# Before an authority starts


class Deployment:
    """A SQLite file that can be put back to an older copy while no authority runs."""

    def __init__(self, folder: Path, open_house: Any) -> None:
        self.database = folder / "keyfob.db"
        self.url = f"sqlite:///{self.database}?synchronous=normal"
        self._copy = folder / "copy.db"
        self._open_house = open_house

    async def start(self) -> Any:
        return await self._open_house(self.url)

    async def stop(self, house: Any) -> None:
        await house.authority.close()

    def copy(self) -> None:
        shutil.copy(self.database, self._copy)

    def put_back(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        shutil.copy(self._copy, self.database)

    @property
    def head_file(self) -> Path:
        return head_file_of(self.database)


@pytest.fixture
def deployment(tmp_path: Path, open_house: Any) -> Deployment:
    return Deployment(tmp_path, open_house)


async def grants_and_copy(deployment: Deployment) -> tuple[Any, Any]:
    """A grant that is ended after the copy was made, and one that is not; then the older copy is put in place."""
    house = await deployment.start()
    ended, kept = await house.authority.login("alice", strategy="hybrid"), await house.authority.login("bob")
    await deployment.stop(house)
    deployment.copy()
    house = await deployment.start()
    await house.authority.revoke("session", ended.session_id)
    await house.authority.feed.beat()
    await deployment.stop(house)
    deployment.put_back()
    return ended, kept


async def test_what_was_kept_beside_an_older_copy_is_appended_again_and_nobody_is_logged_out(
    deployment: Deployment,
) -> None:
    ended, kept = await grants_and_copy(deployment)

    house = await deployment.start()

    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.causes(ended, kept) == [Cause.REVOKED, None]
    assert len(await house.events("feed_reappended")) == 1
    assert await house.events("feed_begun_anew") == []
    await deployment.stop(house)
    again = await deployment.start()
    assert await again.causes(kept) == [None]
    assert len(await again.events("feed_reappended")) == 1, "once is enough"


def _nothing(line: bytes) -> bytes:
    return b""


def _altered(line: bytes) -> bytes:
    return line.replace(b'"scope":"session"', b'"scope":"subject"')


def _another_timeline(line: bytes) -> bytes:
    batch = json.loads(line)
    return json.dumps(batch | {"timeline": "elsewhere"}).encode()


@pytest.mark.parametrize("change", [_nothing, _altered, _another_timeline])
async def test_an_authority_on_an_older_copy_ends_everything_before_it_serves(
    deployment: Deployment, change: Callable[[bytes], bytes]
) -> None:
    ended, kept = await grants_and_copy(deployment)
    head, entries = deployment.head_file.read_bytes().splitlines()
    assert change(entries) != entries
    deployment.head_file.write_bytes(head + b"\n" + change(entries) + b"\n")

    house = await deployment.start()

    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.cause(ended.access_token) in {Cause.REVOKED, Cause.UNKNOWN_KEY}
    assert await house.cause(kept.session_token) is Cause.REVOKED
    fresh = await house.authority.login("alice", strategy="hybrid")
    assert await house.causes(fresh) == [None]
    events = await house.events("feed_begun_anew")
    assert events[0].facts["known_position"] == 1
    await deployment.stop(house)
    again = await deployment.start()
    assert await again.causes(fresh) == [None], "once is enough"


async def test_without_the_file_nobody_can_know(deployment: Deployment) -> None:
    ended, _ = await grants_and_copy(deployment)
    deployment.head_file.unlink()

    house = await deployment.start()

    assert await house.refresh_cause(ended.refresh_token) is None
    assert await house.events("feed_begun_anew") == []


async def test_an_older_copy_that_went_on_is_told_by_its_other_history(deployment: Deployment) -> None:
    ended, _ = await grants_and_copy(deployment)
    head = deployment.head_file.read_bytes()
    deployment.head_file.unlink()
    house = await deployment.start()
    for _ in range(3):
        await house.authority.revoke("subject", "nobody")
    await deployment.stop(house)
    deployment.head_file.write_bytes(head)

    house = await deployment.start()

    assert await house.refresh_cause(ended.refresh_token) is Cause.REVOKED
    assert await house.events("feed_begun_anew")


async def test_a_restart_on_the_same_database_is_no_rollback(deployment: Deployment) -> None:
    house = await deployment.start()
    issued = await house.authority.login("alice", strategy="hybrid")
    for _ in range(3):
        await house.authority.revoke("subject", "nobody")
        await house.authority.feed.beat()
    await deployment.stop(house)

    again = await deployment.start()

    assert await again.causes(issued) == [None]
    assert await again.events("feed_went_back") == []


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"{}", b'{"issuer":"x","timeline":"t","position":9,"chain":"","mac":""}']
)
async def test_a_file_that_holds_no_head_is_passed_over(deployment: Deployment, content: bytes) -> None:
    house = await deployment.start()
    issued = await house.authority.login("alice", strategy="hybrid")
    await deployment.stop(house)
    deployment.head_file.write_bytes(content)

    again = await deployment.start()

    assert await again.causes(issued) == [None]


async def test_whoever_does_not_know_the_master_key_cannot_make_an_authority_end_everything(
    deployment: Deployment,
) -> None:
    house = await deployment.start()
    issued = await house.authority.login("alice", strategy="hybrid")
    await deployment.stop(house)
    told: list[str] = []
    forged = Head(timeline=Timeline("t"), position=Position(10**9), chain=bytes(32))
    issuer = house.authority.issuer
    for master_key, name in ((bytes(32), issuer), (MASTER_KEY, "https://other.example")):
        deployment.head_file.unlink(missing_ok=True)
        HeadFile(deployment.head_file, issuer=name, master_key=master_key, failed=told.append).keep(forged)
        again = await deployment.start()
        assert await again.causes(issued) == [None]
        await deployment.stop(again)
    assert told == []


def test_the_furthest_head_stays_and_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    told: list[str] = []
    file = HeadFile(
        tmp_path / "head", issuer="https://auth.example", master_key=MASTER_KEY, failed=told.append
    )
    assert file.read() is None
    heads = [
        Head(timeline=Timeline(timeline), position=Position(position), chain=bytes([position]) * 32)
        for timeline, position in (("a", 3), ("a", 2), ("b", 1), ("b", 5))
    ]
    kept = []
    for head in heads:
        file.keep(head)
        kept.append(file.read())
    assert kept == [heads[0], heads[0], heads[0], heads[3]]
    assert (tmp_path / "head").stat().st_mode & 0o777 == 0o600
    raw = (tmp_path / "head").read_bytes()
    for index in range(0, len(raw) - 1, 5):
        altered = bytearray(raw)
        altered[index] ^= 1
        (tmp_path / "head").write_bytes(bytes(altered))
        assert file.read() in {None, heads[3]}
    assert {path.name for path in tmp_path.iterdir()} == {"head", "head.lock"}
    missing = HeadFile(tmp_path / "no" / "head", issuer="i", master_key=MASTER_KEY, failed=told.append)
    missing.keep(heads[0])
    assert "cannot be written" in told[-1]


def test_the_last_entries_are_kept_with_the_head_also_across_a_restart(tmp_path: Path) -> None:
    def file() -> HeadFile:
        return HeadFile(
            tmp_path / "head", issuer="https://auth.example", master_key=MASTER_KEY, failed=pytest.fail
        )

    entries = chain_of(KEPT_ENTRIES + 10)
    heads = [Head(timeline=Timeline("a"), position=entry.position, chain=entry.chain) for entry in entries]
    file().keep(heads[4], entries[:5])
    file().keep(heads[6], entries[5:8])  # whoever keeps a head may hold a later entry already
    assert file().kept() == (heads[6], tuple(entries[:7]))
    file().keep(heads[8], entries[8:9])  # one is missing in between
    assert file().kept() == (heads[8], (entries[8],))
    file().keep(heads[-1], entries)
    assert file().kept() == (heads[-1], tuple(entries[-KEPT_ENTRIES:]))
    anew = Head(timeline=Timeline("b"), position=Position(heads[-1].position + 1), chain=bytes(32))
    file().keep(anew, ())
    assert file().kept() == (anew, ())


def chain_of(count: int) -> list[Entry]:
    entries: list[Entry] = []
    now = datetime(2026, 11, 24, tzinfo=UTC)
    for number in range(count):
        order = Revocation(scope=Scope.SUBJECT, id=f"subject-{number}", event=Event(at=now, code="revoked"))
        last = entries[-1] if entries else None
        entries.append(
            next_entry(
                order,
                position=Position(number),
                chain=last.chain if last else CHAIN_START,
                last_at=now,
                now=now,
                longest=timedelta(hours=1),
            )
        )
    return entries


def test_of_many_that_keep_heads_at_once_the_furthest_stays(tmp_path: Path) -> None:
    path, begin = tmp_path / "head", threading.Barrier(8)

    def keep(number: int) -> None:
        file = HeadFile(path, issuer="https://auth.example", master_key=MASTER_KEY, failed=pytest.fail)
        begin.wait(10)
        for position in range(number, 160, 8):
            file.keep(Head(timeline=Timeline("a"), position=Position(position), chain=bytes(32)))

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    last = HeadFile(path, issuer="https://auth.example", master_key=MASTER_KEY, failed=pytest.fail).read()
    assert last is not None
    assert last.position == 159
