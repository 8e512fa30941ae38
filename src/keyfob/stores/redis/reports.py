"""What verifiers report, in Redis."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import Position
from keyfob.revocation.canary import KEPT_CANARIES, Canary, is_due, revocation_of
from keyfob.revocation.entry import Entry
from keyfob.revocation.reports import FORGOTTEN_AFTER, Report, Reporter, Reports, VerifierRecord, noted
from keyfob.stores.records import Kind, VerifierRow, encode
from keyfob.stores.redis.places import CANARIES, VERIFIERS
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.settling import Step, settle
from keyfob.stores.redis.tables import read_record
from keyfob.stores.reporting import has_audience, has_room
from keyfob.stores.rows import DamagedRow

_TABLES = (CANARIES, VERIFIERS)
_CANARY = struct.Struct(">qq")


class RedisReportStore:
    """A `ReportStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def revoke_canary(self, *, now: datetime, period: timedelta) -> Entry | None:
        """Append the next canary's entry if it is due."""

        async def decide(step: Step) -> bool:
            reports = await self.reports()
            last = reports.canaries[-1] if reports.canaries else None
            heard = max((record.heard_at for record in reports.verifiers), default=None)
            if not has_audience(heard, now) or not is_due(last.at if last else None, now, period=period):
                return False
            number = last.number + 1 if last else 1
            step.expect(CANARIES, str(number), None)
            step.append_canary(revocation_of(number, now), number, now)
            step.remove(CANARIES, str(number - KEPT_CANARIES))
            return True

        done = await settle(self._server, _TABLES, decide)
        return None if done is None else done.entry

    async def report(self, reporter: Reporter, report: Report, *, now: datetime) -> bool:
        """Note *report* if there is room."""
        place = _place(reporter)

        async def decide(step: Step) -> bool:
            raw = await self._server.read(b"HGET", VERIFIERS, place)
            if raw is None:
                places = await self._server.read(b"HKEYS", VERIFIERS)
                of_client = sum(_is_of_client(one, reporter) for one in places)
                if not has_room(of_client=of_client, in_all=len(places)):
                    return False
                step.expect_size(VERIFIERS, len(places))
            known = None if raw is None else read_record(raw, VerifierRow).record
            canaries = {one.position: one for one in await self._canaries()} if report.denials else {}
            record = noted(known, reporter, report, canaries=canaries, now=now)
            step.expect(VERIFIERS, place, raw)
            step.put(VERIFIERS, place, encode(VerifierRow(record=record)))
            return True

        return await settle(self._server, _TABLES, decide) is not None

    async def leave(self, reporter: Reporter) -> None:
        """Forget a verifier."""
        place = _place(reporter)
        await self._server.change(VERIFIERS, "HDEL", (place,), record=(Kind.VERIFIERS, place))

    async def reports(self) -> Reports:
        """Return verifiers and canaries of one moment."""
        verifiers, canaries = await self._server.look("reports", (VERIFIERS, CANARIES))
        records = [read_record(raw, VerifierRow).record for raw in verifiers[1::2]]
        records.sort(key=lambda one: (one.client_id, one.name, one.instance))
        return Reports(records, _read_canaries(canaries))

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* verifiers that are silent for too long."""
        gone = 0
        silent = [one for one in (await self.reports()).verifiers if one.heard_at <= now - FORGOTTEN_AFTER]
        for record in silent[:limit]:
            gone += await self._forget(record)
        return gone

    async def _forget(self, record: VerifierRecord) -> bool:
        """Forget a verifier, unless it has reported meanwhile."""
        row = VerifierRow(record=record)

        async def decide(step: Step) -> bool:
            if await self._server.read(b"HGET", VERIFIERS, row.key) != encode(row):
                return False
            step.expect(VERIFIERS, row.key, encode(row))
            step.remove(VERIFIERS, row.key)
            return True

        return await settle(self._server, _TABLES, decide) is not None

    async def _canaries(self) -> list[Canary]:
        return _read_canaries(await self._server.read(b"HGETALL", CANARIES))


def _read_canaries(flat: list[bytes]) -> list[Canary]:
    found = [read_canary(number, packed) for number, packed in zip(flat[::2], flat[1::2], strict=True)]
    return sorted(found, key=lambda canary: canary.number)


def read_canary(number: bytes, packed: bytes) -> Canary:
    """Return the canary that is kept under *number*."""
    try:
        position, at = _CANARY.unpack(packed)
    except struct.error:
        raise DamagedRow("a canary") from None
    return Canary(int(number), Position(position), from_micros(at))


def pack_canary(canary: Canary) -> bytes:
    """Return what is kept of *canary*."""
    return _CANARY.pack(canary.position, to_micros(canary.at))


def _place(reporter: Reporter) -> str:
    client, name = reporter.client_id, reporter.name
    return f"{len(client)}:{len(name)}:{client}{name}{reporter.instance}"


def _is_of_client(place: bytes, reporter: Reporter) -> bool:
    length, _, rest = place.decode().split(":", 2)
    return rest[: int(length)] == reporter.client_id
