"""Presenting captured credentials again and again, at each service in turn, from another client than the user's."""

from __future__ import annotations

import time
from collections.abc import Mapping

from keyfob.lab.device import Credential, Device, Reply
from keyfob.lab.readings.replays import Replay, Track
from keyfob.lab.stage import Stage

REPLAYS = 24  # of each credential, over the lifetime of an access token, and at least one a second
LONGEST_INTERVAL = 1.0  # seconds
AT_FIRST = (
    0.1  # seconds in which there is no pause: what ends within milliseconds is measured in milliseconds
)
MARGIN = 3.0  # seconds beyond that lifetime after which the replays end, whatever was accepted last


class Replaying:
    """The replays of *credentials*, by name."""

    def __init__(self, stage: Stage, thief: Device, credentials: Mapping[str, Credential]) -> None:
        self.interval = min(LONGEST_INTERVAL, stage.access_seconds / REPLAYS)
        self._stage = stage
        self._thief = thief
        self._credentials = credentials
        self._seen: list[tuple[str, float, Reply]] = []
        self._rounds = 0
        self._signed_out = float("inf")

    def once(self) -> bool:
        """Replay everything once, and say whether anything was accepted."""
        door = self._stage.doors[self._rounds % len(self._stage.doors)]
        self._rounds += 1
        before = len(self._seen)
        for name, credential in self._credentials.items():
            at = time.perf_counter()
            self._seen.append((name, at, self._thief.present(credential, door)))
        return any(reply.accepted for _, _, reply in self._seen[before:])

    def signed_out(self) -> None:
        """Count from here on: the sign-out was just acknowledged."""
        self._signed_out = time.perf_counter()

    def until_refused(self) -> None:
        """Replay until every service in turn has refused everything, or for longer than any access token lives."""
        refused, number = 0, 0
        while refused < len(self._stage.doors) and self._since(time.perf_counter()) < self._longest():
            refused = 0 if self.once() else refused + 1
            if self._since(time.perf_counter()) < AT_FIRST:
                continue
            number += 1
            time.sleep(max(0.0, number * self.interval - self._since(time.perf_counter())))

    def tracks(self) -> list[Track]:
        """Return what came of it."""
        return [
            Track(
                name=name,
                replays=[
                    Replay(round(self._since(at), 4), reply.accepted, reply.code)
                    for whose, at, reply in self._seen
                    if whose == name
                ],
            )
            for name in self._credentials
        ]

    def _since(self, moment: float) -> float:
        return moment - self._signed_out

    def _longest(self) -> float:
        return self._stage.access_seconds + MARGIN
