"""Accounts and the records of subjects in PostgreSQL.

Whoever changes what belongs to a subject locks the subject first, so that changes of one subject come one after another.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from keyfob.accounts.account import Account, SubjectRecord
from keyfob.accounts.store import AccountPage
from keyfob.base.clock import from_micros, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import Ended
from keyfob.stores.postgres.connecting import Connection, Row
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.postgres.revoking import end
from keyfob.stores.revoking import check_subject_revocation
from keyfob.stores.rows import moment, moment_micros, names, names_text
from keyfob.stores.texts import can_be_kept, require_texts

_SELECT = (
    "SELECT a.subject, a.name, a.password_hash, a.created_at, a.password_changed_at, s.roles, s.disabled_at"
    " FROM keyfob.accounts AS a JOIN keyfob.subjects AS s ON s.subject = a.subject"
)


class PostgresAccountStore:
    """An `AccountStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, account: Account, event: Event) -> bool:
        """Add an account; False if the name, or an account or a record of the subject, stands already."""
        require_texts(account.name, account.subject)
        return await self._database.transact(partial(_add, account=account, event=event))

    async def find(self, subject: Subject) -> Account | None:
        """Return the account of *subject*."""
        return await self._database.read(partial(_find, condition="a.subject = $1", value=subject))

    async def find_by_name(self, name: str) -> Account | None:
        """Return the account of *name*."""
        return await self._database.read(partial(_find, condition="a.name = $1", value=name))

    async def find_subject(self, subject: Subject) -> SubjectRecord | None:
        """Return the record of *subject*."""
        return await self._database.read(partial(_find_subject, subject=subject))

    async def list(self, *, after: str | None, limit: int) -> AccountPage:
        """Return accounts by name. The cursor is the last name."""
        return await self._database.read(partial(_list, after=after, limit=limit))

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

        async def operation(transaction: Transaction) -> Entry | None:
            await lock_names(transaction.connection, LockClass.SUBJECT, [subject])
            changed = await transaction.connection.fetchval(
                "UPDATE keyfob.accounts SET password_hash = $1, password_changed_at = $2"
                " WHERE subject = $3 AND password_hash = coalesce($4, password_hash) RETURNING 1",
                password_hash,
                to_micros(now),
                subject,
                replaces,
            )
            return await _revoke(transaction, revocation, now) if changed else None

        return await self._database.transact(operation)

    async def rehash_password(self, subject: Subject, password_hash: str, *, replaces: str) -> bool:
        """Replace the hash if it is still *replaces*."""

        async def operation(transaction: Transaction) -> bool:
            changed = await transaction.connection.fetchval(
                "UPDATE keyfob.accounts SET password_hash = $1 WHERE subject = $2 AND password_hash = $3 RETURNING 1",
                password_hash,
                subject,
                replaces,
            )
            return changed is not None

        return await self._database.transact(operation)

    async def set_roles(
        self, subject: Subject, roles: frozenset[str], *, revocation: Revocation
    ) -> Entry | None:
        """Set the roles, as the port says. A new record that revokes nothing is written to the audit trail all the same."""
        check_subject_revocation(revocation, subject)
        return await self._database.transact(
            partial(_set_roles, subject=subject, roles=roles, revocation=revocation)
        )

    async def set_disabled(self, subject: Subject, *, now: datetime, revocation: Revocation) -> Entry | None:
        """Bar *subject*, as the port says."""
        check_subject_revocation(revocation, subject)

        async def operation(transaction: Transaction) -> Entry | None:
            await lock_names(transaction.connection, LockClass.SUBJECT, [subject])
            record = await _find_subject(transaction.connection, subject) or SubjectRecord(subject=subject)
            if record.disabled_at is not None:
                return None
            await _put_subject(transaction, subject, record.roles, now)
            return await _revoke(transaction, revocation, now)

        return await self._database.transact(operation)

    async def set_enabled(self, subject: Subject, event: Event) -> bool:
        """Lift the bar; False if there was none."""
        if not can_be_kept(subject):
            return False

        async def operation(transaction: Transaction) -> bool:
            changed = await transaction.connection.fetchval(
                "UPDATE keyfob.subjects SET disabled_at = NULL WHERE subject = $1 AND disabled_at IS NOT NULL RETURNING 1",
                subject,
            )
            if changed:
                await write_events(transaction.connection, [event])
            return changed is not None

        return await self._database.transact(operation)

    async def delete(self, subject: Subject, *, revocation: Revocation) -> Entry | None:
        """Delete the account and the record."""
        check_subject_revocation(revocation, subject)

        async def operation(transaction: Transaction) -> Entry | None:
            connection = transaction.connection
            await lock_names(connection, LockClass.SUBJECT, [subject])
            account = await connection.fetchval(
                "DELETE FROM keyfob.accounts WHERE subject = $1 RETURNING 1", subject
            )
            record = await connection.fetchval(
                "DELETE FROM keyfob.subjects WHERE subject = $1 RETURNING 1", subject
            )
            if not (account or record):
                return None
            await connection.execute("DELETE FROM keyfob.consents WHERE subject = $1", subject)
            return await _revoke(transaction, revocation, revocation.event.at)

        return await self._database.transact(operation)


async def _add(transaction: Transaction, account: Account, event: Event) -> bool:
    connection = transaction.connection
    await lock_names(connection, LockClass.SUBJECT, [account.subject])
    if await _find_subject(connection, account.subject) is not None:
        return False
    # Of two with one name the second waits here for the first.
    added = await connection.fetchval(
        "INSERT INTO keyfob.accounts (subject, name, password_hash, created_at, password_changed_at)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1",
        account.subject,
        account.name,
        account.password_hash,
        to_micros(account.created_at),
        to_micros(account.password_changed_at),
    )
    if not added:
        return False
    await _put_subject(transaction, account.subject, account.roles, account.disabled_at)
    await write_events(connection, [event])
    return True


async def _find(connection: Connection, condition: str, value: str) -> Account | None:
    if not can_be_kept(value):
        return None
    row = await connection.fetchrow(f"{_SELECT} WHERE {condition}", value)
    return None if row is None else _account_from(row)


async def _find_subject(connection: Connection, subject: Subject) -> SubjectRecord | None:
    if not can_be_kept(subject):
        return None
    row = await connection.fetchrow(
        "SELECT roles, disabled_at FROM keyfob.subjects WHERE subject = $1", subject
    )
    if row is None:
        return None
    return SubjectRecord(subject=subject, roles=names(row[0]), disabled_at=moment(row[1]))


async def _list(connection: Connection, after: str | None, limit: int) -> AccountPage:
    # Nothing sorts before the empty text, which is no name.
    rows = await connection.fetch(
        f"{_SELECT} WHERE a.name > $1 ORDER BY a.name LIMIT $2", after or "", limit + 1
    )
    page = [_account_from(row) for row in rows[:limit]]
    return AccountPage(page, page[-1].name if page and len(rows) > len(page) else None)


def _account_from(row: Row) -> Account:
    subject, name, password_hash, created_at, password_changed_at, roles, disabled_at = row
    return Account(
        subject=Subject(subject),
        name=name,
        password_hash=password_hash,
        created_at=from_micros(created_at),
        password_changed_at=from_micros(password_changed_at),
        roles=names(roles),
        disabled_at=moment(disabled_at),
    )


async def _set_roles(
    transaction: Transaction, subject: Subject, roles: frozenset[str], revocation: Revocation
) -> Entry | None:
    connection = transaction.connection
    await lock_names(connection, LockClass.SUBJECT, [subject])
    record = await _find_subject(connection, subject)
    if record is not None and record.roles == roles:
        return None
    await _put_subject(transaction, subject, roles, None if record is None else record.disabled_at)
    if record is None and not (roles and await _has_session(connection, subject)):
        await write_events(connection, [revocation.event])
        return None
    return await _revoke(transaction, revocation, revocation.event.at)


async def _has_session(connection: Connection, subject: Subject) -> bool:
    query = "SELECT 1 FROM keyfob.sessions WHERE subject = $1 AND ended_at IS NULL LIMIT 1"
    return await connection.fetchval(query, subject) is not None


async def _put_subject(
    transaction: Transaction, subject: Subject, roles: frozenset[str], disabled_at: datetime | None
) -> None:
    await transaction.connection.execute(
        "INSERT INTO keyfob.subjects (subject, roles, disabled_at) VALUES ($1, $2, $3)"
        " ON CONFLICT (subject) DO UPDATE SET roles = excluded.roles, disabled_at = excluded.disabled_at",
        subject,
        names_text(roles),
        moment_micros(disabled_at),
    )


async def _revoke(transaction: Transaction, revocation: Revocation, now: datetime) -> Entry:
    outcome = await end(transaction, revocation, now)
    assert isinstance(outcome, Ended)
    return outcome.entry
