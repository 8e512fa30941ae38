"""No statement of the store reads a whole table that grows, so that ten million sessions are as fast as ten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from keyfob.base.identifiers import Position, Subject
from keyfob.grants.one_time import OneTimeKind
from keyfob.revocation.entry import Scope
from keyfob.revocation.reports import Denial
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.store import Seen
from keyfob.stores.opening import open_store
from keyfob.testing.account_store_contract import an_account, order
from keyfob.testing.client_store_contract import a_client
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.grant_store_contract import a_device, numbered
from keyfob.testing.key_store_contract import a_key
from keyfob.testing.outbox_store_contract import a_delivery, lease, queue
from keyfob.testing.renewal_contract import renewal
from keyfob.testing.report_store_contract import ORDERS, a_canary, a_report
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    LIFETIME,
    SHOP,
    WINDOW,
    a_session,
    an_event,
    put,
    put_child,
    put_new,
    revocation,
)

GROWING = {
    "sessions",
    "session_data",
    "entries",
    "events",
    "attempts",
    "accounts",
    "subjects",
    "s",
    "a",
    "cut_offs",
    "verifiers",
    "one_times",
    "consents",
    "deliveries",
}


async def test_every_statement_goes_by_an_index(tmp_path: Path) -> None:
    path, clock = tmp_path / "keyfob.db", FrozenClock()
    store = await open_store(f"sqlite:///{path}", clock=clock)
    database = store.sessions._database  # type: ignore[attr-defined]
    statements: set[str] = set()
    await database.write(lambda step: step.connection.set_trace_callback(statements.add))
    database.read(lambda connection: connection.set_trace_callback(statements.add))

    session = await put_new(store, clock)
    await put_child(store, clock, session)
    await put(store, a_session(store, clock), limit=1, at_limit=AtLimit.END_OLDEST)
    session = await put_new(store, clock)
    await rotate(store, session.session_id, 0, clock.now())
    await rotate(store, session.session_id, 0, clock.advance(WINDOW))
    session = await put_new(store, clock)
    await store.sessions.renew(
        session.session_id, renewal(session, at=clock.now()), now=clock.now(), event=an_event(clock.now())
    )
    await store.sessions.touch([Seen(session.session_id, clock.advance(1))])
    await store.sessions.write_data(session.session_id, b"x", version=0, now=clock.now())
    await store.sessions.read_data(session.session_id)
    for subject in (None, ALICE):
        page = await store.sessions.list(subject, now=clock.now(), after=None, limit=1)
        await store.sessions.list(subject, now=clock.now(), after=page.next, limit=1)
    spared = revocation(Scope.SUBJECT, ALICE, clock.now(), spared=session.session_id)
    await store.sessions.end(spared, now=clock.now())
    await store.feed.read_after(Position(0), 10)
    await store.feed.extend_retention(credential=timedelta(1), session=timedelta(1))
    await store.accounts.add(an_account(clock), an_event(clock.now()))
    await store.accounts.find_by_name("alice@example")
    await store.accounts.list(after="a", limit=1)
    await store.accounts.set_password(ALICE, "x", replaces=None, now=clock.now(), revocation=order(clock))
    await store.accounts.rehash_password(ALICE, "y", replaces="x")
    await store.accounts.set_roles(ALICE, frozenset(), revocation=order(clock))
    await store.accounts.set_disabled(ALICE, now=clock.now(), revocation=order(clock))
    await store.accounts.set_enabled(ALICE, an_event(clock.now()))
    await store.accounts.delete(ALICE, revocation=order(clock))
    await store.clients.add(a_client(clock), an_event(clock.now()))
    await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
    await store.keys.add(a_key(clock, "a"), after=None)
    await store.throttle.attempt(["a"], now=clock.now())
    await store.throttle.forget(["a"])
    await store.throttle.remember("a", now=clock.now())
    await store.throttle.is_remembered("a", now=clock.now())
    for filters in (
        {},
        {"subject": Subject("alice")},
        {"code": "login"},
        {"subject": ALICE, "code": "login"},
    ):
        await store.audit.list(after="9", limit=1, **filters)
    canary = await a_canary(store, clock)
    denial = Denial(canary.position, canary.at)
    await store.reports.report(ORDERS, a_report(clock, denial), now=clock.now())
    await store.reports.leave(ORDERS)
    await store.grants.add(a_device(clock))
    await store.grants.find_by_alias(OneTimeKind.DEVICE, numbered(100), now=clock.now())
    await store.grants.amend(OneTimeKind.DEVICE, numbered(1), version=1, body=b"{}", now=clock.now())
    await store.grants.take(OneTimeKind.DEVICE, numbered(1), now=clock.now())
    await store.clients.add(a_client(clock), an_event(clock.now()))
    await store.consents.give(ALICE, SHOP, frozenset("a"), event=an_event(clock.now()))
    await store.consents.list(ALICE)
    await store.consents.withdraw(ALICE, SHOP, event=an_event(clock.now()))
    await store.consents.give(ALICE, SHOP, frozenset("a"), event=an_event(clock.now()))
    await store.clients.delete(SHOP, revocation=revocation(Scope.CLIENT, SHOP, clock.now()))
    await queue(store, a_delivery(clock))
    await lease(store, clock)
    await store.outbox.failed("one", attempts=1, due_at=clock.now())
    await store.outbox.delivered("one")
    later = clock.now() + LIFETIME + LIFETIME
    cleaned = (store.sessions, store.feed, store.throttle, store.audit, store.reports)
    for cleaning in (*cleaned, store.grants, store.consents, store.outbox):
        await cleaning.delete_expired(later, 100)  # type: ignore[attr-defined]
    await store.close()

    assert len(statements) > 80
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            if statement.split()[0] not in {"SELECT", "INSERT", "UPDATE", "DELETE"}:
                continue
            for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                words = detail.split()
                assert words[0] != "SCAN" or words[1] not in GROWING or "USING" in words, (detail, statement)
                assert "AUTOMATIC" not in words, (detail, statement)
