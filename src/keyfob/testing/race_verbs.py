"""The verbs of the races: functions of a module, so that they can be sent to processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from keyfob.accounts.account import Account
from keyfob.base.identifiers import ClientId, KeyId, SessionId
from keyfob.clients.change import Changed, ClientChange
from keyfob.clients.store import UsedAssertion
from keyfob.keys.store import StoredKey
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.reports import Report
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    Added,
    CutOff,
    EndOutcome,
    LimitReached,
    Renewal,
    Renewed,
    RotateOutcome,
    Seen,
    Unknown,
)
from keyfob.testing.report_store_contract import ORDERS, PERIOD
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    Store,
    an_event,
    position,
    put,
    revocation,
)

LIMIT = 3
AddOutcome = Added | LimitReached | CutOff


async def present(store: Store, order: tuple[SessionId, int, datetime]) -> RotateOutcome:
    """Present the token of a generation."""
    return await rotate(store, *order)


async def renew(store: Store, order: tuple[SessionId, Renewal, datetime]) -> Renewed | Unknown:
    """Renew a session."""
    session_id, wanted, now = order
    return await store.sessions.renew(session_id, wanted, now=now, event=an_event(now, "renewed"))


async def present_or_renew(
    store: Store, order: tuple[SessionId, int | Renewal, datetime]
) -> RotateOutcome | Renewed:
    """Present a token, or renew the session."""
    session_id, wanted, now = order
    if isinstance(wanted, Renewal):
        return await renew(store, (session_id, wanted, now))
    return await present(store, (session_id, wanted, now))


async def end(store: Store, order: tuple[Revocation, datetime]) -> EndOutcome:
    """End what a revocation names."""
    return await store.sessions.end(order[0], now=order[1])


async def touch_or_end(store: Store, order: tuple[Seen | Revocation, datetime]) -> int | EndOutcome:
    """Touch a session, or end it."""
    what, now = order
    return await store.sessions.touch([what]) if isinstance(what, Seen) else await end(store, (what, now))


async def log_in(store: Store, session: Session) -> tuple[Session, AddOutcome]:
    """Log in as an authority does: the position first, the session after."""
    logged_in = replace(session, as_of=await position(store))
    return logged_in, await put(store, logged_in)


async def log_in_or_end(
    store: Store, order: Session | tuple[Revocation, datetime]
) -> tuple[Session, AddOutcome] | EndOutcome:
    """Log in, or end what a revocation names."""
    return await log_in(store, order) if isinstance(order, Session) else await end(store, order)


async def log_in_within_the_limit(store: Store, order: tuple[Session, AtLimit]) -> AddOutcome:
    """Log in where `LIMIT` sessions are allowed."""
    session, at_limit = order
    return await put(store, replace(session, as_of=await position(store)), limit=LIMIT, at_limit=at_limit)


async def add_key(store: Store, order: tuple[StoredKey, KeyId | None]) -> bool:
    """Add a key behind another."""
    return await store.keys.add(order[0], after=order[1])


async def attempt(store: Store, order: tuple[Sequence[str], datetime]) -> float:
    """Attempt a password."""
    return await store.throttle.attempt(order[0], now=order[1])


async def add_account(store: Store, account: Account) -> bool:
    """Add an account."""
    return await store.accounts.add(account, an_event(account.created_at, "user_added"))


async def set_password(store: Store, order: tuple[str, str, datetime]) -> Entry | None:
    """Change Alice's password."""
    password_hash, replaces, now = order
    return await store.accounts.set_password(
        ALICE, password_hash, replaces=replaces, now=now, revocation=revocation(Scope.SUBJECT, ALICE, now)
    )


async def write_data(store: Store, order: tuple[SessionId, bytes, datetime]) -> bool:
    """Write the first data of a session."""
    return await store.sessions.write_data(order[0], order[1], version=0, now=order[2])


async def revoke_canary(store: Store, now: datetime) -> Entry | None:
    """Revoke the next canary, if it is due."""
    return await store.reports.revoke_canary(now=now, period=PERIOD)


async def report_denials(store: Store, order: tuple[Report, datetime]) -> bool:
    """Report as one and the same verifier."""
    return await store.reports.report(ORDERS, order[0], now=order[1])


async def take_assertion(store: Store, assertion: UsedAssertion) -> bool:
    """Take an assertion."""
    return await store.clients.take_assertion(assertion)


async def change_client(store: Store, order: tuple[ClientId, ClientChange, datetime]) -> Changed | None:
    """Change a client."""
    return await store.clients.change(order[0], order[1], order=an_event(order[2]))
