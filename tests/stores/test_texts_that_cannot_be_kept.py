"""NUL and half characters: refused by every store alike as a mistake of the request, never as a fault of the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from keyfob.accounts.account import Account
from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import ClientId, Subject
from keyfob.clients.client import Client
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added
from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import a_session, an_event, entries, put, revocation

BAD = ("n\0ul", "half \ud800", "\0")


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture(params=["memory_url", "sqlite_url", "postgres_url"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def memory_url() -> str:
    return "memory://"


@pytest.fixture
async def store(url: str, clock: FrozenClock) -> AsyncIterator[Store]:
    store = await open_store(url, clock=clock)
    yield store
    await store.close()


def an_account(clock: FrozenClock, *, name: str = "name", subject: str = "usr_x") -> Account:
    now = clock.now()
    return Account(
        subject=Subject(subject), name=name, password_hash="hash", created_at=now, password_changed_at=now
    )


@pytest.mark.parametrize("bad", BAD)
async def test_what_writes_such_a_text_is_refused_and_changes_nothing(
    store: Store, clock: FrozenClock, bad: str
) -> None:
    now = clock.now()
    event = an_event(now)
    await store.feed.extend_retention(credential=timedelta(hours=1), session=timedelta(days=30))
    session = a_session(store, clock)
    by_subject = revocation(Scope.SUBJECT, bad, now)
    attempts: list[Any] = [
        put(store, replace(session, subject=Subject(bad))),
        put(store, replace(session, client_id=ClientId(bad))),
        store.accounts.add(an_account(clock, name=bad), event),
        store.accounts.add(an_account(clock, subject=bad), event),
        store.accounts.set_roles(Subject(bad), frozenset({"a"}), revocation=by_subject),
        store.accounts.set_disabled(Subject(bad), now=now, revocation=by_subject),
        store.accounts.delete(Subject(bad), revocation=by_subject),
        store.accounts.set_password(Subject(bad), "h", replaces=None, now=now, revocation=by_subject),
        store.clients.add(Client(client_id=ClientId(bad), created_at=now), event),
        store.clients.delete(ClientId(bad), revocation=revocation(Scope.CLIENT, bad, now)),
        *(
            store.sessions.end(revocation(scope, bad, now), now=now)
            for scope in (Scope.TOKEN, Scope.SESSION, Scope.SUBJECT, Scope.CLIENT, Scope.KEY)
        ),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidRequest) as raised:
            await attempt
        assert (raised.value.code, raised.value.status) == ("invalid_text", 422)
    assert await entries(store) == []
    assert (await store.audit.list(limit=10)).events == []
    assert await store.clients.list() == []
    assert (await store.accounts.list(after=None, limit=10)).accounts == []


async def test_what_is_looked_for_under_nul_is_not_found(store: Store, clock: FrozenClock) -> None:
    bad = BAD[0]
    assert await store.accounts.find_by_name(bad) is None
    assert await store.accounts.find(Subject(bad)) is None
    assert await store.accounts.find_subject(Subject(bad)) is None
    assert await store.accounts.set_enabled(Subject(bad), an_event(clock.now())) is False
    assert await store.clients.find(ClientId(bad)) is None
    page = await store.sessions.list(Subject(bad), now=clock.now(), after=None, limit=5)
    assert page.sessions == []
    assert (await store.audit.list(subject=Subject(bad), limit=5)).events == []


async def test_whoever_comes_with_such_a_text_spoils_nobody_else_s_request(
    store: Store, clock: FrozenClock
) -> None:
    await store.feed.extend_retention(credential=timedelta(hours=1), session=timedelta(days=30))
    good = [a_session(store, clock, Subject(f"person-{number}")) for number in range(5)]
    bad = replace(a_session(store, clock), subject=Subject(BAD[0]))
    *outcomes, refused = await asyncio.gather(
        *(put(store, one) for one in (*good, bad)), return_exceptions=True
    )
    assert outcomes == [Added()] * 5
    assert isinstance(refused, InvalidRequest)
