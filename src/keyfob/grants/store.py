"""What grants need of a store. On `keyfob.stores.store.Store` these ports are `grants`, `consents` and `outbox`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Subject
from keyfob.grants.consent import Consent
from keyfob.grants.delivery import Cursor, Delivery, Waiting
from keyfob.grants.one_time import OneTime, OneTimeKind


@dataclass(frozen=True, slots=True)
class Taken:
    """This call took the record, and no other ever will; `record` is as it stands now."""

    record: OneTime


@dataclass(frozen=True, slots=True)
class TakenBefore:
    """Somebody took the record before; `record` has `reused_at`, the moment of the first such use, set in this step or an earlier one."""

    record: OneTime


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no such record, or it ran out before anybody took it."""


@dataclass(frozen=True, slots=True)
class Amended:
    """The record with its new body. `reused_at` tells whether a second use came before."""

    record: OneTime


@dataclass(frozen=True, slots=True)
class Outdated:
    """The record is no longer of that version: somebody else amended or took it. Find it again, and decide again."""


TakeOutcome = Taken | TakenBefore | Missing
AmendOutcome = Amended | Outdated | Missing


class GrantStore(Protocol):
    """Keeps one-time records. Each method is one atomic step and says who won. Raises `StoreUnavailable`."""

    async def add(self, record: OneTime) -> bool:
        """Add *record*; False if one of its kind has its digest, or is open at its `created_at` and has its alias.

        Raises:
            ValueError: a digest of another length, too long a body, a record that is not open.
        """
        ...

    async def find(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> OneTime | None:
        """Return the record that is open at *now*, or was taken and is kept still; reading changes nothing."""
        ...

    async def find_by_alias(self, kind: OneTimeKind, alias: bytes, *, now: datetime) -> OneTime | None:
        """Return the record that is open at *now* and has *alias*."""
        ...

    async def take(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> TakeOutcome:
        """Take the record.

        Of any number of calls at once, in any process, exactly one gets `Taken`, durably; each later one gets `TakenBefore`, and the first
        of these sets `reused_at` in that same step. At exactly `expires_at` an open record is `Missing`.
        """
        ...

    async def amend(
        self, kind: OneTimeKind, digest: bytes, *, version: int, body: bytes, now: datetime
    ) -> AmendOutcome:
        """Replace the body if the record, which is open or was taken, is still of *version*; that raises its version by one.

        Taking a record raises its version as well, a second use of it does not.

        Raises:
            ValueError: too long a body.
        """
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* records: open ones at their end, taken ones a day later; return how many."""
        ...


class ConsentStore(Protocol):
    """Keeps consents. Each method is one atomic step. Raises `StoreUnavailable`.

    A consent ends with the account, in the same step, and with the client: what was given to a client that has been deleted is not found
    any more, not even when another client has its id.
    """

    async def give(
        self, subject: Subject, client_id: ClientId, scopes: frozenset[str], *, event: Event
    ) -> Consent | None:
        """Add *scopes* to what *subject* allows, at `event.at`, and write *event*; None, and nothing is written, if there is no such client.

        Of calls at once none is lost. Scopes that were allowed already change nothing but the moment, and the event is written all the same.
        """
        ...

    async def find(self, subject: Subject, client_id: ClientId) -> Consent | None:
        """Return what *subject* allows *client_id*."""
        ...

    async def withdraw(self, subject: Subject, client_id: ClientId, *, event: Event) -> Consent | None:
        """Take the consent back and write *event*; return what was allowed, None (and no event) if nothing was."""
        ...

    async def list(self, subject: Subject) -> Sequence[Consent]:
        """Return all consents of *subject*, by client id."""
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* consents that were given to clients that are no more; return how many."""
        ...


class OutboxStore(Protocol):
    """Keeps what is to be delivered, and how far each consumer has read the feed. Each method is one atomic step.

    Entries past a cursor stay in the feed until they are read, for a day past their retention at most (`grants.rules.READ_WITHIN`).
    Raises `StoreUnavailable`.
    """

    async def enqueue(
        self,
        consumer: str,
        deliveries: Sequence[Delivery],
        *,
        cursor_from: Cursor | None,
        cursor_to: Cursor,
    ) -> bool:
        """Queue *deliveries* and move the cursor of *consumer* on, if it is still *cursor_from* (None: it has none yet); say whether.

        So of any number of servers that turn the same entries into deliveries exactly one queues them. A delivery whose id is queued already
        is passed over.

        Raises:
            ValueError: too long a body, or a delivery that expires before it is due.
        """
        ...

    async def cursor(self, consumer: str) -> Cursor | None:
        """Return how far *consumer* has come; None before its first step."""
        ...

    async def lease(self, now: datetime, *, until: datetime, limit: int) -> Sequence[Delivery]:
        """Return up to *limit* deliveries that are due at *now* and not over, the longest due first, and make them due again at *until*.

        So nobody else gets them before; whoever dies with one leaves it to the others then. Each has its `attempts` raised by one.
        """
        ...

    async def delivered(self, delivery_id: str) -> bool:
        """Remove the delivery; False if it is gone."""
        ...

    async def failed(self, delivery_id: str, *, attempts: int, due_at: datetime) -> bool:
        """Make the delivery due at *due_at*; False if it is gone, or was leased again since it had that number of *attempts*."""
        ...

    async def waiting(self) -> Waiting:
        """Say how much there is that nobody has taken, whenever it is due; what is over counts until it is deleted."""
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* deliveries that are over at *now*; return how many."""
        ...
