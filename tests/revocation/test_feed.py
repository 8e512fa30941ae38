from __future__ import annotations

import asyncio
import gzip
import threading
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from keyfob.base.errors import Cause, ConfigurationError, InvalidRequest, StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, Timeline
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.revocation import wire
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.event_stream import EventStreamReader
from keyfob.revocation.feed import Feed
from keyfob.revocation.feed_settings import FeedSettings
from keyfob.revocation.followers import MAX_PIECE, RESYNC_FRAME, Follower
from keyfob.revocation.recent_entries import RecentEntries
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.snapshot import SnapshotReader
from keyfob.stores.memory import open_memory_store
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "https://auth.example"
KEY = PrivateKey.generate(Algorithm.EDDSA)
ACCESS = PrivateKey.generate(Algorithm.ES256)
KEYS = {KEY.key_id: KEY.public}
MINUTES = timedelta(minutes=15)


def sign(payload, typ):
    return jws.sign(payload, KEY, typ=typ)


class Bench:
    """A feed on a memory store, with switches for what may go wrong with the store."""

    def __init__(self):
        self.clock = FrozenClock()
        self.store = open_memory_store(self.clock)
        self.signed = 0
        self.key_sets = wire.KeySets(access=jwk_set([ACCESS.public]), feed=jwk_set([KEY.public]))
        self.events = []
        self.told = []
        self.is_away = False
        self.head = None
        self.hidden = set()
        self.live_calls = 0

    # The port of the feed, over the real store.

    def fail(self):
        if self.is_away:
            raise StoreUnavailable("away")

    async def store_head(self):
        self.fail()
        return self.head or await self.store.feed.head()

    async def read_after(self, position, limit):
        self.fail()
        return [e for e in await self.store.feed.read_after(position, limit) if e.position not in self.hidden]

    async def live(self, now):
        self.fail()
        self.live_calls += 1
        head, entries = await self.store.feed.live(now)
        return self.head or head, entries

    def subscribe(self, wake):
        return self.store.feed.subscribe(wake)

    def sign(self, payload, typ):
        self.signed += 1
        return sign(payload, typ)

    async def start(self, **settings):
        await self.store.feed.extend_retention(credential=timedelta(minutes=10), session=timedelta(hours=12))
        port = type(
            "Port",
            (),
            {
                "head": lambda _: self.store_head(),
                "read_after": lambda _, position, limit: self.read_after(position, limit),
                "live": lambda _, now: self.live(now),
                "subscribe": lambda _, wake: self.subscribe(wake),
                "reappend": lambda _, *given, **more: self.store.feed.reappend(*given, **more),
                "begin_timeline": lambda _, *given, **more: self.store.feed.begin_timeline(*given, **more),
            },
        )()
        self.feed = await Feed.start(
            port,
            issuer=ISSUER,
            sign=self.sign,
            key_sets=lambda: self.key_sets,
            clock=self.clock,
            settings=FeedSettings(**{"heartbeat": timedelta(seconds=5), **settings}),
            on_event=self.events.append,
            on_entries=lambda entries: self.told.append([entry.position for entry in entries]),
        )
        return self.feed

    async def revoke(self, name="s1", scope=Scope.TOKEN, reach=Reach.END):
        revocation = Revocation(
            scope=scope, id=name, reach=reach, event=Event(at=self.clock.now(), code="revoked")
        )
        outcome = await self.store.sessions.end(revocation, now=self.clock.now())
        return outcome.entry

    async def close(self):
        await self.feed.close()
        await self.store.close()


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    await bench.close()


class Reader:
    """Reads one follower's frames and checks every signature."""

    def __init__(self, feed, last_event_id=None):
        self.stream = feed.follow(last_event_id)
        self.events = EventStreamReader()
        self.pending = []

    async def next(self):
        async with asyncio.timeout(10):
            while not self.pending:
                self.pending += self.events.feed(await anext(self.stream))
        event = self.pending.pop(0)
        decode, typ = {
            "keys": (wire.decode_keys, wire.KEYS_TYPE),
            "entry": (wire.decode_batch, wire.ENTRIES_TYPE),
            "heartbeat": (wire.decode_heartbeat, wire.HEARTBEAT_TYPE),
            "resync": (None, None),
        }[event.name]
        if decode is None:
            return "resync", None
        content = decode(jws.verify(event.data, KEYS, typ=typ, limit=wire.MAX_SIGNED))
        assert content.issuer == ISSUER
        if event.name == "entry":
            assert event.id == wire.event_id(content.timeline, content.entries[-1].position)
            return "entry", [entry.position for entry in content.entries]
        if event.name == "heartbeat":
            return "heartbeat", content.head.position
        return event.name, content

    async def positions(self, until):
        """Read until *until* came; return the positions in the order in which they came."""
        found = []
        while not found or found[-1] < until:
            name, content = await self.next()
            if name == "entry":
                found += content
            if name == "resync":
                return [*found, "resync"]
        return found

    async def ends(self):
        async with asyncio.timeout(10):
            rest = [frame async for frame in self.stream]
        return b"".join(rest)

    async def close(self):
        await self.stream.aclose()


async def test_a_follower_hears_the_keys_then_what_is_revoked_then_a_heartbeat_that_counts_it(bench):
    feed = await bench.start()
    reader = Reader(feed)
    name, notice = await reader.next()
    assert name == "keys"
    assert notice.key_sets == bench.key_sets
    assert await reader.next() == ("heartbeat", 0)
    entry = await bench.revoke()
    assert await reader.next() == ("entry", [1])
    assert feed.live.head.position == entry.position
    await feed.beat()
    assert await reader.next() == ("heartbeat", 1)
    await reader.close()
    assert feed.stats().followers == 0


async def test_what_was_revoked_before_the_start_is_live(bench, holder):
    await bench.revoke("j1")
    feed = await bench.start()
    timeline = feed.live.head.timeline
    assert feed.live.cause(holder(0, timeline=timeline)) is Cause.REVOKED


async def test_catch_up_returns_when_the_entry_is_applied(bench, holder):
    feed = await bench.start()
    entries = [await bench.revoke(f"j{number}") for number in range(1, 6)]
    await asyncio.gather(*(feed.catch_up(entry.position) for entry in entries))
    assert feed.live.head.position == 5
    assert feed.live.cause(holder(0, timeline=feed.live.head.timeline)) is Cause.REVOKED
    await feed.catch_up(Position(1))


async def test_catch_up_says_so_when_the_store_is_away_or_shows_less(bench):
    feed = await bench.start()
    with pytest.raises(StoreUnavailable, match="position 9"):
        await feed.catch_up(Position(9))
    bench.is_away = True
    with pytest.raises(StoreUnavailable, match="away"):
        await feed.catch_up(Position(9))


async def test_a_feed_without_followers_signs_nothing(bench):
    feed = await bench.start()
    entry = await bench.revoke()
    await feed.catch_up(entry.position)
    await feed.beat()
    assert bench.signed == 0


async def test_a_frame_is_signed_once_for_all_followers(bench):
    feed = await bench.start()
    readers = [Reader(feed) for _ in range(5)]
    for reader in readers:
        assert (await reader.next())[0] == "keys"
        assert (await reader.next())[0] == "heartbeat"
    before = bench.signed
    await bench.revoke()
    for reader in readers:
        while (await reader.next())[0] != "entry":
            pass
    for reader in readers:
        await reader.close()
    beats = 5  # joining asks for one each, and some come late
    assert bench.signed - before <= 1 + beats


async def test_a_follower_that_comes_back_continues_after_the_last_event_that_it_heard(bench):
    feed = await bench.start()
    for number in range(7):
        await bench.revoke(f"j{number}")
    await feed.catch_up(Position(7))
    timeline = feed.live.head.timeline
    for heard in range(7):  # also in the middle of a batch
        reader = Reader(feed, wire.event_id(timeline, heard))
        assert await reader.positions(7) == list(range(heard + 1, 8))
        await reader.close()
    reader = Reader(feed, wire.event_id(timeline, 7))
    assert (await reader.next())[0] == "keys"
    assert await reader.next() == ("heartbeat", 7)
    await reader.close()


async def test_what_is_no_longer_in_memory_comes_from_the_store(bench):
    feed = await bench.start(recent=2)
    for number in range(600):
        entry = await bench.revoke(f"j{number}")
        if number % 100 == 0:
            await feed.catch_up(entry.position)
    await feed.catch_up(Position(600))
    reader = Reader(feed, wire.event_id(feed.live.head.timeline, 3))
    assert await reader.positions(600) == list(range(4, 601))
    await reader.close()


async def test_a_follower_that_missed_too_much_is_told_to_resynchronise(bench):
    feed = await bench.start(recent=1, backlog=5)
    for number in range(6):
        await feed.catch_up((await bench.revoke(f"j{number}")).position)
    timeline = feed.live.head.timeline
    assert await Reader(feed, wire.event_id(timeline, 0)).positions(6) == ["resync"]
    reader = Reader(feed, wire.event_id(timeline, 1))
    assert await reader.positions(6) == [2, 3, 4, 5, 6]
    await reader.close()


async def test_a_follower_whose_missed_entries_are_gone_is_told_to_resynchronise(bench):
    feed = await bench.start(recent=1)
    for number in range(4):
        await feed.catch_up((await bench.revoke(f"j{number}")).position)
    timeline = feed.live.head.timeline
    bench.hidden = {1}
    assert await Reader(feed, wire.event_id(timeline, 0)).positions(4) == ["resync"]
    bench.hidden = {1, 2, 3, 4}
    assert await Reader(feed, wire.event_id(timeline, 0)).positions(4) == ["resync"]


@pytest.mark.parametrize("last", ["", "nonsense", "other:0", "{timeline}:99", "{timeline}:-1"])
async def test_an_id_that_cannot_be_continued_gives_resync_and_the_end(bench, last):
    feed = await bench.start()
    reader = Reader(feed, last.format(timeline=feed.live.head.timeline))
    assert (await reader.next())[0] == "keys"
    assert await reader.next() == ("resync", None)
    assert await reader.ends() == b""


async def test_a_follower_ahead_of_this_process_makes_it_catch_up(bench):
    feed = await bench.start()
    bench.store.feed._state.wakers.clear()
    await bench.revoke()
    reader = Reader(feed, wire.event_id(feed.live.head.timeline, 1))
    assert (await reader.next())[0] == "keys"
    assert await reader.next() == ("heartbeat", 1)
    await reader.close()


async def test_a_follower_ahead_while_the_store_is_away_is_told_to_resynchronise(bench):
    feed = await bench.start()
    bench.is_away = True
    reader = Reader(feed, wire.event_id(feed.live.head.timeline, 1))
    assert await reader.positions(1) == ["resync"]


async def test_a_slow_follower_is_ended_and_holds_up_nobody(bench):
    feed = await bench.start(buffer=3_000)
    slow, quick = Reader(feed), Reader(feed)
    assert (await slow.next())[0] == "keys"
    assert (await slow.next())[0] == "heartbeat"
    assert (await quick.next())[0] == "keys"
    seen = []
    for number in range(20):
        await feed.catch_up((await bench.revoke(f"j{number}")).position)
        seen += await quick.positions(number + 1)
    assert seen == list(range(1, 21))
    rest = await slow.ends()
    assert rest.endswith(RESYNC_FRAME)
    assert feed.stats().overflows == 1
    assert feed.stats().followers == 1
    await quick.close()


async def test_what_a_follower_missed_leaves_in_pieces_of_a_bounded_size(bench):
    feed = await bench.start(recent=5_000)
    for number in range(1_200):
        await bench.revoke(f"{number:0200}")
    await feed.catch_up(1_200)
    frames = feed.follow(wire.event_id(feed.live.head.timeline, 0))
    pieces, seen = [], 0
    while seen < 1_200:
        pieces.append(await anext(frames))
        seen = max(
            [seen, *(int(line.rpartition(b":")[2]) for line in pieces[-1].split(b"\n") if line[:3] == b"id:")]
        )
    await frames.aclose()
    assert sum(map(len, pieces)) > 2 * MAX_PIECE
    assert max(map(len, pieces)) <= MAX_PIECE


async def test_changed_keys_are_announced_once(bench):
    feed = await bench.start()
    reader = Reader(feed)
    assert (await reader.next())[0] == "keys"
    assert (await reader.next())[0] == "heartbeat"
    other = PrivateKey.generate(Algorithm.ES256)
    bench.key_sets = wire.KeySets(access=jwk_set([other.public]), feed=jwk_set([KEY.public]))
    await feed.beat()
    name, notice = await reader.next()
    assert name == "keys"
    assert notice.key_sets == bench.key_sets
    assert (await reader.next())[0] == "heartbeat"
    await feed.beat()
    assert (await reader.next())[0] == "heartbeat"
    await reader.close()


async def test_close_ends_every_follower_at_once_and_nobody_joins_after(bench):
    feed = await bench.start()
    readers = [Reader(feed) for _ in range(3)]
    for reader in readers:
        assert (await reader.next())[0] == "keys"
        assert (await reader.next())[0] == "heartbeat"
    await feed.close()
    await feed.close()
    for reader in readers:
        await reader.ends()
    assert [frame async for frame in feed.follow()] == []


async def test_a_follower_that_joins_while_the_feed_closes_is_ended(bench):
    feed = await bench.start()
    stream = feed.follow()
    await anext(stream)
    await feed.close()
    assert [frame async for frame in stream] == [RESYNC_FRAME]


# Level, or not


async def test_a_heartbeat_is_signed_for_a_moment_before_the_head_was_read(bench):
    """Whatever is appended after that moment may be missing; whatever was there before may not."""
    feed = await bench.start()
    read = bench.store_head

    async def slow_head():
        head = await read()
        bench.clock.advance(2)
        return head

    bench.store_head = slow_head
    before = bench.clock.now()
    await feed.beat()
    assert feed.live.confirmed_at == before
    assert feed.staleness() == 2


async def test_a_feed_is_level_for_as_long_as_its_last_look_at_the_store(bench):
    feed = await bench.start()
    assert feed.is_level()
    assert feed.is_level(timedelta(0))
    bench.clock.advance(3)
    assert feed.staleness() == 3
    assert feed.is_level(timedelta(seconds=3))
    assert not feed.is_level(timedelta(seconds=2.999))
    bench.clock.advance(22)
    assert feed.is_level()  # five heartbeats of five seconds
    bench.clock.advance(0.001)
    assert not feed.is_level()
    await feed.beat()
    assert feed.is_level(timedelta(0))
    bench.clock.set(bench.clock.now() + timedelta(hours=1))  # a machine that slept
    assert not feed.is_level()


async def test_a_wall_clock_put_back_makes_nothing_level_again(bench):
    feed = await bench.start()
    bench.clock.advance(30)
    bench.clock.set(bench.clock.now() - timedelta(hours=1))
    assert not feed.is_level()


async def test_a_store_that_is_away_makes_the_feed_stale_and_it_recovers(bench, holder):
    feed = await bench.start(heartbeat=timedelta(seconds=0.1))
    bench.is_away = True
    bench.clock.advance(60)
    with pytest.raises(StoreUnavailable):
        await feed.beat()
    failures = feed.failures
    async with asyncio.timeout(10):
        while feed.failures == failures:
            await asyncio.sleep(0)
    assert not feed.is_level()
    bench.is_away = False
    entry = await bench.revoke("j1")
    async with asyncio.timeout(10):
        while not feed.is_level() or feed.live.head.position < entry.position:
            await asyncio.sleep(0)
    assert feed.live.cause(holder(0, timeline=feed.live.head.timeline)) is Cause.REVOKED


async def test_a_store_that_hangs_counts_as_away(bench):
    feed = await bench.start(heartbeat=timedelta(seconds=0.1))
    never = asyncio.Event()

    async def hanging():
        await never.wait()

    bench.store_head = hanging
    async with asyncio.timeout(10):
        while not feed.failures:
            await asyncio.sleep(0)


async def test_a_store_that_went_back_is_never_signed_as_level(bench):
    feed = await bench.start()
    first = await bench.store.feed.head()
    await feed.catch_up((await bench.revoke()).position)
    await feed.beat()
    confirmed = feed.live.confirmed_at
    bench.clock.advance(1)
    for head in (first, replace(feed.live.head, chain=bytes(32))):
        bench.head = head
        with pytest.raises(StoreUnavailable, match="went back"):
            await feed.beat()
    assert feed.live.confirmed_at == confirmed
    assert [event.code for event in bench.events] == ["feed_went_back"]
    bench.head = first
    with pytest.raises(StoreUnavailable, match="went back"):
        await feed.snapshot()
    bench.head = None
    await feed.beat()
    assert feed.is_level(timedelta(0))


async def test_entries_that_are_gone_from_the_store_make_the_feed_read_all_anew(bench, holder):
    feed = await bench.start()
    bench.store.feed._state.wakers.clear()
    reader = Reader(feed)
    assert (await reader.next())[0] == "keys"
    assert (await reader.next())[0] == "heartbeat"
    for name in ("j1", "j2", "j3"):
        await bench.revoke(name)
    bench.hidden = {1, 2, 3}
    await feed.beat()
    assert feed.live.head.position == 3
    assert feed.live.cause(holder(0, timeline=feed.live.head.timeline)) is Cause.REVOKED
    assert (await reader.ends()).endswith(RESYNC_FRAME)


async def test_a_gap_in_what_the_store_gives_makes_the_feed_read_all_anew(bench):
    feed = await bench.start()
    bench.store.feed._state.wakers.clear()
    for name in ("j1", "j2", "j3"):
        await bench.revoke(name)
    bench.hidden = {2}
    await feed.catch_up(Position(3))
    assert bench.live_calls == 2
    assert feed.live.head.position == 3


async def test_a_read_that_shows_less_than_is_held_is_not_taken(bench):
    feed = await bench.start()
    await feed.catch_up((await bench.revoke()).position)
    bench.store.feed._state.wakers.clear()
    await bench.revoke("j2")
    await bench.revoke("j3")
    bench.hidden = {2}
    bench.head = replace(feed.live.head, position=Position(0))
    with pytest.raises(StoreUnavailable, match="went back"):
        await feed.catch_up(Position(3))
    assert feed.live.head.position == 1


async def test_a_new_timeline_is_taken_over_and_followers_begin_anew(bench, holder):
    feed = await bench.start()
    old = feed.live.head.timeline
    await feed.catch_up((await bench.revoke()).position)
    reader = Reader(feed)
    assert (await reader.next())[0] == "keys"
    assert (await reader.next())[0] == "heartbeat"
    state = bench.store.feed._state
    state.timeline = Timeline("t2")
    state.position = Position(2**32)
    await feed.beat()
    assert feed.live.head == await bench.store.feed.head()
    assert feed.live.cause(holder(0, timeline=old)) is Cause.REVOKED
    assert (await reader.ends()).endswith(RESYNC_FRAME)
    entry = await bench.revoke("j2")
    await feed.catch_up(entry.position)
    assert feed.live.head.position == 2**32 + 1


async def test_many_entries_are_put_into_the_table_in_another_thread(bench, monkeypatch):
    monkeypatch.setattr("keyfob.revocation.feed._LARGE", 3)
    monkeypatch.setattr("keyfob.revocation.snapshot_cache._LARGE", 3)
    for number in range(4):
        await bench.revoke(f"j{number}")
    feed = await bench.start()
    assert len(feed.live) == 4
    assert len(read_snapshot(await feed.snapshot()).table) == 4


async def test_expired_entries_leave_with_the_heartbeat(bench):
    await bench.revoke()
    feed = await bench.start()
    assert len(feed.live) == 1
    bench.clock.advance(timedelta(minutes=15, seconds=1))
    await feed.beat()
    assert len(feed.live) == 0


async def test_a_failed_start_leaves_no_subscription(bench):
    bench.is_away = True
    with pytest.raises(StoreUnavailable):
        await bench.start()
    bench.is_away = False
    feed = await bench.start()
    assert feed.is_level()


async def test_an_error_that_nobody_foresaw_is_reported_and_leaves_the_feed_stale(bench):
    feed = await bench.start(heartbeat=timedelta(seconds=0.1))

    async def broken():
        raise ZeroDivisionError

    bench.store_head = broken
    async with asyncio.timeout(10):
        while not bench.events:
            await asyncio.sleep(0)
    assert bench.events[0].code == "feed_stopped"
    assert bench.events[0].facts == {"error": "ZeroDivisionError"}
    feed._task = None


async def test_more_than_a_batch_is_applied_and_sent_in_order(bench):
    feed = await bench.start()
    reader = Reader(feed)
    assert (await reader.next())[0] == "keys"
    assert (await reader.next())[0] == "heartbeat"
    wakers = bench.store.feed._state.wakers
    wakers.clear()
    for number in range(2 * wire.MAX_BATCH):
        await bench.revoke(f"j{number}")
    await feed.catch_up(Position(2 * wire.MAX_BATCH))
    assert await reader.positions(2 * wire.MAX_BATCH) == list(range(1, 2 * wire.MAX_BATCH + 1))
    await reader.close()


async def test_who_finds_the_entry_applied_by_another_returns(bench):
    feed = await bench.start()
    bench.store.feed._state.wakers.clear()
    entry = await bench.revoke()
    async with feed._turn:
        waiting = asyncio.create_task(feed.catch_up(entry.position))
        await asyncio.sleep(0)
        await feed._advance()
    bench.is_away = True  # it asks nobody
    await waiting


async def test_entries_are_told_of_after_they_are_applied_and_all_that_are_live_at_the_start(bench):
    await bench.revoke("j1")
    feed = await bench.start()
    assert bench.told == [[1]]
    await feed.catch_up((await bench.revoke("j2")).position)
    assert bench.told == [[1], [2]]


async def test_a_feed_that_nobody_listens_to_reports_nothing(bench):
    feed = await bench.start()
    feed._on_event = None
    bench.head = replace(feed.live.head, chain=bytes(31) + b"1")
    with pytest.raises(StoreUnavailable):
        await feed.beat()
    assert bench.events == []


async def test_a_wake_up_after_the_loop_is_closed_is_nothing(bench):
    feed = await bench.start()
    loop = asyncio.new_event_loop()
    loop.close()
    feed._wake_from(loop)


async def test_an_entry_made_in_another_thread_wakes_the_feed(bench):
    feed = await bench.start()
    thread = threading.Thread(target=lambda: asyncio.run(bench.revoke()))
    thread.start()
    async with asyncio.timeout(10):
        while feed.live.head.position < 1:
            await asyncio.sleep(0)
    thread.join()


# Snapshot, time, keys


def read_snapshot(raw):
    reader = SnapshotReader(lambda text, typ: jws.verify(text, KEYS, typ=typ, limit=wire.MAX_SIGNED))
    reader.feed(gzip.decompress(raw))
    return reader.finish()


async def test_a_snapshot_holds_what_is_live_and_names_the_head(bench):
    feed = await bench.start()
    await feed.catch_up((await bench.revoke()).position)
    snapshot = read_snapshot(await feed.snapshot())
    assert snapshot.head.head == feed.live.head
    assert snapshot.head.issuer == ISSUER
    assert snapshot.head.at == bench.clock.now()
    assert snapshot.head.key_sets == bench.key_sets
    assert len(snapshot.table) == 1


async def test_a_snapshot_is_made_once_while_nothing_moves_and_for_up_to_thirty_seconds(bench):
    feed = await bench.start()
    first = await feed.snapshot()
    bench.clock.advance(29.999)
    assert await feed.snapshot() is first
    assert await asyncio.gather(*(feed.snapshot() for _ in range(5))) == [first] * 5
    bench.clock.advance(0.001)
    assert await feed.snapshot() is not first


async def test_a_snapshot_that_is_behind_is_served_for_ten_times_what_it_took(bench):
    feed = await bench.start()
    live = bench.live

    async def slow_live(now):
        bench.clock.advance(1)
        return await live(now)

    bench.live = slow_live
    first = await feed.snapshot()
    bench.live = live
    await feed.catch_up((await bench.revoke()).position)
    bench.clock.advance(8.999)
    assert await feed.snapshot() is first
    bench.clock.advance(0.001)
    assert read_snapshot(await feed.snapshot()).head.head.position == 1


async def test_a_snapshot_is_made_anew_when_keys_or_timeline_change(bench):
    feed = await bench.start()
    first = await feed.snapshot()
    bench.key_sets = replace(bench.key_sets, access=jwk_set([PrivateKey.generate(Algorithm.ES256).public]))
    second = await feed.snapshot()
    assert second != first
    bench.store.feed._state.timeline = Timeline("t2")
    await feed.beat()
    assert read_snapshot(await feed.snapshot()).head.head.timeline == "t2"


async def test_the_time_is_signed_with_the_nonce(bench):
    feed = await bench.start()
    for nonce in ("n" * 16, "-_" * 32):
        signed = wire.decode_time(jws.verify(feed.signed_time(nonce).decode(), KEYS, typ=wire.TIME_TYPE))
        assert (signed.nonce, signed.at, signed.issuer) == (nonce, bench.clock.now(), ISSUER)


@pytest.mark.parametrize("nonce", ["", "n" * 15, "n" * 65, "n" * 15 + "=", "n" * 15 + "ü", "n" * 15 + "\n"])
async def test_a_nonce_of_another_form_is_refused(bench, nonce):
    feed = await bench.start()
    with pytest.raises(InvalidRequest):
        feed.signed_time(nonce)


async def test_the_key_document_names_the_issuer_and_both_sets(bench):
    feed = await bench.start()
    assert wire.decode_key_document(feed.key_document()) == (ISSUER, bench.key_sets)
    assert feed.heartbeat == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("settings", "is_taken"),
    [
        ({"heartbeat": timedelta(seconds=0.1)}, True),
        ({"heartbeat": timedelta(seconds=0.099)}, False),
        ({"heartbeat": timedelta(seconds=5)}, True),
        ({"heartbeat": timedelta(seconds=5.001)}, False),
        ({"recent": 1, "backlog": 1, "buffer": 1}, True),
        ({"recent": 0}, False),
        ({"backlog": 0}, False),
        ({"buffer": 0}, False),
    ],
)
def test_settings_have_bounds(settings, is_taken):
    if is_taken:
        FeedSettings(**settings)
        return
    with pytest.raises(ConfigurationError):
        FeedSettings(**settings)


# Parts


async def test_a_follower_takes_as_much_as_its_limit_and_no_more():
    follower = Follower(4)
    assert follower.offer(b"ab")
    assert follower.offer(b"cd")
    assert not follower.offer(b"e")
    async with aclosing(follower.frames()) as frames:
        assert await anext(frames) == b"abcd"
        assert follower.offer(b"e")
        assert await anext(frames) == b"e"
        follower.offer(b"dropped")
        follower.end(b"last")
        follower.end(b"again")
        assert not follower.offer(b"late")
        assert [frame async for frame in frames] == [b"last"]


async def test_an_ended_follower_still_hears_its_last_frame():
    follower = Follower(10)
    follower.offer(b"dropped")
    follower.end(b"last")
    assert [frame async for frame in follower.frames()] == [b"last"]


def test_recent_entries_keep_at_least_their_capacity(history):
    recent = RecentEntries(Position(0), capacity=3)
    assert recent.after(Position(0)) == []
    for size in (2, 1, 2):
        recent.add([history.add() for _ in range(size)])
    assert recent.start == 2
    assert [[e.position for e in batch.entries] for batch in recent.after(Position(2))] == [[3], [4, 5]]
    assert [[e.position for e in batch.entries] for batch in recent.after(Position(4))] == [[5]]
    assert recent.after(Position(5)) == []
