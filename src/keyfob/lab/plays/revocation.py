"""Experiment 1, played: background load on every service, and one thread a service that calls without a pause until it is refused."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from keyfob.lab.device import Credential, Device
from keyfob.lab.load import Job, Outcome
from keyfob.lab.processes import LabFailed, Program
from keyfob.lab.readings.revocation import Denial, RevocationSeen, Round
from keyfob.lab.stage import Stage

ROUNDS = 8
CONNECTIONS = 12  # of the load, over all services
PAUSE = 0.02  # seconds between two requests of a connection: some hundred requests a second in all
LONGEST_LOAD = 600.0
MARGIN = 5.0  # seconds beyond the lifetime of an access token after which a service counts as one that never denies


def play(stage: Stage, *, folder: Path) -> RevocationSeen:
    """Revoke again and again until there were enough rounds, or the first one lasted as long as an access token.

    Raises:
        LabFailed: something did not answer.
    """
    watched = stage.access_seconds + MARGIN
    generator = Program.start("keyfob.lab.load", None, folder=folder, name="load")
    try:
        generator.tell(msgspec.json.encode(_load(stage)))
        began = time.perf_counter()
        rounds: list[Round] = []
        stage.wait_for_the_second()
        while len(rounds) < ROUNDS and (not rounds or time.perf_counter() - began < stage.access_seconds / 2):
            rounds.append(_round(stage, watched=watched))
        generator.tell(b"stop")
        outcome = msgspec.json.decode(generator.line(), type=Outcome)
    finally:
        generator.end()
    answered = sum(outcome.statuses.values())
    return RevocationSeen(
        access_seconds=stage.access_seconds,
        watched=watched,
        rounds=rounds,
        load_per_second=round(answered / outcome.seconds, 1),
    )


def _load(stage: Stage) -> Job:
    users = [stage.user() for _ in range(2)]
    blocks = [
        "".join(f"{name}: {value}\r\n" for name, value in user.headers(user.main).items()) for user in users
    ]
    ports = [port_of(door) for door in stage.doors]
    return Job(
        ports=ports,
        path="/orders",
        headers=blocks,
        connections=CONNECTIONS,
        seconds=LONGEST_LOAD,
        pause=PAUSE,
    )


def port_of(url: str) -> int:
    """Return the port of *url*."""
    port = urlsplit(url).port
    assert port is not None
    return port


def _round(stage: Stage, *, watched: float) -> Round:
    user = stage.user(whom=stage.next_name())
    watches = [_Watch(user, door, number, watched) for number, door in enumerate(stage.doors)]
    for watch in watches:
        watch.begin()
    began = time.perf_counter()
    stage.end_user(user)
    acknowledged = time.perf_counter()
    return Round(
        took=round(acknowledged - began, 6), denials=[watch.denial(acknowledged) for watch in watches]
    )


class _Watch:
    """Calls one service until it denies, or for as long as it is watched."""

    def __init__(self, user: Device, door: str, number: int, watched: float) -> None:
        self._user = user
        self._door = door
        self._number = number
        self._watched = watched
        self._credential: Credential = user.main
        self._accepted = threading.Event()
        self._over = threading.Event()
        self._denied_at: float | None = None
        self._code = ""
        self._failure: LabFailed | None = LabFailed(f"the calls of {door} broke off")

    def begin(self) -> None:
        """Start calling, and return after the first answer."""
        threading.Thread(target=self._call, daemon=True).start()
        while not self._accepted.wait(0.05) and not self._over.is_set():
            pass

    def denial(self, acknowledged: float) -> Denial:
        """Return when it denied, against the moment at which the revocation was acknowledged."""
        self._over.wait()
        if self._failure is not None:
            raise self._failure
        after = None if self._denied_at is None else round(self._denied_at - acknowledged, 6)
        return Denial(
            door=self._number, after=after, code=self._code, accepted_before=self._accepted.is_set()
        )

    def _call(self) -> None:
        until = time.perf_counter() + self._watched
        try:
            while time.perf_counter() < until:
                reply = self._user.call(self._door, credential=self._credential)
                if not reply.accepted:
                    self._denied_at, self._code = time.perf_counter(), reply.code
                    break
                self._accepted.set()
            self._failure = None
        except LabFailed as error:
            self._failure = error
        finally:
            self._over.set()
