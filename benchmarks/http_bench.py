"""Requests over HTTP: Keyfob's server beside a bare application on the same server, each on one core, the load on another.

Every round asks each of them for some seconds, beginning with another one each time; what counts is the ratio within a round. The bare application
gets the very requests of `GET /check` with a session cookie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from msgspec import structs

from benchmarks import processes
from benchmarks.figures import Figure, compared, quartiles
from benchmarks.load import CONNECTIONS, Job, Pick, Result
from benchmarks.population import ACCESS_LIFETIME, Population, populate, store_url
from benchmarks.processes import Cores, Program, Together
from benchmarks.rounds import Tell

WARM_SECONDS = 60.0  # at most, for every warm credential once
WARM = 2_000  # different sessions, and different access tokens, of the warm cells
LOGINS_AT_ONCE = 16  # accounts, each with one login after the other: they keep the password threads busy, and are fewer than there are seats
ISSUER = "http://127.0.0.1:8080"  # nobody is there; it is only a name here
_CHECK = "GET /check HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Method: GET\r\n"
CHECK = _CHECK + "Cookie: __Host-session="
_CONTENT = "Host: 127.0.0.1\r\nContent-Type: application/json\r\n"
_TOKEN_REQUEST = (
    "POST /oauth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
)
_INTROSPECTION = "POST /oauth/introspect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
_GRANT = "grant_type=client_credentials"
_TOKEN_LENGTH = 102  # characters of a refresh token


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is asked: sessions in the database, rounds, and seconds of each cell of a round."""

    sessions: int
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One thing that is asked in each round. What `is_warm` is asked for every line once before."""

    name: str
    job: Job
    server: Program | Together
    is_warm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is running."""

    cells: Sequence[Cell]
    generator: Program
    storm: Program
    check: Cell
    logins: Path


def run(size: Size, *, tell: Tell) -> list[Figure]:
    """Measure requests per second of each cell, and the tail of checks during a storm of logins."""
    with TemporaryDirectory(prefix="keyfob-bench-") as name, staged(Path(name), size, tell=tell) as stage:
        results = rounds_of(stage.cells, stage.generator, size, tell=tell)
        figures = _figures(stage, results, size)
        figures.append(_storm(stage, size, tell=tell))
    return figures


@contextmanager
def staged(folder: Path, size: Size, *, tell: Tell) -> Iterator[Stage]:
    """Make the database, start the servers and the load generators; end them all afterwards."""
    tell("making sessions", 0.0)
    population = asyncio.run(
        populate(
            folder,
            issuer=ISSUER,
            sessions=size.sessions,
            hybrids=max(CONNECTIONS, min(WARM, size.sessions)),
            accounts=LOGINS_AT_ONCE,
            tell=tell,
        )
    )
    cores = Cores.here()
    environment = {
        "KEYFOB_STORE": store_url(folder),
        "KEYFOB_ISSUER": ISSUER,
        "KEYFOB_REFRESH_REPLAY_WINDOW": "0",  # so that every refresh rotates
        "KEYFOB_ACCESS_LIFETIME": str(int(ACCESS_LIFETIME.total_seconds())),
    }
    tell("starting the servers", 0.0)
    with ExitStack() as stack:
        bare_port, bare = stack.enter_context(processes.bare_server(folder, cores.server))
        warm_port, warm = stack.enter_context(processes.keyfob_server(folder, cores.server, environment))
        cold_port, cold = stack.enter_context(
            processes.keyfob_server(
                folder,
                cores.server,
                {**environment, "KEYFOB_CACHE_CAPACITY": "2"},  # of thousands: each check is one of the store
            )
        )
        cells = _cells(
            population, size, bare=(bare_port, bare), warm=(warm_port, warm), cold=(cold_port, cold)
        )
        yield Stage(
            cells=cells,
            generator=stack.enter_context(processes.load_generator(folder, cores.load)),
            storm=stack.enter_context(processes.load_generator(folder, cores.load)),
            check=next(cell for cell in cells if cell.name == "http.check.session"),
            logins=population.logins,
        )


def _cells(
    population: Population,
    size: Size,
    *,
    bare: tuple[int, Program],
    warm: tuple[int, Program],
    cold: tuple[int, Program],
) -> list[Cell]:
    sessions = str(population.session_tokens)
    by_cookie = CHECK

    def cell(name: str, place: tuple[int, Program], job: Job) -> Cell:
        return Cell(name=name, job=job, server=place[1], is_warm=place is warm and job.pick is Pick.RANDOM)

    def check(place: tuple[int, Program], *, limit: int) -> Job:
        return Job(port=place[0], prefix=by_cookie, lines=sessions, limit=limit, seconds=size.seconds)

    return [
        cell("http.bare", bare, check(bare, limit=WARM)),
        cell("http.check.session", warm, check(warm, limit=WARM)),
        cell(
            "http.check.jwt",
            warm,
            Job(
                port=warm[0],
                prefix=_CHECK + "Authorization: Bearer ",
                lines=str(population.access_tokens),
                limit=WARM,
                seconds=size.seconds,
            ),
        ),
        cell("http.check.cold", cold, check(cold, limit=0)),
        cell(
            "http.refresh",
            warm,
            refresh_job(warm[0], str(population.refresh_tokens), size),
        ),
        cell(
            "http.token",
            cold,  # nothing here is answered from a cache
            Job(
                port=cold[0],
                prefix=f"{_TOKEN_REQUEST}Content-Length: {len(_GRANT)}\r\nAuthorization: Basic ",
                suffix=f"\r\n\r\n{_GRANT}",
                lines=str(population.clients),
                expected=200,
                seconds=size.seconds,
            ),
        ),
        # Asked for each line before: warm as a service is that asks about the same people. The answer is from the store all the same.
        cell(
            "http.introspect.session",
            warm,
            introspect_job(warm[0], population.session_forms, population, size),
        ),
        cell("http.introspect.jwt", warm, introspect_job(warm[0], population.access_forms, population, size)),
    ]


def introspect_job(port: int, forms: Path, population: Population, size: Size) -> Job:
    """Return the job of introspections by one client, of random lines of the file *forms*."""
    credentials = population.introspecting.read_text("ascii").strip()
    length = len(forms.read_text("ascii").partition("\n")[0])
    return Job(
        port=port,
        prefix=f"{_INTROSPECTION}Content-Length: {length}\r\nAuthorization: Basic {credentials}\r\n\r\n",
        suffix="",
        lines=str(forms),
        limit=WARM,
        expected=200,
        seconds=size.seconds,
    )


def refresh_job(port: int, tokens: str, size: Size) -> Job:
    """Return the job of refreshes: a chain of each connection, that begins with a token of the file *tokens*."""
    return Job(
        port=port,
        prefix=f'POST /refresh HTTP/1.1\r\n{_CONTENT}Content-Length: {_TOKEN_LENGTH + 20}\r\n\r\n{{"refresh_token":"',
        suffix='"}',
        lines=tokens,
        pick=Pick.CHAIN,
        expected=200,
        seconds=size.seconds,
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of one cell of one round, and the processor time that its server used in it, in seconds."""

    result: Result
    used: float


def rounds_of(
    cells: Sequence[Cell], generator: Program, size: Size, *, tell: Tell, warm_ups: int = 1
) -> dict[str, list[Seen]]:
    """Ask each of *cells* in each round, in turn; before the first, warm ones are asked for every line *warm_ups* times."""
    seen: dict[str, list[Seen]] = {cell.name: [] for cell in cells}
    for cell in [cell for cell in cells for _ in range(warm_ups)]:
        if cell.is_warm:
            tell(f"warming up: {cell.name}", 0.0)
            _ask(
                generator,
                replace(
                    cell, job=structs.replace(cell.job, pick=Pick.EACH, warm_up=0.0, seconds=WARM_SECONDS)
                ),
            )
    for number in range(size.rounds):
        first = number % len(cells)
        for place, cell in enumerate((*cells[first:], *cells[:first])):
            done = number * len(cells) + place
            tell(f"asking over HTTP: {cell.name}, round {number + 1}", done / (size.rounds * len(cells)))
            seen[cell.name].append(_ask(generator, cell))
    return seen


def _ask(generator: Program, cell: Cell) -> Seen:
    before = cell.server.used()
    processes.begin(generator, cell.job)
    result = processes.result_of(generator, cell.job)
    return Seen(result, cell.server.used() - before)


def _figures(stage: Stage, seen: dict[str, list[Seen]], size: Size) -> list[Figure]:
    floor = [one.result.per_second for one in seen["http.bare"]]
    figures = []
    for cell in stage.cells:
        facts = facts_of(seen[cell.name], size)
        speeds = [one.result.per_second for one in seen[cell.name]]
        if cell.name == "http.bare":
            figures.append(
                Figure(name=cell.name, measured=median(speeds), spread=quartiles(speeds), facts=facts)
            )
        else:
            figures.append(compared(cell.name, speeds, floor, what="bare ASGI", facts=facts))
    return figures


def facts_of(seen: Sequence[Seen], size: Size) -> dict[str, object]:
    statuses: dict[str, int] = {}
    for one in seen:
        for status, count in one.result.statuses.items():
            statuses[str(status)] = statuses.get(str(status), 0) + count
    return {
        "p50_ms": round(median(one.result.p50 for one in seen), 3),
        "p99_ms": round(median(one.result.p99 for one in seen), 3),
        "statuses": statuses,
        "server_us_each": round(median(one.used / _answered(one.result) for one in seen) * 1e6, 1),
        "server_busy": round(median(one.used / one.result.elapsed for one in seen), 2),
        "load_busy": round(median(one.result.busy for one in seen), 2),
        "connections": CONNECTIONS,
        "sessions": size.sessions,
    }


def ratio_of_processor_time(seen: Sequence[Seen], floor: Sequence[Seen]) -> float:
    """Return how much processor time a request takes on *floor*, as a share of what it takes here; on a machine that has other things to do
    it says more than requests per second. Of each the round counts that was disturbed least.
    """
    ours, theirs = (min(one.used / _answered(one.result) for one in ones) for ones in (seen, floor))
    return round(theirs / ours, 3)


def _answered(result: Result) -> int:
    return sum(result.statuses.values())


def _storm(stage: Stage, size: Size, *, tell: Tell) -> Figure:
    """Measure the p99 of warm checks with and without logins that keep the password threads busy, in turn."""
    quiet, stormy, logins = [], [], []
    job = stage.check.job
    for number in range(size.rounds):
        tell(f"a storm of logins, round {number + 1}", number / size.rounds)
        quiet.append(_ask(stage.generator, stage.check).result.p99)
        # The storm begins before the checks, and ends after them.
        storm = _login_job(job.port, stage.logins, size.seconds + job.warm_up + 0.5)
        processes.begin(stage.storm, storm)
        stormy.append(_ask(stage.generator, stage.check).result.p99)
        logins.append(processes.result_of(stage.storm, storm).per_second)
    return compared(
        "http.storm",
        stormy,
        quiet,
        what="the same without",
        facts={"logins_per_second": round(median(logins), 1), "logins_at_once": LOGINS_AT_ONCE},
    )


def _login_job(port: int, logins: Path, seconds: float) -> Job:
    length = len(logins.read_text("ascii").partition("\n")[0])
    return Job(
        port=port,
        prefix=f"POST /login HTTP/1.1\r\n{_CONTENT}Content-Length: {length}\r\n\r\n",
        suffix="",
        lines=str(logins),
        pick=Pick.OWN,
        expected=200,
        seconds=seconds,
        warm_up=0.0,
        connections=LOGINS_AT_ONCE,
    )
