"""Where roles and further claims come from."""

from __future__ import annotations

from typing import Protocol

from keyfob.accounts.store import AccountStore
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import ClientId, Subject
from keyfob.sessions.session import Session
from keyfob.sessions.store import Holder
from keyfob.tokens.grant import SubjectClaims


class ClaimsSource(Protocol):
    """Tells what is known of a subject today.

    It is asked after `as_of` was read, at each login, refresh and cache miss (design.md, precondition 4). Whoever changes what it
    answers calls `Authority.revoke("subject", ..., reach="claims")`. It raises `Denied` for a subject that may not sign in, and
    `Unavailable` where it cannot tell.
    """

    async def __call__(self, subject: Subject, client_id: ClientId, /) -> SubjectClaims:
        """Return today's claims of *subject*, for *client_id*."""
        ...


class RecordedClaims:
    """The default source: the subject's record in the store."""

    def __init__(self, accounts: AccountStore) -> None:
        self._accounts = accounts

    async def __call__(self, subject: Subject, client_id: ClientId, /) -> SubjectClaims:
        """Return the roles on the record of *subject*; none where there is no record.

        Raises:
            Denied: `revoked` if the subject is barred.
        """
        record = await self._accounts.find_subject(subject)
        if record is None:
            return SubjectClaims()
        return claims_of(Holder(record.roles, record.disabled_at is not None))


def claims_of(holder: Holder) -> SubjectClaims:
    """Return the claims of a subject of whom *holder* is recorded.

    Raises:
        Denied: `revoked` if the subject is barred.
    """
    if holder.is_barred:
        raise Denied(Cause.REVOKED, "the subject is disabled")
    return SubjectClaims(roles=holder.roles)


class TodaysClaims:
    """What is known of the subject of a session that was just read: from that very read where the store gives it along, else by asking."""

    def __init__(self, accounts: AccountStore, source: ClaimsSource | None) -> None:
        """Ask *source*; the records of *accounts* where it is None."""
        self.source = source or RecordedClaims(accounts)
        self._is_recorded = source is None

    async def of(self, session: Session, holder: Holder | None) -> SubjectClaims:
        """Return the claims of the subject of *session*, with which *holder* was read.

        Raises:
            Denied: `revoked` if the subject is barred; what the source says.
            Unavailable: it could not be found out.
        """
        if holder is not None and self._is_recorded:
            return claims_of(holder)
        return await self.source(session.subject, session.client_id)
