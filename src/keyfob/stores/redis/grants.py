"""One-time records in Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from keyfob.base.clock import to_micros
from keyfob.grants import rules
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.store import AmendOutcome, TakeOutcome
from keyfob.stores.grant_keys import one_time_key
from keyfob.stores.records import OneTimeRow, encode
from keyfob.stores.redis.packing import raw
from keyfob.stores.redis.places import ALIASES, ONE_TIMES, ONE_TIMES_UNTIL
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.tables import read_record

O = TypeVar("O")  # noqa: E741 - an outcome

_KEYS: Final = (ONE_TIMES, ALIASES, ONE_TIMES_UNTIL)
_TRIES: Final = 50  # others that were faster, one after another


class RedisGrantStore:
    """A `GrantStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def add(self, record: OneTime) -> bool:
        """Add *record*, as the port says."""
        rules.check_one_time(record)
        key = one_time_key(record.kind, record.digest)
        for _ in range(_TRIES):
            if await self._read(key) is not None:
                return False
            step = _Step()
            step.put(key, None, record)
            if record.alias is not None and not await self._take_alias(step, record, key):
                return False
            if await self._carry_out(step):
                return True
        raise self._server.too_busy()

    async def find(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> OneTime | None:
        """Return the record that is open, or was taken and is kept."""
        return rules.known(_record(await self._read(one_time_key(kind, digest))), now)

    async def find_by_alias(self, kind: OneTimeKind, alias: bytes, *, now: datetime) -> OneTime | None:
        """Return the open record that has *alias*."""
        key = await self._server.read(b"HGET", ALIASES, one_time_key(kind, alias))
        record = None if key is None else _record(await self._read(key.decode()))
        is_its = record is not None and record.alias == alias and rules.is_open(record, now)
        return record if is_its else None

    async def take(self, kind: OneTimeKind, digest: bytes, *, now: datetime) -> TakeOutcome:
        """Take the record."""
        return await self._settle(one_time_key(kind, digest), lambda record: rules.take(record, now))

    async def amend(
        self, kind: OneTimeKind, digest: bytes, *, version: int, body: bytes, now: datetime
    ) -> AmendOutcome:
        """Replace the body if the record is still of *version*."""
        rules.check_body(body)
        return await self._settle(
            one_time_key(kind, digest), lambda record: rules.amend(record, version, body, now=now)
        )

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* records that are kept no longer."""
        keys = await self._server.read(
            b"ZRANGEBYSCORE", ONE_TIMES_UNTIL, b"-inf", to_micros(now), b"LIMIT", 0, limit
        )
        gone = await self._server.together(self._delete(key.decode(), now) for key in keys)
        return sum(gone)

    async def _delete(self, key: str, now: datetime) -> bool:
        present = await self._read(key)
        record = _record(present)
        if record is None or rules.kept_until(record) > now:
            return False
        step = _Step()
        step.remove(key, present, record)
        return await self._carry_out(step)

    async def _settle(self, key: str, decide: Callable[[OneTime | None], tuple[O, OneTime | None]]) -> O:
        """Read the record, decide, and write if nobody was faster; else begin again."""
        for _ in range(_TRIES):
            present = await self._read(key)
            before = _record(present)
            outcome, after = decide(before)
            if after is None or before is None:
                return outcome
            step = _Step()
            step.put(key, present, after)
            if before.alias is not None and after.alias is None:
                step.give_up_alias(before, key)
            if await self._carry_out(step):
                return outcome
        raise self._server.too_busy()

    async def _take_alias(self, step: _Step, record: OneTime, key: str) -> bool:
        """Let *step* take the alias of *record*; False where an open one has it."""
        assert record.alias is not None
        name = one_time_key(record.kind, record.alias)
        holder_key = await self._server.read(b"HGET", ALIASES, name)
        present = None if holder_key is None else await self._read(holder_key.decode())
        holder = _record(present)
        if holder is not None and holder.alias == record.alias:
            if rules.is_open(holder, record.created_at):
                return False
            step.put(holder_key.decode(), present, replace(holder, alias=None))
        step.aliases.append((name, _expected(holder_key), key))
        return True

    async def _read(self, key: str) -> bytes | None:
        packed: bytes | None = await self._server.read(b"HGET", ONE_TIMES, key)
        return packed

    async def _carry_out(self, step: _Step) -> bool:
        asked = {"records": step.records, "aliases": step.aliases}
        return bool(await self._server.step("one_times", _KEYS, asked))


class _Step:
    """What is to be as it was read, and what is written then."""

    def __init__(self) -> None:
        self.records: list[tuple[str, object, object, int]] = []
        self.aliases: list[tuple[str, object, object]] = []

    def put(self, key: str, before: bytes | None, record: OneTime) -> None:
        """Write *record* in place of *before*."""
        packed = raw(encode(OneTimeRow(record=record)))
        self.records.append((key, _expected(before), packed, to_micros(rules.kept_until(record))))

    def remove(self, key: str, before: bytes | None, record: OneTime) -> None:
        """Remove *record*, and its alias."""
        self.records.append((key, _expected(before), False, 0))
        if record.alias is not None:
            self.give_up_alias(record, key)

    def give_up_alias(self, record: OneTime, key: str) -> None:
        """Give up the alias that *record* has: nobody else can have it meanwhile."""
        assert record.alias is not None
        self.aliases.append((one_time_key(record.kind, record.alias), key, False))


def _expected(value: bytes | None) -> object:
    return False if value is None else raw(value)


def _record(packed: bytes | None) -> OneTime | None:
    return None if packed is None else read_record(packed, OneTimeRow).record
