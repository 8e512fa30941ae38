"""The relay: a reader of one feed, and what is served on from it.

What it serves is checked as a verifier checks it, and is the authority's to the byte. What it knows is the authority's key sets, over TLS; it
has no private key and no store, and cannot say anything in the authority's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Final

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, ConfigurationError, Unavailable
from keyfob.base.events import Event
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.feed import STREAM_HEADERS
from keyfob.endpoints.health import MAX_STALENESS, Health
from keyfob.http.headers import JSON, NO_STORE, PUBLIC
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query
from keyfob.jwt import jws
from keyfob.revocation import wire
from keyfob.revocation.entry import Head
from keyfob.revocation.event_stream import StreamEvent
from keyfob.revocation.feed_stats import FeedStats
from keyfob.server.relay.relayed_feed import RelayedFeed
from keyfob.server.relay.relayed_snapshot import RelayedSnapshot
from keyfob.server.relay.settings import RelaySettings
from keyfob.server.relay.upstream import Standing, Upstream
from keyfob.verifier.authority_client import AuthorityClient
from keyfob.verifier.feed_reader import FeedReader
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource

_TIME_INTERVAL: Final = 30.0  # seconds between two round trips, as a verifier makes them
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between two attempts to reach the upstream at the start


class Relay:
    """One relay. `open` starts it; it serves once the upstream has said who it is."""

    def __init__(self, settings: RelaySettings, *, clock: Clock, on_event: Callable[[Event], None]) -> None:
        self._settings = settings
        self._clock = clock
        self._on_event = on_event
        self._client = AuthorityClient(settings.following())
        self._upstream = Upstream(settings, clock=clock)
        self._keys = JwksSource()
        self._view = FeedView(clock)
        self._feed = RelayedFeed(followers=settings.followers)
        self._snapshot = RelayedSnapshot(self._client, self._feed, verify=self._verified, clock=clock)
        self._reader: FeedReader | None = None
        self._issuer = settings.issuer
        self._chores: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: RelaySettings, *, clock: Clock, on_event: Callable[[Event], None]) -> Relay:
        """Begin to follow the upstream, without waiting for it.

        Raises:
            ConfigurationError: the upstream's address is not safe, or `ca` cannot be read.
        """
        relay = cls(settings, clock=clock, on_event=on_event)
        relay._chores = asyncio.create_task(relay._run(), name="keyfob-relay")
        return relay

    async def close(self) -> None:
        """End the followers and stop following. Twice is once."""
        chores, self._chores = self._chores, None
        if chores is not None:
            chores.cancel()
            await asyncio.gather(chores, return_exceptions=True)
        self._feed.close()
        reader, self._reader = self._reader, None
        if reader is not None:
            await asyncio.to_thread(reader.close)
        self._client.close()
        self._upstream.close()

    # What it answers

    async def feed(self, request: HttpRequest) -> HttpResponse:
        """Stream what comes from the upstream, from `Last-Event-ID` on."""
        authorization = request.all(b"authorization")
        await self._upstream.admit(authorization)
        once(parse_query(request.query), allowed=frozenset())
        self._require_begun()
        self._feed.followers.require_room()
        last = request.one(b"last-event-id")
        return HttpResponse(
            status=200,
            headers=STREAM_HEADERS,
            stream=self._frames(authorization, None if last is None else last.decode("latin-1")),
        )

    async def snapshot(self, request: HttpRequest) -> HttpResponse:
        """Answer with the upstream's snapshot, byte for byte."""
        await self._upstream.admit(request.all(b"authorization"))
        once(parse_query(request.query), allowed=frozenset())
        self._require_begun()
        return HttpResponse(
            status=200,
            headers=(
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-encoding", b"gzip"),
                NO_STORE,
            ),
            body=await self._snapshot.get(),
        )

    async def time(self, request: HttpRequest) -> HttpResponse:
        """Pass the question on: only the authority can sign its time."""
        nonce = once(parse_query(request.query), allowed=frozenset({"nonce"})).get("nonce", "")
        answer = await self._upstream.time(request.all(b"authorization"), nonce)
        return HttpResponse(
            status=200, headers=((b"content-type", b"application/jose"), NO_STORE), body=answer
        )

    async def keys(self) -> HttpResponse:
        """Answer with the key sets that are trusted here. A verifier takes them from the authority; a relay behind this one takes these."""
        key_sets = self._keys.key_sets
        if self._issuer is None or key_sets is None:
            raise AuthorityUnavailable("the upstream has not answered yet")
        return HttpResponse(
            status=200, headers=(JSON, *PUBLIC), body=wire.encode_key_document(self._issuer, key_sets)
        )

    async def ready(self) -> HttpResponse:
        """Say that followers are served, and that what they get is fresh.

        Raises:
            Unavailable: it is not so.
        """
        if self._view.staleness() > MAX_STALENESS:
            raise Unavailable("this relay is not level with its upstream")
        return json_answer(Health("ready"))

    def stats(self) -> FeedStats:
        """Say where the relay stands."""
        reader, followers = self._reader, self._feed.followers
        return FeedStats(
            position=self._view.live.head.position,
            live=len(self._view.live),
            followers=len(followers),
            overflows=followers.overflows,
            failures=max(0, reader.connections - 1) + reader.resyncs if reader else 0,
            staleness=self._view.staleness(),
        )

    # How it follows

    async def _run(self) -> None:
        """Learn who the upstream is, follow it, and ask for its time now and then."""
        self._reader = reader = await self._reach()
        reader.start()
        while True:
            await asyncio.sleep(_TIME_INTERVAL)
            with suppress(AuthorityUnavailable, ConfigurationError):
                await asyncio.to_thread(reader.learn_time)

    async def _reach(self) -> FeedReader:
        """Return a reader of the upstream, once it has said who it is."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._reader_of(await asyncio.to_thread(self._client.keys))
            except (AuthorityUnavailable, ConfigurationError) as failure:
                self._report("upstream_away", str(failure))
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _reader_of(self, document: bytes) -> FeedReader:
        try:
            issuer, _ = wire.decode_key_document(document)
        except wire.WireError as error:
            raise AuthorityUnavailable(f"the upstream's keys cannot be used: {error}") from None
        if self._settings.issuer is not None and issuer != self._settings.issuer:
            raise AuthorityUnavailable(
                f"wanted the feed of {self._settings.issuer}, the upstream has that of another issuer"
            )
        self._issuer = issuer
        return FeedReader(
            issuer,
            client=self._client,
            keys=self._keys,
            view=self._view,
            clock=self._clock,
            on_event=self._on_event,
            tap=_Tap(self._feed, asyncio.get_running_loop()),
        )

    async def _frames(
        self, authorization: list[bytes], last_event_id: str | None
    ) -> AsyncGenerator[bytes, None]:
        standing = Standing(self._upstream, authorization, clock=self._clock)
        async with aclosing(self._feed.follow(last_event_id)) as frames:
            async for frame in frames:
                yield frame
                if not await standing.holds():
                    return

    def _require_begun(self) -> None:
        if self._feed.timeline is None:
            raise AuthorityUnavailable("this relay has not reached its upstream yet")

    def _verified(self, text: str, typ: str) -> bytes:
        return jws.verify(text, self._keys.feed, typ=typ, limit=wire.MAX_SIGNED)

    def _report(self, code: str, why: str) -> None:
        self._on_event(Event(at=self._clock.now(), code=code, facts={"why": why}))


class _Tap:
    """Brings what the reader's thread hears into the event loop, in order."""

    def __init__(self, feed: RelayedFeed, loop: asyncio.AbstractEventLoop) -> None:
        self._feed = feed
        self._loop = loop

    wants_snapshot = False

    def begin_snapshot(self) -> None:
        """Followers get the upstream's own; see `RelayedSnapshot`."""

    def take_snapshot(self, piece: bytes) -> None:
        """As `begin_snapshot`."""

    def begin(self, head: Head, *, snapshot: Head) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody follows any longer
            self._loop.call_soon_threadsafe(self._feed.begin, head)

    def hear(self, event: StreamEvent, head: Head) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._feed.hear, event, head)
