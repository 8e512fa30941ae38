"""Each store over HTTP: `/check` with the cache off and `/refresh`, beside a bare application on the same server.

Keyfob has one core; the load, and the database server where there is one, share what is left.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import processes
from benchmarks.figures import Figure, compared, quartiles
from benchmarks.http_bench import CHECK, ISSUER, WARM, Cell, Seen, Size, facts_of, refresh_job, rounds_of
from benchmarks.load import CONNECTIONS, Job
from benchmarks.processes import Cores, Program
from benchmarks.rounds import Tell
from benchmarks.store_filling import Filled, fill
from benchmarks.store_places import Place, places
from keyfob.authority.authority import Authority

_MASTER_KEY = bytes(range(32))
_BARE = "store-http.bare"


def run(names: Sequence[str], size: Size, *, tell: Tell) -> list[Figure]:
    """Measure the stores of *names* that can be had here."""
    with TemporaryDirectory(prefix="keyfob-bench-") as name, places(Path(name)) as (found, absent):
        chosen = [place for place in found if place.name in names]
        with _staged(Path(name), chosen, size, tell=tell) as (cells, generator):
            seen = rounds_of(cells, generator, size, tell=tell)
        return [_figure(cell.name, seen, size, absent) for cell in cells]


@contextmanager
def _staged(
    folder: Path, chosen: Sequence[Place], size: Size, *, tell: Tell
) -> Iterator[tuple[list[Cell], Program]]:
    cores = Cores.here()
    with ExitStack() as stack:
        bare = stack.enter_context(processes.bare_server(folder, cores.server))
        cells: list[Cell] = []
        for place in chosen:
            url, filled = asyncio.run(_filled(place, size, tell))
            sessions = _written(folder / f"{place.name}.sessions", filled.session_tokens)
            refreshes = _written(folder / f"{place.name}.refreshes", filled.refresh_tokens)
            environment = {
                "KEYFOB_STORE": url,
                "KEYFOB_ISSUER": ISSUER,
                "KEYFOB_MASTER_KEY": base64.urlsafe_b64encode(_MASTER_KEY).rstrip(b"=").decode(),
                "KEYFOB_CACHE_CAPACITY": "2",
                "KEYFOB_REFRESH_REPLAY_WINDOW": "0",
                "KEYFOB_STATE_FOLDER": str(folder),
            }
            port, server = stack.enter_context(processes.keyfob_server(folder, cores.server, environment))
            check = Job(port=port, prefix=CHECK, lines=sessions, seconds=size.seconds)
            cells += [
                Cell(name=f"store-http.{place.name}.cold", job=check, server=server, is_warm=False),
                Cell(
                    name=f"store-http.{place.name}.refresh",
                    job=refresh_job(port, refreshes, size),
                    server=server,
                    is_warm=False,
                ),
            ]
        lines = cells[0].job.lines
        floor = Job(port=bare[0], prefix=CHECK, lines=lines, limit=WARM, seconds=size.seconds)
        cells.insert(0, Cell(name=_BARE, job=floor, server=bare[1], is_warm=False))
        yield cells, stack.enter_context(processes.load_generator(folder, cores.load))


async def _filled(place: Place, size: Size, tell: Tell) -> tuple[str, Filled]:
    url = await place.make()
    async with Authority.open(url, master_key=_MASTER_KEY, issuer=ISSUER) as authority:
        return url, await fill(authority, place, url, max(size.sessions, 4 * CONNECTIONS), tell=tell)


def _written(path: Path, lines: Sequence[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), "ascii")
    return str(path)


def _figure(name: str, seen: dict[str, list[Seen]], size: Size, absent: Sequence[str]) -> Figure:
    facts = facts_of(seen[name], size) | ({"not_measured": list(absent)} if absent else {})
    speeds = [one.result.per_second for one in seen[name]]
    if name == _BARE:
        return Figure(name=name, measured=median(speeds), spread=quartiles(speeds), facts=facts)
    floor = [one.result.per_second for one in seen[_BARE]]
    return compared(name, speeds, floor, what="bare ASGI", facts=facts)
