"""Accounts and the records of subjects in SQLite."""

from __future__ import annotations

import sqlite3
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
from keyfob.stores.revoking import check_subject_revocation
from keyfob.stores.rows import moment, moment_micros, names, names_text
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.events import write_event
from keyfob.stores.sqlite.revoking import end
from keyfob.stores.sqlite.writer import Transaction
from keyfob.stores.texts import require_texts

_SELECT = (
    "SELECT a.subject, a.name, a.password_hash, a.created_at, a.password_changed_at, s.roles, s.disabled_at"
    " FROM accounts AS a JOIN subjects AS s ON s.subject = a.subject"
)
_AccountRow = tuple[str, str, str, int, int, str, int | None]


class SqliteAccountStore:
    """An `AccountStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, account: Account, event: Event) -> bool:
        """Add an account; False if the name, or an account or a record of the subject, stands already."""
        require_texts(account.name, account.subject)
        return await self._database.write(partial(_add, account=account, event=event))

    async def find(self, subject: Subject) -> Account | None:
        """Return the account of *subject*."""
        return self._database.read(_find, "a.subject = ?", subject)

    async def find_by_name(self, name: str) -> Account | None:
        """Return the account of *name*."""
        return self._database.read(_find, "a.name = ?", name)

    async def find_subject(self, subject: Subject) -> SubjectRecord | None:
        """Return the record of *subject*."""
        return self._database.read(_find_subject, subject)

    async def list(self, *, after: str | None, limit: int) -> AccountPage:
        """Return accounts by name. The cursor is the last name."""
        return self._database.read(_list, after, limit)

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

        def operation(transaction: Transaction) -> Entry | None:
            changed = transaction.connection.execute(
                "UPDATE accounts SET password_hash = ?, password_changed_at = ?"
                " WHERE subject = ? AND password_hash = coalesce(?, password_hash)",
                (password_hash, to_micros(now), subject, replaces),
            )
            return _revoke(transaction, revocation, now) if changed.rowcount else None

        return await self._database.write(operation)

    async def rehash_password(self, subject: Subject, password_hash: str, *, replaces: str) -> bool:
        """Replace the hash if it is still *replaces*."""

        def operation(transaction: Transaction) -> bool:
            changed = transaction.connection.execute(
                "UPDATE accounts SET password_hash = ? WHERE subject = ? AND password_hash = ?",
                (password_hash, subject, replaces),
            )
            return changed.rowcount == 1

        return await self._database.write(operation)

    async def set_roles(
        self, subject: Subject, roles: frozenset[str], *, revocation: Revocation
    ) -> Entry | None:
        """Set the roles, as the port says. A new record that revokes nothing is written to the audit trail all the same."""
        check_subject_revocation(revocation, subject)
        return await self._database.write(
            partial(_set_roles, subject=subject, roles=roles, revocation=revocation)
        )

    async def set_disabled(self, subject: Subject, *, now: datetime, revocation: Revocation) -> Entry | None:
        """Bar *subject*, as the port says."""
        check_subject_revocation(revocation, subject)

        def operation(transaction: Transaction) -> Entry | None:
            record = _find_subject(transaction.connection, subject) or SubjectRecord(subject=subject)
            if record.disabled_at is not None:
                return None
            _put_subject(transaction, subject, record.roles, now)
            return _revoke(transaction, revocation, now)

        return await self._database.write(operation)

    async def set_enabled(self, subject: Subject, event: Event) -> bool:
        """Lift the bar; False if there was none."""

        def operation(transaction: Transaction) -> bool:
            changed = transaction.connection.execute(
                "UPDATE subjects SET disabled_at = NULL WHERE subject = ? AND disabled_at IS NOT NULL",
                (subject,),
            )
            if changed.rowcount:
                write_event(transaction.connection, event)
            return changed.rowcount == 1

        return await self._database.write(operation)

    async def delete(self, subject: Subject, *, revocation: Revocation) -> Entry | None:
        """Delete the account and the record."""
        check_subject_revocation(revocation, subject)

        def operation(transaction: Transaction) -> Entry | None:
            connection = transaction.connection
            gone = connection.execute("DELETE FROM accounts WHERE subject = ?", (subject,)).rowcount
            gone += connection.execute("DELETE FROM subjects WHERE subject = ?", (subject,)).rowcount
            if not gone:
                return None
            connection.execute("DELETE FROM consents WHERE subject = ?", (subject,))
            return _revoke(transaction, revocation, revocation.event.at)

        return await self._database.write(operation)


def _add(transaction: Transaction, account: Account, event: Event) -> bool:
    connection = transaction.connection
    taken = connection.execute(
        "SELECT 1 FROM accounts WHERE name = ? UNION ALL SELECT 1 FROM subjects WHERE subject = ? LIMIT 1",
        (account.name, account.subject),
    ).fetchone()
    if taken is not None:
        return False
    connection.execute(
        "INSERT INTO accounts (subject, name, password_hash, created_at, password_changed_at) VALUES (?, ?, ?, ?, ?)",
        (
            account.subject,
            account.name,
            account.password_hash,
            to_micros(account.created_at),
            to_micros(account.password_changed_at),
        ),
    )
    _put_subject(transaction, account.subject, account.roles, account.disabled_at)
    write_event(connection, event)
    return True


def _find(connection: sqlite3.Connection, condition: str, value: str) -> Account | None:
    row = connection.execute(f"{_SELECT} WHERE {condition}", (value,)).fetchone()
    return None if row is None else _account_from(row)


def _find_subject(connection: sqlite3.Connection, subject: Subject) -> SubjectRecord | None:
    row = connection.execute(
        "SELECT roles, disabled_at FROM subjects WHERE subject = ?", (subject,)
    ).fetchone()
    return (
        None
        if row is None
        else SubjectRecord(subject=subject, roles=names(row[0]), disabled_at=moment(row[1]))
    )


def _list(connection: sqlite3.Connection, after: str | None, limit: int) -> AccountPage:
    # Nothing sorts before the empty text, which is no name.
    rows = connection.execute(
        f"{_SELECT} WHERE a.name > ? ORDER BY a.name LIMIT ?", (after or "", limit + 1)
    ).fetchall()
    page = [_account_from(row) for row in rows[:limit]]
    return AccountPage(page, page[-1].name if page and len(rows) > len(page) else None)


def _account_from(row: _AccountRow) -> Account:
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


def _set_roles(
    transaction: Transaction, subject: Subject, roles: frozenset[str], revocation: Revocation
) -> Entry | None:
    record = _find_subject(transaction.connection, subject)
    if record is not None and record.roles == roles:
        return None
    _put_subject(transaction, subject, roles, None if record is None else record.disabled_at)
    if record is None and not (roles and _has_session(transaction.connection, subject)):
        write_event(transaction.connection, revocation.event)
        return None
    return _revoke(transaction, revocation, revocation.event.at)


def _has_session(connection: sqlite3.Connection, subject: Subject) -> bool:
    query = "SELECT 1 FROM sessions WHERE subject = ? AND ended_at IS NULL LIMIT 1"
    return connection.execute(query, (subject,)).fetchone() is not None


def _put_subject(
    transaction: Transaction, subject: Subject, roles: frozenset[str], disabled_at: datetime | None
) -> None:
    transaction.connection.execute(
        "INSERT OR REPLACE INTO subjects (subject, roles, disabled_at) VALUES (?, ?, ?)",
        (subject, names_text(roles), moment_micros(disabled_at)),
    )


def _revoke(transaction: Transaction, revocation: Revocation, now: datetime) -> Entry:
    outcome = end(transaction, revocation, now)
    assert isinstance(outcome, Ended)
    return outcome.entry
