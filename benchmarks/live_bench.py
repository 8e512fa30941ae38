"""A million live entries: what a cached verdict costs beside them, what they weigh, and how long they take to be held."""

from __future__ import annotations

import gc
import hashlib
import os
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from benchmarks.arriving import Arriving
from benchmarks.figures import Figure, compared, quartiles
from benchmarks.jwt_bench import AUDIENCE, ISSUER, Bench
from benchmarks.jwt_peers import pyjwt_check
from benchmarks.rounds import Contestant, Tell, interleave
from keyfob.base.clock import SystemClock
from keyfob.base.identifiers import KeyId, Position, Timeline
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, PublicKey, jwk_set
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.entry_table import EntryTable
from keyfob.revocation.live_entries import LiveEntries
from keyfob.revocation.snapshot import SnapshotReader, encode_body, pack
from keyfob.revocation.wire import KeySets, SnapshotHead
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.settings import FollowSettings
from keyfob.verifier.verifier import Verifier

MILLION = 1_000_000
TOKENS = 1_000  # access tokens that are checked in turn: more than one, so that look-ups miss the processor's caches as in life
PASSES = 20  # of all tokens in a batch
FILLS = 3  # how often the pauses are measured: what one fill alone shows was the machine
ARRIVING_PASSES = 10  # of all tokens in a batch, so that a batch lasts long enough for entries to come
_LIFETIME = 900  # seconds over which the entries run out: access tokens of 15 minutes
_TIMELINE = Timeline("5c1f0e8d9b7a4f32")
_PIECE = 64 * 1024  # bytes of a snapshot that are read at once, as the feed reader does
_UNPACKER = 31  # window bits of zlib for gzip


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What entries weigh (bytes each), and the longest that one insertion kept the interpreter (ms)."""

    bytes_each: float
    longest_pause: float


def run(*, seconds: float, entries: int, tell: Tell) -> list[Figure]:
    """Measure with as many live *entries*."""
    table, facts = EntryTable(), {"entries": entries}
    tell("holding live entries", 0.0)
    for entry in live_entries(entries):
        table.add(entry)
    figures = _verdict_figures(table, entries, seconds=seconds, tell=tell)
    tell("weighing live entries", 0.0)
    weight = weigh_apart(entries)
    figures.append(Figure(name="live.memory", measured=weight.bytes_each, facts=facts))
    figures.append(Figure(name="live.pause", measured=weight.longest_pause, facts=facts))
    figures.append(_snapshot_figure(entries, tell=tell))
    return figures


def live_entries(count: int) -> Iterator[Entry]:
    """Give *count* ended sessions, which run out over the next 15 minutes."""
    begin = datetime.now(UTC)
    moments = [begin + timedelta(seconds=second) for second in range(_LIFETIME)]
    for position in range(1, count + 1):
        yield Entry(
            position=Position(position),
            at=begin,
            scope=Scope.SESSION,
            id=hashlib.md5(position.to_bytes(8, "big"), usedforsecurity=False).hexdigest(),
            reach=Reach.END,
            until=moments[position * _LIFETIME // (count + 1)],
            chain=CHAIN_START,
        )


def weigh_apart(entries: int) -> Weight:
    """Weigh *entries* in a new process, in which nothing else comes and goes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        return apart.submit(weigh, entries).result(timeout=600)


def weigh(entries: int) -> Weight:
    """Fill a table with *entries*: once for its weight, then again and again for the pauses.

    A pause is processor time, so that other processes have no part in it. An insertion is as slow as the fastest of the fills at that same place:
    a table grows at the same places every time, and what happens once is not of its making.
    """
    gc.collect()
    before = _resident()
    table = EntryTable()
    for entry in live_entries(entries):
        table.add(entry)
    gc.collect()
    bytes_each = (_resident() - before) / entries
    del table
    fastest = [min(times) for times in zip(*(_insertions(entries) for _ in range(FILLS)), strict=True)]
    return Weight(bytes_each=bytes_each, longest_pause=max(fastest) / 1e6)


def _insertions(entries: int) -> array[int]:
    table, clock = EntryTable(), time.thread_time_ns
    took = array("q")
    for entry in live_entries(entries):
        begin = clock()
        table.add(entry)
        took.append(clock() - begin)
    return took


def _resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _verdict_figures(table: EntryTable, entries: int, *, seconds: float, tell: Tell) -> list[Figure]:
    bench = Bench.of(Algorithm.ES256, tokens=TOKENS)
    view = FeedView(SystemClock())
    view.live.replace(Head(timeline=_TIMELINE, position=Position(entries), chain=CHAIN_START), table)
    verifier = _following(bench, view)
    view.level(view.time.now())
    for token in bench.tokens:
        verifier.verify(token)
    arriving = Arriving(view.live, lifetime=timedelta(seconds=_LIFETIME))
    measured = interleave(
        _contestants(bench, verifier, view, arriving), seconds=seconds, tell=tell, title="cached verdicts"
    )
    facts = {"entries": entries, "tokens": TOKENS}
    lead = compared("verdict.lead", measured["PyJWT"], measured["cached"], what="PyJWT", facts=facts)
    return [
        _alone("verdict.verify", measured["cached"], facts),
        Figure(
            name=lead.name,
            measured=median(measured["cached"]),
            against=median(measured["PyJWT"]),
            against_what="PyJWT",
            ratio=lead.ratio,
            spread=lead.spread,
            facts=facts,
        ),
        compared(
            "verdict.applying",
            measured["applying"],
            measured["cached"],
            what="with nothing applied",
            facts={**facts, "applied": arriving.applied, "a_second": round(arriving.rate)},
        ),
        _alone("verdict.moved", measured["moved"], facts),
    ]


def _contestants(bench: Bench, verifier: Verifier, view: FeedView, arriving: Arriving) -> list[Contestant]:
    tokens, verify, live = bench.tokens * PASSES, verifier.verify, view.live
    decode = pyjwt_check(bench.peer_key)

    def level() -> None:
        view.level(view.time.now())

    def cached() -> None:
        for token in tokens:
            verify(token)

    def applying() -> None:
        with arriving:
            for token in tokens * ARRIVING_PASSES:
                verify(token)

    def moved() -> None:
        for token in tokens:
            live.changes += 1
            verify(token)

    def decoded() -> None:
        for token in bench.tokens:
            decode(token)

    return [
        Contestant(name="cached", operations=len(tokens), batch=cached, prepare=level),
        Contestant(name="applying", operations=ARRIVING_PASSES * len(tokens), batch=applying, prepare=level),
        Contestant(name="moved", operations=len(tokens), batch=moved, prepare=level),
        Contestant(name="PyJWT", operations=len(bench.tokens), batch=decoded),
    ]


def _following(bench: Bench, view: FeedView) -> Verifier:
    """Return a verifier that follows a feed, as `Verifier.follow` makes it, whose view is filled here instead of by a reader."""
    return Verifier(
        issuer=ISSUER,
        audiences=frozenset({AUDIENCE}),
        keys=JwksSource.of(jwk_set([bench.key.public])),
        view=view,
        clock=SystemClock(),
        settings=FollowSettings(issuer=ISSUER, audiences=frozenset({AUDIENCE})),
        on_event=None,
    )


def _alone(name: str, measured: list[float], facts: dict[str, int]) -> Figure:
    return Figure(name=name, measured=median(measured), spread=quartiles(measured), facts=facts)


def _snapshot_figure(entries: int, *, tell: Tell) -> Figure:
    """Measure what a verifier does with a snapshot: unpack, check signature and digest, hold."""
    tell("writing a snapshot", 0.0)
    key = PrivateKey.generate(Algorithm.EDDSA)
    body = encode_body(live_entries(entries))
    head = SnapshotHead(
        issuer=ISSUER,
        head=Head(timeline=_TIMELINE, position=Position(entries), chain=CHAIN_START),
        at=datetime.now(UTC),
        digest=body.digest,
        count=body.count,
        key_sets=KeySets(access=jwk_set([key.public]), feed=jwk_set([key.public])),
    )
    packed = pack(head, body, sign=lambda payload, typ: jws.sign(payload, key, typ=typ))
    verify = _verifying({key.key_id: key.public})
    took, used = [], []
    for number in range(FILLS):
        tell("reading a snapshot", number / FILLS)
        gc.collect()
        begin, used_before = time.perf_counter(), time.thread_time()
        reader, unpacker = SnapshotReader(verify), zlib.decompressobj(_UNPACKER)
        for start in range(0, len(packed), _PIECE):
            reader.feed(unpacker.decompress(packed[start : start + _PIECE]))
        snapshot = reader.finish()
        live = LiveEntries()
        live.replace(snapshot.head.head, snapshot.table)
        took.append(time.perf_counter() - begin)
        used.append(time.thread_time() - used_before)
        assert len(live) == entries
    return Figure(
        name="live.snapshot",
        measured=median(took),
        spread=quartiles(took),
        facts={"entries": entries, "bytes": len(packed), "processor_s": round(median(used), 3)},
    )


def _verifying(keys: dict[KeyId, PublicKey]) -> Callable[[str, str], bytes]:
    return lambda text, typ: jws.verify(text, keys, typ=typ)
