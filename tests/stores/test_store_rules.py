"""The pure rules that every store shares: what a presented token is, and since when a session is over."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from keyfob.base.identifiers import FIRST_PARTY, ClientId, Position, SessionId, Strategy, Subject
from keyfob.base.opaque import OpaqueKind
from keyfob.clients.client import Client
from keyfob.sessions.rules import Standing, standing
from keyfob.sessions.session import Session
from keyfob.stores.records import ClientRow, decode, encode
from keyfob.stores.rotation import Verdict, replayed, rotated, verdict
from keyfob.stores.rows import client_from, client_to
from keyfob.stores.standing import Over, as_it_stands, over_since
from keyfob.testing.frozen_clock import START
from keyfob.testing.store_contract import IDLE, LIFETIME, TICK, WINDOW, digest_of

SESSION = Session(
    session_id=SessionId("0" * 32),
    subject=Subject("alice"),
    client_id=FIRST_PARTY,
    strategy=Strategy.HYBRID,
    kind=OpaqueKind.REFRESH,
    digest=digest_of(0),
    created_at=START,
    expires_at=START + LIFETIME,
    last_seen_at=START,
    auth_time=START,
    idle_timeout=IDLE,
    as_of=Position(5),
)
NEVER_IDLE = replace(SESSION, idle_timeout=None)


def in_rotation(generation: int, *, chain_from: int = 0, closed: bool = False) -> Session:
    """Return a session whose token of *generation* became current at `START`."""
    return replace(
        SESSION,
        generation=generation,
        chain_generation=chain_from,
        digest=digest_of(generation),
        rotated_at=START if generation > chain_from else None,
        window_closed=closed,
    )


def said(
    session: Session, generation: int, after: timedelta, *, chain: str = "a", window: timedelta = WINDOW
) -> Verdict:
    return verdict(
        session,
        digest_of(generation, chain),
        digest_of(generation + 1, chain),
        generation=generation,
        now=START + after,
        replay_window=window,
    )


def expected(behind: int, after: timedelta, window: timedelta, *, was_rotated: bool) -> Verdict:
    """Say it in the words of the design: by how far the presented token is behind, and how old the rotation is."""
    is_young = was_rotated and after < window
    if behind == 0:
        return Verdict.KEEP if is_young else Verdict.ROTATE
    if behind == 1:
        return Verdict.REPLAY if is_young else Verdict.REUSE
    return Verdict.REUSE if behind > 1 else Verdict.REFUSE


@given(
    generation=st.integers(0, 6),
    chain_from=st.integers(0, 6),
    presented=st.integers(0, 7),
    after=st.sampled_from([timedelta(0), TICK, WINDOW - TICK, WINDOW, WINDOW + TICK]),
    window=st.sampled_from([WINDOW, timedelta(0)]),
    closed=st.booleans(),
)
def test_a_token_of_the_chain_is_what_the_design_says(
    generation: int, chain_from: int, presented: int, after: timedelta, window: timedelta, closed: bool
) -> None:
    chain_from = min(chain_from, generation)
    session = in_rotation(generation, chain_from=chain_from, closed=closed)
    if presented < chain_from:
        assert said(session, presented, after, window=window) is Verdict.REFUSE
        return
    effective = timedelta(0) if closed else window
    wanted = expected(generation - presented, after, effective, was_rotated=generation > chain_from)
    assert said(session, presented, after, window=window) is wanted


@given(
    generation=st.integers(0, 6), presented=st.integers(0, 7), after=st.sampled_from([timedelta(0), WINDOW])
)
def test_a_stranger_to_the_chain_neither_rotates_nor_replays(
    generation: int, presented: int, after: timedelta
) -> None:
    answer = said(in_rotation(generation), presented, after, chain="z")
    assert answer in {Verdict.REFUSE, Verdict.REUSE}
    assert (answer is Verdict.REUSE) == (presented < generation - 1)  # the caller has checked those


@given(presented=st.integers(0, 3), kind=st.sampled_from([OpaqueKind.SESSION, OpaqueKind.API_KEY, None]))
def test_only_refresh_tokens_rotate(presented: int, kind: OpaqueKind | None) -> None:
    assert said(replace(in_rotation(2), kind=kind), presented, WINDOW) is Verdict.REFUSE


@pytest.mark.parametrize(
    ("session", "after"),
    [
        (replace(in_rotation(2), ended_at=START), timedelta(0)),
        (in_rotation(2), IDLE),
        (replace(in_rotation(2), idle_timeout=None), LIFETIME),
        (replace(in_rotation(2), digest=None), timedelta(0)),
    ],
)
def test_nothing_is_said_of_what_is_over(session: Session, after: timedelta) -> None:
    for presented in range(4):
        assert said(session, presented, after) is Verdict.REFUSE


@given(replays=st.lists(st.integers(0, 2), max_size=8))
def test_the_window_closes_at_three_replayed_rotations_in_a_row(replays: list[int]) -> None:
    session, row, is_closed, now = SESSION, 0, False, START
    for generation, count in enumerate(replays):
        now += timedelta(seconds=1)
        session = rotated(session, digest_of(generation + 1), now)
        for _ in range(count):
            session = replayed(session, now)
        row = row + 1 if count else 0
        is_closed = is_closed or row == 3
        assert session.window_closed == is_closed
        assert session.replayed_since_rotation == bool(count)


# since when a session is over


@given(positions=st.lists(st.integers(1, 10), max_size=3), has_parent_over=st.booleans())
def test_the_first_cut_off_behind_as_of_ends_it(positions: list[int], has_parent_over: bool) -> None:
    cut_offs = [Over(START + position * TICK, Position(position)) for position in positions]
    parent = Over(START, Position(0)) if has_parent_over else None
    session = as_it_stands(SESSION, cut_offs=cut_offs, parent=parent)
    covering = [position for position in positions if position > SESSION.as_of]
    if covering:
        assert session.ended_position == min(covering)
        assert session.ended_at == START + min(covering) * TICK
    else:
        assert session.ended_position == (0 if has_parent_over else None)


def test_an_end_of_its_own_stays() -> None:
    ended = replace(SESSION, ended_at=START, ended_position=Position(6))
    assert as_it_stands(ended, cut_offs=[Over(START, Position(9))], parent=Over(START, Position(0))) == ended


@pytest.mark.parametrize(
    ("session", "end", "over"),
    [
        (NEVER_IDLE, START + LIFETIME, Over(START + LIFETIME, Position(0))),
        (SESSION, START + IDLE, Over(START + IDLE, Position(0))),
        (replace(SESSION, ended_at=START, ended_position=Position(6)), START, Over(START, Position(6))),
    ],
)
def test_it_is_over_from_the_instant_of_its_limit(session: Session, end: datetime, over: Over) -> None:
    assert over_since(session, end) == over
    assert over_since(session, end + TICK) == over
    if session.ended_at is None:
        assert over_since(session, end - TICK) is None


@given(
    after=st.sampled_from([timedelta(0), IDLE - TICK, IDLE, LIFETIME - TICK, LIFETIME]),
    idle=st.sampled_from([None, IDLE]),
    ended=st.sampled_from([None, START]),
)
def test_over_is_what_is_not_live(after: timedelta, idle: timedelta | None, ended: datetime | None) -> None:
    session = replace(SESSION, idle_timeout=idle, ended_at=ended)
    now = START + after
    assert (over_since(session, now) is None) == (standing(session, now) is Standing.LIVE)


@pytest.mark.parametrize(
    "details", [b"", msgspec.msgpack.encode([b"{}"]), msgspec.msgpack.encode([b"{}", []])]
)
def test_a_client_of_an_earlier_version_takes_nobody_anywhere(details: bytes) -> None:
    row = (*client_to(Client(client_id=ClientId("orders"), created_at=START))[:-1], details)
    client = client_from(row)
    assert not client.redirect_uris
    assert not client.post_logout_redirect_uris
    assert not client.cors_origins
    assert client.backchannel_logout_uri is None
    assert (client.first_party, client.public, client.require_par) == (False, False, False)


def test_the_record_of_a_client_of_an_earlier_version_is_read_as_the_same() -> None:
    client = Client(client_id=ClientId("orders"), created_at=START)
    written = msgspec.msgpack.decode(encode(ClientRow(client=client)))
    later = ("name", "redirect_uris", "post_logout_redirect_uris", "backchannel_logout_uri", "cors_origins")
    later += ("backchannel_logout_session_required", "first_party", "public", "require_par")
    for field in later:
        del written["client"][field]
    assert decode(msgspec.msgpack.encode(written)) == ClientRow(client=client)
