"""A server that dies on its way from the feed to a client: at the verb of the outbox that it is told, before or after it was carried out."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, NoReturn

from keyfob.authority.authority import Authority
from keyfob.authority.logout_post import BackchannelPolicy
from keyfob.base.clock import SystemClock


def run(url: str, verb: str, moment: str) -> None:
    """Serve the back channel of the store at *url* until it dies. To be run in a process of its own."""
    asyncio.run(_serve(url, verb, moment))


async def _serve(url: str, verb: str, moment: str) -> None:
    authority = await Authority.open(
        url,
        issuer="https://auth.example",
        master_key=bytes(range(32)),
        clock=SystemClock(),
        backchannel=BackchannelPolicy(networks=("127.0.0.0/8",)),
    )
    outbox = authority.store.outbox
    carry_out = getattr(outbox, verb)

    async def dying(*arguments: Any, **options: Any) -> Any:
        # The cursor moves also where there is nothing to deliver.
        concerns = bool(arguments[1]) if verb == "enqueue" else True
        if moment == "before" and concerns:
            _die()
        outcome = await carry_out(*arguments, **options)
        if outcome and concerns:
            _die()
        return outcome

    setattr(outbox, verb, dying)
    await asyncio.sleep(60)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("never")
