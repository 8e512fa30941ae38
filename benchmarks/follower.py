"""One verifier process of the revocation benchmark: `python -m benchmarks.follower`, with what it needs as a line on standard input.

It follows the feed over HTTP and holds a guard around each credential. A guard ends when the feed covers its credential; at that moment the credential is
verified once more, and what counts is when that was denied. So the moment is that of a denial that took place, and nobody who polls takes the
processor from those who work. `time.perf_counter` is the clock of the whole machine, the same in every process.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta

import msgspec

from keyfob.base.errors import Cause, Denied
from keyfob.verifier.verifier import Verifier

READY = b"ready"
START_TIMEOUT = timedelta(seconds=60)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to follow, as which client, and which credentials to guard for up to `seconds`."""

    issuer: str
    audience: str
    client_id: str
    client_secret: str
    tokens: list[str]
    seconds: float


class Denials(msgspec.Struct, frozen=True, kw_only=True):
    """When each credential was denied, by the machine's steady clock, in seconds; and what went wrong, if anything."""

    denied_at: list[float]
    failure: str = ""


async def follow(order: Order) -> Denials:
    """Follow the feed until every credential was denied."""
    async with Verifier.follow(
        order.issuer,
        audience=order.audience,
        credentials=(order.client_id, order.client_secret),
        start_timeout=START_TIMEOUT,
    ) as verifier:
        guarded = asyncio.Barrier(len(order.tokens) + 1)
        tasks = [asyncio.create_task(denial(verifier, token, guarded)) for token in order.tokens]
        await guarded.wait()
        _say(READY)
        try:
            async with asyncio.timeout(order.seconds):
                return Denials(denied_at=list(await asyncio.gather(*tasks)))
        except (TimeoutError, Denied) as error:
            return Denials(denied_at=[], failure=f"{type(error).__name__}: {error}")


async def denial(verifier: Verifier, token: str, guarded: asyncio.Barrier) -> float:
    """Wait for the end of *token*, and return when it was first denied."""
    principal = verifier.verify(token)
    try:
        async with verifier.guard(principal):
            await guarded.wait()
            await asyncio.Event().wait()
    except Denied:
        pass
    try:
        verifier.verify(token)
    except Denied as denied:
        now = time.perf_counter()
        if denied.cause is Cause.REVOKED:
            return now
        raise
    raise Denied(Cause.MALFORMED, "accepted after its guard had ended")


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Read the order and carry it out."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    _say(msgspec.json.encode(asyncio.run(follow(order))))


if __name__ == "__main__":
    main()
