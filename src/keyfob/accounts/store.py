"""What accounts need of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyfob.accounts.account import Account, SubjectRecord
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Some accounts, by name; `next` continues the list, None at its end."""

    accounts: Sequence[Account]
    next: str | None


class AccountStore(Protocol):
    """Keeps accounts and the records of subjects. Each method is one atomic step and says who won.

    A change that revokes takes the `Revocation` and carries it out in the same step: sessions, cut-offs, entry and audit as
    `SessionStore.end` does; it returns the entry, or None if nothing was changed. Raises `StoreUnavailable`.
    """

    async def add(self, account: Account, event: Event) -> bool:
        """Add an account and the record of its subject; False if the name or the subject is taken."""
        ...

    async def find(self, subject: Subject) -> Account | None:
        """Return the account of *subject*."""
        ...

    async def find_by_name(self, name: str) -> Account | None:
        """Return the account of the (folded) *name*."""
        ...

    async def find_subject(self, subject: Subject) -> SubjectRecord | None:
        """Return the record of *subject*, which there may be without an account."""
        ...

    async def list(self, *, after: str | None, limit: int) -> AccountPage:
        """Return accounts by name, continuing *after* an earlier page's `next`."""
        ...

    async def set_password(
        self,
        subject: Subject,
        password_hash: str,
        *,
        replaces: str | None,
        now: datetime,
        revocation: Revocation,
    ) -> Entry | None:
        """Set the hash if the present one is *replaces* (None: whatever it is)."""
        ...

    async def rehash_password(self, subject: Subject, password_hash: str, *, replaces: str) -> bool:
        """Replace a hash by one of the same password with today's parameters, if it is still *replaces*. Revokes nothing."""
        ...

    async def set_roles(
        self, subject: Subject, roles: frozenset[str], *, revocation: Revocation
    ) -> Entry | None:
        """Set the roles of *subject*, making its record if there is none.

        The same roles revoke nothing, nor does a new record; unless it gives roles to a subject that has a session, which had none so far.
        """
        ...

    async def set_disabled(self, subject: Subject, *, now: datetime, revocation: Revocation) -> Entry | None:
        """Bar *subject*, making its record if there is none; None if it was barred already."""
        ...

    async def set_enabled(self, subject: Subject, event: Event) -> bool:
        """Lift the bar; False if there was none."""
        ...

    async def delete(self, subject: Subject, *, revocation: Revocation) -> Entry | None:
        """Delete the account and the record; None if there is neither."""
        ...


class ThrottleStore(Protocol):
    """Counts attempts at passwords. Each method is one atomic step. Raises `StoreUnavailable`."""

    async def attempt(self, keys: Sequence[str], *, now: datetime) -> float:
        """Count an attempt under each of *keys* beforehand, unless one of them must wait; return the seconds to wait, 0 if none.

        After 5 attempts the delay doubles from 1 s to 5 minutes (`accounts.rules.delay_after`). An attempt that must wait is not
        counted. Counting beforehand means that any number of attempts at once get no more than one after another would.
        """
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget the attempts under *keys*: one succeeded."""
        ...

    async def remember(self, key: str, *, now: datetime) -> None:
        """Remember *key* (an account and an address that logged in to it) for `accounts.rules.FAMILIARITY` after *now*.

        A later *now* prolongs it; it never shortens.
        """
        ...

    async def is_remembered(self, key: str, *, now: datetime) -> bool:
        """Say whether *key* was remembered less than `accounts.rules.FAMILIARITY` before *now*."""
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* counts whose last attempt was a day before *now*, and what is no longer remembered; return how many."""
        ...
