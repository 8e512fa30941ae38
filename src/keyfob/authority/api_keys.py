"""API keys: for people and for services, with a name, scopes and an end.

A key is a row of sessions and obeys the one rule as a session does: ended with its subject, with its client, or by itself. It is no login:
it has no `auth_time`, so no route that asks for a recent one takes it, and of its subject's roles it has those alone that it was made with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

from msgspec.structs import replace

from keyfob.accounts.names import checked_roles
from keyfob.authority.api_key_policy import ApiKeyPolicy
from keyfob.authority.claims import ClaimsSource
from keyfob.authority.endings import Endings
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Conflict, Denied, InvalidRequest, NotFound
from keyfob.base.events import Event
from keyfob.base.identifiers import (
    FIRST_PARTY,
    ClientId,
    Position,
    SessionId,
    Strategy,
    Subject,
    is_identifier,
    is_session_id,
    new_session_id,
)
from keyfob.base.opaque import OpaqueKind, OpaqueToken
from keyfob.base.principal import Principal
from keyfob.clients.clients import Clients
from keyfob.clients.scopes import checked_scopes
from keyfob.revocation.entry import Entry, Scope
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import OpaqueKeyring
from keyfob.sessions.store import Added, CutOff, LimitReached
from keyfob.stores.store import Store
from keyfob.verifier.policy import require

MAX_NAME = 100  # characters of a key's name
MAX_AUDIENCES = 16
_OWN_ROLES = "keyfob:"
MAX_PAGE = 1_000  # keys in one list


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyOrder:
    """What a key is to be. Without a *lifetime* it has the deployment's; *audience* are the services that take it."""

    name: str
    audience: Sequence[str]
    scopes: Iterable[str] = ()
    roles: Iterable[str] = ()
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key, without its secret. `key_id` is the id of its session; `last_used_at` is None for one that was never used."""

    key_id: SessionId
    name: str
    subject: Subject
    client_id: ClientId
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    roles: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key that was just made, and its text, which nobody can show again."""

    api_key: ApiKey
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyPage:
    """Some keys, newest first; `next` continues the list, None at its end."""

    api_keys: Sequence[ApiKey]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Owner:
    subject: Subject
    client_id: ClientId


class ApiKeys:
    """Makes, lists and revokes API keys. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        store: Store,
        clients: Clients,
        endings: Endings,
        *,
        keys: OpaqueKeyring,
        claims_source: ClaimsSource,
        policy: ApiKeyPolicy,
        clock: Clock,
    ) -> None:
        self._store = store
        self._clients = clients
        self._endings = endings
        self._keys = keys
        self._claims_source = claims_source
        self._policy = policy
        self._clock = clock

    async def add_own(self, principal: Principal, order: ApiKeyOrder) -> NewApiKey:
        """Make a key for the person who signed in as *principal*, with scopes that the deployment leaves to people, and roles of theirs.

        If the session that asks for it is ended meanwhile, so is the key, before anybody has it.

        Raises:
            Denied: `reauthentication_required` if the login is too long ago, or is none; `insufficient_scope`; `insufficient_role` for
                one of `keyfob:`, which administrators give; `revoked`.
            InvalidRequest: the order breaks a rule.
            Conflict: `too_many_api_keys`.
        """
        require(principal, self._clock.time(), max_auth_age=self._policy.max_auth_age)
        if not checked_scopes(order.scopes) <= self._policy.scopes:
            raise Denied(Cause.INSUFFICIENT_SCOPE, "a scope that is not left to people")
        if any(role.startswith(_OWN_ROLES) for role in checked_roles(order.roles)):
            raise Denied(Cause.INSUFFICIENT_ROLE, "administration is not left to keys that people make")
        made = await self.add_for_subject(principal.subject, order, actor=principal.subject)
        if await self._is_over(principal.session_id):
            await self.revoke(made.api_key.key_id, actor="system", reason="its session was ended")
            raise Denied(Cause.REVOKED, "the session was ended while it made a key")
        return made

    async def add_for_subject(self, subject: str, order: ApiKeyOrder, *, actor: str) -> NewApiKey:
        """Make a key for *subject*, which need not have an account, on the order of whoever administers.

        Of the roles in the order it has those that the subject has at the moment of use.

        Raises:
            Denied: `revoked` if the subject is disabled, or was cut off meanwhile.
            InvalidRequest: the order breaks a rule.
            Conflict: `too_many_api_keys`.
        """
        head = await self._store.feed.head()  # before anything about the subject (design.md, precondition 2)
        if not is_identifier(subject):
            raise InvalidRequest("invalid_request", "subject must be 1 to 255 characters", status=422)
        owner = _Owner(Subject(subject), FIRST_PARTY)
        session = self._session(owner, order, as_of=head.position)
        await self._claims_source(owner.subject, owner.client_id)
        return await self._add(session, actor)

    async def add_for_service(self, client_id: str, order: ApiKeyOrder, *, actor: str) -> NewApiKey:
        """Make a key for the service that is the client *client_id*, within its scopes and audiences. It has no roles.

        Raises:
            NotFound: `no_client`.
            Denied: `insufficient_scope` or `wrong_audience` for what the client may not have; `revoked` if it was cut off meanwhile.
            InvalidRequest: the order breaks a rule, or names roles.
            Conflict: `too_many_api_keys`.
        """
        head = await self._store.feed.head()
        client = await self._clients.get(client_id)
        if client.is_built_in:
            raise InvalidRequest("invalid_request", "first-party is no service", status=422)
        session = self._session(
            _Owner(Subject(client.client_id), client.client_id), order, as_of=head.position
        )
        if session.role_limit:
            raise InvalidRequest("invalid_role", "A service has scopes, and no roles.", status=422)
        if not client.scopes.issuperset(session.scopes):
            raise Denied(Cause.INSUFFICIENT_SCOPE, f"client {client.client_id} does not have this scope")
        if client.audiences and not client.audiences.issuperset(session.audience):
            raise Denied(Cause.WRONG_AUDIENCE, f"client {client.client_id} may not ask for this audience")
        return await self._add(session, actor)

    async def list(
        self, subject: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> ApiKeyPage:
        """Return up to *limit* live keys of *subject* (a service's is its client id), or of everybody, newest first.

        A page may be short of *limit*, or empty, although `next` says that more follow.

        Raises:
            InvalidRequest: *limit* is not 1 to 1000, or *after* is no earlier page's `next`.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest("invalid_request", f"limit is 1 to {MAX_PAGE}", status=422)
        page = await self._store.sessions.list_api_keys(
            None if subject is None else Subject(subject), now=self._clock.now(), after=after, limit=limit
        )
        return ApiKeyPage(api_keys=[api_key_of(session) for session in page.sessions], next=page.next)

    async def revoke(
        self, key_id: str, *, actor: str, reason: str = "", owner: Subject | None = None
    ) -> Entry:
        """End a key, everywhere; with *owner*, one of that subject's. Of several at once, one succeeds.

        Raises:
            NotFound: `no_api_key`: there is none, it is another's, or over already.
        """
        found = await self._store.sessions.find(SessionId(key_id)) if is_session_id(key_id) else None
        is_there = found is not None and found.session.is_api_key
        if found is None or not is_there or (owner is not None and found.session.subject != owner):
            raise NotFound("no_api_key", "There is no such API key.")
        order = self._endings.order(Scope.SESSION, key_id, code="api_key_revoked", actor=actor, reason=reason)
        entry = await self._endings.carry_out(order)
        if entry is None:
            raise NotFound("no_api_key", "That API key is over already.")
        return entry

    async def _is_over(self, session_id: SessionId | None) -> bool:
        found = await self._store.sessions.find(session_id) if session_id else None
        return found is None or found.session.ended_at is not None

    def _session(self, owner: _Owner, order: ApiKeyOrder, *, as_of: Position) -> Session:
        """Return the row of a key without its digest."""
        now = self._clock.now()
        ends_at = now + self._lifetime(order.lifetime)
        return Session(
            session_id=new_session_id(self._store.salt, owner.subject, ends_at),
            subject=owner.subject,
            client_id=owner.client_id,
            strategy=Strategy.SESSION,
            kind=OpaqueKind.API_KEY,
            digest=None,
            created_at=now,
            expires_at=ends_at,
            last_seen_at=now,
            auth_time=now,
            idle_timeout=None,
            as_of=as_of,
            audience=_checked_audience(order.audience),
            scopes=tuple(sorted(checked_scopes(order.scopes))),
            label=_checked_name(order.name),
            role_limit=tuple(sorted(checked_roles(order.roles))),
        )

    def _lifetime(self, asked: timedelta | None) -> timedelta:
        lifetime = self._policy.default_lifetime if asked is None else asked
        if not timedelta(0) < lifetime <= self._policy.max_lifetime:
            longest = int(self._policy.max_lifetime.total_seconds())
            raise InvalidRequest(
                "invalid_lifetime", f"A key lives above 0 and at most {longest} seconds.", status=422
            )
        return lifetime

    async def _add(self, session: Session, actor: str) -> NewApiKey:
        token = OpaqueToken.mint(OpaqueKind.API_KEY, session.session_id, self._keys.current_opaque())
        kept = replace(session, digest=token.digest)
        outcome = await self._store.sessions.add(
            kept, limit=self._policy.per_subject, at_limit=AtLimit.DENY, event=_added(kept, actor)
        )
        match outcome:
            case Added():
                return NewApiKey(api_key=api_key_of(kept), text=token.text())
            case LimitReached():
                raise Conflict(
                    "too_many_api_keys", f"There are {self._policy.per_subject} keys; end one first."
                )
            case CutOff():
                raise Denied(Cause.REVOKED, "the owner was cut off while the key was made")
            case _:
                assert_never(outcome)


def api_key_of(session: Session) -> ApiKey:
    """Return the API key that *session* is."""
    return ApiKey(
        key_id=session.session_id,
        name=session.label,
        subject=session.subject,
        client_id=session.client_id,
        audience=session.audience,
        scopes=session.scopes,
        roles=session.role_limit or (),
        created_at=session.created_at,
        expires_at=session.expires_at,
        last_used_at=session.last_seen_at if session.last_seen_at > session.created_at else None,
    )


def _added(session: Session, actor: str) -> Event:
    return Event(
        at=session.created_at,
        code="api_key_added",
        actor=actor,
        subject=session.subject,
        session_id=session.session_id,
        client_id=session.client_id,
        facts={"name": session.label, "expires_at": session.expires_at.isoformat()},
    )


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidRequest(
            "invalid_name", f"A key's name has 1 to {MAX_NAME} printable characters.", status=422
        )
    return name


def _checked_audience(asked: Sequence[str]) -> tuple[str, ...]:
    audience = tuple(dict.fromkeys(asked))
    fit = 0 < len(audience) <= MAX_AUDIENCES and all(map(is_identifier, audience))
    if isinstance(asked, str) or not fit:
        raise InvalidRequest(
            "invalid_audience", "audience is 1 to 16 strings of 1 to 255 characters", status=422
        )
    return audience
