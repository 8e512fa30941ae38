"""What a step on a session has decided and the feed does not know yet: an end for reuse or to make room, a renewal.

1. The step that decides notes it beside the row, in the slot: it is *owed*. The row stays as it was, and no other step that could decide
   anything about it is done before.
2. The feed gets the entry, once, by the number of the debt; or says that something else ended the session before.
3. The row is changed, and the note removed, in one step.

Whoever is killed in between leaves it to the next one who wants something of that session, or to the applier.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from keyfob.base.clock import from_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import Entry, Reach
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.catching_up import CatchingUp
from keyfob.stores.redis.orders import Orders
from keyfob.stores.redis.packing import Reply, raw
from keyfob.stores.revoking import of_session
from keyfob.stores.rows import DamagedRow


class Server(Protocol):
    """What is needed of a server."""

    def orders(self, *keys: bytes) -> Orders: ...
    def step(self, name: str, keys: Sequence[bytes], asked: Mapping[str, object]) -> Awaitable[Any]: ...
    def appended(self, reply: Reply) -> Entry: ...
    async def carry(self, entries: Sequence[Entry]) -> None: ...


class Debt(msgspec.Struct, frozen=True, kw_only=True):
    """What is owed for one session. `row` is the row after a renewal, in hex; `standing` what was known of the row when it was decided."""

    id: str
    kind: str
    session: SessionId
    subject: str
    client: str
    parent: str
    as_of: int
    at: int
    event: tuple[str, str, str, str]
    row: str = ""


@dataclass(frozen=True, slots=True)
class Paid:
    """The entry stands, and *row* is the row after it."""

    entry: Entry
    row: bytes


def read_debt(packed: bytes) -> Debt:
    """Read what a script has noted.

    Raises:
        StoreUnavailable: it is none: the data are damaged.
    """
    try:
        return _decoder.decode(packed)
    except msgspec.MsgspecError:
        raise DamagedRow("what a session owes") from None


class Debts:
    """Pays what is owed."""

    def __init__(self, server: Server, catching_up: CatchingUp) -> None:
        self._server = server
        self._catching_up = catching_up

    async def pay(self, packed: bytes) -> Paid | None:
        """See that what is owed is in the feed and in the rows; None where something else ended the session before.

        Raises:
            StoreUnavailable: one of the two does not answer. It stays owed.
        """
        debt = read_debt(packed)
        entry = await self._append(debt)
        tag = places.tag_of_session(debt.session)
        asked = {
            "field": raw(places.field_of(debt.session)),
            "debt": raw(packed),
            "row": debt.row,
            "position": 0 if entry is None else entry.position,
        }
        keys = (places.sessions_at(tag), places.data_at(tag))
        _, row = await self._catching_up.step("pay", tag, keys, asked)
        return None if entry is None else Paid(entry, row)

    async def _append(self, debt: Debt) -> Entry | None:
        at, *rest = debt.event
        orders = self._server.orders()
        reach = Reach.CLAIMS if debt.row else Reach.END
        event = Event(at=from_micros(int(at)), code=rest[0])
        order = orders.add(of_session(debt.session, event, reach=reach))
        asked = {
            "order": order,
            "now": debt.at,
            "event": (int(at), *rest),
            "owed": debt.id,
            "standing": {
                "subject": debt.subject,
                "client": debt.client,
                "as_of": debt.as_of,
                "parent": debt.parent,
            },
        }
        outcome, *found = await self._server.step("cluster/append", orders.keys, asked)
        if outcome == b"covered":
            # Nobody is told that it is over before its row says so too.
            await self._catching_up.know(Position(int(found[0])))
            return None
        entry = self._server.appended(found[0])
        await self._catching_up.know(entry.position)
        return entry


_decoder = msgspec.msgpack.Decoder(Debt)
