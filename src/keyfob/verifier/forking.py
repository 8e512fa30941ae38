"""Being told of a fork, in the child."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def call_in_forked_child(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Have *method* called in every forked child, for as long as its object lives: such a hook cannot be taken back."""

    def call() -> None:
        alive = method()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=call)
