from __future__ import annotations

import pytest

from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId
from keyfob.revocation.coverage import covers
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.testing.frozen_clock import START

EVENT = Event(at=START, code="revoked")


@pytest.mark.parametrize(
    ("scope", "name", "reach", "spared", "is_taken"),
    [
        (Scope.SUBJECT, "alice", Reach.END, None, True),
        (Scope.SUBJECT, "alice", Reach.END, "s1", True),
        (Scope.SUBJECT, "", Reach.END, None, False),
        (Scope.EVERYTHING, "", Reach.END, "s1", True),
        (Scope.EVERYTHING, "", Reach.CLAIMS, None, True),
        (Scope.EVERYTHING, "x", Reach.END, None, False),
        (Scope.SESSION, "s1", Reach.CLAIMS, None, True),
        (Scope.SESSION, "s1", Reach.END, "s2", False),
        (Scope.CLIENT, "web", Reach.END, "s2", False),
        (Scope.TOKEN, "j1", Reach.CLAIMS, None, False),
        (Scope.KEY, "k1", Reach.CLAIMS, None, False),
    ],
)
def test_an_order_says_what_can_be_carried_out(scope, name, reach, spared, is_taken):
    def order():
        return Revocation(
            scope=scope,
            id=name,
            reach=reach,
            event=EVENT,
            spared=None if spared is None else SessionId(spared),
        )

    if is_taken:
        assert order().scope is scope
        return
    with pytest.raises(ValueError):
        order()


def test_an_entry_covers_what_is_older_and_matches(history, holder):
    for scope, name in (
        (Scope.TOKEN, "j1"),
        (Scope.SESSION, "s1"),
        (Scope.SUBJECT, "alice"),
        (Scope.CLIENT, "web"),
        (Scope.EVERYTHING, ""),
    ):
        entry = history.add(scope, name)
        assert covers(entry, holder(entry.position - 1))
        assert not covers(entry, holder(entry.position))
    assert covers(history.add(Scope.KEY, "k1"), holder(10**9))
