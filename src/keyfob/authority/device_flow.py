"""The device flow (RFC 8628): a device shows a code, somebody who has signed in elsewhere types it, and the device gets tokens.

1. A device asks, and gets two secrets: one to ask again with, one to show.
2. Whoever types the second has signed in, not long ago. Each try counts before it is looked at (`Throttle.admit_guess`).
3. They see who asks, for what, and from where, and answer once. What is allowed has the `as_of` of the read of their login: whatever ends
   that login from then on ends what the device gets (design.md, precondition 3).
4. The device, which asks no faster than it was told to, gets a session under that login. Of any number of questions at once one gets it, and
   the others are told to wait; one that comes with the same secret after that ends what it gave (`UserTokens.redeem`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import msgspec

from keyfob.accounts.throttle import Throttle
from keyfob.audit.trail import Trail
from keyfob.authority.client_logins import Origin
from keyfob.authority.redemption import Redemption
from keyfob.authority.user_tokens import UserGranted, UserTokens, require_grant
from keyfob.base.clock import Clock
from keyfob.base.errors import GrantRefused, InvalidRequest, NotFound, StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.principal import Principal
from keyfob.clients.client import Client, GrantType
from keyfob.clients.clients import Clients
from keyfob.grants import device, scope, target, user_code
from keyfob.grants.authorization_code import AuthorizationCode
from keyfob.grants.device import DeviceError, DeviceRequest
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.secret import digest_of, is_secret, new_secret
from keyfob.grants.store import Amended, ConsentStore, GrantStore
from keyfob.revocation.store import FeedStore

FRESH: Final = timedelta(minutes=15)
"""How long ago somebody who allows a device may have signed in: a phone left on a table allows nothing (RFC 8628, section 5.4)."""
_TRIES: Final = 20  # others that were faster, or user codes that were taken
_DETAILS: Final = {
    DeviceError.AUTHORIZATION_PENDING: "Nobody has allowed it yet.",
    DeviceError.SLOW_DOWN: "The device asks too often; the interval is 5 seconds longer from now on.",
    DeviceError.ACCESS_DENIED: "It was not allowed.",
    DeviceError.EXPIRED_TOKEN: "The code has expired; begin again.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStarted:
    """What a device is told (RFC 8628, section 3.2). `expires_in` and `interval` are in seconds."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    expires_in: int
    interval: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A device that waits for an answer, and its client as it is now. `user_code` is as it was made, without a dash."""

    request: DeviceRequest
    client: Client
    user_code: str = field(repr=False)
    record: OneTime


_Decide = Callable[[Asked], DeviceRequest]
_decoder: Final = msgspec.json.Decoder(DeviceRequest)


class DeviceFlow:
    """Lets devices in. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        clients: Clients,
        user_tokens: UserTokens,
        throttle: Throttle,
        *,
        store: GrantStore,
        consents: ConsentStore,
        feed_store: FeedStore,
        trail: Trail,
        issuer: str,
        clock: Clock,
    ) -> None:
        self._clients = clients
        self._user_tokens = user_tokens
        self._throttle = throttle
        self._store = store
        self._consents = consents
        self._feed_store = feed_store
        self._trail = trail
        self._issuer = issuer
        self._clock = clock

    async def begin(
        self, client: Client, *, asked_scope: str | None, audience: str | None, origin: Origin
    ) -> DeviceStarted:
        """Take the question of a device of *client*, which has said who it is.

        Raises:
            GrantRefused: `unauthorized_client`, `invalid_scope`, `invalid_target`.
        """
        require_grant(client, GrantType.DEVICE_CODE)
        now = self._clock.now()
        request = DeviceRequest(
            client_id=client.client_id,
            scopes=scope.asked(asked_scope, client.scopes),
            audience=target.one_audience(client.audiences, audience, issuer=self._issuer),
            ends_at=now + device.LIFETIME,
            user_agent=origin.user_agent,
            address=origin.address,
        )
        secret, as_of = new_secret(), (await self._feed_store.head()).position
        for _ in range(_TRIES):
            code = user_code.new_user_code()
            record = OneTime(
                kind=OneTimeKind.DEVICE,
                digest=digest_of(secret),
                alias=user_code.alias_of(code),
                body=msgspec.json.encode(request),
                as_of=as_of,
                created_at=now,
                expires_at=request.ends_at + device.TOLD_FOR,
            )
            if await self._store.add(record):
                return DeviceStarted(
                    device_code=secret,
                    user_code=user_code.shown(code),
                    expires_in=int(device.LIFETIME.total_seconds()),
                    interval=request.interval,
                )
        raise StoreUnavailable("no user code is free; try again")

    def is_fresh(self, visitor: Principal) -> bool:
        """Say whether *visitor* has signed in not long ago: at exactly `FRESH` no longer."""
        return visitor.auth_time is not None and self._clock.now() - visitor.auth_time < FRESH

    async def find(self, text: str, visitor: Principal, *, address: str) -> Asked:
        """Return the device that shows the code *text*, which *visitor* typed at *address*.

        Raises:
            RateLimited: too many tries before; this one does not count, and is not looked at.
            NotFound: `unknown_code`: no device that waits for an answer shows it.
        """
        admission = await self._throttle.admit_guess(visitor.subject, address)
        asked = await self._find(text)
        await self._throttle.settle_guess(admission)
        return asked

    async def approve(self, text: str, visitor: Principal) -> Asked:
        """Let the device in as *visitor*, who has seen what it asks for.

        Raises:
            NotFound: `unknown_code`: it does not wait for an answer (any more).
            InvalidRequest: `stale_login`: they signed in too long ago.
        """
        if not self.is_fresh(visitor):
            raise InvalidRequest("stale_login", "Sign in again first.", status=403)
        asked = await self._answer(text, lambda asked: _approved(asked, visitor))
        if not asked.client.first_party:
            event = self._event("consent_given", asked, visitor)
            await self._consents.give(
                visitor.subject, asked.client.client_id, asked.request.scopes, event=event
            )
        await self._trail.record(self._event("device_allowed", asked, visitor))
        return asked

    async def deny(self, text: str, visitor: Principal) -> Asked:
        """Keep the device out.

        Raises:
            NotFound: `unknown_code`, as `approve`.
        """
        asked = await self._answer(text, lambda asked: replace(asked.request, denied=True))
        await self._trail.record(self._event("device_denied", asked, visitor))
        return asked

    async def poll(self, client: Client, secret: str, *, origin: Origin) -> UserGranted:
        """Answer a device of *client*, which has said who it is, that asks whether it is let in.

        Raises:
            GrantRefused: one of `DeviceError`; `unauthorized_client`; `invalid_grant` for a code that is unknown, another client's or used.
        """
        require_grant(client, GrantType.DEVICE_CODE)
        for _ in range(_TRIES):
            record, request = await self._of_device(client, secret)
            outcome = device.turn(request, self._clock.now())
            if record.taken_at is not None:
                # A device that asked twice at once is told to wait; whoever comes later has found the code.
                if outcome.error is DeviceError.SLOW_DOWN:
                    break
                return await self._user_tokens.redeem(client, _redemption(record, request), origin=origin)
            if outcome.after is not None and not await self._note(record, outcome.after):
                continue  # somebody has answered meanwhile, or the device asks twice at once
            if outcome.error is not None:
                raise GrantRefused(outcome.error.value, _DETAILS[outcome.error])
            asked = outcome.after or request
            return await self._user_tokens.redeem(client, _redemption(record, asked), origin=origin)
        raise GrantRefused(DeviceError.SLOW_DOWN.value, _DETAILS[DeviceError.SLOW_DOWN])

    async def _of_device(self, client: Client, secret: str) -> tuple[OneTime, DeviceRequest]:
        found = None
        if is_secret(secret):
            found = await self._store.find(OneTimeKind.DEVICE, digest_of(secret), now=self._clock.now())
        request = None if found is None else _read(found)
        if found is None or request is None or request.client_id != client.client_id:
            raise GrantRefused("invalid_grant", "The device code is not good.")
        return found, request

    async def _note(self, record: OneTime, after: DeviceRequest) -> bool:
        outcome = await self._store.amend(
            record.kind,
            record.digest,
            version=record.version,
            body=msgspec.json.encode(after),
            now=self._clock.now(),
        )
        return isinstance(outcome, Amended)

    async def _find(self, text: str) -> Asked:
        code, now = user_code.read(text), self._clock.now()
        record = None
        if code is not None:
            record = await self._store.find_by_alias(OneTimeKind.DEVICE, user_code.alias_of(code), now=now)
        request = None if record is None else _read(record)
        if code is None or record is None or request is None or request.is_answered or now >= request.ends_at:
            raise _unknown()
        client = await self._clients.find(request.client_id)
        if client is None or GrantType.DEVICE_CODE not in client.grant_types:
            raise _unknown()
        return Asked(request=request, client=client, user_code=code, record=record)

    async def _answer(self, text: str, decide: _Decide) -> Asked:
        """Write the answer, once: of any number at once one is written, and a device that asks in between changes nothing of it."""
        for _ in range(_TRIES):
            asked = await self._find(text)
            if await self._note(asked.record, decide(asked)):
                return asked
        raise _unknown()

    def _event(self, code: str, asked: Asked, visitor: Principal) -> Event:
        return Event(
            at=self._clock.now(),
            code=code,
            actor=visitor.subject,
            subject=visitor.subject,
            session_id=visitor.session_id,
            client_id=asked.client.client_id,
            address=asked.request.address or None,
            facts={"scopes": " ".join(sorted(asked.request.scopes))},
        )


def _approved(asked: Asked, visitor: Principal) -> DeviceRequest:
    """Return the request once *visitor* has allowed it; what it gives is what a code of them would."""
    session_id = visitor.parent_session_id or visitor.session_id  # a child has no children
    if session_id is None or visitor.auth_time is None or str(visitor.subject) == asked.client.client_id:
        raise InvalidRequest("invalid_request", "Only somebody who has signed in can allow a device.")
    code = AuthorizationCode(
        client_id=asked.client.client_id,
        subject=visitor.subject,
        session_id=session_id,
        redirect_uri="",
        redirect_uri_named=False,
        challenge="",
        scopes=asked.request.scopes,
        audience=asked.request.audience,
        auth_time=visitor.auth_time,
        amr=visitor.amr,
        acr=visitor.acr,
    )
    return replace(asked.request, approved=code, as_of=visitor.as_of)


def _redemption(record: OneTime, request: DeviceRequest) -> Redemption:
    if request.approved is None or request.as_of is None:
        raise AssertionError("a device gets nothing that nobody has allowed")

    def read(later: OneTime) -> AuthorizationCode:
        return _read(later).approved or request.approved  # type: ignore[return-value]  # both are there: it was approved

    return Redemption(
        record=record,
        code=request.approved,
        as_of=request.as_of,
        read=read,
        write=lambda given: msgspec.json.encode(replace(request, approved=given)),
    )


def _read(record: OneTime) -> DeviceRequest:
    return _decoder.decode(record.body)


def _unknown() -> NotFound:
    return NotFound(
        "unknown_code", "No device waits for this code. Look at it again, or begin anew on the device."
    )
