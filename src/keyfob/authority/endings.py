"""Every way to revoke: one function, and what leads to it."""

from __future__ import annotations

from typing import Literal, assert_never

from keyfob.base.clock import Clock
from keyfob.base.errors import Conflict, InvalidRequest, NotFound
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, KeyId, SessionId, Subject, is_identifier, is_session_id
from keyfob.keys.key_ring import KeyRing
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.feed import Feed
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import AlreadyEnded, Ended, SessionStore

Devices = Literal["this", "others", "all"]
MAX_REASON = 500  # characters of a reason in the audit trail


class Endings:
    """Carries out revocations. When a call returns, the entry is durable and in force in this process."""

    def __init__(self, store: SessionStore, feed: Feed, keys: KeyRing, *, clock: Clock) -> None:
        self._store = store
        self._feed = feed
        self._keys = keys
        self._clock = clock

    def order(
        self,
        scope: Scope,
        target: str,
        *,
        code: str,
        actor: str,
        reach: Reach = Reach.END,
        reason: str = "",
        spared: SessionId | None = None,
        session_id: SessionId | None = None,
    ) -> Revocation:
        """Put a revocation and its audit event together."""
        return Revocation(
            scope=scope,
            id=target,
            reach=reach,
            spared=spared,
            event=Event(
                at=self._clock.now(),
                code=code,
                actor=actor,
                subject=Subject(target) if scope is Scope.SUBJECT else None,
                session_id=SessionId(target) if scope is Scope.SESSION else session_id,
                client_id=ClientId(target) if scope is Scope.CLIENT else None,
                reason=reason[:MAX_REASON] or None,
                facts={"scope": scope.value, "reach": reach.value, "id": target},
            ),
        )

    async def carry_out(self, revocation: Revocation) -> Entry | None:
        """Append the entry and end what is in scope; None if a session was over already."""
        outcome = await self._store.end(revocation, now=self._clock.now())
        match outcome:
            case Ended(entry):
                return await self.applied(entry)
            case AlreadyEnded():
                return None
            case _:
                assert_never(outcome)

    async def applied(self, entry: Entry) -> Entry:
        """Wait until *entry* is in force in this process, and return it."""
        await self._feed.catch_up(entry.position)
        if (
            entry.scope is Scope.KEY
        ):  # whoever else reads the entry does the same (`KeyRevocations`); here it is waited for
            await self._keys.mark_revoked(KeyId(entry.id))
        return entry

    async def revoke(
        self,
        scope: Scope,
        target: str,
        *,
        reach: Reach,
        reason: str,
        actor: str,
        spared: SessionId | None = None,
    ) -> Entry:
        """Revoke on somebody's order; see `Authority.revoke`."""
        if spared is not None:
            spared = await self.family_of(spared)
        revocation = self.checked_order(scope, target, reach=reach, reason=reason, actor=actor, spared=spared)
        entry = await self.carry_out(revocation)
        if entry is None:
            raise Conflict("already_ended", "that session is over already; nothing was changed")
        return entry

    def checked_order(
        self,
        scope: Scope,
        target: str,
        *,
        reach: Reach,
        reason: str,
        actor: str,
        spared: SessionId | None = None,
    ) -> Revocation:
        """Put somebody's order together.

        Raises:
            InvalidRequest: scope, target and reach do not fit together.
            NotFound: no such key.
        """
        self._require_target(scope, target)
        try:
            return self.order(
                scope, target, code="revoked", actor=actor, reach=reach, reason=reason, spared=spared
            )
        except ValueError as error:
            raise InvalidRequest("invalid_revocation", str(error), status=422) from None

    def _require_target(self, scope: Scope, target: str) -> None:
        if scope is Scope.SESSION and not is_session_id(target):
            raise InvalidRequest("invalid_revocation", "a session id is 32 lower-case hex digits", status=422)
        if scope is Scope.KEY and KeyId(target) not in self._keys.public_keys():
            raise NotFound("unknown_key", "no access key has this id; 'keyfob keys list' shows them")
        if scope is not Scope.EVERYTHING and not is_identifier(target):
            raise InvalidRequest("invalid_revocation", f"scope {scope.value} needs an id", status=422)

    async def family_of(self, session_id: SessionId) -> SessionId:
        """Return what to spare if *session_id* is to go on: itself, or its parent, since a child is over when its parent is."""
        found = await self._store.find(session_id)
        return session_id if found is None else found.session.parent_session_id or session_id

    async def end_session(self, session_id: SessionId, *, code: str, actor: str) -> Entry | None:
        """End one session; None if it was over already."""
        return await self.carry_out(self.order(Scope.SESSION, session_id, code=code, actor=actor))

    async def end_devices(self, subject: Subject, session_id: SessionId, *, devices: Devices) -> Entry | None:
        """Carry out a logout by *subject* of this session, of the others, or of all."""
        if devices == "this":
            return await self.end_session(session_id, code="logout", actor=subject)
        spared = await self.family_of(session_id) if devices == "others" else None
        return await self.carry_out(
            self.order(
                Scope.SUBJECT,
                subject,
                code=f"logout_{devices}",
                actor=subject,
                spared=spared,
                session_id=session_id,
            )
        )
