"""The ports of a store in two places, which `apart` keeps together."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from keyfob.accounts.account import Account, SubjectRecord
from keyfob.accounts.store import AccountPage, AccountStore
from keyfob.audit.store import AuditStore, EventPage
from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError, InvalidRequest
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position, Subject
from keyfob.clients.change import Changed, ClientChange
from keyfob.clients.client import Client
from keyfob.clients.store import ClientStore, UsedAssertion
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import FeedStore
from keyfob.sessions.store import Ended, SessionStore
from keyfob.stores.apart import Owed
from keyfob.stores.sessions_apart import SessionsApart
from keyfob.stores.store import Store


async def join(sessions: Store, accounts: Store, *, clock: Clock) -> Store:
    """Return one store of two: sessions, feed, throttle, reports, one-time records and outbox of *sessions*; the rest of *accounts*.

    Raises:
        ConfigurationError: *sessions* cannot be kept apart from its accounts.
        StoreUnavailable: one of them does not answer.
    """
    if sessions.mirror is None:
        raise ConfigurationError("accounts_store goes with a store in Redis: sessions there, accounts here")
    owed = Owed(accounts.feed, sessions.feed, sessions.mirror, clock=clock)
    await owed.start()

    async def prepare() -> None:
        for store in (accounts, sessions):
            if store.prepare is not None:
                await store.prepare()

    async def close() -> None:
        await owed.close()
        await sessions.close()
        await accounts.close()

    return Store(
        sessions=SessionsApart(sessions.sessions),
        feed=_Feed(sessions.feed, accounts.feed, owed),
        keys=accounts.keys,
        accounts=_Accounts(accounts.accounts, sessions.sessions, owed),
        throttle=sessions.throttle,
        clients=_Clients(accounts.clients, owed),
        audit=_Audit(accounts.audit, sessions.audit),
        reports=sessions.reports,
        grants=sessions.grants,
        consents=accounts.consents,
        outbox=sessions.outbox,
        salt=sessions.salt,
        close=close,
        prepare=prepare,
    )


class _Feed:
    """The feed of the sessions; what the feed of the accounts owes is not dropped before it is carried out."""

    def __init__(self, feed: FeedStore, accounts: FeedStore, owed: Owed) -> None:
        self._feed = feed
        self._accounts = accounts
        self._owed = owed

    async def head(self) -> Head:
        return await self._feed.head()

    async def read_after(self, position: Position, limit: int) -> Sequence[Entry]:
        return await self._feed.read_after(position, limit)

    async def live(self, now: datetime) -> tuple[Head, Sequence[Entry]]:
        return await self._feed.live(now)

    async def extend_retention(self, *, credential: timedelta, session: timedelta) -> None:
        await self._feed.extend_retention(credential=credential, session=session)

    async def reappend(
        self, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
    ) -> Head | None:
        return await self._feed.reappend(entries, instead_of=instead_of, event=event, now=now)

    async def begin_timeline(
        self, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
    ) -> Head | None:
        return await self._feed.begin_timeline(revocations, instead_of=instead_of, past=past, now=now)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        return self._feed.subscribe(wake)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        await self._owed.settle()
        gone = await self._feed.delete_expired(now, limit)
        return gone + await self._accounts.delete_expired(now, limit - gone)


class _Accounts:
    """The accounts; what a change revokes is carried out where the sessions are, before the caller is told."""

    def __init__(self, accounts: AccountStore, sessions: SessionStore, owed: Owed) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._owed = owed

    async def add(self, account: Account, event: Event) -> bool:
        return await self._accounts.add(account, event)

    async def find(self, subject: Subject) -> Account | None:
        return await self._accounts.find(subject)

    async def find_by_name(self, name: str) -> Account | None:
        return await self._accounts.find_by_name(name)

    async def find_subject(self, subject: Subject) -> SubjectRecord | None:
        return await self._accounts.find_subject(subject)

    async def list(self, *, after: str | None, limit: int) -> AccountPage:
        return await self._accounts.list(after=after, limit=limit)

    async def set_password(
        self,
        subject: Subject,
        password_hash: str,
        *,
        replaces: str | None,
        now: datetime,
        revocation: Revocation,
    ) -> Entry | None:
        entry = await self._accounts.set_password(
            subject, password_hash, replaces=replaces, now=now, revocation=revocation
        )
        return await self._paid(entry)

    async def rehash_password(self, subject: Subject, password_hash: str, *, replaces: str) -> bool:
        return await self._accounts.rehash_password(subject, password_hash, replaces=replaces)

    async def set_roles(
        self, subject: Subject, roles: frozenset[str], *, revocation: Revocation
    ) -> Entry | None:
        """Set the roles. Whether a new record is news to somebody who is signed in, only the store of sessions can tell."""
        before = await self._accounts.find_subject(subject)
        entry = await self._accounts.set_roles(subject, roles, revocation=revocation)
        if entry is not None or before is not None or not roles:
            return await self._paid(entry)
        now = revocation.event.at
        if not (await self._sessions.list(subject, now=now, after=None, limit=1)).sessions:
            return None
        ended = await self._sessions.end(revocation, now=now)
        return ended.entry if isinstance(ended, Ended) else None

    async def set_disabled(self, subject: Subject, *, now: datetime, revocation: Revocation) -> Entry | None:
        return await self._paid(await self._accounts.set_disabled(subject, now=now, revocation=revocation))

    async def set_enabled(self, subject: Subject, event: Event) -> bool:
        return await self._accounts.set_enabled(subject, event)

    async def delete(self, subject: Subject, *, revocation: Revocation) -> Entry | None:
        return await self._paid(await self._accounts.delete(subject, revocation=revocation))

    async def _paid(self, entry: Entry | None) -> Entry | None:
        return None if entry is None else await self._owed.pay(entry)


class _Clients:
    """The clients, likewise."""

    def __init__(self, clients: ClientStore, owed: Owed) -> None:
        self._clients = clients
        self._owed = owed

    async def add(self, client: Client, event: Event) -> bool:
        return await self._clients.add(client, event)

    async def find(self, client_id: ClientId) -> Client | None:
        return await self._clients.find(client_id)

    async def list(self) -> Sequence[Client]:
        return await self._clients.list()

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        entry = await self._clients.delete(client_id, revocation=revocation)
        return None if entry is None else await self._owed.pay(entry)

    async def change(
        self, client_id: ClientId, change: ClientChange, *, order: Event | Revocation
    ) -> Changed | None:
        after = await self._clients.change(client_id, change, order=order)
        if after is None or after.entry is None:
            return after
        return replace(after, entry=await self._owed.pay(after.entry))

    async def take_assertion(self, assertion: UsedAssertion) -> bool:
        return await self._clients.take_assertion(assertion)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        return await self._clients.delete_expired(now, limit)


class _Audit:
    """Two trails as one, by their moments: of accounts and of sessions. A cursor holds those of both."""

    def __init__(self, accounts: AuditStore, sessions: AuditStore) -> None:
        self._accounts = accounts
        self._trails = (accounts, sessions)

    async def add(self, event: Event) -> None:
        await self._accounts.add(event)

    async def list(
        self, *, subject: Subject | None = None, code: str | None = None, after: str | None = None, limit: int
    ) -> EventPage:
        """Return events of both, newest first."""
        places = ["", ""] if after is None else _read_cursor(after)
        pages = [
            EventPage([], None)
            if place == _END
            else await trail.list(subject=subject, code=code, after=place or None, limit=limit)
            for trail, place in zip(self._trails, places, strict=True)
        ]
        tagged = [[(event.at, which, event) for event in page.events] for which, page in enumerate(pages)]
        merged = list(heapq.merge(*tagged, key=lambda item: item[:2], reverse=True))[:limit]
        following = []
        for which, trail in enumerate(self._trails):
            taken = sum(one == which for _, one, _ in merged)
            if taken == 0:
                is_over = places[which] == _END or not pages[which].events
                following.append(_END if is_over else places[which])
            else:
                rest = await trail.list(subject=subject, code=code, after=places[which] or None, limit=taken)
                following.append(rest.next or _END)
        is_last = not merged or following == [_END, _END]
        return EventPage([event for *_, event in merged], None if is_last else _BETWEEN.join(following))

    async def delete_expired(self, before: datetime, limit: int) -> int:
        gone = await self._trails[0].delete_expired(before, limit)
        return gone + await self._trails[1].delete_expired(before, limit - gone)


_END = "x"
_BETWEEN = "~"


def _read_cursor(text: str) -> list[str]:
    places = text.split(_BETWEEN)
    if len(places) != len(("accounts", "sessions")):
        raise InvalidRequest("bad_cursor", "The cursor is not one that an earlier page gave.")
    return places
