"""Experiment 7, played: as many requests as one core answers, with and without a check, and every counter read before and after."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from keyfob.lab.load import Job, Outcome
from keyfob.lab.plays.revocation import port_of
from keyfob.lab.processes import LabFailed, Program, cores
from keyfob.lab.readings.load import LoadSeen, LoadsSeen
from keyfob.lab.stage import Counters, Stage
from keyfob.lab.textbook.door import DoorSettings

CONNECTIONS = 32
USERS = 4
WARM_UP, FLOOR, CHECKED = 0.3, 0.7, 1.5  # seconds
_NO_COUNTS = Counters(store_queries=0, network_calls=0, cpu_seconds=0.0)


def play(stage: Stage, *, folder: Path) -> LoadsSeen:
    """Measure the set-up as it stands, and where it has a store, first with that store in a file of the service's own machine.

    Raises:
        LabFailed: something did not answer.
    """
    server, client = cores()
    generator = Program.start("keyfob.lab.load", None, folder=folder, name="load")
    try:
        generator.pin(client)
        measure = _Measure(stage, generator, server)
        variants: list[LoadSeen] = []
        if stage.setup.design in {"session", "blocklist"} and not stage.setup.is_keyfob:
            with _door_with_file(stage, folder) as (door, program):
                variants.append(measure.variant("store in a file", door, program, store=None))
        with_store = stage.store if variants else None
        where = "store over the network" if variants else "in the service"
        variants.append(measure.variant(where, stage.doors[0], stage.door_programs[0], store=with_store))
    finally:
        generator.end()
    return LoadsSeen(variants=variants)


class _Measure:
    def __init__(self, stage: Stage, generator: Program, core: int | None) -> None:
        self._stage = stage
        self._generator = generator
        self._core = core
        users = [stage.user() for _ in range(USERS)]
        self._blocks = [
            "".join(f"{name}: {value}\r\n" for name, value in user.headers(user.main).items())
            for user in users
        ]

    def variant(self, where: str, door: str, program: Program, *, store: Program | None) -> LoadSeen:
        """Measure one service; *store* is the process that shares its core and its bill."""
        for one in (program, store):
            if one is not None:
                one.pin(self._core)
        port = None if store is None else self._stage.store_port
        self._run(door, "/orders", WARM_UP)
        before = self._counters(door, port)
        floor = self._run(door, "/open", FLOOR)
        between = self._counters(door, port)
        checked = self._run(door, "/orders", CHECKED)
        after = self._counters(door, port)
        requests = checked.statuses.get(204, 0)
        return LoadSeen(
            where=where,
            requests=requests,
            seconds=round(checked.seconds, 4),
            refused=sum(checked.statuses.values()) - requests,
            store_queries=after.store_queries - between.store_queries,
            network_calls=after.network_calls - between.network_calls,
            cpu=round(after.cpu_seconds - between.cpu_seconds, 6),
            floor_requests=floor.statuses.get(204, 0),
            floor_cpu=round(between.cpu_seconds - before.cpu_seconds, 6),
            floor_seconds=round(floor.seconds, 4),
            pinned=self._core is not None,
        )

    def _run(self, door: str, path: str, seconds: float) -> Outcome:
        job = Job(
            ports=[port_of(door)], path=path, headers=self._blocks, connections=CONNECTIONS, seconds=seconds
        )
        self._generator.tell(msgspec.json.encode(job))
        return msgspec.json.decode(self._generator.line(), type=Outcome)

    def _counters(self, door: str, store_port: int | None) -> Counters:
        of_door = self._stage.counters(door)
        of_store = _NO_COUNTS if store_port is None else store_counters(store_port)
        return msgspec.structs.replace(of_door, cpu_seconds=of_door.cpu_seconds + of_store.cpu_seconds)


@contextmanager
def _door_with_file(stage: Stage, folder: Path) -> Iterator[tuple[str, Program]]:
    settings = DoorSettings(design=stage.setup.design, desk=stage.shop, database=str(folder / "store.db"))
    program = Program.start("keyfob.lab.textbook.door", settings, folder=folder, name="door-with-file")
    try:
        yield f"http://127.0.0.1:{program.announced().port}", program
    finally:
        program.end()


def store_counters(port: int) -> Counters:
    """Return what the process of the textbook's store counted.

    Raises:
        LabFailed: it does not answer.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b'["counts",{}]\n')
            with connection.makefile("rb") as answers:
                return msgspec.json.decode(answers.readline(), type=Counters)
    except (OSError, msgspec.DecodeError) as error:
        raise LabFailed(f"the store does not say what it counted: {type(error).__name__}") from None
