"""Which children an entry ended: the rule that every store applies to rows as they lie there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from keyfob.base.identifiers import ClientId, Position, SessionId, Strategy, Subject
from keyfob.revocation.coverage import covers
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.session import Session
from keyfob.stores.children import is_ended_by

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN, PARENT, OTHER = (SessionId(digit * 32) for digit in "abc")
CHILD = Session(
    session_id=OWN,
    subject=Subject("alice"),
    client_id=ClientId("shop"),
    strategy=Strategy.JWT,
    kind=None,
    digest=None,
    created_at=NOW,
    expires_at=NOW + timedelta(days=1),
    last_seen_at=NOW,
    auth_time=NOW,
    idle_timeout=None,
    as_of=Position(5),
    parent_session_id=PARENT,
    parent_client_id=ClientId("portal"),
)


def entry(
    scope: Scope = Scope.EVERYTHING,
    id: str = "",  # noqa: A002
    *,
    position: int = 6,
    reach: Reach = Reach.END,
    spared: SessionId | None = None,
) -> Entry:
    return Entry(
        position=Position(position),
        at=NOW,
        scope=scope,
        id=id,
        reach=reach,
        until=None,
        chain=bytes(32),
        spared=spared,
    )


@pytest.mark.parametrize("spared", [OWN, PARENT])
def test_what_is_spared_was_not_ended_though_its_row_does_not_say_so_yet(spared: SessionId) -> None:
    """In a cluster rows follow their entry: the raised `as_of` may come later than whoever reads."""
    assert not is_ended_by(CHILD, entry(Scope.SUBJECT, "alice", spared=spared))
    assert is_ended_by(CHILD, entry(Scope.SUBJECT, "alice", spared=OTHER))


@pytest.mark.parametrize(("as_of", "ended"), [(4, True), (5, True), (6, False), (7, False)])
def test_a_session_that_knew_the_entry_was_not_ended_by_it(as_of: int, ended: bool) -> None:
    assert is_ended_by(replace(CHILD, as_of=Position(as_of)), entry()) is ended


@pytest.mark.parametrize(("position", "ended"), [(None, True), (5, False), (6, True), (7, True)])
def test_a_row_that_an_earlier_entry_ended_is_none_of_a_later_one(position: int | None, ended: bool) -> None:
    over = None if position is None else Position(position)
    assert is_ended_by(replace(CHILD, ended_at=NOW, ended_position=over), entry()) is ended


def test_a_login_without_a_parent_is_no_child() -> None:
    assert not is_ended_by(replace(CHILD, parent_session_id=None), entry())


class _Credential:
    """The child as the one rule looks at credentials."""

    subject, client_id, session_id = CHILD.subject, CHILD.client_id, OWN
    parent_client_id = CHILD.parent_client_id
    parent_session_id, as_of, token_id, key_id = PARENT, CHILD.as_of, None, None


@given(
    st.sampled_from([scope for scope in Scope if scope not in {Scope.TOKEN, Scope.KEY}]),
    st.sampled_from(["", "alice", "shop", "portal", OWN, PARENT, OTHER, "bob"]),
    st.integers(1, 10),
    st.sampled_from([None, OWN, PARENT, OTHER]),
)
def test_it_is_the_one_rule(scope: Scope, target: str, position: int, spared: SessionId | None) -> None:
    asked = entry(scope, target, position=position, spared=spared)
    assert is_ended_by(CHILD, asked) is covers(asked, _Credential())
    assert not is_ended_by(CHILD, of_claims(asked))


def of_claims(asked: Entry) -> Entry:
    return entry(asked.scope, asked.id, position=asked.position, reach=Reach.CLAIMS, spared=asked.spared)
