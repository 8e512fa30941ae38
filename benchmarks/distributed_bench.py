"""An authority, a relay, and verifiers in many processes behind it: how long until the first, and until the last, denies.

`python -m benchmarks.distributed_bench` measures 50 processes with a verifier each. Sessions are ended one after the other at a steady rate, by
`POST /logout` at the authority; every verifier follows the relay over HTTP. What counts runs from the moment at which the answer was read
to the denial that took place, at whichever verifier was first and at whichever was last; a denial that came before the answer counts as 0 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import log10
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import machine, processes, revocation_bench
from benchmarks.figures import BenchmarkFailed, percentile
from benchmarks.follower import READY, START_TIMEOUT, Denials, Order, denial
from benchmarks.population import store_url
from benchmarks.processes import START_SECONDS, Program
from benchmarks.revocation_bench import AUDIENCE, CLIENT, INTERVAL, PATIENCE, WARM_UP
from keyfob.base.errors import Denied
from keyfob.verifier.verifier import Verifier

TARGETS = {"p50": 8.0, "p99": 25.0}  # milliseconds to the last verifier
_STARTING = 8  # processes that start at once
_PLACE = re.compile(rb" on (http://127\.0\.0\.1:\d+);")


class RegionOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of verifiers does: so many of them, each guarding every credential."""

    follow: Order
    feed_url: str
    verifiers: int


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the return of a revocation to a denial: quantiles, and every one in ascending order."""

    p50: float
    p99: float
    longest: float
    all: list[float]

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Spread:
        """Sum up *milliseconds*."""
        ordered = sorted(milliseconds)
        return cls(
            p50=round(percentile(ordered, 0.5), 3),
            p99=round(percentile(ordered, 0.99), 3),
            longest=round(ordered[-1], 3),
            all=[round(one, 3) for one in ordered],
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. `first` and `last` are the verifiers that denied first and last, of each revocation."""

    processes: int
    verifiers: int
    revocations: int
    rate: float  # revocations a second
    verifier_cpu_ms: float  # processor time of one verifier for one revocation, heartbeats and all
    first: Spread
    last: Spread
    targets: dict[str, float]
    machine: dict[str, object]

    @property
    def is_met(self) -> bool:
        """Whether the last verifier denied within the targets."""
        return self.last.p50 <= self.targets["p50"] and self.last.p99 <= self.targets["p99"]


def run(*, verifier_processes: int, each: int, revocations: int) -> Outcome:
    """Measure *revocations* at *verifier_processes* processes with *each* verifiers.

    Raises:
        BenchmarkFailed: something did not start, or a verifier did not deny.
    """
    with TemporaryDirectory(prefix="keyfob-bench-") as name:
        returned, came, used = _measure(Path(name), verifier_processes, each, WARM_UP + revocations)
    moments = list(zip(*came, strict=True))[WARM_UP:]
    after = list(zip(returned[WARM_UP:], moments, strict=True))
    return Outcome(
        processes=verifier_processes,
        verifiers=verifier_processes * each,
        revocations=revocations,
        rate=1 / INTERVAL,
        verifier_cpu_ms=round(used / (verifier_processes * each * (WARM_UP + revocations)) * 1e3, 3),
        first=Spread.of([max(0.0, min(denied) - at) * 1e3 for at, denied in after]),
        last=Spread.of([max(0.0, max(denied) - at) * 1e3 for at, denied in after]),
        targets=TARGETS,
        machine=dict(machine.facts()),
    )


def _measure(
    folder: Path, verifier_processes: int, each: int, count: int
) -> tuple[list[float], list[list[float]], float]:
    """Return when each revocation had returned, when each verifier denied each, and the processor seconds that the verifiers used."""
    port = revocation_bench._free_port()
    issuer = f"http://127.0.0.1:{port}"
    prepared = asyncio.run(revocation_bench._prepare(folder, issuer, count))
    environment = {"KEYFOB_STORE": store_url(folder), "KEYFOB_ISSUER": issuer}
    seconds = START_SECONDS * (1 + verifier_processes / _STARTING) + count * INTERVAL + PATIENCE
    follow = Order(
        issuer=issuer,
        audience=AUDIENCE,
        client_id=CLIENT,
        client_secret=prepared.secret,
        tokens=list(prepared.tokens),
        seconds=seconds,
    )
    with (
        processes.keyfob_server(folder, None, environment, port=port),
        relay(folder, issuer, (CLIENT, prepared.secret)) as (feed_url, _),
        ExitStack() as stack,
    ):
        order = RegionOrder(follow=follow, feed_url=feed_url, verifiers=each)
        programs = list(_started(stack, folder, order, verifier_processes))
        before = sum(program.used() for program in programs)
        returned = revocation_bench._revoke(port, prepared.tokens, tell=_tell_nobody)
        used = sum(program.used() for program in programs) - before
        denials = [moments for program in programs for moments in _denials(program)]
    if any(len(moments) != count for moments in denials):
        raise BenchmarkFailed("a verifier did not deny everything")
    return returned, denials, used


@contextmanager
def relay(folder: Path, upstream: str, credentials: tuple[str, str]) -> Iterator[tuple[str, Program]]:
    """Run `keyfob relay` of *upstream*; give its address once it is level, and the program."""
    environment = {
        "KEYFOB_CLIENT_ID": credentials[0],
        "KEYFOB_CLIENT_SECRET": credentials[1],
        "KEYFOB_LOG_LEVEL": "error",
    }
    arguments = ("relay", "--upstream", upstream, "--port", "0")
    with processes.running(
        "keyfob.cli", *arguments, folder=folder, core=None, environment=environment
    ) as program:
        place = _PLACE.search(program.line(START_SECONDS))
        if place is None:
            raise BenchmarkFailed("keyfob relay did not say where it is")
        url = place[1].decode()
        _wait_until_ready(url)
        yield url, program


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise BenchmarkFailed("the relay did not become level")


def _started(stack: ExitStack, folder: Path, order: RegionOrder, count: int) -> Iterator[Program]:
    """Start the processes, a few at a time; give each once its verifiers are level and hold their guards."""
    for start in range(0, count, _STARTING):
        group = [
            stack.enter_context(
                processes.running("benchmarks.distributed_bench", "--verify", folder=folder, core=None)
            )
            for _ in range(start, min(count, start + _STARTING))
        ]
        for program in group:
            program.tell(msgspec.json.encode(order))
        for program in group:
            revocation_bench._require_ready(program.line(START_SECONDS + 30))
            yield program


def _denials(program: Program) -> list[list[float]]:
    denials = msgspec.json.decode(program.line(PATIENCE), type=list[Denials])
    for one in denials:
        if one.failure:
            raise BenchmarkFailed(f"a verifier did not deny what was revoked: {one.failure}")
    return [one.denied_at for one in denials]


# In the processes of verifiers


async def verify(order: RegionOrder) -> list[Denials]:
    """Run the verifiers of one process until each has denied every credential."""
    follow = order.follow
    async with asyncio.TaskGroup() as group:
        guarded = asyncio.Barrier(order.verifiers * len(follow.tokens) + 1)
        tasks = [group.create_task(_verify(order, guarded)) for _ in range(order.verifiers)]
        await guarded.wait()
        _say(READY)
        return [await task for task in tasks]


async def _verify(order: RegionOrder, guarded: asyncio.Barrier) -> Denials:
    follow = order.follow
    async with Verifier.follow(
        follow.issuer,
        audience=follow.audience,
        feed_url=order.feed_url,
        credentials=(follow.client_id, follow.client_secret),
        start_timeout=START_TIMEOUT,
    ) as verifier:
        tasks = [asyncio.create_task(denial(verifier, token, guarded)) for token in follow.tokens]
        try:
            async with asyncio.timeout(follow.seconds):
                return Denials(denied_at=list(await asyncio.gather(*tasks)))
        except (TimeoutError, Denied) as error:
            return Denials(denied_at=[], failure=f"{type(error).__name__}: {error}")


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


# What is shown


def as_text(outcome: Outcome) -> str:
    """Return the outcome as lines for a terminal."""
    head = (
        f"{outcome.verifiers} verifiers in {outcome.processes} processes behind one relay, {outcome.revocations} revocations, "
        f"{outcome.rate:g} a second; ms from revoke-returned to denied"
    )
    rows = [
        f"  at the {name} verifier: p50 {spread.p50:8.2f}   p99 {spread.p99:8.2f}   max {spread.longest:8.2f}"
        for name, spread in (("first", outcome.first), ("last", outcome.last))
    ]
    target = f"  target to the last: p50 <= {TARGETS['p50']:g}, p99 <= {TARGETS['p99']:g}: {'met' if outcome.is_met else 'missed'}"
    floor = outcome.verifier_cpu_ms * outcome.verifiers / int(str(outcome.machine["cores"]))
    work = f"  a verifier works {outcome.verifier_cpu_ms:.2f} ms for one; all of them on this machine's cores: {floor:.1f} ms"
    return "\n".join((head, *rows, target, work))


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 380, 60, 20, 60, 50
_DECADES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # milliseconds


def as_svg(outcome: Outcome) -> str:
    """Return the share of revocations that were denied within so many milliseconds, at the first verifier and at the last."""
    ticks = [
        f'<line class="grid" x1="{_x(at):.1f}" y1="{_TOP}" x2="{_x(at):.1f}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text x="{_x(at):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{at:g} ms</text>'
        for at in _DECADES
    ]
    ticks += [
        f'<text x="{_LEFT - 8}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        for share in (0, 0.5, 1)
    ]
    targets = [
        f'<circle class="target" cx="{_x(TARGETS[name]):.1f}" cy="{_y(share):.1f}" r="5"><title>{name}: {TARGETS[name]:g} ms</title></circle>'
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]
    title = f"Denied within, at the first (dashed) and the last of {outcome.verifiers} verifiers behind a relay; circles: targets"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="title">',
            f'<title id="title">{title}</title>',
            "<style>text { font: 13px system-ui, sans-serif; fill: #57606a; } .grid { stroke: #8884; } "
            ".curve { fill: none; stroke: #2a78b8; stroke-width: 2; } .first { stroke-dasharray: 5 4; } "
            ".target { fill: none; stroke: #c4501b; stroke-width: 2; }</style>",
            f'<text x="12" y="24">{title}</text>',
            *ticks,
            f'<polyline class="curve first" points="{_curve(outcome.first)}"/>',
            f'<polyline class="curve" points="{_curve(outcome.last)}"/>',
            *targets,
            "</svg>\n",
        )
    )


def _curve(spread: Spread) -> str:
    count = len(spread.all)
    return " ".join(f"{_x(at):.1f},{_y(number / count):.1f}" for number, at in enumerate(spread.all, 1))


def _x(milliseconds: float) -> float:
    least, most = _DECADES[0], _DECADES[-1]
    share = log10(min(max(milliseconds, least), most) / least) / log10(most / least)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def write(outcome: Outcome, folder: Path) -> None:
    """Write `distributed.json` and `distributed.svg` into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "distributed.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(outcome), indent=1) + b"\n"
    )
    (folder / "distributed.svg").write_text(as_svg(outcome), "utf-8")


def _tell_nobody(what: str, share: float) -> None:
    """Take progress that nobody looks at."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write, or be one process of verifiers; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distributed_bench", description=__doc__)
    parser.add_argument("--processes", type=int, default=50, metavar="N")
    parser.add_argument("--each", type=int, default=1, metavar="N", help="verifiers in a process")
    parser.add_argument("--revocations", type=int, default=200, metavar="N")
    parser.add_argument(
        "--out", type=Path, default=processes.ROOT / "benchmarks" / "results", metavar="FOLDER"
    )
    parser.add_argument("--verify", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.verify:
        order = msgspec.json.decode(sys.stdin.buffer.readline(), type=RegionOrder)
        _say(msgspec.json.encode(asyncio.run(verify(order))))
        return 0
    try:
        outcome = run(
            verifier_processes=options.processes, each=options.each, revocations=options.revocations
        )
    except BenchmarkFailed as failed:
        print(f"The benchmark failed: {failed}")
        return 1
    write(outcome, options.out)
    print(as_text(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
