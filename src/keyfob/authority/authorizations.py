"""Authorization requests: opened, kept while the user is asked, and answered once.

1. A request is read and is in order (`grants.authorization_request`), or a pushed one is found by its `request_uri`.
2. Where the user must do something first, it is kept: a one-time record, and the browser carries its secret and nothing else.
3. Whatever the browser comes back with, all is decided again: the client's record, the browser's login, what was consented to.
4. The answer is given once: whoever takes the kept request gives it. A code has the `as_of` of the read of the browser's login, so whatever
   ends that login from then on ends what the code gives (design.md, precondition 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from keyfob.authority.checks import Checks
from keyfob.authority.kept_requests import PUSHED_LIFETIME, Found, KeptRequest, KeptRequests
from keyfob.base.clock import Clock
from keyfob.base.errors import Denied, GrantRefused, InvalidRequest
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, SessionId, Subject
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.clients.client import Client
from keyfob.clients.clients import Clients
from keyfob.grants.allowing import is_allowed
from keyfob.grants.authorization_code import CODE_LIFETIME, AuthorizationCode
from keyfob.grants.authorization_request import (
    AuthorizationRequest,
    Place,
    Way,
    place_of,
    read_request,
    require_fit,
)
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.parameters import Parameters
from keyfob.grants.prompting import Answered, BrowserLogin, GoOn, Next, Wanted, next_step
from keyfob.grants.secret import digest_of, new_secret
from keyfob.grants.store import ConsentStore, GrantStore
from keyfob.keys.key_ring import KeyRing
from keyfob.tokens.id_token import read_hint

REQUEST_URI: Final = "urn:ietf:params:oauth:request_uri:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A request that is in order, and its client as it is now. `secret` finds it again, where it is kept; `version` is its record's."""

    request: AuthorizationRequest
    client: Client
    asked_at: datetime
    secret: str | None = field(default=None, repr=False)
    version: int = 0
    chosen_by: SessionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that is not in order, and where its client is told so. `silent`: it wants nothing shown, whatever it is told."""

    place: Place
    code: str
    detail: str
    client: Client
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A request that was pushed (RFC 9126, section 2.2). `expires_in` is in seconds."""

    request_uri: str = field(repr=False)
    expires_in: int


class Authorizations:
    """Opens, keeps and answers authorization requests. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        clients: Clients,
        checks: Checks,
        *,
        kept: KeptRequests,
        store: GrantStore,
        consents: ConsentStore,
        keys: KeyRing,
        issuer: str,
        clock: Clock,
    ) -> None:
        self._clients = clients
        self._checks = checks
        self._kept = kept
        self._store = store
        self._consents = consents
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    async def open(self, parameters: Parameters) -> Opened | Refused:
        """Read the request that a browser brings, whole or by the `request_uri` of a pushed one.

        Raises:
            InvalidRequest: an unknown client, a redirect URI that is not its own, a `request_uri` that is not good: the user is told, and
                nothing is sent anywhere.
        """
        client = await self._client(parameters)
        request_uri = parameters.get("request_uri")
        if request_uri is not None and request_uri.startswith(REQUEST_URI):
            secret = request_uri.removeprefix(REQUEST_URI)
            return await self._opened(await self._kept.open_pushed(secret, client.client_id))
        place = place_of(parameters, client)
        try:
            request = self._read(parameters, client, place, way=Way.BROWSER)
        except GrantRefused as refusal:
            return _refused(
                refusal, place, client, silent="none" in (parameters.get("prompt") or "").split(" ")
            )
        return Opened(request=request, client=client, asked_at=self._clock.now())

    async def push(self, parameters: Parameters, client: Client) -> Pushed:
        """Keep the request that *client*, which has said who it is, pushes; it is good once, for a minute, for that client.

        Raises:
            InvalidRequest, GrantRefused: what is wrong with it.
        """
        if parameters.get("request_uri") is not None or "request_uri" in parameters.repeated:
            raise GrantRefused("invalid_request", "A request that is pushed has no request_uri.")
        if parameters.get("client_id") not in {None, client.client_id}:
            raise GrantRefused("invalid_request", "client_id is another than the one that pushes.")
        place = place_of(parameters, client)
        request = self._read(parameters, client, place, way=Way.PUSHED)
        secret = await self._kept.push(request)
        return Pushed(request_uri=REQUEST_URI + secret, expires_in=int(PUSHED_LIFETIME.total_seconds()))

    async def keep(self, opened: Opened) -> str:
        """Keep *opened* while its user is asked; return the secret by which it is found again. One that is kept has it already."""
        return opened.secret or await self._kept.keep(opened.request)

    async def resume(self, secret: str) -> Opened | Refused:
        """Return the request that was kept.

        Raises:
            InvalidRequest: `no_request`: there is none, its time is over, or it was answered. `invalid_client`, `invalid_redirect_uri`.
        """
        return await self._opened(await self._kept.find(secret))

    async def visitor(self, token: str | None) -> Principal | None:
        """Return whose session *token*, the browser's cookie, is, from the store; None where nobody has signed in.

        From the store and not from a cache: so its `as_of` is that of this moment.
        """
        if token is None or kind_of(token) is not OpaqueKind.SESSION:
            return None
        try:
            principal = await self._checks.read(token)
        except Denied:
            return None
        return principal if principal.auth_time is not None else None

    async def next_step(self, opened: Opened, visitor: Principal | None) -> Next:
        """Say what comes next for *opened*, with *visitor* at the browser."""
        return await self._next(opened, visitor, consents_now=False)

    async def choose(self, opened: Opened, visitor: Principal) -> None:
        """Note that *visitor* goes on with *opened* as who they are.

        Raises:
            InvalidRequest: `no_request`: it was answered meanwhile.
        """
        assert opened.secret is not None  # somebody was asked, so it is kept
        kept = KeptRequest(request=opened.request, way=Way.BROWSER, chosen_by=visitor.session_id)
        await self._kept.choose(opened.secret, kept, version=opened.version)

    async def answer(self, opened: Opened, visitor: Principal) -> str:
        """Give the code for *opened*, for which nothing need be asked (any more).

        Raises:
            InvalidRequest: `no_request`: it was answered before; of any number at once one answers.
        """
        await self._take(opened)
        return await self._give_code(opened, visitor)

    async def allow(self, opened: Opened, visitor: Principal) -> str | Next:
        """Take down that *visitor* allows what *opened* asks, and give the code; or say what must come before, where it does not stand any more.

        Raises:
            InvalidRequest: `no_request`, as `answer`; `invalid_client`: it was deleted meanwhile.
        """
        step = await self._next(opened, visitor, consents_now=True)
        if not isinstance(step, GoOn):
            return step
        await self._take(opened)
        consent = await self._consents.give(
            visitor.subject,
            opened.client.client_id,
            opened.request.scopes,
            event=self._event("consent_given", opened, visitor),
        )
        if consent is None:
            raise _no_client()
        return await self._give_code(opened, visitor)

    async def deny(self, opened: Opened) -> None:
        """Close *opened*: the user does not allow it.

        Raises:
            InvalidRequest: `no_request`, as `answer`.
        """
        await self._take(opened)

    async def _next(self, opened: Opened, visitor: Principal | None, *, consents_now: bool) -> Next:
        request, client = opened.request, opened.client
        login = None
        answered = Answered()
        if visitor is not None and visitor.auth_time is not None:
            login = BrowserLogin(subject=visitor.subject, auth_time=visitor.auth_time)
            consent = await self._consents.find(visitor.subject, client.client_id)
            answered = Answered(
                has_chosen=opened.chosen_by is not None and opened.chosen_by == visitor.session_id,
                has_consented=consents_now,
                is_allowed=consents_now
                or is_allowed(
                    request.scopes,
                    client,
                    redirect_uri=request.redirect_uri,
                    consented=None if consent is None else consent.scopes,
                ),
            )
        wanted = Wanted(
            asked_at=opened.asked_at,
            prompts=request.prompts,
            max_age=request.max_age,
            hinted=request.hinted,
        )
        return next_step(wanted, login, answered, self._clock.now())

    async def _give_code(self, opened: Opened, visitor: Principal) -> str:
        request = opened.request
        session_id = visitor.parent_session_id or visitor.session_id  # a child has no children
        assert session_id is not None
        assert visitor.auth_time is not None  # `visitor` returns nobody else
        if str(visitor.subject) == opened.client.client_id:
            raise InvalidRequest("invalid_request", "A subject is not called as its client.")
        code = AuthorizationCode(
            client_id=opened.client.client_id,
            subject=visitor.subject,
            session_id=session_id,
            redirect_uri=request.redirect_uri,
            redirect_uri_named=request.redirect_uri_named,
            challenge=request.challenge,
            scopes=request.scopes,
            audience=request.audience,
            auth_time=visitor.auth_time,
            amr=visitor.amr,
            acr=visitor.acr,
            nonce=request.nonce,
        )
        secret, now = new_secret(), self._clock.now()
        await self._store.add(
            OneTime(
                kind=OneTimeKind.CODE,
                digest=digest_of(secret),
                body=msgspec.json.encode(code),
                as_of=visitor.as_of,
                created_at=now,
                expires_at=now + CODE_LIFETIME,
            )
        )
        return secret

    async def _client(self, parameters: Parameters) -> Client:
        client_id = parameters.get("client_id")
        client = None if client_id is None else await self._clients.find(client_id)
        if client is None:
            raise _no_client()
        return client

    def _read(
        self, parameters: Parameters, client: Client, place: Place, *, way: Way
    ) -> AuthorizationRequest:
        return read_request(
            parameters,
            client,
            place,
            issuer=self._issuer,
            way=way,
            hinted=self._hinted(parameters.get("id_token_hint"), client),
        )

    def _hinted(self, text: str | None, client: Client) -> Subject | None:
        if text is None:
            return None
        try:
            hint = read_hint(text, self._keys.public_keys(), issuer=self._issuer)
        except Denied:
            hint = None
        if hint is None or hint.client_id != client.client_id:
            raise GrantRefused("invalid_request", "id_token_hint is no ID token of this client.")
        return hint.subject

    async def _opened(self, found: Found) -> Opened | Refused:
        """Return a kept request beside its client as it is now; what it was allowed to ask then it may not be any more."""
        request = found.kept.request
        client = await self._clients.find(request.client_id)
        if client is None:
            raise _no_client()
        try:
            require_fit(request, client, issuer=self._issuer)
        except GrantRefused as refusal:
            return _refused(refusal, request.place, client, silent=False)
        return Opened(
            request=request,
            client=client,
            asked_at=found.record.created_at,
            secret=found.secret,
            version=found.record.version,
            chosen_by=found.kept.chosen_by,
        )

    async def _take(self, opened: Opened) -> None:
        if opened.secret is not None:
            await self._kept.take(opened.secret)

    def _event(self, code: str, opened: Opened, visitor: Principal) -> Event:
        return Event(
            at=self._clock.now(),
            code=code,
            actor=visitor.subject,
            subject=visitor.subject,
            session_id=visitor.session_id,
            client_id=ClientId(opened.client.client_id),
            facts={"scopes": " ".join(sorted(opened.request.scopes))},
        )


def _refused(refusal: GrantRefused, place: Place, client: Client, *, silent: bool) -> Refused:
    return Refused(place=place, code=refusal.code, detail=str(refusal), client=client, silent=silent)


def _no_client() -> InvalidRequest:
    return InvalidRequest("invalid_client", "There is no such application here.")
