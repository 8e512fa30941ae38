"""What followers hand back: a server on an older copy of its store, without a head file, learns of it, and nobody can make it believe more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from keyfob.base.errors import Cause, InvalidRequest, Unavailable
from keyfob.base.identifiers import Position, Timeline
from keyfob.jwt import jws
from keyfob.revocation import wire
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.handed_back import HandedBack
from keyfob.revocation.store import LEAP
from keyfob.revocation.wire import Heartbeat
from keyfob.stores.memory import open_memory_store

from .past import Past

ISSUER = "https://auth.example"
FORGED = bytes(32)


def heartbeat(house: Any, head: Head, *, issuer: str = ISSUER, typ: str = wire.HEARTBEAT_TYPE) -> str:
    payload = wire.encode_heartbeat(Heartbeat(issuer=issuer, head=head, at=house.clock.now()))
    return jws.sign(payload, house.authority.keys.feed_signer(), typ=typ)


def batches(
    house: Any, timeline: Timeline, entries: Sequence[Entry], *, size: int = 2, issuer: str = ISSUER
) -> list[str]:
    parts = [entries[start : start + size] for start in range(0, len(entries), size)]
    return [
        jws.sign(
            wire.encode_batch(issuer, timeline, part),
            house.authority.keys.feed_signer(),
            typ=wire.ENTRIES_TYPE,
        )
        for part in parts
    ]


def handed_back(house: Any, beat: str, entries: Sequence[str] = ()) -> HandedBack:
    keys = house.authority.keys.feed_public_keys
    return HandedBack(
        ISSUER, beat, entries, lambda text, typ: jws.verify(text, keys(), typ=typ, limit=65_536)
    )


class Lost:
    """A store that went back while no authority ran: two endings are lost, and what a follower holds of them is `beat` and `batches`."""

    def __init__(self, open_house: Any, store: Any) -> None:
        self._open_house = open_house
        self.store = store

    async def happen(self) -> None:
        house = await self._open_house(self.store)
        self.ended = await house.authority.login("alice", strategy="hybrid")
        self.by_subject = await house.authority.login("carol", strategy="session")
        self.kept = await house.authority.login("bob", strategy="hybrid")
        await house.authority.revoke("subject", "nobody")
        past = Past(self.store)
        before = await self.store.feed.head()
        await house.authority.revoke("session", self.ended.session_id)
        await house.authority.revoke("subject", "carol")
        self.known = await self.store.feed.head()
        self.entries = list(await self.store.feed.read_after(before.position, 99))
        self.beat = heartbeat(house, self.known)
        self.batches = batches(house, self.known.timeline, self.entries, size=1)
        await house.authority.feed.close()
        past.return_()
        assert await self.store.feed.head() == before
        self.house = await self._open_house(self.store)

    async def hand_back(self, beat: str | None = None, entries: Sequence[str] = ()) -> None:
        await self.house.authority.feed.hear(handed_back(self.house, beat or self.beat, entries))

    async def require_untouched(self, before: Head) -> None:
        assert await self.store.feed.head() == before
        for code in ("feed_reappended", "feed_begun_anew"):
            assert await self.house.events(code) == []


@pytest.fixture
async def lost(open_house: Any, clock: Any) -> Lost:
    lost = Lost(open_house, open_memory_store(clock))
    await lost.happen()
    return lost


async def test_what_a_follower_holds_is_appended_again_and_nobody_is_logged_out(lost: Lost) -> None:
    house = lost.house
    assert await house.cause(lost.by_subject.session_token) is None, "nobody knows yet"

    await lost.hand_back(entries=lost.batches)

    assert await lost.store.feed.head() == lost.known
    assert await house.causes(lost.ended, lost.by_subject, lost.kept) == [Cause.REVOKED, Cause.REVOKED, None]
    assert await house.refresh_cause(lost.ended.refresh_token) is Cause.REVOKED
    assert await house.refresh_cause(lost.kept.refresh_token) is None
    assert house.authority.feed.live.head == lost.known
    await house.authority.feed.beat()
    assert house.authority.feed.is_level()


@pytest.mark.parametrize("held", [slice(0, 0), slice(0, 1), slice(1, 2)])
async def test_what_no_follower_holds_whole_ends_everything(lost: Lost, held: slice) -> None:
    await lost.hand_back(entries=lost.batches[held])

    head = await lost.store.feed.head()
    assert head.timeline != lost.known.timeline
    assert head.position > lost.known.position + LEAP
    for issued in (lost.ended, lost.kept):
        assert await lost.house.refresh_cause(issued.refresh_token) is Cause.REVOKED
    assert await lost.house.cause(lost.by_subject.session_token) is Cause.REVOKED


async def test_a_batch_past_the_last_heartbeat_is_evidence_too(lost: Lost) -> None:
    first = lost.entries[0]
    earlier = Head(timeline=lost.known.timeline, position=first.position, chain=first.chain)
    await lost.hand_back(heartbeat(lost.house, earlier), lost.batches)
    assert await lost.store.feed.head() == lost.known


async def test_however_many_come_at_once_it_is_mended_once(lost: Lost) -> None:
    await asyncio.gather(*(lost.hand_back(entries=lost.batches) for _ in range(8)))
    await lost.hand_back(entries=lost.batches)
    assert len(await lost.house.events("feed_reappended")) == 1
    assert await lost.store.feed.head() == lost.known


async def test_two_followers_of_which_one_knows_more(lost: Lost) -> None:
    first = lost.entries[0]
    earlier = Head(timeline=lost.known.timeline, position=first.position, chain=first.chain)
    await lost.hand_back(heartbeat(lost.house, earlier), lost.batches[:1])
    assert await lost.store.feed.head() == earlier
    await lost.hand_back(entries=lost.batches)
    assert await lost.store.feed.head() == lost.known


async def test_positions_that_were_handed_out_again_meanwhile_begin_a_new_timeline(lost: Lost) -> None:
    for _ in range(5):
        await lost.house.authority.revoke("subject", "nobody")
    await lost.hand_back(entries=lost.batches)
    assert (await lost.store.feed.head()).timeline != lost.known.timeline
    assert await lost.house.refresh_cause(lost.ended.refresh_token) is Cause.REVOKED


async def test_the_old_head_of_a_timeline_that_was_left_is_no_evidence(lost: Lost) -> None:
    await lost.hand_back()
    begun = await lost.store.feed.head()
    for entries in ((), lost.batches):
        await lost.hand_back(entries=entries)
    assert await lost.store.feed.head() == begun


# The thief


async def test_an_old_head_of_this_timeline_changes_nothing(lost: Lost) -> None:
    await lost.hand_back(entries=lost.batches)
    head, before = await lost.store.feed.head(), len(await lost.house.events("feed_reappended"))
    for entry in await lost.store.feed.read_after(Position(0), 99):
        old = Head(timeline=head.timeline, position=entry.position, chain=entry.chain)
        await lost.hand_back(heartbeat(lost.house, old), lost.batches)
    await lost.hand_back(
        heartbeat(lost.house, Head(timeline=head.timeline, position=Position(0), chain=FORGED))
    )
    assert await lost.store.feed.head() == head
    assert len(await lost.house.events("feed_reappended")) == before
    assert await lost.house.events("feed_begun_anew") == []


async def test_what_the_feed_did_not_sign_changes_nothing(lost: Lost, open_house: Any) -> None:
    before = await lost.store.feed.head()
    stranger = await open_house()
    far = Head(timeline=before.timeline, position=Position(10**9), chain=FORGED)
    house = lost.house
    payload = wire.encode_heartbeat(Heartbeat(issuer=ISSUER, head=far, at=house.clock.now()))
    refused = [
        heartbeat(stranger, far),
        heartbeat(house, far, issuer="https://other.example"),
        heartbeat(house, far, typ=wire.TIME_TYPE),
        heartbeat(house, far, typ="at+jwt"),
        jws.sign(payload, house.authority.keys.signer(), typ=wire.HEARTBEAT_TYPE),
        jws.sign(b"{}", house.authority.keys.feed_signer(), typ=wire.HEARTBEAT_TYPE),
        lost.batches[0],
        "",
        "a.b.c",
        lost.beat[:-4] + "AAAA",
    ]
    for beat in refused:
        with pytest.raises(InvalidRequest, match="not signed"):
            await lost.house.authority.feed.hear(handed_back(house, beat, lost.batches))
    await lost.require_untouched(before)


async def test_a_batch_that_was_altered_anywhere_changes_nothing(lost: Lost) -> None:
    before = await lost.store.feed.head()
    whole = lost.batches[0]
    for index in range(0, len(whole), 17):
        altered = whole[:index] + ("A" if whole[index] != "A" else "B") + whole[index + 1 :]
        with pytest.raises(InvalidRequest):
            await lost.hand_back(entries=[altered, lost.batches[1]])
    await lost.require_untouched(before)


async def test_batches_of_another_issuer_with_the_same_key_are_refused(lost: Lost) -> None:
    before = await lost.store.feed.head()
    theirs = batches(lost.house, lost.known.timeline, lost.entries, issuer="https://other.example")
    with pytest.raises(InvalidRequest):
        await lost.hand_back(entries=theirs)
    await lost.require_untouched(before)


async def test_a_batch_of_another_timeline_says_nothing_of_this_one(lost: Lost) -> None:
    before = await lost.store.feed.head()
    elsewhere = batches(lost.house, Timeline("elsewhere"), lost.entries)
    await lost.hand_back(heartbeat(lost.house, before), elsewhere)
    await lost.require_untouched(before)


async def test_batches_in_another_order_prove_no_more_than_the_last_of_them(lost: Lost) -> None:
    first = lost.entries[0]
    earlier = Head(timeline=lost.known.timeline, position=first.position, chain=first.chain)
    await lost.hand_back(heartbeat(lost.house, earlier), lost.batches[::-1])
    assert await lost.store.feed.head() == earlier


async def test_an_entry_with_another_chain_is_never_appended(lost: Lost) -> None:
    """As if signed by a thief of the feed's key: the chain from the store's head on is what counts, so the answer is a new timeline."""
    swapped = batches(lost.house, lost.known.timeline, [lost.entries[1], lost.entries[0]], size=1)
    await lost.hand_back(entries=[swapped[0], swapped[0], lost.batches[1]])
    assert (await lost.store.feed.head()).timeline != lost.known.timeline


async def test_a_flood_is_turned_away_while_the_store_is_asked(
    lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = 0, asyncio.Event()
    head = lost.store.feed.head

    async def slow() -> Head:
        nonlocal asked
        asked += 1
        await go_on.wait()
        found: Head = await head()
        return found

    monkeypatch.setattr(lost.store.feed, "head", slow)
    many = [asyncio.ensure_future(lost.hand_back(entries=lost.batches)) for _ in range(50)]
    done, _ = await asyncio.wait(many, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
    assert len(done) == 50 - 16
    assert all(isinstance(task.exception(), Unavailable) for task in done)
    assert asked == 1
    go_on.set()
    await asyncio.gather(*many, return_exceptions=True)
    assert len(await lost.house.events("feed_reappended")) == 1


async def test_a_follower_that_is_level_costs_the_store_nothing(
    lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost.hand_back(entries=lost.batches)
    await lost.house.authority.revoke("subject", "nobody")
    head = lost.house.authority.feed.live.head
    beats = [heartbeat(lost.house, head), heartbeat(lost.house, lost.known)]
    await lost.house.authority.revoke("subject", "nobody")

    async def never(*_: object) -> Head:
        raise AssertionError("the store was asked")

    monkeypatch.setattr(lost.store.feed, "head", never)
    await lost.hand_back(beats[0])


async def test_another_authority_that_lives_follows_what_was_mended(open_house: Any, lost: Lost) -> None:
    other = await open_house(lost.store)
    await lost.hand_back(entries=lost.batches)
    await other.authority.feed.beat()
    assert other.authority.feed.live.head == lost.known
    assert await other.causes(lost.ended, lost.kept) == [Cause.REVOKED, None]
