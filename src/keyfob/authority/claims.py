"""Where roles and further claims come from."""

from __future__ import annotations

from typing import Protocol

from keyfob.accounts.store import AccountStore
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import ClientId, Subject
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
        if record.disabled_at is not None:
            raise Denied(Cause.REVOKED, "the subject is disabled")
        return SubjectClaims(roles=record.roles)
