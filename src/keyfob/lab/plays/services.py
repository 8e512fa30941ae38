"""Experiment 8, played: one credential at 1, 3 and 10 services; then the authority is killed, and after it the store."""

from __future__ import annotations

from typing import Literal

from keyfob.lab.device import Device
from keyfob.lab.plays.watching import Beginning
from keyfob.lab.processes import LabFailed
from keyfob.lab.readings.services import Outage, Sample, ServicesSeen, Spread
from keyfob.lab.stage import Part, Stage

SPREADS = (1, 3, 10)
DOORS = max(SPREADS)
REQUESTS = 50  # to each service
WATCH_AUTHORITY, WATCH_STORE = 7.0, 1.5  # seconds; Keyfob's verifiers promise something within 5
INTERVAL = 0.1  # seconds between two rounds of samples


def play(stage: Stage) -> ServicesSeen:
    """Ask, kill, ask. Nothing of the stage is of use afterwards.

    Raises:
        LabFailed: something did not answer.
    """
    spreads = [_spread(stage, doors) for doors in SPREADS if doors <= len(stage.doors)]
    user = stage.user()
    paths = ("/orders", "/catalogue") if stage.setup.is_keyfob else ("/orders",)
    _require_accepted(user, stage, paths)
    outages = _outages(stage, user, "authority", paths=paths, watched=WATCH_AUTHORITY)
    outages += _outages(stage, user, "store", paths=paths, watched=WATCH_STORE)
    return ServicesSeen(spreads=spreads, outages=outages, store=_store(stage))


def _spread(stage: Stage, doors: int) -> Spread:
    """Ask so many services in turn with one fresh credential."""
    user = stage.user()
    asked = stage.doors[:doors]
    before = sum(stage.counters(door).network_calls for door in asked)
    accepted = sum(user.call(door).accepted for _ in range(REQUESTS) for door in asked)
    after = sum(stage.counters(door).network_calls for door in asked)
    return Spread(doors=doors, requests=REQUESTS * doors, accepted=accepted, network_calls=after - before)


def _require_accepted(user: Device, stage: Stage, paths: tuple[str, ...]) -> None:
    for door in stage.doors:
        for path in paths:
            if not user.call(door, path).accepted:
                raise LabFailed(f"{stage.setup.name}: a service refuses a good credential on {path}")


def _outages(
    stage: Stage, user: Device, part: Part, *, paths: tuple[str, ...], watched: float
) -> list[Outage]:
    if not stage.stop(part):
        return []
    beginning = Beginning()
    samples: dict[str, list[Sample]] = {path: [] for path in paths}
    number = 0
    while beginning.since() < watched:
        for door, url in enumerate(stage.doors):
            for path in paths:
                at = beginning.since()
                samples[path].append(Sample(at, door, user.call(url, path).status))
        number += 1
        beginning.wait_until(number * INTERVAL)
    return [Outage(stopped=part, path=path, watched=watched, samples=seen) for path, seen in samples.items()]


def _store(stage: Stage) -> Literal["process", "authority", "none"]:
    if stage.setup.is_keyfob:
        return "authority"
    return "process" if stage.store is not None else "none"
