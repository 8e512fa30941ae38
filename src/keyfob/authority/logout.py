"""Logging out by a credential: one that is good ends what it says; any other is silence."""

from __future__ import annotations

from keyfob.authority.checks import Checks
from keyfob.authority.endings import Devices, Endings
from keyfob.authority.visits import Visits
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import SessionId, Subject
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.revocation.entry import Entry, Scope
from keyfob.sessions.sessions import Sessions
from keyfob.sessions.store import SessionStore
from keyfob.tokens.refresh import leads_to


class Logout:
    """Finds out whose credential it is, and ends its session, the others of its subject, or all."""

    def __init__(
        self,
        checks: Checks,
        endings: Endings,
        sessions: Sessions,
        *,
        visits: Visits,
        store: SessionStore,
        clock: Clock,
    ) -> None:
        self._checks = checks
        self._endings = endings
        self._sessions = sessions
        self._visits = visits
        self._store = store
        self._clock = clock

    async def logout(self, text: str, *, devices: Devices) -> Entry | None:
        """End what *devices* says; None, and nothing changed, for a credential that is unknown, over or not ours.

        An access token whose roles are stale still logs out; so does an earlier refresh token of the chain, since its holder only loses.
        An API key, or a token that was made from one, ends itself and never anything else: it is no login. Nor does what somebody let a client
        of others do end anything but itself. A visit has no other devices.

        Raises:
            Unavailable: it could not be found out, or not be made durable. Whether it took effect is not known.
        """
        try:
            kind = kind_of(text)
            if kind is OpaqueKind.ANONYMOUS:
                return await self._end_visit(text, devices)
            if kind is OpaqueKind.REFRESH:
                subject, session_id = await self._owner_of_refresh_token(text)
            else:
                principal = await self._checks.read(text, allowing=Cause.STALE_CLAIMS)
                if principal.session_id is None:
                    return await self._end_token(principal)
                if principal.auth_time is None and devices != "this":
                    return None
                subject, session_id = principal.subject, principal.session_id
        except Denied:
            return None
        if devices != "this" and await self._is_delegated(session_id):
            return None
        return await self._endings.end_devices(subject, session_id, devices=devices)

    async def _owner_of_refresh_token(self, text: str) -> tuple[Subject, SessionId]:
        token = self._sessions.parse(text, OpaqueKind.REFRESH)
        found = await self._store.find(token.session_id)
        if found is None or found.session.kind is not token.kind or not await leads_to(token, found.session):
            raise Denied(Cause.UNKNOWN_SESSION)
        self._sessions.require_live(found.session, self._clock.now())
        return found.session.subject, found.session.session_id

    async def _end_visit(self, text: str, devices: Devices) -> Entry | None:
        visit = await self._visits.require(text)
        if devices == "others":
            return None
        return await self._endings.end_session(visit.session_id, code="visit_ended", actor=visit.subject)

    async def _is_delegated(self, session_id: SessionId) -> bool:
        found = await self._store.find(session_id)
        return found is None or found.session.is_delegated

    async def _end_token(self, principal: Principal) -> Entry | None:
        """End an access token that belongs to no session: a machine's."""
        assert principal.token_id is not None  # `jti` is required of every access token
        order = self._endings.order(Scope.TOKEN, principal.token_id, code="logout", actor=principal.subject)
        return await self._endings.carry_out(order)
