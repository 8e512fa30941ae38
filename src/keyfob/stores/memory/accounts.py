"""Accounts and the records of subjects in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from msgspec import structs

from keyfob.accounts.account import Account, SubjectRecord
from keyfob.accounts.store import AccountPage
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import Ended
from keyfob.stores.memory.revoking import end
from keyfob.stores.memory.state import State
from keyfob.stores.revoking import check_subject_revocation
from keyfob.stores.texts import require_texts


class MemoryAccountStore:
    """An `AccountStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, account: Account, event: Event) -> bool:
        """Add an account; False if the name, or an account or a record of the subject, stands already."""
        require_texts(account.name, account.subject)
        state = self._state
        with state.step():
            if account.name in state.names or account.subject in state.subjects:
                return False
            state.names[account.name] = account.subject
            state.accounts[account.subject] = account
            state.subjects[account.subject] = SubjectRecord(
                subject=account.subject, roles=account.roles, disabled_at=account.disabled_at
            )
            state.write_event(event)
            return True

    async def find(self, subject: Subject) -> Account | None:
        """Return the account of *subject*."""
        with self._state.step():
            return self._account(subject)

    async def find_by_name(self, name: str) -> Account | None:
        """Return the account of *name*."""
        with self._state.step():
            subject = self._state.names.get(name)
            return None if subject is None else self._account(subject)

    async def find_subject(self, subject: Subject) -> SubjectRecord | None:
        """Return the record of *subject*."""
        with self._state.step():
            return self._state.subjects.get(subject)

    async def list(self, *, after: str | None, limit: int) -> AccountPage:
        """Return accounts by name. The cursor is the last name."""
        state = self._state
        with state.step():
            names = sorted(name for name in state.names if after is None or name > after)
            accounts = [self._account(state.names[name]) for name in names[:limit]]
        page = [account for account in accounts if account is not None]
        return AccountPage(page, page[-1].name if page and len(names) > len(page) else None)

    async def set_password(
        self,
        subject: Subject,
        password_hash: str,
        *,
        replaces: str | None,
        now: datetime,
        revocation: Revocation,
    ) -> Entry | None:
        """Set the hash, as the port says."""
        check_subject_revocation(revocation, subject)
        with self._state.step():
            account = self._account(subject)
            if account is None or (replaces is not None and account.password_hash != replaces):
                return None
            changed = replace(account, password_hash=password_hash, password_changed_at=now)
            self._state.accounts[subject] = changed
            return self._revoke(revocation, now)

    async def rehash_password(self, subject: Subject, password_hash: str, *, replaces: str) -> bool:
        """Replace the hash if it is still *replaces*."""
        with self._state.step():
            account = self._account(subject)
            if account is None or account.password_hash != replaces:
                return False
            self._state.accounts[subject] = replace(account, password_hash=password_hash)
            return True

    async def set_roles(
        self, subject: Subject, roles: frozenset[str], *, revocation: Revocation
    ) -> Entry | None:
        """Set the roles, as the port says. A new record that revokes nothing is written to the audit trail all the same."""
        check_subject_revocation(revocation, subject)
        with self._state.step():
            record = self._state.subjects.get(subject)
            if record is not None and record.roles == roles:
                return None
            known = record or SubjectRecord(subject=subject)
            self._state.subjects[subject] = structs.replace(known, roles=roles)
            if record is None and not (roles and self._has_session(subject)):
                self._state.write_event(revocation.event)
                return None
            return self._revoke(revocation, revocation.event.at)

    async def set_disabled(self, subject: Subject, *, now: datetime, revocation: Revocation) -> Entry | None:
        """Bar *subject*, as the port says."""
        check_subject_revocation(revocation, subject)
        with self._state.step():
            record = self._state.subjects.get(subject, SubjectRecord(subject=subject))
            if record.disabled_at is not None:
                return None
            self._state.subjects[subject] = structs.replace(record, disabled_at=now)
            return self._revoke(revocation, now)

    async def set_enabled(self, subject: Subject, event: Event) -> bool:
        """Lift the bar; False if there was none."""
        with self._state.step():
            record = self._state.subjects.get(subject)
            if record is None or record.disabled_at is None:
                return False
            self._state.subjects[subject] = structs.replace(record, disabled_at=None)
            self._state.write_event(event)
            return True

    async def delete(self, subject: Subject, *, revocation: Revocation) -> Entry | None:
        """Delete the account and the record."""
        check_subject_revocation(revocation, subject)
        state = self._state
        with state.step():
            account = state.accounts.pop(subject, None)
            record = state.subjects.pop(subject, None)
            if account is not None:
                del state.names[account.name]
            if account is None and record is None:
                return None
            for place in [place for place in state.consents if place[0] == subject]:
                del state.consents[place]
            return self._revoke(revocation, revocation.event.at)

    def _account(self, subject: Subject) -> Account | None:
        account = self._state.accounts.get(subject)
        if account is None:
            return None
        record = self._state.subjects[subject]
        return replace(account, roles=record.roles, disabled_at=record.disabled_at)

    def _has_session(self, subject: Subject) -> bool:
        """Say whether *subject* has a session that nobody has ended."""
        rows = self._state.by_subject.get(subject, ())
        return any(self._state.sessions[row].ended_at is None for row in rows)

    def _revoke(self, revocation: Revocation, now: datetime) -> Entry:
        outcome = end(self._state, revocation, now)
        assert isinstance(outcome, Ended)
        return outcome.entry
