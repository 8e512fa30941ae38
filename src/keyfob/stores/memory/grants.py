"""One-time records in memory."""

from __future__ import annotations

from datetime import datetime

from keyfob.grants import rules
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.store import AmendOutcome, TakeOutcome
from keyfob.stores.memory.state import State


class MemoryGrantStore:
    """A `GrantStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, record: OneTime) -> bool:
        """Add *record*, as the port says."""
        rules.check_one_time(record)
        with self._state.step():
            if (record.kind, record.digest) in self._state.one_times:
                return False
            holder = None if record.alias is None else self._holder(record.kind, record.alias)
            if holder is not None and rules.is_open(holder, record.created_at):
                return False
            if holder is not None:
                self._state.put_one_time(holder, alias=None)
            self._state.put_one_time(record, alias=record.alias)
            return True

    async def find(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> OneTime | None:
        """Return the record that is open, or was taken and is kept."""
        with self._state.step():
            return rules.known(self._state.one_times.get((kind, digest)), now)

    async def find_by_alias(self, kind: OneTimeKind, alias: bytes, *, now: datetime) -> OneTime | None:
        """Return the open record that has *alias*."""
        with self._state.step():
            record = self._holder(kind, alias)
            return record if record is not None and rules.is_open(record, now) else None

    async def take(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> TakeOutcome:
        """Take the record."""
        with self._state.step():
            outcome, after = rules.take(self._state.one_times.get((kind, digest)), now)
            if after is not None:
                self._state.put_one_time(after, alias=after.alias)
            return outcome

    async def amend(
        self, kind: OneTimeKind, digest: bytes, *, version: int, body: bytes, now: datetime
    ) -> AmendOutcome:
        """Replace the body if the record is still of *version*."""
        rules.check_body(body)
        with self._state.step():
            outcome, after = rules.amend(self._state.one_times.get((kind, digest)), version, body, now=now)
            if after is not None:
                self._state.put_one_time(after, alias=after.alias)
            return outcome

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* records that are kept no longer."""
        with self._state.step():
            over = [
                place for place, record in self._state.one_times.items() if rules.kept_until(record) <= now
            ]
            for place in over[:limit]:
                self._state.drop_one_time(*place)
            return len(over[:limit])

    def _holder(self, kind: OneTimeKind, alias: bytes) -> OneTime | None:
        digest = self._state.aliases.get((kind, alias))
        return None if digest is None else self._state.one_times.get((kind, digest))
