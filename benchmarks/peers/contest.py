"""Keyfob and its peers in one run: who signs in, is asked who it is, in rounds, each server on one core and the load on another."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from benchmarks import processes
from benchmarks.figures import BenchmarkFailed
from benchmarks.load import CONNECTIONS, Job, Pick, response_length
from benchmarks.processes import Cores, Program

PEOPLE = 200
_SHOWN = 200  # bytes of an answer that was not expected
HEAD = " HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Method: GET\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One contestant. `start` runs it and gives its port; `sign_in` gives what stands between `head` and `suffix` in a request of somebody who is
    signed in now: a header line, as a rule. `proof` is what its answer to the first one says, and `stranger` stands for somebody who is not.
    """

    name: str
    title: str
    start: Callable[[Path, int | None], Iterator[tuple[int, Program | None]]]
    sign_in: Callable[[int, str], str]
    head: str = "GET /me" + HEAD
    suffix: str = "\r\n\r\n"
    expected: int = 200
    proof: bytes = b""
    stranger: str = "X-Stranger: 1"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What one contestant reached: medians over the rounds, in requests per second and milliseconds."""

    name: str
    title: str
    per_second: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class _Entered:
    peer: Peer
    job: Job


def contest(
    peers: Sequence[Peer], folder: Path, *, rounds: int, seconds: float, tell: Callable[[str], None]
) -> tuple[list[Standing], list[str]]:
    """Return what each of *peers* reached, and what could not be measured and why."""
    cores, absent, entered = Cores.here(), [], []
    with ExitStack() as stack:
        generator = stack.enter_context(processes.load_generator(folder, cores.load))
        for peer in peers:
            tell(f"starting {peer.title}")
            try:
                entered.append(_enter(peer, folder, cores, stack, seconds))
            except (BenchmarkFailed, OSError, http.client.HTTPException) as error:
                absent.append(f"{peer.title}: {error}")
        if not entered:
            raise BenchmarkFailed(f"nobody takes part: {'; '.join(absent) or 'no such name'}")
        results: dict[str, list[processes.Result]] = {one.peer.name: [] for one in entered}
        failures: dict[str, str] = {}
        for number in range(-1, rounds):
            first = max(0, number) % len(entered)
            for one in (*entered[first:], *entered[:first]):
                if one.peer.name in failures:
                    continue
                tell(f"round {number + 1} of {rounds}: {one.peer.title}")
                try:
                    if number < 0:  # warm: everybody once
                        _measure(generator, _each_once(one.job))
                    else:
                        results[one.peer.name].append(_measure(generator, one.job))
                except BenchmarkFailed as failure:  # it is out, and the others go on
                    failures[one.peer.name] = f"{one.peer.title}: {failure}"
    measured = [one.peer for one in entered if one.peer.name not in failures]
    if not measured:
        raise BenchmarkFailed(f"nobody was measured: {'; '.join(failures.values())}")
    return [_standing(peer, results[peer.name]) for peer in measured], [*absent, *failures.values()]


def _each_once(job: Job) -> Job:
    return msgspec.structs.replace(job, pick=Pick.EACH, seconds=30.0, warm_up=0.0)


def _enter(peer: Peer, folder: Path, cores: Cores, stack: ExitStack, seconds: float) -> _Entered:
    port, _ = stack.enter_context(contextmanager(peer.start)(folder, cores.server))
    people = [peer.sign_in(port, f"person-{number}") for number in range(PEOPLE)]
    require_correct(peer, port, people[0])
    lines = folder / f"{peer.name}.people"
    lines.write_text("".join(f"{person}\n" for person in people), "latin-1")
    job = Job(
        port=port,
        prefix=peer.head,
        suffix=peer.suffix,
        lines=str(lines),
        expected=peer.expected,
        seconds=seconds,
        connections=CONNECTIONS,
    )
    return _Entered(peer, job)


def require_correct(peer: Peer, port: int, person: str) -> None:
    """Refuse a contestant that does not know *person*, or takes a stranger for somebody.

    Raises:
        BenchmarkFailed: which of the two.
    """
    known = _answer(port, f"{peer.head}{person}{peer.suffix}")
    if not known.startswith(b"HTTP/1.1 %d " % peer.expected) or peer.proof not in known:
        raise BenchmarkFailed(f"it does not know who has signed in: {known[:_SHOWN]!r}")
    stranger = _answer(port, f"{peer.head}{peer.stranger}{peer.suffix}")
    if stranger.startswith(b"HTTP/1.1 %d " % peer.expected) and peer.proof in stranger:
        raise BenchmarkFailed(f"it lets strangers in: {stranger[:_SHOWN]!r}")


def _answer(port: int, request: str) -> bytes:
    """Return the whole answer to *request*."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while (length := response_length(answer)) < 0 or len(answer) < length:
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    return answer


def _measure(generator: Program, job: Job) -> processes.Result:
    processes.begin(generator, job)
    return processes.result_of(generator, job)


def _standing(peer: Peer, results: Sequence[processes.Result]) -> Standing:
    return Standing(
        name=peer.name,
        title=peer.title,
        per_second=median(one.per_second for one in results),
        p50=median(one.p50 for one in results),
        p99=median(one.p99 for one in results),
    )


def post(port: int, path: str) -> tuple[Mapping[str, Sequence[str]], bytes]:
    """Post nothing to *path*, waiting for the server to be there; return the headers and the body of the answer.

    Raises:
        BenchmarkFailed: it does not come, or refuses.
    """
    until = time.monotonic() + processes.START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", path, body=b"grant_type=client_credentials", headers=_FORM)
            answer = connection.getresponse()
            body = answer.read()
        except (ConnectionError, TimeoutError):
            if time.monotonic() > until:
                raise BenchmarkFailed("it does not answer") from None
            time.sleep(0.1)
            continue
        finally:
            connection.close()
        if answer.status >= 400:
            raise BenchmarkFailed(f"signing in is answered with {answer.status}: {body[:200]!r}")
        names = {name.lower() for name, _ in answer.getheaders()}
        return {name: answer.headers.get_all(name) or [] for name in names}, body


_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def cookie_of(headers: Mapping[str, Sequence[str]]) -> str:
    """Return the header line that sends back the cookies that were set."""
    cookies = [value.partition(";")[0] for value in headers.get("set-cookie", ())]
    if not cookies:
        raise BenchmarkFailed("signing in set no cookie")
    return "Cookie: " + "; ".join(cookies)
