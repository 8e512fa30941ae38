"""`/feed`: every revocation, as it happens, for verifiers.

`GET /feed` is the stream, `/feed/snapshot` where it begins, `/feed/time` signed time, `/feed/keys` the keys that sign all of it. At
`POST /feed/evidence` followers that come back say, with the server's own signature, how far it had come.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from keyfob.base.errors import Denied, Unavailable
from keyfob.clients import scopes
from keyfob.endpoints.answers import NO_CONTENT
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.machine import follower
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http.headers import JSON, NO_STORE, PUBLIC
from keyfob.http.messages import MAX_BODY, HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal
from keyfob.http.query import once, parse_query
from keyfob.jwt import jws
from keyfob.revocation.handed_back import MAX_BATCHES, HandedBack

RECHECK_INTERVAL: Final = 30.0
"""Seconds between two looks at whether a follower may still follow. What it can learn in between is who was logged out."""

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream"),
    NO_STORE,
    (b"x-accel-buffering", b"no"),  # a proxy that buffers would make every follower stale
)


async def feed(site: Site, request: HttpRequest) -> HttpResponse:
    """Stream the feed from `Last-Event-ID` on, or from its head, until the client is gone or may no longer follow.

    Raises:
        Denied: the cause.
        Unavailable: as many follow here as are served at once.
    """
    await follower(site, request)
    once(parse_query(request.query), allowed=frozenset())
    site.authority.feed.require_room()
    last = request.one(b"last-event-id")
    last_event_id = None if last is None else last.decode("latin-1")
    return HttpResponse(status=200, headers=STREAM_HEADERS, stream=_frames(site, request, last_event_id))


async def snapshot(site: Site, request: HttpRequest) -> HttpResponse:
    """Answer with everything that is live, signed as one object."""
    await follower(site, request)
    once(parse_query(request.query), allowed=frozenset())
    return HttpResponse(
        status=200,
        headers=((b"content-type", b"text/plain; charset=utf-8"), (b"content-encoding", b"gzip"), NO_STORE),
        body=await site.authority.feed.snapshot(),
    )


async def time(site: Site, request: HttpRequest) -> HttpResponse:
    """Answer with the time of this moment, signed with the caller's nonce."""
    await follower(site, request)
    nonce = once(parse_query(request.query), allowed=frozenset({"nonce"})).get("nonce", "")
    return HttpResponse(
        status=200,
        headers=((b"content-type", b"application/jose"), NO_STORE),
        body=site.authority.feed.signed_time(nonce),
    )


async def keys(site: Site, _request: HttpRequest) -> HttpResponse:
    """Answer with the key sets of access tokens and of the feed, which rest on TLS alone."""
    return HttpResponse(status=200, headers=(JSON, *PUBLIC), body=site.authority.feed.key_document())


class Evidence(RequestBody, frozen=True, kw_only=True):
    """What a follower held before it lost the connection: compact JWSs of this issuer's feed, entries oldest first."""

    heartbeat: str
    entries: Annotated[list[str], Meta(max_length=MAX_BATCHES)] = msgspec.field(default_factory=list)


async def hand_back(site: Site, request: HttpRequest) -> HttpResponse:
    """Take what a follower hands back: the only way in which a server on an older copy of its store, alone, can learn of it.

    The answer says nothing of what came of it. It is the same where it was known already.
    """
    await follower(site, request)
    asked = await read_json(request, Evidence)
    authority = site.authority

    def verify(text: str, typ: str) -> bytes:
        return jws.verify(text, authority.keys.feed_public_keys(), typ=typ, limit=MAX_BODY)

    await authority.feed.hear(HandedBack(authority.issuer, asked.heartbeat, asked.entries, verify))
    return NO_CONTENT


async def _frames(site: Site, request: HttpRequest, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
    clock = site.authority.clock
    checked_at = clock.elapsed()
    async with aclosing(site.authority.feed.follow(last_event_id)) as frames:
        async for frame in frames:
            yield frame
            if clock.elapsed() - checked_at >= RECHECK_INTERVAL:
                checked_at = clock.elapsed()
                if not await _may_still_follow(site, request):
                    return


async def _may_still_follow(site: Site, request: HttpRequest) -> bool:
    """Say whether the credentials of *request* are still good. While the store is away nobody is thrown out: the stream goes stale by itself."""
    try:
        await follower(site, request)
    except Denied:
        return False
    except Unavailable:
        return True
    return True


_REFUSAL = Refusal(challenge=Challenge.EITHER, scopes=(scopes.FEED,))
ROUTES = (
    Route(
        method="GET",
        path="/feed",
        endpoint=feed,
        summary="Follow the feed (scope keyfob:feed)",
        response_type="text/event-stream",
        refusal=_REFUSAL,
    ),
    Route(
        method="GET",
        path="/feed/snapshot",
        endpoint=snapshot,
        summary="Everything live, signed (scope keyfob:feed)",
        response_type="text/plain",
        refusal=_REFUSAL,
    ),
    Route(
        method="GET",
        path="/feed/time",
        endpoint=time,
        summary="Signed time (scope keyfob:feed)",
        response_type="application/jose",
        query=(Parameter(name="nonce", summary="16 to 64 characters of base64url"),),
        refusal=_REFUSAL,
    ),
    Route(
        method="POST",
        path="/feed/evidence",
        endpoint=hand_back,
        summary="Hand back what was signed, after a connection was lost (scope keyfob:feed)",
        status=204,
        request=Evidence,
        refusal=_REFUSAL,
    ),
    Route(method="GET", path="/feed/keys", endpoint=keys, summary="The keys that sign the feed", public=True),
)
