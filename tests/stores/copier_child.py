"""A copier that says each step, until it is killed. Run by test_copying.py."""

from __future__ import annotations

import asyncio
import os
import sys

from keyfob.stores.copying import Copier, Ends
from keyfob.stores.opening import make_movable, open_movable, place_of
from keyfob.testing.frozen_clock import FrozenClock


async def main(here: str, there: str) -> None:
    source, target = await open_movable(here), await make_movable(there)
    async with source.exclusively():
        ends = Ends(source, target, place_of(here), place_of(there))
        os.write(1, b"begin\n")
        copying = Copier(ends, clock=FrozenClock(), on_progress=lambda kind, _: os.write(1, b"page\n"))
        await copying.copy()
        os.write(1, b"level\n" * 12)
        await copying.follow(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
