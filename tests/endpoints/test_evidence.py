"""`POST /feed/evidence`: who may hand back, and what is refused."""

from __future__ import annotations

import pytest

from keyfob.base.identifiers import Position
from keyfob.jwt import jws
from keyfob.revocation import wire
from keyfob.revocation.entry import Head
from keyfob.revocation.handed_back import MAX_BATCHES
from keyfob.revocation.wire import Heartbeat


def a_heartbeat(desk, position=None):
    head = desk.authority.feed.live.head
    if position is not None:
        head = Head(timeline=head.timeline, position=Position(position), chain=bytes(32))
    payload = wire.encode_heartbeat(Heartbeat(issuer=desk.authority.issuer, head=head, at=desk.clock.now()))
    return jws.sign(payload, desk.authority.keys.feed_signer(), typ=wire.HEARTBEAT_TYPE)


async def send(desk, body, **who):
    return await desk.ask("POST", "/feed/evidence", json_body=body, **who)


async def test_a_follower_hands_back_what_it_held(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    before = await desk.authority.store.feed.head()
    answer = await send(desk, {"heartbeat": a_heartbeat(desk)}, basic=client)
    assert (answer.status, answer.body) == (204, b"")
    assert await desk.authority.store.feed.head() == before
    answer = await send(desk, {"heartbeat": a_heartbeat(desk, before.position + 9)}, basic=client)
    assert (answer.status, answer.body) == (204, b"")
    assert (await desk.authority.store.feed.head()).timeline != before.timeline


async def test_only_who_may_follow_may_hand_back(desk) -> None:
    before = await desk.authority.store.feed.head()
    lost = {"heartbeat": a_heartbeat(desk, before.position + 9)}
    await desk.user("alice")
    user = await desk.access_token("alice")
    assert (await send(desk, lost)).status == 401
    assert (await send(desk, lost, bearer=user)).status == 403
    assert (await send(desk, lost, basic=await desk.client("stock", "keyfob:introspect"))).status == 403
    assert (await desk.authority.store.feed.head()).timeline == before.timeline


@pytest.mark.parametrize("batches", [["x"], ["x"] * MAX_BATCHES, ["x"] * (MAX_BATCHES + 1)])
async def test_what_is_no_evidence_is_refused(desk, batches) -> None:
    client = await desk.client("orders", "keyfob:feed")
    answer = await send(desk, {"heartbeat": a_heartbeat(desk), "entries": batches}, basic=client)
    assert answer.status == (422 if len(batches) > MAX_BATCHES else 400)
    if len(batches) <= MAX_BATCHES:
        assert answer.json()["code"] == "no_evidence"
    for heartbeat in ("", "a.b.c", a_heartbeat(desk)[:-5]):
        assert (await send(desk, {"heartbeat": heartbeat}, basic=client)).status == 400


async def test_a_body_of_more_than_the_limit_is_refused(desk) -> None:
    client = await desk.client("orders", "keyfob:feed")
    assert (await send(desk, {"heartbeat": "x" * 70_000}, basic=client)).status == 413
