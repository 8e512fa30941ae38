"""Rows lie in pieces, and come back whole: long ones and short ones, after each other, and all of them are deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Rotated
from keyfob.stores.opening import open_movable, open_store
from keyfob.stores.records import SessionRow
from keyfob.stores.redis import places
from keyfob.stores.redis.pieces import cut, joined, names_of, rows_in
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    LIFETIME,
    PLENTY,
    a_full_session,
    a_session,
    found,
    put,
    put_child,
    revocation,
)

FIELD = bytes(range(16))
LIMIT = 64  # bytes: `hash-max-listpack-value`, unless a server is told otherwise
WORDS = "abcdefghijklmnopqrstuvwxyz" * 20  # nothing that can be squeezed into a piece


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=600))
def test_what_is_cut_comes_back(row: bytes) -> None:
    pieces = cut(FIELD, row)
    assert list(pieces) == list(names_of(FIELD))
    assert joined([piece or None for piece in pieces.values()]) == row
    kept = {name: piece for name, piece in pieces.items() if piece}
    other = bytes(16)
    assert rows_in(kept | {other: b"x"}) == {FIELD: row, other: b"x"}


@pytest.mark.parametrize("length", [1, LIMIT - 1, LIMIT, LIMIT + 1, 5 * LIMIT])
def test_no_piece_of_a_usual_row_is_longer_than_the_server_packs(length: int) -> None:
    pieces = cut(FIELD, bytes(range(length)) if length < 256 else bytes(length))
    assert all(len(piece) <= LIMIT for piece in pieces.values())
    assert sum(map(len, pieces.values())) == length


def test_what_has_no_first_piece_is_no_row() -> None:
    assert joined([None, b"left", None, None, None]) is None
    assert rows_in({FIELD + b"\1": b"left"}) == {}


async def test_rows_of_every_length_are_kept_beside_each_other(store: Store, clock: FrozenClock) -> None:
    sessions = [
        replace(a_session(store, clock), user_agent="".join(chr(33 + (7 * at) % 90) for at in range(length)))
        for length in range(0, 400, 9)
    ]
    sessions.append(a_full_session(store, clock))
    for session in sessions:
        await put(store, session)
    child = await put_child(store, clock, sessions[-1])
    for session in (*sessions, child):
        assert await found(store, session.session_id) == session
    listed = await store.sessions.list(ALICE, now=clock.now(), after=None, limit=PLENTY)
    assert {one.session_id: one for one in listed.sessions} == {
        one.session_id: one for one in (*sessions, child)
    }


async def test_an_end_that_makes_a_row_longer_is_read_and_so_is_its_parent(
    store: Store, clock: FrozenClock
) -> None:
    session = replace(a_session(store, clock), user_agent=WORDS)
    await put(store, session)
    child = await put_child(store, clock, session)
    order = revocation(Scope.SESSION, session.session_id, clock.now())
    await store.sessions.end(order, now=clock.now())
    for one in (session, child):
        ended = await found(store, one.session_id)
        assert (ended.ended_at, ended.ended_position) == (clock.now(), 1)
        assert ended == replace(one, ended_at=clock.now(), ended_position=1)


async def test_a_short_row_in_the_place_of_a_long_one_leaves_nothing_of_it(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    assert store.transfer is not None
    short = a_session(store, clock)
    key, field = place_of(short.session_id)
    for session in (replace(short, user_agent=WORDS), short, replace(short, user_agent=WORDS), short):
        await store.transfer.load([SessionRow(session=session, data=b"", version=0)])
        assert await found(store, session.session_id) == session
    assert set(await raw.hkeys(key)) <= set(names_of(field))
    assert isinstance(await rotate(store, short.session_id, 0, clock.now()), Rotated)
    assert (await found(store, short.session_id)).generation == 1


async def test_what_is_deleted_leaves_no_piece(store: Store, raw: Any, clock: FrozenClock) -> None:
    long = replace(a_session(store, clock), user_agent=WORDS)
    kept = replace(a_session(store, clock), expires_at=clock.now() + 2 * LIFETIME)
    for session in (long, kept):
        await put(store, session)
        await store.sessions.write_data(session.session_id, b"data", version=0, now=clock.now())
    other = replace(a_session(store, clock, BOB), user_agent=WORDS)
    await put(store, other)
    clock.advance(LIFETIME - timedelta(seconds=1))
    await store.sessions.touch([])
    clock.advance(timedelta(seconds=1))
    assert await store.sessions.delete_expired(clock.now(), PLENTY) == 2
    key, field = place_of(kept.session_id)
    assert set(await raw.hkeys(key)) <= set(names_of(field))
    assert await raw.hkeys(key[:-1] + b"d") == [field]
    assert not await raw.exists(place_of(other.session_id)[0])
    assert store.transfer is not None
    await store.transfer.remove(SessionRow.kind, [kept.session_id])
    assert not await raw.exists(key, key[:-1] + b"d")
    assert await store.sessions.find(kept.session_id) is None


async def test_data_of_another_layout_are_refused(redis_url: str, raw: Any, clock: FrozenClock) -> None:
    await (await open_store(redis_url, clock=clock)).close()
    await raw.hset("kf:{feed}:meta", "schema", 1)
    with pytest.raises(ConfigurationError, match="this version"):
        await open_store(redis_url, clock=clock)
    with pytest.raises(ConfigurationError, match="this version"):
        await open_movable(redis_url)


def place_of(session_id: SessionId) -> tuple[bytes, bytes]:
    place = places.place_of(session_id)
    assert place is not None
    return place
