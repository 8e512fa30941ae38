"""From the return of a revocation to the denial at the last of many verifier processes, which all follow `GET /feed` over HTTP.

Sessions are ended one after the other at a steady rate, by `POST /logout` over a connection that stays open. A revocation has returned when its answer is
read here; a denial that came before that counts as 0 ms. Beside it, the same number of processes is told something over bare TCP: the floor of
this machine. Nothing is pinned to a core here, as nothing is in a deployment.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import processes
from benchmarks.figures import BenchmarkFailed, Figure, percentile
from benchmarks.follower import READY, Denials, Order
from benchmarks.population import store_url
from benchmarks.processes import START_SECONDS, Program
from benchmarks.rounds import Tell
from keyfob.authority.authority import Authority
from keyfob.clients import scopes

AUDIENCE = "orders"
CLIENT = "orders"
WARM_UP = 5  # revocations that do not count
INTERVAL = 0.05  # seconds between two revocations, more or less: none of the rhythms of server and verifiers is met by it
SEED = 7
PATIENCE = 30.0  # seconds after the last revocation until a verifier that still accepts fails the run
_STARTING = 8  # verifiers that start at once


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    secret: str
    tokens: Sequence[str]


def run(*, verifiers: int, revocations: int, tell: Tell) -> list[Figure]:
    """Measure *revocations* at as many *verifiers*."""
    with TemporaryDirectory(prefix="keyfob-bench-") as name:
        after = _measure(Path(name), verifiers, revocations, tell=tell)
        tell("the same over bare TCP", 0.0)
        bare = _measure_bare(Path(name), verifiers, revocations)
    facts = {
        "verifiers": verifiers,
        "revocations": revocations,
        "longest_ms": round(after[-1], 2),
        "shortest_ms": round(after[0], 2),
    }
    return [
        Figure(
            name=f"revocation.{name}",
            measured=percentile(after, share),
            against=percentile(bare, share),
            against_what="bare TCP",
            ratio=percentile(after, share) / max(percentile(bare, share), 1e-9),
            facts=facts,
        )
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


def _measure(folder: Path, verifiers: int, revocations: int, *, tell: Tell) -> list[float]:
    """Return the milliseconds of each revocation, in ascending order."""
    count = WARM_UP + revocations
    port = _free_port()
    issuer = f"http://127.0.0.1:{port}"
    prepared = asyncio.run(_prepare(folder, issuer, count))
    environment = {"KEYFOB_STORE": store_url(folder), "KEYFOB_ISSUER": issuer}
    order = Order(
        issuer=issuer,
        audience=AUDIENCE,
        client_id=CLIENT,
        client_secret=prepared.secret,
        tokens=list(prepared.tokens),
        seconds=START_SECONDS * (1 + verifiers / _STARTING) + count * INTERVAL + PATIENCE,
    )
    with (
        processes.keyfob_server(folder, None, environment, port=port),
        _followers(folder, order, verifiers, tell=tell) as followers,
    ):
        returned = _revoke(port, prepared.tokens, tell=tell)
        denials = [_denials(follower) for follower in followers]
    return _milliseconds(returned, [one.denied_at for one in denials])


async def _prepare(folder: Path, issuer: str, count: int) -> _Prepared:
    """Make the database: a client that follows the feed, and a session for each revocation."""
    async with Authority.open(store_url(folder), issuer=issuer) as authority:
        added = await authority.clients.add(CLIENT, scopes=[scopes.FEED], audiences=[AUDIENCE])
        issued = [
            await authority.login(f"person-{number}", strategy="jwt", audience=AUDIENCE)
            for number in range(count)
        ]
    return _Prepared(secret=added.secret, tokens=[one.access_token or "" for one in issued])


@contextmanager
def _followers(folder: Path, order: Order, count: int, *, tell: Tell) -> Iterator[list[Program]]:
    """Run *count* verifiers, a few starting at a time; give them once all are level and hold their guards."""
    with ExitStack() as stack:
        programs: list[Program] = []
        for start in range(0, count, _STARTING):
            tell("starting verifiers", start / count)
            group = [
                stack.enter_context(processes.running("benchmarks.follower", folder=folder, core=None))
                for _ in range(start, min(count, start + _STARTING))
            ]
            for program in group:
                program.tell(msgspec.json.encode(order))
            for program in group:
                _require_ready(program.line(START_SECONDS + 30))
            programs += group
        yield programs


def _require_ready(line: bytes) -> None:
    if line != READY:
        raise BenchmarkFailed(f"a verifier is not ready: {msgspec.json.decode(line, type=Denials).failure}")


def _revoke(port: int, tokens: Sequence[str], *, tell: Tell) -> list[float]:
    """End one session after the other; return when each answer was read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    returned, pauses = [], random.Random(SEED)
    try:
        due = time.perf_counter()
        for number, token in enumerate(tokens):
            tell("revoking", number / len(tokens))
            due += pauses.uniform(0.5, 1.5) * INTERVAL
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("POST", "/logout", headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            response.read()
            returned.append(time.perf_counter())
            if response.status != 204:
                raise BenchmarkFailed(f"POST /logout: status {response.status}")
    finally:
        connection.close()
    return returned


def _denials(follower: Program) -> Denials:
    denials = msgspec.json.decode(follower.line(PATIENCE), type=Denials)
    if denials.failure:
        raise BenchmarkFailed(f"a verifier did not deny what was revoked: {denials.failure}")
    return denials


def _milliseconds(returned: Sequence[float], came: Sequence[Sequence[float]]) -> list[float]:
    """Return how long after each return the last process knew, in ascending order, without the warm-up."""
    if any(len(one) != len(returned) for one in came):
        raise BenchmarkFailed("a process did not hear of everything")
    last = [max(moments) for moments in zip(*came, strict=True)]
    after = [max(0.0, end - begin) * 1e3 for begin, end in zip(returned, last, strict=True)]
    return sorted(after[WARM_UP:])


def _measure_bare(folder: Path, followers: int, messages: int) -> list[float]:
    """Tell *followers* processes something over bare TCP, as often and at the same rate; counted from before the first `send`."""
    count = WARM_UP + messages
    with socket.create_server(("127.0.0.1", 0), backlog=followers) as listening, ExitStack() as stack:
        listening.settimeout(START_SECONDS)
        port = str(listening.getsockname()[1])
        programs = [
            stack.enter_context(
                processes.running("benchmarks.bare_follower", port, str(count), folder=folder, core=None)
            )
            for _ in range(followers)
        ]
        connections = [stack.enter_context(listening.accept()[0]) for _ in programs]
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent, due = [], time.perf_counter()
        for _ in range(count):
            due += INTERVAL
            time.sleep(max(0.0, due - time.perf_counter()))
            sent.append(time.perf_counter())
            for connection in connections:
                connection.sendall(b"something\n")
        came = [msgspec.json.decode(program.line(PATIENCE), type=list[float]) for program in programs]
    return _milliseconds(sent, came)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
