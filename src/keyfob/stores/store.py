"""A store as a whole: every port of one database, or of several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from keyfob.accounts.store import AccountStore, ThrottleStore
from keyfob.audit.store import AuditStore
from keyfob.clients.store import ClientStore
from keyfob.grants.store import ConsentStore, GrantStore, OutboxStore
from keyfob.keys.store import KeyStore
from keyfob.revocation.reports import ReportStore
from keyfob.revocation.store import FeedStore
from keyfob.sessions.store import SessionStore
from keyfob.stores.mirroring import Mirror
from keyfob.stores.transfer import Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """What an authority is opened on. `salt` (32 bytes, made with the store) goes into session ids.

    `prepare` makes what must be there before the first session is; it is awaited at each start, after the longest lifetimes are known.
    `reads_at_once` says that `sessions.find` waits for nothing: its coroutine is over as soon as it is begun.
    `transfer` carries its rows to another store, or to a back-up; None where a store cannot be moved. `close` closes it too. `mirror`
    carries out what another store has revoked; None where accounts cannot lie apart from the sessions.
    """

    sessions: SessionStore
    feed: FeedStore
    keys: KeyStore
    accounts: AccountStore
    throttle: ThrottleStore
    clients: ClientStore
    audit: AuditStore
    reports: ReportStore
    grants: GrantStore
    consents: ConsentStore
    outbox: OutboxStore
    salt: bytes = field(repr=False)
    close: Callable[[], Awaitable[None]]
    prepare: Callable[[], Awaitable[None]] | None = None
    reads_at_once: bool = False
    transfer: Transfer | None = None
    mirror: Mirror | None = None
