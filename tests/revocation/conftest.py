"""Entries, credentials and feeds for the tests of the feed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from keyfob.base.identifiers import ClientId, KeyId, Position, SessionId, Subject, Timeline, TokenId
from keyfob.base.principal import Principal
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope, next_chain
from keyfob.testing.frozen_clock import START

TIMELINE = Timeline("t1")


class History:
    """Makes entries that continue one another."""

    def __init__(self, timeline: str = TIMELINE) -> None:
        self.head = Head(timeline=Timeline(timeline), position=Position(0), chain=CHAIN_START)
        self.entries: list[Entry] = []

    def add(
        self,
        scope: Scope = Scope.SESSION,
        name: str = "s1",
        reach: Reach = Reach.END,
        *,
        spared: str | None = None,
        at: datetime = START,
        until: datetime | None = START + timedelta(minutes=15),
        leap: int = 1,
    ) -> Entry:
        position = Position(self.head.position + leap)
        excepted = None if spared is None else SessionId(spared)
        chain = next_chain(
            self.head.chain,
            position=position,
            at=at,
            scope=scope,
            id=name,
            reach=reach,
            spared=excepted,
            until=until,
        )
        entry = Entry(
            position=position,
            at=at,
            scope=scope,
            id=name,
            reach=reach,
            until=until,
            chain=chain,
            spared=excepted,
        )
        self.head = Head(timeline=self.head.timeline, position=position, chain=chain)
        self.entries.append(entry)
        return entry


def credential(
    as_of: int = 0,
    *,
    subject: str = "alice",
    session: str | None = "s1",
    parent: str | None = None,
    parent_client: str | None = None,
    client: str = "web",
    token: str | None = "j1",
    key: str | None = "k1",
    timeline: str | None = TIMELINE,
    issued_at: datetime = START,
) -> Principal:
    return Principal(
        subject=Subject(subject),
        client_id=ClientId(client),
        strategy=None,
        audience=("orders",),
        issued_at=issued_at,
        expires_at=START + timedelta(minutes=10),
        as_of=Position(as_of),
        session_id=None if session is None else SessionId(session),
        parent_session_id=None if parent is None else SessionId(parent),
        parent_client_id=None if parent_client is None else ClientId(parent_client),
        token_id=None if token is None else TokenId(token),
        key_id=None if key is None else KeyId(key),
        timeline=None if timeline is None else Timeline(timeline),
    )


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def new_history() -> Callable[..., History]:
    return History


@pytest.fixture
def holder() -> Callable[..., Principal]:
    return credential
