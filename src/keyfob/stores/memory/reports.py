"""What verifiers report, in memory."""

from __future__ import annotations

from datetime import datetime, timedelta

from keyfob.revocation.canary import KEPT_CANARIES, Canary, is_due, revocation_of
from keyfob.revocation.entry import Entry
from keyfob.revocation.reports import FORGOTTEN_AFTER, Report, Reporter, Reports, noted
from keyfob.stores.memory.revoking import append_entry
from keyfob.stores.memory.state import State
from keyfob.stores.reporting import has_audience, has_room


class MemoryReportStore:
    """A `ReportStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def revoke_canary(self, *, now: datetime, period: timedelta) -> Entry | None:
        """Append the next canary's entry if it is due."""
        state = self._state
        with state.step():
            last = state.canaries[-1] if state.canaries else None
            heard = max((record.heard_at for record in state.verifiers.values()), default=None)
            if not has_audience(heard, now) or not is_due(last.at if last else None, now, period=period):
                return None
            number = last.number + 1 if last else 1
            entry = append_entry(state, revocation_of(number, now), now, longest=timedelta(0))
            state.canaries.append(Canary(number, entry.position, now))
            del state.canaries[:-KEPT_CANARIES]
            return entry

    async def report(self, reporter: Reporter, report: Report, *, now: datetime) -> bool:
        """Note *report* if there is room."""
        state = self._state
        with state.step():
            known = state.verifiers.get(reporter)
            of_client = sum(other.client_id == reporter.client_id for other in state.verifiers)
            if known is None and not has_room(of_client=of_client, in_all=len(state.verifiers)):
                return False
            canaries = {canary.position: canary for canary in state.canaries}
            state.verifiers[reporter] = noted(known, reporter, report, canaries=canaries, now=now)
            return True

    async def leave(self, reporter: Reporter) -> None:
        """Forget a verifier."""
        with self._state.step():
            self._state.verifiers.pop(reporter, None)

    async def reports(self) -> Reports:
        """Return verifiers and canaries."""
        state = self._state
        with state.step():
            ordered = sorted(state.verifiers, key=lambda one: (one.client_id, one.name, one.instance))
            return Reports([state.verifiers[one] for one in ordered], list(state.canaries))

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* verifiers that are silent for too long."""
        state = self._state
        with state.step():
            gone = [
                one for one, record in state.verifiers.items() if record.heard_at <= now - FORGOTTEN_AFTER
            ]
            for one in gone[:limit]:
                del state.verifiers[one]
            return len(gone[:limit])
