"""Authorization requests that are kept: pushed ones, and those whose user is being asked. Each is a one-time record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import msgspec

from keyfob.base.clock import Clock
from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import ClientId, SessionId
from keyfob.grants.authorization_request import AuthorizationRequest, Way
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.secret import derived, digest_of, is_secret, new_secret
from keyfob.grants.store import Amended, GrantStore, Taken
from keyfob.revocation.store import FeedStore

PUSHED_LIFETIME: Final = timedelta(seconds=60)
"""How long a client has to send the browser after it pushed a request."""
REQUEST_LIFETIME: Final = timedelta(minutes=15)
"""How long a user has to sign in and to answer."""
_KEPT: Final = "kept"  # what the secret of a kept request is derived for, from that of a pushed one


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """The body of the record of a request. `chosen_by` is the session whose user chose to go on with it (`prompt=select_account`)."""

    request: AuthorizationRequest
    way: Way
    chosen_by: SessionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A kept request, its record, and the secret that finds it again."""

    kept: KeptRequest
    record: OneTime
    secret: str


class KeptRequests:
    """Keeps authorization requests. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, store: GrantStore, feed_store: FeedStore, *, clock: Clock) -> None:
        self._store = store
        self._feed_store = feed_store
        self._clock = clock

    async def push(self, request: AuthorizationRequest) -> str:
        """Keep a request that its client pushes; return its secret, which is good once, for `PUSHED_LIFETIME`."""
        secret = new_secret()
        await self._add(secret, KeptRequest(request=request, way=Way.PUSHED), PUSHED_LIFETIME)
        return secret

    async def keep(self, request: AuthorizationRequest) -> str:
        """Keep a request while its user is asked, for `REQUEST_LIFETIME`; return its secret."""
        secret = new_secret()
        await self._add(secret, KeptRequest(request=request, way=Way.BROWSER), REQUEST_LIFETIME)
        return secret

    async def find(self, secret: str) -> Found:
        """Return the request whose user is being asked.

        Raises:
            InvalidRequest: `no_request`: there is none, its time is over, or it was answered.
        """
        found = await self._found(secret)
        if found is None or found.record.taken_at is not None or found.kept.way is not Way.BROWSER:
            raise no_request()
        return found

    async def open_pushed(self, secret: str, client_id: ClientId) -> Found:
        """Open a pushed request, once: from now on it is one whose user is being asked.

        A browser that loads the page again, while the minute lasts, finds the same request, as long as it was not answered.

        Raises:
            InvalidRequest: `invalid_request_uri`: it is of another client, its minute is over (at exactly 60 s it is), or it was answered.
        """
        found, now = await self._found(secret), self._clock.now()
        if found is None or now >= found.record.expires_at or found.kept.way is not Way.PUSHED:
            raise _no_request_uri()
        if found.kept.request.client_id != client_id:
            raise _no_request_uri()
        kept_secret = derived(secret, _KEPT)
        taken = await self._store.take(OneTimeKind.REQUEST, found.record.digest, now=now)
        if isinstance(taken, Taken):
            await self._add(kept_secret, replace(found.kept, way=Way.BROWSER), REQUEST_LIFETIME)
        kept = await self._found(kept_secret)
        if kept is None or kept.record.taken_at is not None:
            raise _no_request_uri()
        return kept

    async def choose(self, secret: str, kept: KeptRequest, *, version: int) -> None:
        """Write *kept* in place of *version*.

        Raises:
            InvalidRequest: `no_request`: it was answered, or written by another, meanwhile.
        """
        body = msgspec.json.encode(kept)
        outcome = await self._store.amend(
            OneTimeKind.REQUEST, digest_of(secret), version=version, body=body, now=self._clock.now()
        )
        if not isinstance(outcome, Amended):
            raise no_request()

    async def take(self, secret: str) -> None:
        """Take the request, to answer it: of any number at once one does.

        Raises:
            InvalidRequest: `no_request`: it was answered, or its time is over.
        """
        outcome = await self._store.take(OneTimeKind.REQUEST, digest_of(secret), now=self._clock.now())
        if not isinstance(outcome, Taken):
            raise no_request()

    async def _found(self, secret: str) -> Found | None:
        if not is_secret(secret):
            return None
        record = await self._store.find(OneTimeKind.REQUEST, digest_of(secret), now=self._clock.now())
        return (
            None if record is None else Found(kept=_decoder.decode(record.body), record=record, secret=secret)
        )

    async def _add(self, secret: str, kept: KeptRequest, lifetime: timedelta) -> None:
        now = self._clock.now()
        await self._store.add(
            OneTime(
                kind=OneTimeKind.REQUEST,
                digest=digest_of(secret),
                body=msgspec.json.encode(kept),
                as_of=(await self._feed_store.head()).position,
                created_at=now,
                expires_at=now + lifetime,
            )
        )


def no_request() -> InvalidRequest:
    """Return the refusal of a request that is not kept (any more)."""
    return InvalidRequest(
        "no_request",
        "This request was answered already, or its time is over. Begin again at the application.",
    )


def _no_request_uri() -> InvalidRequest:
    return InvalidRequest(
        "invalid_request_uri",
        "This request was used already, or its time is over. Begin again at the application.",
    )


_decoder: Final = msgspec.json.Decoder(KeptRequest)
