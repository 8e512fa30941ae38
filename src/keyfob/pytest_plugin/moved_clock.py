"""The clock of the authority of a test."""

from __future__ import annotations

import weakref
from datetime import datetime, timedelta

from keyfob.authority.authority import Authority as AsyncAuthority
from keyfob.sync import Authority
from keyfob.testing.frozen_clock import START, FrozenClock


class TestClock(FrozenClock):
    """A frozen clock whose authority knows, when it was moved on, that it is level with its own feed.

    It is a moment's silence of the store otherwise, and a route that bears little of it would be right to refuse.
    """

    __test__ = False  # no class of tests

    def __init__(self, start: datetime = START) -> None:
        super().__init__(start)
        self._authorities: weakref.WeakSet[Authority] = weakref.WeakSet()

    def tell(self, authority: Authority) -> None:
        """Let *authority* know of every move."""
        self._authorities.add(authority)

    def advance(self, by: timedelta | float) -> datetime:
        """Move on by *by* (a timedelta, or seconds) and return the new moment."""
        moment = super().advance(by)
        for authority in list(self._authorities):
            authority.call(_level)
        return moment


async def _level(authority: AsyncAuthority) -> None:
    await authority.feed.beat()
