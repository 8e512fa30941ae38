"""The thread that follows the feed: snapshot, then live, then again from where it was.

One connection, in this order:

1. the key sets over TLS: the anchor of trust
2. the authority's time, by a round trip with a nonce
3. what was signed and is held is handed back: a server on an older copy of its store learns of it
4. the snapshot, the first time and whenever something was missing or wrong
5. the event stream, from the position that is held

A connection that ends or hangs is resumed at 1; what is held stays, and grows stale by the clock. A gap, a repetition, another order, half
an event, a signature or a chain that does not hold: at once stale, and the next connection begins with the snapshot.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from typing import Protocol

from keyfob.base.clock import Clock, to_micros
from keyfob.base.errors import AuthorityUnavailable, ConfigurationError, Denied, KeyfobError
from keyfob.base.events import Event
from keyfob.jwt import jws
from keyfob.revocation import wire
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.event_stream import EventStreamReader, StreamEvent
from keyfob.revocation.live_entries import FeedGap
from keyfob.revocation.snapshot import Snapshot, SnapshotReader
from keyfob.verifier import state_file
from keyfob.verifier.authority_client import AuthorityClient
from keyfob.verifier.evidence import Evidence
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.state_file import Kept

_NONCE = 24  # bytes
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0  # seconds between two connections, before jitter
_REFUSED_PAUSE = 30.0  # seconds after the authority refused the credentials: asking often will not help


class FeedTap(Protocol):
    """Hears what a reader hears, in the reader's thread: what a relay passes on, and what is kept over a restart."""

    @property
    def wants_snapshot(self) -> bool:
        """Whether it would rather begin anew with a snapshot."""
        ...

    def begin_snapshot(self) -> None:
        """A snapshot is about to come. It may not hold, or end early: then `begin` is not called."""
        ...

    def take_snapshot(self, piece: bytes) -> None:
        """The next *piece* of it, unpacked and not yet checked."""
        ...

    def begin(self, head: Head, *, snapshot: Head) -> None:
        """The snapshot holds and reaches *snapshot*; what is held reaches *head*, which is further where the server is behind."""
        ...

    def hear(self, event: StreamEvent, head: Head) -> None:
        """*event* came, and holds; what is held reaches *head* now."""
        ...


class FeedBroken(Exception):
    """The feed cannot be continued from what is held."""


class FeedReader:
    """Follows one authority into a `FeedView`. Its thread is a daemon; `close` ends it."""

    def __init__(
        self,
        issuer: str,
        *,
        client: AuthorityClient,
        keys: JwksSource,
        view: FeedView,
        clock: Clock,
        on_event: Callable[[Event], None],
        on_entries: Callable[[Sequence[Entry]], None] | None = None,
        tap: FeedTap | None = None,
    ) -> None:
        """*on_entries* is told of entries that came by the stream, right after they are applied, in the reader's thread."""
        self.failure: KeyfobError | None = None
        """Why the last connection failed; None while one stands."""
        self.is_level = False
        """Whether the stream that stands said that everything is held."""
        self.connections = 0
        self.resyncs = 0
        self._issuer = issuer
        self._client = client
        self._keys = keys
        self._view = view
        self._clock = clock
        self._on_event = on_event
        self._on_entries = on_entries or _tell_nobody
        self._tap = tap
        self._evidence = Evidence()
        self._is_resuming = False
        self._closed = threading.Event()
        self._needs_snapshot = True
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="keyfob-feed-reader", daemon=True)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, waiting up to two seconds for it. Twice is once."""
        self._closed.set()
        self._client.abort()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def learn_time(self) -> None:
        """Bound the authority's time by one round trip.

        Raises:
            AuthorityUnavailable: no answer, one that took too long, or one that is not for this request.
        """
        nonce = secrets.token_urlsafe(_NONCE)
        sent = self._view.time.instant()
        answer = self._client.time(nonce)
        try:
            signed = wire.decode_time(self._verified(answer, wire.TIME_TYPE))
        except (Denied, wire.WireError) as error:
            raise AuthorityUnavailable(f"the authority's time cannot be trusted: {error}") from None
        if signed.issuer != self._issuer or signed.nonce != nonce:
            raise AuthorityUnavailable("the authority's time is not for this request")
        if not self._view.time.learn(_seconds(signed.at), sent=sent):
            raise AuthorityUnavailable("the authority takes too long to tell the time")

    def restore(self, kept: Iterable[Kept]) -> None:
        """Hold what was kept before a restart, as far as it holds. Before `start`; what the tap keeps is not told to it again."""
        tap, self._tap = self._tap, None
        snapshot = SnapshotReader(self._signed)
        with suppress(FeedBroken, AuthorityUnavailable, ValueError):  # among them WireError
            for record in kept:
                match record.kind:
                    case state_file.KEYS:
                        self._trust(record.content)
                    case state_file.PIECE:
                        snapshot.feed(record.content)
                    case state_file.SNAPSHOT_END:
                        self._take(snapshot.finish())
                    case state_file.EVENT | state_file.LEVEL:
                        if record.kind == state_file.LEVEL:
                            self._view.time.heard(self._view.time.instant().wall + record.offset)
                        for event in EventStreamReader().feed(record.content):
                            self._hear(event)
        self._tap = tap
        self.is_level = False
        self._needs_snapshot = True  # so that the file begins anew

    def fetch_keys(self) -> None:
        """Read the key sets over TLS and trust them.

        Raises:
            AuthorityUnavailable: no answer, or none that can be used.
        """
        self._trust(self._client.keys())

    def _trust(self, raw: bytes) -> None:
        try:
            issuer, key_sets = wire.decode_key_document(raw)
            if issuer != self._issuer:
                raise AuthorityUnavailable(
                    f"wanted the keys of {self._issuer}, got those of another issuer: say the issuer exactly as it calls itself"
                )
            self._keys.anchor(key_sets)
        except wire.WireError as error:
            raise AuthorityUnavailable(f"the authority's keys cannot be used: {error}") from None

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._connect()
                self.failure = AuthorityUnavailable("the authority ended the stream")
            except FeedBroken as broken:
                self._resynchronise(str(broken))
            except (AuthorityUnavailable, ConfigurationError) as failure:
                self.failure = failure
            self.is_level = False
            self._view.wake()
            self._closed.wait(self._pause())

    def _connect(self) -> None:
        self.fetch_keys()
        self.learn_time()
        self._hand_back()
        if self._needs_snapshot:
            snapshot = self._read_snapshot()
            self._take(snapshot)
            if self._tap is not None:
                self._tap.begin(self._view.live.head, snapshot=snapshot.head.head)
        head = self._view.live.head
        self._is_resuming = True
        events = EventStreamReader()
        self.connections += 1
        with closing(self._client.follow(wire.event_id(head.timeline, head.position))) as pieces:
            for piece in pieces:
                if self._closed.is_set():
                    return
                if self._tap is not None and self._tap.wants_snapshot:
                    self._needs_snapshot = True
                    return
                try:
                    for event in events.feed(piece):
                        self._hear(event)
                except ValueError as error:  # among them WireError
                    raise FeedBroken(str(error)) from None

    def _hand_back(self) -> None:
        """Hand back what is held. A server that cannot use it serves all the same; one that refuses the credentials says so again."""
        document = self._evidence.document()
        if document is not None:
            with suppress(AuthorityUnavailable, ConfigurationError):
                self._client.hand_back(document)

    def _hear(self, event: StreamEvent) -> None:
        """Take one event; unknown ones are for readers of a later version."""
        match event.name:
            case "entry":
                self._hear_entries(event)
            case "heartbeat":
                self._hear_heartbeat(event)
            case "keys":
                notice = wire.decode_keys(self._signed(event.data, wire.KEYS_TYPE))
                self._require_issuer(notice.issuer)
                self._keys.adopt(notice.key_sets, notice.at)
                self._pass_on(event)
            case "resync":
                raise FeedBroken("the authority asks to begin anew")
            case _:
                pass

    def _pass_on(self, event: StreamEvent) -> None:
        if self._tap is not None:
            self._tap.hear(event, self._view.live.head)

    def _hear_entries(self, event: StreamEvent) -> None:
        live = self._view.live
        batch = wire.decode_batch(self._signed(event.data, wire.ENTRIES_TYPE))
        self._require_issuer(batch.issuer)
        if batch.timeline != live.head.timeline:
            raise FeedBroken("entries of another timeline")
        entries = _not_held(batch.entries, live.head) if self._is_resuming else batch.entries
        if not entries:
            return
        self._is_resuming = False
        try:
            live.apply(entries)
        except FeedGap as gap:
            raise FeedBroken(str(gap)) from None
        self._evidence.heard(event.data)
        self._on_entries(entries)
        now = self._view.time.now()
        for entry in entries:
            self._view.lag.add(now - _seconds(entry.at))
        self._pass_on(event)

    def _hear_heartbeat(self, event: StreamEvent) -> None:
        live = self._view.live
        heartbeat = wire.decode_heartbeat(self._signed(event.data, wire.HEARTBEAT_TYPE))
        self._require_issuer(heartbeat.issuer)
        said, held = heartbeat.head, live.head
        self._view.time.heard(_seconds(heartbeat.at))
        if said.timeline != held.timeline:
            raise FeedBroken("a heartbeat of another timeline")
        if said.position > held.position:
            raise FeedBroken(f"the feed reaches position {said.position}, and {held.position} came")
        if said.position < held.position:
            return  # a server that is behind: its word says nothing about what is held
        if said.chain != held.chain:
            self._report("feed_forked", {"position": said.position})
            raise FeedBroken(f"two histories up to position {said.position}")
        self.is_level = True
        self._evidence.level(event.data)
        self._level(heartbeat.at)
        live.drop_expired(heartbeat.at)
        self._pass_on(event)

    def _read_snapshot(self) -> Snapshot:
        reader, tap = SnapshotReader(self._signed), self._tap
        if tap is not None:
            tap.begin_snapshot()
        try:
            with closing(self._client.snapshot()) as pieces:
                for piece in pieces:
                    reader.feed(piece)
                    if tap is not None:
                        tap.take_snapshot(piece)
                    # Another thread may be waiting for the interpreter: it need not wait for all of a million entries.
                    time.sleep(0)
            snapshot = reader.finish()
        except wire.WireError as error:
            raise FeedBroken(str(error)) from None
        self._require_issuer(snapshot.head.issuer)
        return snapshot

    def _take(self, snapshot: Snapshot) -> None:
        """Hold the snapshot, unless what is held goes further and fits it: then a server that is behind made it."""
        head, at = snapshot.head.head, snapshot.head.at
        view, held = self._view, self._view.live.head
        if held.timeline == head.timeline:
            if head.position < held.position:
                self._needs_snapshot = False
                return
            if head.position == held.position and head.chain != held.chain:
                self._report("feed_forked", {"position": head.position})
        elif held.timeline and _seconds(at) <= view.last_level_at:
            raise AuthorityUnavailable("the snapshot is of a timeline that was left behind")
        try:
            self._keys.adopt(snapshot.head.key_sets, at)
        except wire.WireError as error:
            raise FeedBroken(str(error)) from None
        if head != held:
            self._evidence.jumped()
        if held.timeline == head.timeline:
            # A server on an older copy of its store looks like any other once it has handed out as many positions anew.
            view.live.join(head, snapshot.table)
        else:
            view.live.replace(head, snapshot.table)
        self._needs_snapshot = False
        self._level(at)

    def _level(self, at: datetime) -> None:
        self._view.live.confirm(at)
        self._view.level(_seconds(at))
        self._failures = 0
        self.failure = None

    def _resynchronise(self, why: str) -> None:
        self.resyncs += 1
        self._needs_snapshot = True
        self._view.broken()
        self.failure = AuthorityUnavailable(f"the feed is being read anew: {why}")
        self._report("feed_resync", {"why": why})

    def _signed(self, text: str, typ: str) -> bytes:
        try:
            return self._verified(text, typ)
        except Denied as denied:
            raise FeedBroken(f"an object of the feed does not hold: {denied}") from None

    def _verified(self, text: str, typ: str) -> bytes:
        return jws.verify(text, self._keys.feed, typ=typ, limit=wire.MAX_SIGNED)

    def _require_issuer(self, issuer: str) -> None:
        if issuer != self._issuer:
            raise FeedBroken("an object of another issuer's feed")

    def _pause(self) -> float:
        """Return how long to wait: doubling, with jitter, so that not all verifiers come at once."""
        if isinstance(self.failure, ConfigurationError):
            return _REFUSED_PAUSE
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return pause * (0.5 + secrets.randbelow(1_000) / 2_000)

    def _report(self, code: str, facts: dict[str, str | int]) -> None:
        self._on_event(Event(at=self._clock.now(), code=code, facts=facts))


def _not_held(entries: tuple[Entry, ...], head: Head) -> tuple[Entry, ...]:
    """Return what of a stream's first *entries* comes after *head*.

    A batch is signed whole, so the one that holds the next entry may begin before it. What lies before is passed over if its chain is the
    one that is held, and so the history the same; else all are returned, and do not fit.
    """
    for index, entry in enumerate(entries):
        if entry.position == head.position:
            return entries[index + 1 :] if entry.chain == head.chain else entries
    return entries


def _tell_nobody(entries: Sequence[Entry]) -> None:
    """Take entries that nobody else wants to hear of."""


def _seconds(moment: datetime) -> float:
    return to_micros(moment) / 1_000_000
