"""`GET /admin/api/revocations/preview`: what a revocation would do, and nothing done."""

from __future__ import annotations

import pytest

from keyfob.authority import preview
from keyfob.authority.api_keys import ApiKeyOrder
from keyfob.base.clock import to_micros


async def ask(desk, admin, query: str):
    return await desk.ask("GET", f"/admin/api/revocations/preview?{query}", bearer=admin)


async def preview_of(desk, admin, query: str):
    answer = await ask(desk, admin, query)
    assert answer.status == 200, answer.body
    return answer.json()


async def everything(desk):
    """All that a revocation could change."""
    store = desk.authority.store
    return (
        await store.feed.head(),
        (await desk.authority.list_sessions(limit=1000)).sessions,
        (await store.audit.list(limit=1000)).events,
        await store.keys.all(),
    )


async def test_sessions_in_scope_are_counted_and_nothing_is_changed(desk) -> None:
    admin = await desk.admin()
    await desk.user("alice")
    await desk.user("bob")
    logins = [await desk.login("alice", strategy="hybrid") for _ in range(3)]
    await desk.login("bob")
    alice, one = logins[0].json()["subject"], logins[0].json()["session_id"]
    key = desk.authority.keys.signer().key_id
    before = await everything(desk)
    for query, sessions in (
        (f"scope=subject&id={alice}", 3),
        (f"scope=subject&id={alice}&reach=claims", 3),
        ("scope=subject&id=nobody", 0),
        (f"scope=session&id={one}", 1),
        ("scope=session&id=" + "0" * 32, 0),
        ("scope=client&id=first-party", 5),
        ("scope=client&id=orders", 0),
        ("scope=everything", 5),
        ("scope=token&id=j1", 0),
        (f"scope=key&id={key}", 0),
    ):
        found = await preview_of(desk, admin, query)
        assert (found["sessions"], found["is_counted_out"], found["is_over"]) == (sessions, True, False), (
            query
        )
        assert found["worst_seconds"] == 5.0
        assert found["verifiers"] == {"level": 0, "behind": 0, "stale": 0, "silent": 0}
        assert found["lag"] is None
    assert await everything(desk) == before


async def test_a_session_that_is_over_would_change_nothing(desk) -> None:
    admin = await desk.admin()
    await desk.user("alice")
    session_id = (await desk.login("alice")).json()["session_id"]
    await desk.authority.revoke("session", session_id)
    found = await preview_of(desk, admin, f"scope=session&id={session_id}")
    assert (found["is_over"], found["sessions"]) == (True, 0)


async def test_children_of_a_session_are_counted_with_it(desk) -> None:
    admin = await desk.admin()
    parent = await desk.authority.login("alice", strategy="session")
    await desk.authority.login("alice", strategy="hybrid", parent_session_id=parent.session_id)
    await desk.authority.login("alice", strategy="session")
    assert (await preview_of(desk, admin, f"scope=session&id={parent.session_id}"))["sessions"] == 2


async def test_children_elsewhere_are_counted_with_the_client_of_their_parent(desk) -> None:
    admin = await desk.admin()
    await desk.authority.clients.add("shop")
    parent = await desk.authority.login("alice", strategy="session")
    before = (await preview_of(desk, admin, "scope=client&id=first-party"))["sessions"]
    await desk.authority.login("alice", client_id="shop", parent_session_id=parent.session_id)
    await desk.authority.login("alice", client_id="shop")
    assert (await preview_of(desk, admin, "scope=client&id=first-party"))["sessions"] == before + 1
    assert (await preview_of(desk, admin, "scope=client&id=shop"))["sessions"] == 2


async def test_a_count_past_what_is_looked_at_is_at_least(desk, monkeypatch) -> None:
    admin = await desk.admin()
    for _ in range(4):
        await desk.authority.login("alice", strategy="session")
    for limit, counted_out, sessions in ((6, True, 5), (5, False, 5), (4, False, 4)):
        monkeypatch.setattr(preview, "MAX_LISTED", limit)
        found = await preview_of(desk, admin, "scope=everything")
        assert (found["is_counted_out"], found["sessions"]) == (counted_out, sessions)


async def test_the_verifier_that_is_behind_is_named_and_its_bound_counts(desk) -> None:
    admin, client = await desk.admin(), await desk.client("orders", "keyfob:feed")
    now = to_micros(desk.clock.now())
    report = {
        "verifier": "shelf",
        "instance": "0" * 16,
        "sent_at": now,
        "timeline": desk.authority.feed.live.head.timeline,
        "position": 0,
        "level_at": now - 60_000_000,
        "max_staleness": 5,
        "bound": 3600,
    }
    assert (await desk.ask("POST", "/feed/reports", json_body=report, basic=client)).status == 204
    found = await preview_of(desk, admin, "scope=everything")
    assert found["worst_seconds"] == 3600.0
    assert found["verifiers"]["stale"] == 1
    assert [(one["verifier"], one["state"]) for one in found["behind"]] == [("shelf", "stale")]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("scope=planet", 422),
        ("scope=session&id=x", 422),
        ("scope=subject", 422),
        ("scope=everything&id=x", 422),
        ("scope=token&id=j&reach=claims", 422),
        ("scope=subject&id=x&reach=half", 422),
        ("scope=key&id=nonsense", 404),
        ("scope=everything&more=1", 400),
        ("scope=everything&scope=everything", 400),
    ],
)
async def test_what_could_not_be_revoked_is_refused_as_it_would_be(desk, query: str, status: int) -> None:
    assert (await ask(desk, await desk.admin(), query)).status == status


async def test_only_an_administrator_may_look(desk) -> None:
    await desk.user()
    alice = await desk.access_token()
    assert (await ask(desk, alice, "scope=everything")).status == 403


async def test_api_keys_of_the_owner_are_counted(desk) -> None:
    admin = await desk.admin()
    account = await desk.user("alice")
    await desk.client("ci")
    keys = desk.authority.api_keys
    order = ApiKeyOrder(name="deploy", audience=["orders"])
    own = await keys.add_for_subject(account.subject, order, actor="root")
    for _ in range(2):
        await keys.add_for_service("ci", order, actor="root")
    for query, sessions in (
        (f"scope=subject&id={account.subject}", 1),
        ("scope=client&id=ci", 2),
        (f"scope=session&id={own.api_key.key_id}", 1),
    ):
        assert (await preview_of(desk, admin, query))["sessions"] == sessions, query
