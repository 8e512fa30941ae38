"""A memory store that goes back."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

KEPT_APART = {"clock", "wakers", "_lock", "_is_closed"}


class Past:
    """A memory store that can be put back to where it was: a failover to a replica that lagged."""

    def __init__(self, store: Any) -> None:
        self._state = store.feed._state
        self._then = self._copied()

    def return_(self) -> None:
        for name, value in self._then.items():
            setattr(self._state, name, value)

    def _copied(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(self._state) if field.name not in KEPT_APART]
        return {name: copy.copy(getattr(self._state, name)) for name in names}
