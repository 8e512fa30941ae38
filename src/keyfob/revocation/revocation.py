"""A revocation: what somebody asks to be ended, before it has a place in the feed."""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Reach, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The order for exactly one entry.

    `event` is written to the audit trail in the same step as the entry; the reason stays there, not on the feed.

    Raises:
        ValueError: a scope without its id, `everything` with one, a spared session that is not for the scope `subject` or
            `everything`, or a reach of `claims` for a scope that has none (`token`, `key`).
    """

    scope: Scope
    id: str
    event: Event
    reach: Reach = Reach.END
    spared: SessionId | None = None

    def __post_init__(self) -> None:
        if bool(self.id) == (self.scope is Scope.EVERYTHING):
            raise ValueError(f"scope {self.scope.value} {'takes no id' if self.id else 'needs an id'}")
        if self.spared is not None and self.scope not in {Scope.SUBJECT, Scope.EVERYTHING}:
            raise ValueError(f"scope {self.scope.value} spares no session")
        if self.reach is Reach.CLAIMS and self.scope in {Scope.TOKEN, Scope.KEY}:
            raise ValueError(f"scope {self.scope.value} has no claims to re-read")
