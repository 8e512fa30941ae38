"""Signing in: a login whose `as_of` is read before anything about the subject is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self, TypedDict

from keyfob.accounts.names import checked_roles
from keyfob.authority.issued import Issued, issued_of
from keyfob.authority.parts import Parts
from keyfob.authority.strategies import Transport, form_of
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import (
    FIRST_PARTY,
    ClientId,
    Position,
    SessionId,
    Strategy,
    Subject,
    is_identifier,
)
from keyfob.base.principal import Principal
from keyfob.clients.client import Client, is_scope
from keyfob.clients.scopes import MAX_SCOPES
from keyfob.revocation.entry import Head, Reach, Scope
from keyfob.sessions.sessions import Login, Proof
from keyfob.tokens.grant import grant_of_session

SIGN_IN_LIMIT = timedelta(minutes=2)
"""How long an attempt may take; below the margin by which entries outlive what they cover."""
MAX_AUDIENCES = 16
MAX_METHODS = 16  # ways of authentication in one `amr`


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is remembered of where a login came from, for the list of devices."""

    user_agent: str = ""
    address: str = ""


class LoginOptions(TypedDict, total=False):
    """The options of a login, as `SignIn.login` explains them."""

    strategy: Strategy | str | None
    client_id: str
    audience: str | Iterable[str] | None
    roles: Iterable[str] | None
    scopes: Iterable[str]
    transport: Transport | str
    amr: Iterable[str]
    acr: str | None
    persistent: bool
    device: Device | None
    parent_session_id: SessionId | None
    auth_time: datetime | None


class SignIn:
    """One attempt to sign in.

    Entering reads `as_of`; so whatever ends the subject from then on, while a password waits to be checked, ends this login too
    (design.md, precondition 2).
    """

    def __init__(self, parts: Parts, *, as_of: int | None = None) -> None:
        """*as_of* is the position at which the subject had signed in already, if that was before; else it is read on entering."""
        self._parts = parts
        self._as_of = as_of
        self._head: Head | None = None
        self._began: datetime | None = None

    async def __aenter__(self) -> Self:
        self._began = self._parts.options.clock.now()
        head = await self._parts.store.feed.head()
        if self._as_of is not None:
            head = replace(head, position=Position(max(0, min(self._as_of, head.position))))
        self._head = head
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._head = None

    async def login(
        self,
        subject: str,
        *,
        strategy: Strategy | str | None = None,
        client_id: str = FIRST_PARTY,
        audience: str | Iterable[str] | None = None,
        roles: Iterable[str] | None = None,
        scopes: Iterable[str] = (),
        transport: Transport | str = Transport.COOKIE,
        amr: Iterable[str] = ("pwd",),
        acr: str | None = None,
        persistent: bool = False,
        device: Device | None = None,
        parent_session_id: SessionId | None = None,
        auth_time: datetime | None = None,
    ) -> Issued:
        """Sign *subject* in, whose identity the caller has checked. May be called once in an attempt, or again for another client.

        *roles*, where given, are written to the subject's record first, and stay there even if the login is then denied; left out, the
        record or the claims source says. What is malformed or not allowed is refused before anything is changed. *auth_time* is when the subject
        proved who it is where that was before now: a session that is taken over from elsewhere.

        Raises:
            Denied: `session_limit`; `revoked` if the subject is disabled, or was cut off since the attempt began; `expired` if the
                attempt took longer than two minutes; `insufficient_scope` for a scope or strategy the client may not have.
            InvalidRequest: a name that cannot be one.
            NotFound: `no_client`.
            StoreUnavailable: the store does not answer.
        """
        parts = self._parts
        head = self._require_open()
        who = Subject(_identifier(subject, "subject"))
        client = await parts.clients.get(client_id)
        if subject == client.client_id:  # its tokens would be taken for the client's own
            raise InvalidRequest("invalid_request", "a subject is not called as its client", status=422)
        chosen = _strategy(client, strategy)
        form = form_of(chosen, _transport(transport))
        session_id, ends_at = parts.sessions.new_id(who, chosen)
        login = Login(
            session_id=session_id,
            subject=who,
            client_id=client.client_id,
            strategy=chosen,
            kind=form.kind,
            as_of=head.position,
            ends_at=ends_at,
            audience=_audience(client, audience, parts.options.issuer),
            scopes=_scopes(client, scopes),
            amr=_methods(amr),
            acr=None if acr is None else _identifier(acr, "acr"),
            auth_time=auth_time,
            persistent=persistent,
            parent_session_id=parent_session_id,
            parent_client_id=await self._client_of(parent_session_id),
            user_agent=device.user_agent if device else "",
            address=device.address if device else "",
        )
        if roles is not None:
            await self._record_roles(who, checked_roles(roles), session_id)
        subject_claims = await parts.claims.source(who, client.client_id)
        created = await parts.sessions.create(login)
        for entry in created.ended:
            await parts.endings.applied(entry)
        access_token = None
        if form.gives_access_token:
            access_token = parts.issuing.issue(
                grant_of_session(created.session, subject_claims, used_at=created.session.created_at),
                as_of=head.position,
                timeline=head.timeline,
                now=created.session.created_at,
                lifetime=parts.options.access_lifetime_of(client, chosen),
            )
        return issued_of(created.session, token=created.token, access_token=access_token)

    async def prove(
        self, principal: Principal, *, amr: tuple[str, ...] = ("pwd",), acr: str | None = None
    ) -> Issued:
        """Give the session of *principal*, whose user has proved again who they are, a fresh secret and that proof; its children go on.

        Raises:
            Denied: `unknown_session`, `expired`, `revoked` or `idle`; `revoked` also where the session was spared of an ending since the
                attempt began: what was proved may be what was changed then.
        """
        head = self._require_open()
        found = await self._parts.store.sessions.find(principal.session_id) if principal.session_id else None
        if found is None:
            raise Denied(Cause.UNKNOWN_SESSION, "no such session")
        now = self._parts.options.clock.now()
        self._parts.sessions.require_live(found.session, now)
        if found.session.as_of > head.position:
            raise Denied(Cause.REVOKED, "something of the subject was ended while the proof was checked")
        proof = Proof(auth_time=now, amr=_methods(amr), acr=acr)
        renewed, token, entry = await self._parts.sessions.renew(found.session, proof=proof)
        await self._parts.endings.applied(entry)
        return issued_of(renewed, token=token, access_token=None)

    def _require_open(self) -> Head:
        if self._head is None or self._began is None:
            raise RuntimeError("use 'async with authority.sign_in() as attempt', and login inside it")
        if self._parts.options.clock.now() - self._began > SIGN_IN_LIMIT:
            raise Denied(Cause.EXPIRED, f"the attempt took longer than {SIGN_IN_LIMIT}")
        return self._head

    async def _client_of(self, parent_id: SessionId | None) -> ClientId | None:
        """Return the client of the parent, which never changes. Whether that is there and live is for the step that adds the child."""
        found = await self._parts.store.sessions.find(parent_id) if parent_id is not None else None
        return None if found is None else found.session.client_id

    async def _record_roles(self, subject: Subject, roles: frozenset[str], session_id: SessionId) -> None:
        """Write the roles; the session of this very login is spared of the entry, since it begins with them."""
        endings, accounts = self._parts.endings, self._parts.store.accounts
        record = await accounts.find_subject(subject)
        if record is not None and record.disabled_at is not None:
            raise Denied(Cause.REVOKED, "the subject is disabled")
        order = endings.order(
            Scope.SUBJECT,
            subject,
            code="roles_changed",
            actor="login",
            reach=Reach.CLAIMS,
            spared=session_id,
        )
        entry = await accounts.set_roles(subject, roles, revocation=order)
        if entry is not None:
            await endings.applied(entry)


def _identifier(text: str, name: str) -> str:
    if not is_identifier(text):
        raise InvalidRequest("invalid_request", f"{name} must be 1 to 255 characters", status=422)
    return text


def _strategy(client: Client, asked: Strategy | str | None) -> Strategy:
    if asked is None:
        return client.default_strategy
    try:
        strategy = Strategy(asked)
    except ValueError:
        raise InvalidRequest("invalid_request", "strategy is session, jwt or hybrid", status=422) from None
    if strategy not in client.strategies:
        raise Denied(Cause.INSUFFICIENT_SCOPE, f"client {client.client_id} may not use {strategy.value}")
    return strategy


def _transport(asked: Transport | str) -> Transport:
    try:
        return Transport(asked)
    except ValueError:
        raise InvalidRequest("invalid_request", "transport is cookie, body or bff", status=422) from None


def _methods(asked: Iterable[str]) -> tuple[str, ...]:
    methods = tuple(asked)
    if isinstance(asked, str) or len(methods) > MAX_METHODS or not all(map(is_identifier, methods)):
        raise InvalidRequest(
            "invalid_request", "amr is at most 16 strings of 1 to 255 characters", status=422
        )
    return methods


def _audience(client: Client, asked: str | Iterable[str] | None, issuer: str) -> tuple[str, ...]:
    asked = issuer if asked is None else asked
    wanted = (asked,) if isinstance(asked, str) else tuple(dict.fromkeys(asked))
    if not 0 < len(wanted) <= MAX_AUDIENCES or not all(is_identifier(audience) for audience in wanted):
        raise InvalidRequest(
            "invalid_request", "audience is 1 to 16 strings of 1 to 255 characters", status=422
        )
    if client.audiences and not client.audiences.issuperset(wanted):
        raise Denied(Cause.WRONG_AUDIENCE, f"client {client.client_id} may not ask for this audience")
    return wanted


def _scopes(client: Client, asked: Iterable[str]) -> tuple[str, ...]:
    wanted = frozenset(asked)
    if isinstance(asked, str) or len(wanted) > MAX_SCOPES or not all(map(is_scope, wanted)):
        raise InvalidRequest(
            "invalid_scope",
            "scopes are at most 64 strings of visible ASCII without quotes or backslash",
            status=422,
        )
    # The built-in client is the caller's own code, which is trusted to name the scopes; no request can.
    if not client.is_built_in and not wanted <= client.scopes:
        raise Denied(Cause.INSUFFICIENT_SCOPE, f"client {client.client_id} may not ask for this scope")
    return tuple(sorted(wanted))
