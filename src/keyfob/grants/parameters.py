"""The parameters of an authorization request, before anything is made of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """`values` by name; those that were there more than once are in `repeated`, and in `values` not at all."""

    values: Mapping[str, str]
    repeated: frozenset[str] = frozenset()

    @classmethod
    def of(cls, fields: Iterable[tuple[str, str]]) -> Self:
        """Take *fields* in their order. One without a value counts as absent (RFC 6749, section 3.1)."""
        values: dict[str, str] = {}
        repeated: set[str] = set()
        for name, value in fields:
            if name in values or name in repeated:
                repeated.add(name)
            elif value:
                values[name] = value
        for name in repeated:
            values.pop(name, None)
        return cls(values=values, repeated=frozenset(repeated))

    def get(self, name: str) -> str | None:
        """Return the value of *name*; None where it is absent, or was there more than once."""
        return self.values.get(name)
