"""What reads the records of a store page by page, and loads them into another: what copies, backups and restores are made of."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from keyfob.revocation.entry import Head
from keyfob.stores.records import (
    AnyRecord,
    FeedRow,
    Kind,
    encode,
)

PAGE = 500  # records: what a page holds at most where nothing else is said; a few hundred KB at the most usual sizes


class Snapshot(Protocol):
    """One moment of a store, read page by page while the store goes on."""

    async def read(self, kind: Kind, *, after: str | None, limit: int) -> Sequence[AnyRecord]:
        """Return up to *limit* records of *kind* whose key comes behind *after*, in the store's order of keys.

        Fewer than *limit*: there are no more. A key need not stand any more to be continued from.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def count(self, kind: Kind) -> int:
        """Return how many records of *kind* there are.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...


class Transfer(Protocol):
    """Carries a store's rows out of it and into it, without any of the rules of its verbs.

    It checks nothing and ends nothing: only a copy, a restore or a test may load, into a store that nobody else uses.
    """

    def snapshot(self, now: datetime) -> AbstractAsyncContextManager[Snapshot]:
        """Open one moment of the store, without the sessions, entries and cut-offs that are over at *now*.

        It hinders no writer. Keep it for minutes, not for days: a store cannot tidy up behind it.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place, all of them or none, durably; each replaces what stands under its key.

        So a page that is loaded twice changes nothing the second time. An opened `Store` keeps the salt that it was opened with: open it
        again after a `FeedRow` was loaded.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys*, all of them or none, durably; unknown ones are passed over. The row of the feed stays.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*, in one durable step that readers see whole or not at all.

        Unlike `load` it may be called while others use the store. False where the head is not *instead_of* by now; nothing was changed
        then, nor where *pages* raises. *pages* may be read on another thread, once; the row of the feed stays unless they hold another.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def close(self) -> None:
        """Give up whatever it holds. More than once is harmless."""
        ...


@dataclass(slots=True)
class Tally:
    """How many records of one kind there are, and a digest of them that does not depend on their order.

    The digest is the sum of the SHA-256 digests of the records: it finds what a copy lost, doubled or changed. It is no proof against
    somebody who chooses the records.
    """

    count: int = 0
    _sum: int = field(default=0, repr=False)

    def add(self, record: AnyRecord) -> None:
        """Count *record*."""
        self.count += 1
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(encode(record)).digest(), "big")) % _MODULUS

    @property
    def digest(self) -> str:
        """Return the digest so far, 64 hex digits."""
        return f"{self._sum:064x}"


async def pages(snapshot: Snapshot, kind: Kind, *, limit: int = PAGE) -> AsyncIterator[Sequence[AnyRecord]]:
    """Read all records of *kind*, page by page."""
    after = None
    while page := await snapshot.read(kind, after=after, limit=limit):
        yield page
        if len(page) < limit:
            return
        after = page[-1].key


async def tally(snapshot: Snapshot, kinds: Iterable[Kind] = tuple(Kind)) -> dict[Kind, Tally]:
    """Count what *snapshot* holds."""
    counted = {kind: Tally() for kind in kinds}
    for kind, one in counted.items():
        async for page in pages(snapshot, kind):
            for record in page:
                one.add(record)
    return counted


async def is_unused(snapshot: Snapshot) -> bool:
    """Say whether nobody has ever used the store: it holds nothing but a feed that has not begun."""
    for kind in Kind:
        for record in await snapshot.read(kind, after=None, limit=1):
            if not isinstance(record, FeedRow) or record.position != 0:
                return False
    return True


_MODULUS = 2**256
