"""Checks for proxies: the gateway beside a bare application on the same server; and nginx that asks Keyfob beside nginx that asks the bare application.

As over HTTP: each on one core with nginx, the load on another, in rounds. nginx gives a file of two bytes to whom the check lets through, so nearly
all that it does is ask.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import processes
from benchmarks.figures import Figure, compared, quartiles
from benchmarks.http_bench import WARM, Cell, Seen, Size, facts_of, ratio_of_processor_time, rounds_of
from benchmarks.load import CONNECTIONS, Job
from benchmarks.population import ACCESS_LIFETIME, Population, populate, store_url
from benchmarks.processes import Cores, Program, Together
from benchmarks.rounds import Tell
from keyfob.authority.authority import Authority

_CHECK = "GET /check HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Method: GET\r\n"
_FILE = "GET /file HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_FLOORS = {"gateway": "proxies.bare", "nginx": "proxies.nginx.trivial"}
_WARM_UPS = 3  # the first reads, the second finds it in memory, the third is answered by what the second left


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is running."""

    cells: Sequence[Cell]
    generator: Program


def run(size: Size, *, tell: Tell) -> list[Figure]:
    """Measure requests per second of each cell. Without nginx its cells are left out."""
    with TemporaryDirectory(prefix="keyfob-bench-") as name, staged(Path(name), size, tell=tell) as stage:
        seen = rounds_of(stage.cells, stage.generator, size, tell=tell, warm_ups=_WARM_UPS)
    return [_figure(cell.name, seen, size) for cell in stage.cells]


@contextmanager
def staged(folder: Path, size: Size, *, tell: Tell) -> Iterator[Stage]:
    """Make the database, start the servers and the load generator; end them all afterwards."""
    port, cores = processes.free_port(), Cores.here()
    issuer = f"http://127.0.0.1:{port}"
    tell("making sessions", 0.0)
    population, client = asyncio.run(_population(folder, issuer, size, tell))
    environment = {
        "KEYFOB_STORE": store_url(folder),
        "KEYFOB_ACCESS_LIFETIME": str(int(ACCESS_LIFETIME.total_seconds())),
    }
    tell("starting the servers", 0.0)
    with ExitStack() as stack:
        server = stack.enter_context(processes.keyfob_server(folder, cores.server, environment, port=port))
        bare = stack.enter_context(processes.bare_server(folder, cores.server))
        gateway = stack.enter_context(
            processes.keyfob_gateway(folder, cores.server, authority=issuer, client=client)
        )
        cells = _gateway_cells(population, size, bare=bare, gateway=gateway)
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if binary is not None:
            behind = {"trivial": bare, "keyfob": server, "gateway": gateway}
            backends = {name: port for name, (port, _) in behind.items()}
            ports, nginx = stack.enter_context(
                processes.nginx_server(folder, cores.server, binary=binary, backends=backends)
            )
            together = {name: Together((nginx, program)) for name, (_, program) in behind.items()}
            cells += _nginx_cells(population, size, ports, together)
        yield Stage(cells=cells, generator=stack.enter_context(processes.load_generator(folder, cores.load)))


async def _population(
    folder: Path, issuer: str, size: Size, tell: Tell
) -> tuple[Population, tuple[str, str]]:
    hybrids = max(CONNECTIONS, min(WARM, size.sessions))
    population = await populate(
        folder, issuer=issuer, sessions=size.sessions, hybrids=hybrids, accounts=1, tell=tell
    )
    async with Authority.open(store_url(folder), issuer=issuer) as authority:
        added = await authority.clients.add("gateway", scopes=["keyfob:feed"], actor="benchmark")
    return population, ("gateway", added.secret)


def _gateway_cells(
    population: Population, size: Size, *, bare: tuple[int, Program], gateway: tuple[int, Program]
) -> list[Cell]:
    by_cookie, sessions = _CHECK + "Cookie: __Host-session=", str(population.session_tokens)
    by_token, tokens = _CHECK + "Authorization: Bearer ", str(population.access_tokens)

    def cell(name: str, place: tuple[int, Program], prefix: str, lines: str) -> Cell:
        job = Job(port=place[0], prefix=prefix, lines=lines, limit=WARM, seconds=size.seconds)
        return Cell(name=name, job=job, server=place[1], is_warm=place is gateway)

    return [
        cell("proxies.bare", bare, by_cookie, sessions),
        cell("proxies.gateway.session", gateway, by_cookie, sessions),
        cell("proxies.gateway.jwt", gateway, by_token, tokens),
    ]


def _nginx_cells(
    population: Population, size: Size, ports: dict[str, int], together: dict[str, Together]
) -> list[Cell]:
    return [
        Cell(
            name=f"proxies.nginx.{name}",
            job=Job(
                port=port,
                prefix=_FILE + "Cookie: __Host-session=",
                lines=str(population.session_tokens),
                limit=WARM,
                expected=200,
                seconds=size.seconds,
            ),
            server=together[name],
            is_warm=name != "trivial",
        )
        for name, port in ports.items()
    ]


def _figure(name: str, seen: dict[str, list[Seen]], size: Size) -> Figure:
    facts = facts_of(seen[name], size)
    speeds = [one.result.per_second for one in seen[name]]
    floor = _FLOORS[name.split(".")[1]] if name != "proxies.bare" else name
    if name == floor:
        return Figure(name=name, measured=median(speeds), spread=quartiles(speeds), facts=facts)
    facts["ratio_of_processor_time"] = ratio_of_processor_time(seen[name], seen[floor])
    what = "bare ASGI" if floor == "proxies.bare" else "nginx with bare ASGI behind it"
    return compared(name, speeds, [one.result.per_second for one in seen[floor]], what=what, facts=facts)
