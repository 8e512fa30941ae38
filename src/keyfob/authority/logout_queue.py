"""From the feed to the outbox: what an entry ended at OpenID clients becomes deliveries.

1. What the feed has after the durable cursor is read, entry by entry.
2. The children that an entry ended, at clients that want to be told, become deliveries.
3. They are queued, and the cursor moved, in one step: of several servers one queues them, and a crash before it changes nothing.

Where no client wants to be told, the cursor moves on and nothing else is looked at.

An entry that ended more than fits into one step is queued in several, and the cursor moves with the last. A crash between two of them
leaves it to be read again; what waits already is then passed over by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from keyfob.authority.backchannel_rules import CONSUMER, deliveries_of, missed, wants_to_be_told
from keyfob.base.clock import Clock
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position
from keyfob.clients.client import Client
from keyfob.clients.store import ClientStore
from keyfob.grants.delivery import Cursor, Delivery
from keyfob.grants.store import OutboxStore
from keyfob.revocation.canary import is_canary
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.feed import Feed
from keyfob.revocation.store import FeedStore
from keyfob.sessions.store import SessionStore

ENTRIES_AT_ONCE: Final = 64
CHILDREN_AT_ONCE: Final = 200
QUEUED_AT_ONCE: Final = 200
"""Deliveries after which a step is made, whatever is still to be read."""


@dataclass(slots=True)
class _Gathered:
    """What is to be queued in the next step, and the clients that want to be told."""

    cursor: Cursor
    reached: Cursor
    clients: Mapping[ClientId, Client]
    deliveries: list[Delivery] = field(default_factory=list)


async def begin_queue(outbox: OutboxStore, feed_store: FeedStore) -> None:
    """Make the cursor, at the head, where there is none: before anybody can sign in at a client that wants to be told.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    if await outbox.cursor(CONSUMER) is None:
        head = await feed_store.head()
        at_head = Cursor(timeline=head.timeline, position=head.position)
        await outbox.enqueue(CONSUMER, (), cursor_from=None, cursor_to=at_head)


class LogoutQueue:
    """Queues logout tokens. Any number of servers do so on one store."""

    def __init__(
        self,
        feed: Feed,
        *,
        feed_store: FeedStore,
        sessions: SessionStore,
        clients: ClientStore,
        outbox: OutboxStore,
        clock: Clock,
        tell: Callable[[Event], None],
    ) -> None:
        self.missed = 0
        """Entries that were gone before this process could read them: a day and more behind. Whom they ended was not told."""
        self._feed = feed
        self._feed_store = feed_store
        self._sessions = sessions
        self._clients = clients
        self._outbox = outbox
        self._clock = clock
        self._tell = tell
        self._level_with: Head | None = None

    async def fill(self) -> bool:
        """Read the feed up to its head; say whether there was anything to read. Where another server is faster, it goes on from there.

        Raises:
            StoreUnavailable: the store does not answer; what was queued until then is, and the rest is read again.
        """
        if self._feed.live.head == self._level_with:
            return False
        while not await self._step():
            pass
        return True

    async def _step(self) -> bool:
        """Make one step; say whether the cursor is level with the feed."""
        cursor = await self._outbox.cursor(
            CONSUMER
        )  # before the head: so it is behind it, never past what was read
        head = await self._feed_store.head()
        at_head = Cursor(timeline=head.timeline, position=head.position)
        if cursor is None:  # it was there when this process began
            self._tell(Event(at=self._clock.now(), code="backchannel_cursor_lost"))
            await begin_queue(self._outbox, self._feed_store)
            return False
        if cursor.position >= head.position:
            # Past it: the feed went back, and is about to be mended.
            self._level_with = head if cursor.position == head.position else None
            return True
        entries = await self._feed_store.read_after(cursor.position, ENTRIES_AT_ONCE)
        if not entries:
            self._note_missed(cursor.position, [Position(head.position + 1)])
            await self._outbox.enqueue(CONSUMER, (), cursor_from=cursor, cursor_to=at_head)
            return False
        self._note_missed(cursor.position, [entry.position for entry in entries])
        await self._queue(cursor, entries, head)
        return False

    async def _queue(self, cursor: Cursor, entries: Sequence[Entry], head: Head) -> None:
        """Queue what *entries* ended, up to about `QUEUED_AT_ONCE` deliveries in a step."""
        # After the entries: whose session an entry ended was there before it.
        clients = {one.client_id: one for one in await self._clients.list() if wants_to_be_told(one)}
        gathered = _Gathered(cursor=cursor, reached=cursor, clients=clients)
        for entry in entries:
            if clients and not is_canary(entry) and not await self._gather(entry, gathered):
                return
            gathered.reached = Cursor(timeline=head.timeline, position=entry.position)
        await self._put(gathered)

    async def _gather(self, entry: Entry, gathered: _Gathered) -> bool:
        """Add what *entry* ended; False where another server was faster in a step between."""
        after: str | None = None
        while True:
            page = await self._sessions.list_ended_children(entry, after=after, limit=CHILDREN_AT_ONCE)
            gathered.deliveries += deliveries_of(page.sessions, gathered.clients, self._clock.now())
            if len(gathered.deliveries) >= QUEUED_AT_ONCE and not await self._put(gathered):
                return False
            after = page.next
            if after is None:
                return True

    async def _put(self, gathered: _Gathered) -> bool:
        queued = await self._outbox.enqueue(
            CONSUMER,
            gathered.deliveries,
            cursor_from=gathered.cursor,
            cursor_to=gathered.reached,
        )
        gathered.cursor, gathered.deliveries = gathered.reached, []
        return queued

    def _note_missed(self, cursor: Position, positions: Sequence[Position]) -> None:
        gone = missed(cursor, positions)
        if gone:
            self.missed += gone
            facts: dict[str, str | int] = {"entries": gone, "after": cursor}
            self._tell(Event(at=self._clock.now(), code="backchannel_entries_missed", facts=facts))
