"""The account service: add, authenticate, change.

Whatever revokes builds exactly one `Revocation` and passes it to the verb of the store that makes the change, so that the change, the
entry and the audit event are one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from keyfob.accounts.account import Account
from keyfob.accounts.names import checked_name, checked_roles, fold_name, is_account_subject, new_subject
from keyfob.accounts.password_rules import checked_password, readable_password
from keyfob.accounts.passwords import Passwords, Seat
from keyfob.accounts.store import AccountPage, AccountStore
from keyfob.accounts.throttle import Throttle
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Conflict, Denied, InvalidRequest, NotFound
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId, Subject, is_identifier
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.revocation import Revocation

MAX_PAGE = 1_000  # accounts in one list

Record = Callable[[Event], Awaitable[None]]
"""Writes an audit event durably."""
CheckPassword = Callable[[str, str], Awaitable[str | None]]
"""Says whose name and password these are: a subject, or None for nobody's."""
Applied = Callable[[Entry], Awaitable[Entry]]
"""Waits until an entry is in force in this process, and returns it."""


class Accounts:
    """Login names, passwords and roles.

    Every method raises `StoreUnavailable` when the store does not answer. `actor` is who asks: a subject, `cli`, or `system`.
    """

    def __init__(
        self,
        store: AccountStore,
        throttle: Throttle,
        *,
        passwords: Passwords,
        clock: Clock,
        record: Record,
        applied: Applied,
    ) -> None:
        self._store = store
        self._throttle = throttle
        self._passwords = passwords
        # An attempt counts when its turn comes, not while it waits for a thread: so any number of right passwords at once, from an office
        # behind one address or for one account, are never taken for guesses.
        self._turns = asyncio.Semaphore(passwords.threads)
        self._clock = clock
        self._record = record
        self._applied = applied

    async def add(
        self, name: str, password: str, *, roles: Iterable[str] = (), actor: str = "system"
    ) -> Account:
        """Add an account with a subject of its own, never used before.

        Raises:
            InvalidRequest: the name, the password or a role breaks its rule.
            Conflict: `name_taken`; of several at once one is added.
            Unavailable: too many passwords are being hashed.
        """
        folded = checked_name(name)
        granted = checked_roles(roles)
        text = checked_password(password, name=folded)
        with self._passwords.seat() as seat:
            password_hash = await seat.hash(text)
        now = self._clock.now()
        account = Account(
            subject=new_subject(),
            name=folded,
            password_hash=password_hash,
            created_at=now,
            password_changed_at=now,
            roles=granted,
        )
        if not await self._store.add(account, self._event("account_added", account.subject, actor=actor)):
            raise Conflict("name_taken", "There is an account of this name.")
        return account

    async def authenticate(self, name: str, password: str, *, address: str) -> Account:
        """Return the account of *name* if *password* is its password and it is not disabled.

        The caller has read the feed's position before (design.md, precondition 2): whatever ends the account while this waits then ends
        the login too. Every refusal costs one argon2 verification and looks the same, whatever is wrong: name, password or account.

        Raises:
            Denied: `bad_credentials`.
            RateLimited: too many attempts failed; nothing was looked at.
            Unavailable: too many passwords are being checked; nothing was counted.
        """
        folded = fold_name(name)
        with self._passwords.seat() as seat:
            async with self._turns:
                return await self._attempt(folded or name, folded, password, seat=seat, address=address)

    async def authenticate_elsewhere(
        self, check: CheckPassword, name: str, password: str, *, address: str
    ) -> Subject:
        """Return the subject that *check* gives for *name* and *password*: for applications with a table of users of their own.

        Attempts are counted and throttled as those of `authenticate`; what one costs, and that it costs the same for an unknown name, is the
        care of *check*.

        Raises:
            Denied: `bad_credentials`: *check* gave None.
            RateLimited: too many attempts failed; *check* was not asked.
            InvalidRequest: *check* gave a subject that cannot be one.
        """
        admission = await self._throttle.admit(fold_name(name) or name, address)
        subject = await check(name, password)
        if subject is None:
            raise await self._refusal(None, address, right=False)
        if not is_identifier(subject):
            raise InvalidRequest("invalid_subject", "The application names a subject that cannot be one.")
        await self._throttle.settle(admission)
        return Subject(subject)

    async def _attempt(
        self, shown: str, folded: str | None, password: str, *, seat: Seat, address: str
    ) -> Account:
        admission = await self._throttle.admit(shown, address)
        account = None if folded is None else await self._store.find_by_name(folded)
        text = readable_password(password)
        right = await seat.verify(account.password_hash if account else None, text)
        if account is None or text is None or not right or account.disabled_at is not None:
            raise await self._refusal(account, address, right=right)
        await self._keep_hash_current(account, text, seat)
        await self._throttle.settle(admission)
        return account

    async def change_password(
        self, subject: Subject, current: str, new: str, *, address: str, spared: SessionId | None = None
    ) -> Entry:
        """Change the password of *subject*, who knows the *current* one, and end its sessions but *spared*.

        Of several changes at once from one current password, one is made. Guesses at the current password count as at a login.

        Raises:
            InvalidRequest: *new* breaks a rule.
            Denied: `bad_credentials`.
            RateLimited: too many attempts failed.
            Unavailable: too many passwords are being checked.
            NotFound: the subject has no account.
            Conflict: `password_changed`, somebody else changed it in the meantime.
        """
        account = await self.get(subject)
        new_text = checked_password(new, name=account.name)
        with self._passwords.seat() as seat:
            async with self._turns:
                admission = await self._throttle.admit(account.name, address)
                right = await seat.verify(account.password_hash, readable_password(current))
                if not right or account.disabled_at is not None:
                    raise await self._refusal(account, address, right=right)
                await self._throttle.settle(admission)
            password_hash = await seat.hash(new_text)
        entry = await self._store.set_password(
            subject,
            password_hash,
            replaces=account.password_hash,
            now=self._clock.now(),
            revocation=self._revocation("password_changed", subject, actor=subject, spared=spared),
        )
        if entry is None:
            raise Conflict("password_changed", "The password was changed in the meantime.")
        return await self._applied(entry)

    async def set_password(self, subject: Subject, new: str, *, actor: str, reason: str = "") -> Entry:
        """Set the password of *subject* whatever it was, and end all its sessions.

        Raises:
            InvalidRequest: *new* breaks a rule.
            NotFound: the subject has no account.
            Unavailable: too many passwords are being hashed.
        """
        account = await self.get(subject)
        text = checked_password(new, name=account.name)
        with self._passwords.seat() as seat:
            password_hash = await seat.hash(text)
        entry = await self._store.set_password(
            subject,
            password_hash,
            replaces=None,
            now=self._clock.now(),
            revocation=self._revocation("password_set", subject, actor=actor, reason=reason),
        )
        if entry is None:
            raise _no_account()
        return await self._applied(entry)

    async def set_roles(
        self, subject: Subject, roles: Iterable[str], *, actor: str, reason: str = ""
    ) -> Entry | None:
        """Set the roles of *subject*, with an account or without; its credentials must be refreshed from now on.

        Returns:
            The entry; None where the roles were these already, or where nobody can have seen others: the subject is new.

        Raises:
            InvalidRequest: a role breaks its rule.
        """
        granted = checked_roles(roles)
        revocation = self._revocation(
            "roles_changed", subject, actor=actor, reason=reason, reach=Reach.CLAIMS
        )
        entry = await self._store.set_roles(subject, granted, revocation=revocation)
        return entry and await self._applied(entry)

    async def disable(self, subject: Subject, *, actor: str, reason: str = "") -> Entry | None:
        """Bar *subject* from logging in, and end all its sessions; None where it was barred already."""
        revocation = self._revocation("account_disabled", subject, actor=actor, reason=reason)
        entry = await self._store.set_disabled(subject, now=self._clock.now(), revocation=revocation)
        return entry and await self._applied(entry)

    async def enable(self, subject: Subject, *, actor: str, reason: str = "") -> bool:
        """Lift the bar; False where there was none. What was ended stays ended."""
        return await self._store.set_enabled(
            subject, self._event("account_enabled", subject, actor=actor, reason=reason)
        )

    async def delete(self, subject: Subject, *, actor: str, reason: str = "") -> Entry | None:
        """Delete the account and all that is known of *subject*, and end all its sessions; None where nothing was."""
        revocation = self._revocation("account_deleted", subject, actor=actor, reason=reason)
        entry = await self._store.delete(subject, revocation=revocation)
        return entry and await self._applied(entry)

    async def find(self, name_or_subject: str) -> Account | None:
        """Return the account of a login name or a subject."""
        if is_account_subject(name_or_subject):
            return await self._store.find(Subject(name_or_subject))
        folded = fold_name(name_or_subject)
        return None if folded is None else await self._store.find_by_name(folded)

    async def get(self, subject: Subject) -> Account:
        """Return the account of *subject*.

        Raises:
            NotFound: `no_account`.
        """
        account = await self._store.find(subject)
        if account is None:
            raise _no_account()
        return account

    async def resolve(self, name_or_subject: str) -> Subject:
        """Return the subject of an account's name, or of anybody of whom something is known; the name of an account comes first.

        Raises:
            NotFound: `no_account`.
        """
        account = await self.find(name_or_subject)
        if account is not None:
            return account.subject
        if is_identifier(name_or_subject):
            record = await self._store.find_subject(Subject(name_or_subject))
            if record is not None:
                return record.subject
        raise _no_account()

    async def list(self, *, after: str | None = None, limit: int = 100) -> AccountPage:
        """Return up to *limit* accounts by name, continuing *after* an earlier page's `next`.

        Raises:
            InvalidRequest: *after* is no earlier page's `next`, or *limit* not 1 to 1000.
        """
        if after is not None and fold_name(after) != after:
            raise InvalidRequest("bad_cursor", "The cursor is not one that an earlier page gave.")
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest("invalid_request", f"limit is 1 to {MAX_PAGE}", status=422)
        return await self._store.list(after=after, limit=limit)

    async def _keep_hash_current(self, account: Account, text: str, seat: Seat) -> None:
        """Hash the password anew if today's parameters are others; a change in the meantime wins."""
        if seat.is_outdated(account.password_hash):
            fresh = await seat.hash(text)
            await self._store.rehash_password(account.subject, fresh, replaces=account.password_hash)

    async def _refusal(self, account: Account | None, address: str, *, right: bool) -> Denied:
        if account is None:
            why = "unknown_name"
        elif right:
            why = "disabled"
        else:
            why = "wrong_password"
        await self._record(
            Event(
                at=self._clock.now(),
                code="login_failed",
                subject=account.subject if account else None,
                address=address or None,
                facts={"why": why},
            )
        )
        return Denied(Cause.BAD_CREDENTIALS, why)

    def _event(self, code: str, subject: Subject, *, actor: str, reason: str = "") -> Event:
        return Event(at=self._clock.now(), code=code, actor=actor, subject=subject, reason=reason or None)

    def _revocation(
        self,
        code: str,
        subject: Subject,
        *,
        actor: str,
        reason: str = "",
        reach: Reach = Reach.END,
        spared: SessionId | None = None,
    ) -> Revocation:
        return Revocation(
            scope=Scope.SUBJECT,
            id=subject,
            reach=reach,
            spared=spared,
            event=self._event(code, subject, actor=actor, reason=reason),
        )


def _no_account() -> NotFound:
    return NotFound("no_account", "There is no such account.")
