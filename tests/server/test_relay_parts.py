"""The parts of a relay: what is kept for followers, who is admitted, and what happens while nobody can be asked."""

from __future__ import annotations

import asyncio
import functools
import gzip
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from keyfob.base.errors import AuthorityUnavailable, Cause, Denied, InvalidRequest
from keyfob.base.identifiers import Position, Timeline
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.revocation.entry import CHAIN_START, Head
from keyfob.revocation.event_stream import StreamEvent
from keyfob.revocation.followers import MAX_PIECE, RESYNC_FRAME, Followers, in_pieces
from keyfob.revocation.snapshot import encode_body, pack
from keyfob.revocation.snapshot_cache import MAX_AGE
from keyfob.revocation.wire import MAX_SIGNED, KeySets, SnapshotHead
from keyfob.server.relay import upstream as asking
from keyfob.server.relay.relayed_feed import RelayedFeed
from keyfob.server.relay.relayed_snapshot import RelayedSnapshot
from keyfob.server.relay.settings import RelaySettings
from keyfob.server.relay.upstream import Standing, Upstream
from keyfob.testing.frozen_clock import START, FrozenClock
from keyfob.verifier.authority_client import AuthorityClient

NONCE = "0123456789abcdef"
GOOD, BAD = [b"Basic good"], [b"Basic bad"]


class Authority:
    """Answers `/feed/time`: 200 for good credentials, else `status` with `cause`; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_away = False
        self.good = {"Basic good"}
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path == "/feed/snapshot":
                    self._give_snapshot()
                    return
                who = self.headers["Authorization"]
                authority.asked.append(who)
                is_good = who in authority.good
                self.send_response(503 if authority.is_away else 200 if is_good else 401)
                self.send_header("X-Auth-Cause", "bad_credentials")
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"time")

            def _give_snapshot(self) -> None:
                authority.snapshots += 1
                self.send_response(503 if authority.is_away else 200)
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(authority.packed)))
                self.end_headers()
                self.wfile.write(authority.packed)

        self.packed = b""
        self.snapshots = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def authority() -> Iterator[Authority]:
    authority = Authority()
    yield authority
    authority.server.shutdown()
    authority.server.server_close()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def upstream(authority: Authority, clock: FrozenClock) -> Iterator[Upstream]:
    upstream = Upstream(RelaySettings(upstream=authority.url), clock=clock)
    yield upstream
    upstream.close()


def pass_by(clock: FrozenClock, seconds: float) -> None:
    clock.advance(timedelta(seconds=seconds))


async def cause_of(asked: Any) -> Cause:
    with pytest.raises(Denied) as denied:
        await asked
    return denied.value.cause


async def test_a_follower_is_asked_about_once_in_thirty_seconds(upstream, authority, clock):
    await asyncio.gather(*(upstream.admit(GOOD) for _ in range(20)))
    pass_by(clock, asking.ADMITTED_FOR - 0.1)
    await upstream.admit(GOOD)
    assert authority.asked == ["Basic good"]
    pass_by(clock, 0.1)
    await upstream.admit(GOOD)
    assert authority.asked == ["Basic good"] * 2


async def test_who_is_refused_is_not_passed_on_again_at_once_whichever_way_it_asks(
    upstream, authority, clock
):
    assert await cause_of(upstream.admit(BAD)) is Cause.BAD_CREDENTIALS
    assert await cause_of(upstream.admit(BAD)) is Cause.BAD_CREDENTIALS
    assert await cause_of(upstream.time(BAD, NONCE)) is Cause.BAD_CREDENTIALS
    assert authority.asked == ["Basic bad"]
    pass_by(clock, asking.REFUSED_FOR)
    authority.good.add("Basic bad")
    await upstream.admit(BAD)


async def test_guesses_do_not_push_out_who_was_admitted(upstream, authority, monkeypatch):
    monkeypatch.setattr(asking, "MOST_REMEMBERED", 3)
    await upstream.admit(GOOD)
    for number in range(5):
        await cause_of(upstream.admit([b"Basic guess%d" % number]))
    assert len(upstream._refused) == 3
    await upstream.admit(GOOD)
    assert authority.asked.count("Basic good") == 1


async def test_nobody_new_is_admitted_while_the_upstream_is_away(upstream, authority, clock):
    await upstream.admit(GOOD)
    authority.is_away = True
    await upstream.admit(GOOD)
    pass_by(clock, asking.ADMITTED_FOR)
    with pytest.raises(AuthorityUnavailable):
        await upstream.admit(GOOD)
    with pytest.raises(AuthorityUnavailable):
        await upstream.admit(BAD)


async def test_as_many_questions_wait_as_may_and_one_more_is_refused(upstream, authority, monkeypatch):
    monkeypatch.setattr(asking, "MOST_WAITING", 0)
    with pytest.raises(AuthorityUnavailable):
        await upstream.time(GOOD, NONCE)
    assert authority.asked == []


@pytest.mark.parametrize("nonce", ["", "a" * 15, "a" * 65, "a" * 15 + "&", "a" * 15 + "é", "a" * 15 + "\n"])
async def test_a_nonce_that_the_authority_would_refuse_is_not_passed_on(upstream, authority, nonce):
    with pytest.raises(InvalidRequest):
        await upstream.time(GOOD, nonce)
    assert authority.asked == []


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ([], Cause.NO_CREDENTIAL),
        ([b"Basic a", b"Basic b"], Cause.MALFORMED),
        ([b"Basic " + b"a" * 16384], Cause.MALFORMED),
    ],
)
async def test_what_is_no_credential_is_not_passed_on(upstream, authority, values, cause):
    assert await cause_of(upstream.admit(values)) is cause
    assert authority.asked == []


async def test_a_stream_ends_when_its_follower_is_refused(upstream, authority, clock):
    standing = Standing(upstream, GOOD, clock=clock)
    authority.good.clear()
    assert await standing.holds(), "within the time in which an authority does not look either"
    pass_by(clock, asking.ADMITTED_FOR)
    assert not await standing.holds()


async def test_a_stream_goes_on_for_five_minutes_while_nobody_can_be_asked_and_not_longer(
    upstream, authority, clock
):
    standing = Standing(upstream, GOOD, clock=clock)
    authority.is_away = True
    pass_by(clock, asking.SILENT_FOR - asking.ADMITTED_FOR)
    assert await standing.holds()
    pass_by(clock, asking.ADMITTED_FOR)
    assert not await standing.holds()


# The snapshot

KEY = PrivateKey.generate(Algorithm.EDDSA)


def sign(payload: bytes, typ: str) -> str:
    return jws.sign(payload, KEY, typ=typ)


def snapshot_at(position: int, timeline: str = "t1") -> bytes:
    body = encode_body([])
    keys = jwk_set([KEY.public])
    return pack(
        SnapshotHead(
            issuer="http://127.0.0.1",
            head=head(position, timeline),
            at=START,
            count=0,
            digest=body.digest,
            key_sets=KeySets(access=keys, feed=keys),
        ),
        body,
        sign=sign,
    )


@pytest.fixture
def relayed(authority: Authority, clock: FrozenClock) -> Iterator[tuple[RelayedSnapshot, RelayedFeed]]:
    feed = RelayedFeed(followers=10, recent=2)
    feed.begin(head(5))
    client = AuthorityClient(RelaySettings(upstream=authority.url).following())
    verify = functools.partial(jws.verify, keys={KEY.key_id: KEY.public}, limit=MAX_SIGNED)
    yield (
        RelayedSnapshot(client, feed, verify=lambda text, typ: verify(text, typ=typ), clock=clock),
        feed,
    )
    client.close()


async def test_a_snapshot_is_fetched_once_for_all_and_kept_half_a_minute(relayed, authority, clock):
    snapshot, _ = relayed
    authority.packed = snapshot_at(5)
    assert await asyncio.gather(*(snapshot.get() for _ in range(10))) == [authority.packed] * 10
    pass_by(clock, MAX_AGE - 0.1)
    await snapshot.get()
    assert authority.snapshots == 1
    pass_by(clock, 0.1)
    await snapshot.get()
    assert authority.snapshots == 2


async def test_a_snapshot_that_cannot_be_continued_is_not_served_and_not_fetched_for_everybody(
    relayed, authority, clock
):
    snapshot, feed = relayed
    authority.packed = snapshot_at(5)
    await snapshot.get()
    for last in (6, 7, 8):
        feed.hear(entry(last), head(last))
    for _ in range(5):
        with pytest.raises(AuthorityUnavailable):
            await snapshot.get()
    assert authority.snapshots == 1
    pass_by(clock, 1)
    authority.packed = snapshot_at(8)
    assert await snapshot.get() == authority.packed
    feed.begin(head(2**32, "t2"))
    with pytest.raises(AuthorityUnavailable):
        await snapshot.get()


async def test_an_old_snapshot_is_served_while_the_upstream_is_away_if_it_can_be_continued(
    relayed, authority, clock
):
    snapshot, feed = relayed
    authority.packed = snapshot_at(5)
    old = await snapshot.get()
    authority.is_away = True
    pass_by(clock, 1_000)
    assert await snapshot.get() == old
    feed.begin(head(9))
    with pytest.raises(AuthorityUnavailable):
        await snapshot.get()


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed[:-9],
        lambda packed: gzip.compress(gzip.decompress(packed)[:-1]),
        lambda packed: gzip.compress(gzip.decompress(packed) + b'["session","end",[1],[-1],["x"]]\n'),
        lambda packed: gzip.compress(gzip.decompress(packed).replace(b".", b"..", 1)),
        lambda packed: b"no gzip",
    ],
)
async def test_a_snapshot_that_does_not_hold_is_not_served(relayed, authority, change):
    snapshot, _ = relayed
    authority.packed = change(snapshot_at(5))
    with pytest.raises(AuthorityUnavailable):
        await snapshot.get()


# What is kept


def head(position: int, timeline: str = "t1") -> Head:
    return Head(timeline=Timeline(timeline), position=Position(position), chain=CHAIN_START)


def entry(position: int, size: int = 10) -> StreamEvent:
    return StreamEvent("entry", "e" * size, f"t1:{position}")


async def first_of(feed: RelayedFeed, last_event_id: str | None) -> bytes:
    frames = feed.follow(last_event_id)
    try:
        return await anext(frames)
    finally:
        await frames.aclose()


async def test_who_comes_back_gets_what_it_missed_and_who_missed_too_much_begins_anew():
    feed = RelayedFeed(followers=10, recent=4)
    feed.begin(head(10))
    for last in (12, 14, 16):  # batches of two
        feed.hear(entry(last), head(last))
    assert feed.start == 12
    assert (await first_of(feed, "t1:14")).count(b"event: entry") == 1
    assert (await first_of(feed, "t1:13")).count(b"event: entry") == 2, "a batch is signed whole"
    for gone in ("t1:11", "t2:14", "t1:x", "nonsense"):
        assert await first_of(feed, gone) == RESYNC_FRAME


async def test_a_heartbeat_is_passed_on_as_it_came_and_not_after_an_entry_that_it_does_not_count():
    feed = RelayedFeed(followers=10)
    feed.begin(head(1))
    feed.hear(StreamEvent("heartbeat", "one"), head(1))
    assert await first_of(feed, "t1:1") == b"event: heartbeat\ndata: one\n\n"
    feed.hear(entry(2), head(2))
    assert b"heartbeat" not in await first_of(feed, "t1:1")


async def test_a_new_beginning_sends_every_follower_to_the_snapshot():
    feed = RelayedFeed(followers=10)
    feed.begin(head(1))
    feed.hear(StreamEvent("heartbeat", "one"), head(1))
    frames = feed.follow(None)
    await anext(frames)
    feed.begin(head(2**32, "t2"))
    assert [frame async for frame in frames] == [RESYNC_FRAME]
    assert len(feed.followers) == 0


async def test_what_was_missed_leaves_in_pieces_that_a_slow_follower_can_be_allowed():
    feed = RelayedFeed(followers=10)
    feed.begin(head(0))
    for last in range(1, 31):
        feed.hear(entry(last, 50_000), head(last))
    frames = feed.follow("t1:0")
    pieces = [await anext(frames) for _ in range(6)]
    await frames.aclose()
    assert max(map(len, pieces)) <= MAX_PIECE
    assert b"".join(pieces).count(b"event: entry") == 30


async def test_a_follower_that_was_away_takes_what_waits_in_pieces_and_then_has_room_again():
    followers = Followers(buffer=10 * MAX_PIECE, limit=1)
    follower = followers.join()
    frame = b"x" * (MAX_PIECE // 2)
    for _ in range(20):
        assert follower.offer(frame)
    assert not follower.offer(frame), "the buffer is full at its limit"
    frames = follower.frames()
    assert len(await anext(frames)) == MAX_PIECE
    assert follower.offer(frame)
    assert follower.offer(frame)
    assert not follower.offer(frame)
    await frames.aclose()


def test_a_frame_longer_than_a_piece_is_a_piece_of_its_own():
    frames = [b"a", b"b" * (MAX_PIECE + 1), b"c", b"d"]
    assert list(in_pieces(frames)) == [b"a", frames[1], b"cd"]
    assert list(in_pieces([])) == []
