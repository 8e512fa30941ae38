"""`python -m benchmarks.peers`: measure Keyfob beside its peers, and write the table and the picture of the documentation."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import machine, processes
from benchmarks.figures import BenchmarkFailed
from benchmarks.peers.contest import PEOPLE, Peer, Standing, contest
from benchmarks.peers.entrants import HERE, MASTER_KEY, keyfob, keyfob_on_redis, node_peers, python_peers
from benchmarks.peers.picture import as_markdown, as_svg
from benchmarks.population import ACCESS_LIFETIME, populate, store_url
from benchmarks.processes import ROOT, Cores
from benchmarks.report import written_between
from keyfob.authority.authority import Authority
from keyfob.testing.redis_server import RedisServer

ENVIRONMENT = ROOT / ".peers"
"""Where the peers are installed; git does not look there."""
REFERENCE = ROOT / "docs" / "reference"
RESULTS = ROOT / "benchmarks" / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 when whatever could be installed was measured."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--only", metavar="NAME", action="append", help="repeatable; writes nothing")
    parser.add_argument(
        "--smoke", action="store_true", help="measure nothing, but try everybody for a second; writes nothing"
    )
    options = parser.parse_args(arguments)
    if options.smoke:
        options.rounds, options.seconds = 1, 1.0
    console = Console()
    if machine.load() > 1.0:
        console.print(f"[yellow]This machine is not quiet: its load is {machine.load():.1f}.[/yellow]")
    with TemporaryDirectory(prefix="keyfob-peers-") as folder, _entrants(Path(folder)) as (peers, absent):
        chosen = [peer for peer in peers if not options.only or peer.name in options.only]
        try:
            standings, failed = contest(
                chosen, Path(folder), rounds=options.rounds, seconds=options.seconds, tell=console.print
            )
        except BenchmarkFailed as failure:
            console.print(f"[red]{failure}[/red]", highlight=False)
            console.print("\n".join(f"not measured: {reason}" for reason in absent), style="yellow")
            return 1
    standings.sort(key=lambda one: -one.per_second)
    console.print(_table(standings))
    for reason in (*absent, *failed):
        console.print(f"not measured: {reason}", style="yellow", highlight=False)
    if not options.only and not options.smoke:
        _write(standings, (*absent, *failed))
    return 0


@contextmanager
def _entrants(folder: Path) -> Iterator[tuple[list[Peer], list[str]]]:
    port, cores, absent = processes.free_port(), Cores.here(), []
    cookies, tokens, secret = asyncio.run(_people(folder, f"http://127.0.0.1:{port}"))
    settings = {
        "KEYFOB_STORE": store_url(folder),
        "KEYFOB_ACCESS_LIFETIME": str(int(ACCESS_LIFETIME.total_seconds())),
    }
    with ExitStack() as stack:
        stack.enter_context(processes.keyfob_server(folder, cores.server, settings, port=port))
        redis = stack.enter_context(RedisServer())
        peers = keyfob(port, cookies, tokens, secret)
        issuer, url = f"http://127.0.0.1:{port}", f"redis://127.0.0.1:{redis.port}/1"  # the peers have 0
        peers.append(keyfob_on_redis(url, issuer, asyncio.run(_sessions_at(url, issuer))))
        try:
            peers += python_peers(_python_environment(), redis.port)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            absent.append(f"the peers in Python: {error}")
        try:
            peers += node_peers(*_node_environment(), redis.port)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            absent.append(f"the peers on Node.js: {error}")
        yield peers, absent


async def _people(folder: Path, issuer: str) -> tuple[list[str], list[str], str]:
    population = await populate(
        folder, issuer=issuer, sessions=PEOPLE, hybrids=PEOPLE, accounts=1, tell=lambda *_: None
    )
    async with Authority.open(store_url(folder), issuer=issuer) as authority:
        added = await authority.clients.add("orders", scopes=["keyfob:feed"], actor="benchmark")
    assert added.secret is not None  # it has no key of its own
    cookies = population.session_tokens.read_text("ascii").split()
    return cookies, population.access_tokens.read_text("ascii").split(), added.secret


async def _sessions_at(url: str, issuer: str) -> list[str]:
    async with Authority.open(url, issuer=issuer, master_key=MASTER_KEY) as authority:
        issued = [await authority.login(f"person-{number}", strategy="session") for number in range(PEOPLE)]
    return [str(one.session_token) for one in issued]


def _python_environment() -> Path:
    uv, python = Path(sys.executable).with_name("uv"), ENVIRONMENT / "python" / "bin" / "python"
    wanted = HERE / "requirements.txt"
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", python.parents[1]], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "-r", wanted], check=True)
    return python


def _node_environment() -> tuple[str, Path]:
    node, npm, modules = shutil.which("node"), shutil.which("npm"), ENVIRONMENT / "node"
    if node is None or npm is None:
        raise FileNotFoundError("there is no node, or no npm")
    modules.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "server.mjs"):
        shutil.copyfile(HERE / "node" / name, modules / name)
    environment = {**os.environ, "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--no-package-lock"]
    subprocess.run(command, cwd=modules, check=True, env=environment)
    return node, modules


def _table(standings: Sequence[Standing]) -> Table:
    table = Table("", "requests/s", "p50 ms", "p99 ms", title="Who is it? 32 connections, one core each")
    for one in standings:
        table.add_row(one.title, f"{one.per_second:,.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}")
    return table


def _write(standings: Sequence[Standing], absent: Sequence[str]) -> None:
    page = REFERENCE / "peers.md"
    page.write_text(
        written_between(page.read_text("utf-8"), as_markdown(standings, absent, machine.facts())), "utf-8"
    )
    (REFERENCE / "peers.svg").write_text(as_svg(standings), "utf-8")
    (RESULTS / "peers.json").write_bytes(
        msgspec.json.format(msgspec.json.encode({"standings": standings, "absent": list(absent)})) + b"\n"
    )


if __name__ == "__main__":
    sys.exit(main())
