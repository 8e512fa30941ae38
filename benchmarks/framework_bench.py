"""Frameworks: a route that Keyfob guards beside the same route with a dependency, middleware or decorator that does nothing.

Each on one core, the load on another, in rounds; every request carries an access token that the service has seen before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import processes
from benchmarks.figures import Figure, compared, quartiles
from benchmarks.framework_server import FRAMEWORKS, GUARDED, PLAIN
from benchmarks.http_bench import WARM, Cell, Seen, Size, facts_of, ratio_of_processor_time, rounds_of
from benchmarks.load import CONNECTIONS, Job
from benchmarks.population import ACCESS_LIFETIME, populate, store_url
from benchmarks.processes import Cores, Program
from benchmarks.rounds import Tell
from keyfob.authority.authority import Authority

_ASK = "GET /orders HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "


def run(size: Size, *, tell: Tell) -> list[Figure]:
    """Measure requests per second of each framework, guarded and plain."""
    with TemporaryDirectory(prefix="keyfob-bench-") as name, _staged(Path(name), size, tell=tell) as stage:
        cells, generator = stage
        seen = rounds_of(cells, generator, size, tell=tell, warm_ups=2)
    return [_figure(cell.name, seen, size) for cell in cells]


@contextmanager
def _staged(folder: Path, size: Size, *, tell: Tell) -> Iterator[tuple[Sequence[Cell], Program]]:
    port, cores = processes.free_port(), Cores.here()
    issuer = f"http://127.0.0.1:{port}"
    tell("making sessions", 0.0)
    tokens, secret = asyncio.run(_tokens(folder, issuer, size, tell))
    settings = {
        "KEYFOB_STORE": store_url(folder),
        "KEYFOB_ACCESS_LIFETIME": str(int(ACCESS_LIFETIME.total_seconds())),
    }
    environment = {"ISSUER": issuer, "CLIENT_ID": "orders", "CLIENT_SECRET": secret}
    with ExitStack() as stack:
        stack.enter_context(processes.keyfob_server(folder, cores.load, settings, port=port))
        cells = []
        for framework in FRAMEWORKS:
            for kind in (PLAIN, GUARDED):
                tell(f"starting {framework}", 0.0)
                place, program = stack.enter_context(
                    processes.framework_server(folder, cores.server, framework, kind, environment, tokens)
                )
                job = Job(
                    port=place, prefix=_ASK, lines=str(tokens), limit=WARM, expected=200, seconds=size.seconds
                )
                cells.append(
                    Cell(
                        name=f"frameworks.{framework}.{kind}",
                        job=job,
                        server=program,
                        is_warm=kind == GUARDED,
                    )
                )
        yield cells, stack.enter_context(processes.load_generator(folder, cores.load))


async def _tokens(folder: Path, issuer: str, size: Size, tell: Tell) -> tuple[Path, str]:
    hybrids = max(CONNECTIONS, min(WARM, size.sessions))
    population = await populate(
        folder, issuer=issuer, sessions=CONNECTIONS, hybrids=hybrids, accounts=1, tell=tell
    )
    async with Authority.open(store_url(folder), issuer=issuer) as authority:
        added = await authority.clients.add("orders", scopes=["keyfob:feed"], actor="benchmark")
    return population.access_tokens, added.secret


def _figure(name: str, seen: dict[str, list[Seen]], size: Size) -> Figure:
    facts = facts_of(seen[name], size)
    speeds = [one.result.per_second for one in seen[name]]
    _, framework, kind = name.split(".")
    if kind == PLAIN:
        return Figure(name=name, measured=median(speeds), spread=quartiles(speeds), facts=facts)
    floor = seen[f"frameworks.{framework}.{PLAIN}"]
    plain = [one.result.per_second for one in floor]
    facts["ratio_of_processor_time"] = ratio_of_processor_time(seen[name], floor)
    return compared(name, speeds, plain, what="the same, guarded by nothing", facts=facts)
