"""What carries out in one store what another one has revoked: where accounts lie apart from the sessions and the feed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from keyfob.revocation.entry import Entry, Head


class Mirror(Protocol):
    """Carries out the entries of another store's feed, each once, in their order. Raises `StoreUnavailable`."""

    async def reached(self) -> Head | None:
        """Return the head up to which they have been carried out; None before the first."""
        ...

    async def carry_out(
        self, entries: Sequence[Entry], *, instead_of: Head | None, reached: Head
    ) -> Sequence[Entry] | None:
        """Append entries of the same scope, id, reach and spared session, end what is in their scope, and note *reached*, in one step.

        Return the entries that were appended; an entry about a session that is over already appends none. None, and nothing is changed,
        where another was faster: what has been reached is not *instead_of*.
        """
        ...
