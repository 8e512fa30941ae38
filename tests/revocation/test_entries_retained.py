"""Entries that stay held when a snapshot lacks them: a store that went back must not make anything good again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.errors import Cause
from keyfob.base.identifiers import ClientId, KeyId, Position, SessionId, Subject, Timeline, TokenId
from keyfob.base.principal import Principal
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.entry_table import MAX_MARKS, EntryTable
from keyfob.revocation.live_entries import LiveEntries
from keyfob.testing.frozen_clock import START

TIMELINE = Timeline("t1")
MINUTE = timedelta(minutes=1)


def _entry(position, scope, name, *, reach=Reach.END, spared=None, minutes=15):
    return Entry(
        position=Position(position),
        at=START,
        scope=scope,
        id=name,
        reach=reach,
        until=None if minutes is None else START + minutes * MINUTE,
        chain=bytes(32),
        spared=spared,
    )


def _holder(as_of, session="s1"):
    return Principal(
        subject=Subject("alice"),
        client_id=ClientId("web"),
        strategy=None,
        audience=("orders",),
        issued_at=START,
        expires_at=START + 10 * MINUTE,
        as_of=Position(as_of),
        session_id=SessionId(session),
        token_id=TokenId("j1"),
        key_id=KeyId("k1"),
        timeline=TIMELINE,
    )


def _head(position):
    return Head(timeline=TIMELINE, position=Position(position), chain=CHAIN_START)


def _holding(*entries):
    live = LiveEntries()
    live.replace(_head(9), entries)
    return live


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (Scope.TOKEN, "j1"),
        (Scope.SESSION, "s1"),
        (Scope.SUBJECT, "alice"),
        (Scope.CLIENT, "web"),
        (Scope.KEY, "k1"),
        (Scope.EVERYTHING, ""),
    ],
)
def test_what_a_later_snapshot_lacks_stays_in_force_until_it_runs_out(scope, name):
    live = _holding(_entry(5, scope, name, minutes=None if scope is Scope.KEY else 15))
    before = live.changes
    live.join(_head(10), EntryTable())
    assert (live.head, live.changes) == (_head(10), before + 1)
    assert live.cause(_holder(4)) is Cause.REVOKED
    live.drop_expired(START + 15 * MINUTE - timedelta(seconds=1))
    assert live.cause(_holder(4)) is Cause.REVOKED
    live.drop_expired(START + 15 * MINUTE)
    assert live.cause(_holder(4)) is (Cause.REVOKED if scope is Scope.KEY else None)


def test_of_two_histories_the_later_position_and_the_longer_life_hold():
    live = _holding(_entry(5, Scope.SUBJECT, "alice", minutes=15))
    live.join(_head(10), EntryTable.of([_entry(8, Scope.SUBJECT, "alice", minutes=10)]))
    assert live.cause(_holder(7)) is Cause.REVOKED
    assert live.cause(_holder(8)) is None
    live.drop_expired(START + 10 * MINUTE)
    assert live.cause(_holder(4)) is Cause.REVOKED
    live.drop_expired(START + 15 * MINUTE)
    assert len(live) == 0


def test_what_a_snapshot_has_as_well_is_held_once():
    entries = [
        _entry(1, Scope.SESSION, "s1"),
        _entry(2, Scope.SUBJECT, "alice", spared=SessionId("s1")),
        _entry(3, Scope.SUBJECT, "alice", reach=Reach.CLAIMS),
        _entry(4, Scope.EVERYTHING, "", reach=Reach.CLAIMS),
        _entry(5, Scope.KEY, "k2", minutes=None),
    ]
    live = _holding(*entries)
    held = len(live)
    live.join(_head(10), EntryTable.of(entries))
    assert len(live) == held
    assert live.cause(_holder(1, "s2")) is Cause.REVOKED
    assert live.cause(_holder(2, "s2")) is Cause.STALE_CLAIMS
    assert live.cause(_holder(4, "s2")) is None


def test_too_many_entries_of_one_subject_together_are_folded():
    former = [
        _entry(position, Scope.SUBJECT, "alice", spared=SessionId(f"a{position}"))
        for position in range(1, MAX_MARKS)
    ]
    later = [
        _entry(position, Scope.SUBJECT, "alice", spared=SessionId(f"b{position}"))
        for position in range(1, MAX_MARKS)
    ]
    live = _holding(*former)
    live.join(_head(200), EntryTable.of(later))
    assert live.cause(_holder(1, "other")) is not None
    assert live.cause(_holder(MAX_MARKS)) is None


_entries = st.lists(
    st.builds(
        _entry,
        st.integers(1, 9),
        st.sampled_from([Scope.SESSION, Scope.SUBJECT, Scope.EVERYTHING]),
        st.sampled_from(["s1", "alice", "other"]),
        reach=st.sampled_from(Reach),
        spared=st.sampled_from([None, None, SessionId("s1")]),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(former=_entries, later=_entries, as_of=st.integers(0, 9), session=st.sampled_from(["s1", "s2"]))
def test_whatever_either_history_denies_is_denied(former, later, as_of, session):
    credential = _holder(as_of, session)
    causes = {_holding(*former).cause(credential), _holding(*later).cause(credential)}
    live = _holding(*former)
    live.join(_head(10), EntryTable.of(later))
    expected = next((cause for cause in (Cause.REVOKED, Cause.STALE_CLAIMS) if cause in causes), None)
    assert live.cause(credential) is expected
