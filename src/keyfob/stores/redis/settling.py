"""Steps on the small tables: read, decide by the rules that every store shares, and write if nobody was faster; else begin again.

What is read and what is written is compared in one script, so each is one atomic step that says who won.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.stores.records import Kind, number_key
from keyfob.stores.redis import places
from keyfob.stores.redis.packing import event_fields, order_fields, raw
from keyfob.stores.redis.places import STATE
from keyfob.stores.redis.server import Server

_KINDS: Final = {
    places.SIGNING_KEYS: Kind.KEYS,
    places.CLIENTS: Kind.CLIENTS,
    places.SUBJECTS: Kind.SUBJECTS,
    places.ACCOUNTS: Kind.ACCOUNTS,
    places.VERIFIERS: Kind.VERIFIERS,
    places.CANARIES: Kind.CANARIES,
    places.CONSENTS: Kind.CONSENTS,
}
_TRIES: Final = 50  # others that were faster, one after another


@dataclass(slots=True)
class Step:
    """What is to be as it was read, and what is written then. Built up by whoever decides, on the tables *keys*."""

    keys: tuple[bytes, ...]
    checks: list[tuple[int, str, object]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, str, object, str, str]] = field(default_factory=list)
    names: list[tuple[int, str, bool]] = field(default_factory=list)
    more: dict[str, object] = field(default_factory=dict)
    revocation: Revocation | None = None

    def expect(self, key: bytes, field: str, value: bytes | None) -> None:
        """Go on only if *field* of *key* is still *value*; None: there is none."""
        self.checks.append((self._place(key), field, False if value is None else raw(value)))

    def expect_size(self, key: bytes, size: int) -> None:
        """Go on only if *key* still has *size* fields."""
        self.sizes.append((self._place(key), size))

    def put(self, key: bytes, field: str, value: bytes) -> None:
        """Write *field* of *key*."""
        self.writes.append((self._place(key), field, raw(value), *_record(key, field)))

    def remove(self, key: bytes, field: str) -> None:
        """Remove *field* of *key*."""
        self.writes.append((self._place(key), field, False, *_record(key, field)))

    def list_name(self, key: bytes, name: str) -> None:
        """Put *name* into the sorted list *key*."""
        self.names.append((self._place(key), name, True))

    def strike_name(self, key: bytes, name: str) -> None:
        """Take *name* off the sorted list *key*."""
        self.names.append((self._place(key), name, False))

    def forget_all(self, key: bytes, order: bytes, prefix: str) -> None:
        """Remove every field of *key* that begins with *prefix*, whoever put it there; the sorted list *order* names them."""
        kind = _KINDS[key].value
        self.more["forget"] = [(self._place(key), self._place(order), prefix, kind)]

    def tell(self, event: Event) -> None:
        """Write *event*."""
        self.more["event"] = event_fields(event)

    def revoke(self, revocation: Revocation, now: datetime) -> None:
        """Carry *revocation* out, and write its event."""
        self.revocation = revocation
        self.more["now"] = to_micros(now)
        self.tell(revocation.event)

    def revoke_if_signed_in(self, revocation: Revocation, now: datetime) -> None:
        """Carry *revocation* out if its subject has a session that nobody has ended; write its event in any case."""
        self.revoke(revocation, now)
        self.more["only_if_session"] = True

    def append_canary(self, order: Revocation, number: int, now: datetime) -> None:
        """Append the entry of *order* alone, and note it under *number* in the first table."""
        self.more["canary"] = {**order_fields(order), "number": str(number)}
        self.more["now"] = to_micros(now)

    def _place(self, key: bytes) -> int:
        return len(STATE) + self.keys.index(key) + 1


def _record(key: bytes, field: str) -> tuple[str, str]:
    """Return kind and key of the record that lies under *field* of *key*; empty where it belongs to another one."""
    kind = _KINDS.get(key)
    if kind is None:
        return "", ""
    return kind.value, number_key(int(field)) if kind is Kind.CANARIES else field


@dataclass(frozen=True, slots=True)
class Settled:
    """It is written; *entry* is what was appended with it."""

    entry: Entry | None


async def settle(
    server: Server, keys: tuple[bytes, ...], decide: Callable[[Step], Awaitable[bool]]
) -> Settled | None:
    """Let *decide* read and fill in a step until it is carried out; None where it says that there is nothing to be done.

    Raises:
        StoreUnavailable: the server does not answer, or others were faster again and again.
    """
    for _ in range(_TRIES):
        step = Step(keys)
        if not await decide(step):
            return None
        outcome, *rest = await _carry_out(server, step)
        if outcome == b"done":
            appended = [server.appended(entry) for entry in rest]
            await server.carry(appended)
            return Settled(appended[0] if appended else None)
    raise server.too_busy()


async def _carry_out(server: Server, step: Step) -> Any:
    orders = server.orders(*step.keys)
    asked: dict[str, object] = {
        "checks": step.checks,
        "sizes": step.sizes,
        "writes": step.writes,
        "names": step.names,
        **step.more,
    }
    if step.revocation is not None:
        asked["order"] = orders.add(step.revocation)
    return await server.step("settle", orders.keys, asked)
