"""Accounts and the records of subjects in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

from msgspec import structs

from keyfob.accounts.account import Account, SubjectRecord
from keyfob.accounts.store import AccountPage
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.stores.grant_keys import consents_of
from keyfob.stores.records import AccountRow, SubjectRow, encode
from keyfob.stores.redis.places import ACCOUNTS, CONSENT_ORDER, CONSENTS, NAME_ORDER, NAMES, SUBJECTS
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.settling import Step, settle
from keyfob.stores.redis.tables import read_record
from keyfob.stores.revoking import check_subject_revocation
from keyfob.stores.texts import can_be_kept, require_texts

_TABLES = (ACCOUNTS, NAMES, NAME_ORDER, SUBJECTS, CONSENTS, CONSENT_ORDER)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a subject, as it was read."""

    account: bytes | None
    record: bytes | None


class RedisAccountStore:
    """An `AccountStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def add(self, account: Account, event: Event) -> bool:
        """Add an account; False if the name, or an account or a record of the subject, stands already."""
        require_texts(account.name, account.subject)

        async def decide(step: Step) -> bool:
            holder = await self._server.read(b"HGET", NAMES, account.name)
            record = await self._server.read(b"HGET", SUBJECTS, account.subject)
            if holder is not None or record is not None:
                return False
            step.expect(NAMES, account.name, None)
            step.expect(SUBJECTS, account.subject, None)
            step.put(NAMES, account.name, account.subject.encode())
            step.list_name(NAME_ORDER, account.name)
            step.put(ACCOUNTS, account.subject, _account_row(account))
            subject = SubjectRecord(
                subject=account.subject, roles=account.roles, disabled_at=account.disabled_at
            )
            step.put(SUBJECTS, account.subject, encode(SubjectRow(record=subject)))
            step.tell(event)
            return True

        return await settle(self._server, _TABLES, decide) is not None

    async def find(self, subject: Subject) -> Account | None:
        """Return the account of *subject*."""
        if not can_be_kept(subject):
            return None
        return _account(await self._known(subject))

    async def find_by_name(self, name: str) -> Account | None:
        """Return the account of *name*."""
        if not can_be_kept(name):
            return None
        holder = await self._server.read(b"HGET", NAMES, name)
        account = None if holder is None else await self.find(Subject(holder.decode()))
        return account if account is not None and account.name == name else None

    async def find_subject(self, subject: Subject) -> SubjectRecord | None:
        """Return the record of *subject*."""
        if not can_be_kept(subject):
            return None
        raw = await self._server.read(b"HGET", SUBJECTS, subject)
        return None if raw is None else read_record(raw, SubjectRow).record

    async def list(self, *, after: str | None, limit: int) -> AccountPage:
        """Return accounts by name. The cursor is the last name."""
        start = b"-" if after is None else b"(" + after.encode()
        names = await self._server.read(b"ZRANGE", NAME_ORDER, start, b"+", b"BYLEX", b"LIMIT", 0, limit + 1)
        found = await self._server.together(self.find_by_name(name.decode()) for name in names[:limit])
        page = [account for account in found if account is not None]
        return AccountPage(page, names[limit - 1].decode() if page and len(names) > limit else None)

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

        def change(account: Account) -> Account | None:
            if replaces is not None and account.password_hash != replaces:
                return None
            return replace(account, password_hash=password_hash, password_changed_at=now)

        async def decide(step: Step) -> bool:
            if not await self._change(step, subject, change):
                return False
            step.revoke(revocation, now)
            return True

        return await self._entry(decide)

    async def rehash_password(self, subject: Subject, password_hash: str, *, replaces: str) -> bool:
        """Replace the hash if it is still *replaces*."""

        def change(account: Account) -> Account | None:
            return (
                replace(account, password_hash=password_hash) if account.password_hash == replaces else None
            )

        async def decide(step: Step) -> bool:
            return await self._change(step, subject, change)

        return await settle(self._server, _TABLES, decide) is not None

    async def set_roles(
        self, subject: Subject, roles: frozenset[str], *, revocation: Revocation
    ) -> Entry | None:
        """Set the roles, as the port says. A new record that revokes nothing is written to the audit trail all the same."""
        check_subject_revocation(revocation, subject)

        async def decide(step: Step) -> bool:
            raw = await self._server.read(b"HGET", SUBJECTS, subject)
            record = None if raw is None else read_record(raw, SubjectRow).record
            if record is not None and record.roles == roles:
                return False
            self._put_record(
                step, raw, structs.replace(record or SubjectRecord(subject=subject), roles=roles)
            )
            if record is not None:
                step.revoke(revocation, revocation.event.at)
            elif roles:
                await self._revoke_if_signed_in(step, revocation)
            else:
                step.tell(revocation.event)
            return True

        return await self._entry(decide)

    async def set_disabled(self, subject: Subject, *, now: datetime, revocation: Revocation) -> Entry | None:
        """Bar *subject*, as the port says."""
        check_subject_revocation(revocation, subject)

        async def decide(step: Step) -> bool:
            raw = await self._server.read(b"HGET", SUBJECTS, subject)
            record = SubjectRecord(subject=subject) if raw is None else read_record(raw, SubjectRow).record
            if record.disabled_at is not None:
                return False
            self._put_record(step, raw, structs.replace(record, disabled_at=now))
            step.revoke(revocation, now)
            return True

        return await self._entry(decide)

    async def set_enabled(self, subject: Subject, event: Event) -> bool:
        """Lift the bar; False if there was none."""

        async def decide(step: Step) -> bool:
            raw = await self._server.read(b"HGET", SUBJECTS, subject)
            record = None if raw is None else read_record(raw, SubjectRow).record
            if record is None or record.disabled_at is None:
                return False
            self._put_record(step, raw, structs.replace(record, disabled_at=None))
            step.tell(event)
            return True

        return await settle(self._server, _TABLES, decide) is not None

    async def delete(self, subject: Subject, *, revocation: Revocation) -> Entry | None:
        """Delete the account and the record."""
        check_subject_revocation(revocation, subject)

        async def decide(step: Step) -> bool:
            known = await self._known(subject)
            if known.account is None and known.record is None:
                return False
            step.expect(ACCOUNTS, subject, known.account)
            step.expect(SUBJECTS, subject, known.record)
            if known.account is not None:
                name = read_record(known.account, AccountRow).name
                step.remove(NAMES, name)
                step.strike_name(NAME_ORDER, name)
                step.remove(ACCOUNTS, subject)
            if known.record is not None:
                step.remove(SUBJECTS, subject)
            step.forget_all(CONSENTS, CONSENT_ORDER, consents_of(subject))
            step.revoke(revocation, revocation.event.at)
            return True

        return await self._entry(decide)

    async def _known(self, subject: Subject) -> _Known:
        account, record = await self._server.look("find_account", (ACCOUNTS, SUBJECTS), (subject,))
        return _Known(account, record)

    async def _change(
        self, step: Step, subject: Subject, change: Callable[[Account], Account | None]
    ) -> bool:
        known = await self._known(subject)
        account = _account(known)
        changed = None if account is None else change(account)
        if changed is None:
            return False
        step.expect(ACCOUNTS, subject, known.account)
        step.put(ACCOUNTS, subject, _account_row(changed))
        return True

    def _put_record(self, step: Step, present: bytes | None, record: SubjectRecord) -> None:
        step.expect(SUBJECTS, record.subject, present)
        step.put(SUBJECTS, record.subject, encode(SubjectRow(record=record)))

    async def _revoke_if_signed_in(self, step: Step, revocation: Revocation) -> None:
        step.revoke_if_signed_in(revocation, revocation.event.at)

    async def _entry(self, decide: Callable[[Step], Awaitable[bool]]) -> Entry | None:
        done = await settle(self._server, _TABLES, decide)
        return None if done is None else done.entry


def _account(known: _Known) -> Account | None:
    if known.account is None or known.record is None:
        return None
    row = read_record(known.account, AccountRow)
    record = read_record(known.record, SubjectRow).record
    return Account(
        subject=row.subject,
        name=row.name,
        password_hash=row.password_hash,
        created_at=row.created_at,
        password_changed_at=row.password_changed_at,
        roles=record.roles,
        disabled_at=record.disabled_at,
    )


def _account_row(account: Account) -> bytes:
    return encode(
        AccountRow(
            subject=account.subject,
            name=account.name,
            password_hash=account.password_hash,
            created_at=account.created_at,
            password_changed_at=account.password_changed_at,
        )
    )
