"""What a move from one store to another needs of both: marks that say what becomes of them, and the changes that come meanwhile.

    source   none → SOURCE → FENCED → MOVED
    target   none → TARGET → none

While a store is SOURCE, whatever changes a row notes it in the same transaction, whichever process it is. FENCED, it takes no writes any
more; MOVED, it cannot be opened. A TARGET cannot be opened before it is whole. So at no moment do two stores take the writes of one authority.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from keyfob.base.errors import StoreMoved, StoreUnavailable
from keyfob.stores.records import AnyRecord, Kind
from keyfob.stores.transfer import Transfer


class Role(StrEnum):
    """What a store is in a move."""

    SOURCE = "source"
    FENCED = "fenced"
    MOVED = "moved"
    TARGET = "target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a store is in the move `copy_id`, and where the other one is (without a password).

    `progress` is kept on the target: how far the first pass has come; empty before its first page.
    """

    role: Role
    copy_id: str
    place: str
    progress: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Rows that changed, as they are now: to be put, or to be removed. Empty at `through` 0: the target is level."""

    through: int
    put: Sequence[AnyRecord]
    removed: Sequence[tuple[Kind, str]]


def refusal(mark: Mark | None, database: str) -> StoreUnavailable | None:
    """Return why nobody may use a store with *mark*, which messages call *database*; None where it may be used."""
    if mark is None or mark.role in {Role.SOURCE, Role.FENCED}:
        return None
    if mark.role is Role.MOVED:
        return StoreMoved(
            f"the database {database} has moved to {mark.place}; give --store (KEYFOB_STORE) that URL"
        )
    return StoreUnavailable(
        f"the database {database} is being filled from {mark.place}; finish with: keyfob store copy --switch"
    )


class Movable(Transfer, Protocol):
    """A store that can be moved while it is used. Every verb is one atomic step and raises `StoreUnavailable`."""

    @property
    def readers_leave(self) -> timedelta:
        """Return within what time of MOVED every process that has it open has noticed, also one that missed the wake-up."""
        ...

    def exclusively(self) -> AbstractAsyncContextManager[None]:
        """Hold off every other copier of this store; whoever holds lets go with its process.

        Raises:
            ConfigurationError: another copier is at work.
        """
        ...

    async def mark(self) -> Mark | None:
        """Return the mark; None for a store that nobody moves."""
        ...

    async def set_mark(self, mark: Mark | None, *, replaces: Mark | None) -> bool:
        """Set the mark if it is still *replaces*, and what it means with it, durably; say whether it was set.

        SOURCE: changes are noted from here on, after every transaction that was under way. FENCED and MOVED: no transaction writes from
        here on. None: all of that ends, and noted changes are forgotten.
        """
        ...

    async def changes(self, limit: int) -> Changes:
        """Return up to *limit* rows that changed since they were last forgotten, earliest first, all as of one moment."""
        ...

    async def forget_changes(self, through: int) -> None:
        """Forget the changes up to *through*; a row that changed again since stays noted."""
        ...
