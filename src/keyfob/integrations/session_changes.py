"""What a request changed of an application's session, so that two requests at once do not undo each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Dump = Callable[[object], str]
"""Turns a value into text, the same for what is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The keys that were set, with their values, and those that were removed."""

    put: Mapping[str, object] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.put or self.removed)

    def on(self, current: Mapping[str, object]) -> dict[str, object]:
        """Return *current* with these changes made to it: of a key that somebody else changed too, this value counts."""
        kept = {name: value for name, value in current.items() if name not in self.removed}
        return {**kept, **self.put}


def fingerprints(values: Mapping[str, object], dump: Dump) -> dict[str, str]:
    """Return each value as text, to be compared later: so a list inside that was appended to counts as changed."""
    return {name: dump(value) for name, value in values.items()}


def changes_since(before: Mapping[str, str], values: Mapping[str, object], dump: Dump) -> Changes:
    """Return how *values* differ from those whose fingerprints are *before*."""
    return Changes(
        put={name: value for name, value in values.items() if before.get(name) != dump(value)},
        removed=frozenset(before.keys() - values.keys()),
    )
