"""The authority's time, as far as a verifier can know it (design.md, precondition 9)."""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.base.clock import Clock

MAX_ROUND_TRIP = 2.0  # seconds: an answer that took longer bounds the time too loosely
_STEP = 0.5  # seconds by which wall clock and boot-time clock may drift apart between two round trips


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment by both clocks of this machine, in seconds."""

    wall: float
    boot: float


class ServerTime:
    """Bounds the authority's time from above by round trips with a nonce.

    The answer was signed after the request was sent, so the authority's time is at most what the answer says plus what has passed since
    the sending. What has passed is the larger of wall clock and boot-time clock: a laptop that slept, or a wall clock that was put back,
    makes it later, never earlier. Too late denies a credential a moment early; too early would let one live on.

    One thread learns, any may ask.
    """

    def __init__(self, clock: Clock) -> None:
        self._time = clock.time
        self._elapsed = clock.elapsed
        # What is to be added to either clock. Before the first round trip: the wall clock itself, which nobody is asked to trust,
        # since nothing is level yet.
        self._offsets = (0.0, -float("inf"))
        self._last = self.instant()
        self.round_trip = float("inf")
        """How long the last round trip took, in seconds: how far from the truth `now` may be."""

    def instant(self) -> Instant:
        """Return this moment by both clocks."""
        return Instant(self._time(), self._elapsed())

    def now(self) -> float:
        """Return the latest that the authority's clock can show now, in seconds since the epoch."""
        wall, boot = self._offsets
        return max(self._time() + wall, self._elapsed() + boot)

    @property
    def offset(self) -> float:
        """How far the authority's clock is ahead of this machine's, in seconds."""
        return self._offsets[0]

    def learn(self, server: float, *, sent: Instant) -> bool:
        """Take the answer *server* to a request *sent* then; say whether it came fast enough to be of use."""
        received = self.instant()
        round_trip = received.boot - sent.boot
        if not 0 <= round_trip <= MAX_ROUND_TRIP:
            return False
        # By the boot-time clock, since the wall clock may have been set while the answer was under way.
        self._set(server + round_trip, received)
        self.round_trip = round_trip
        return True

    def heard(self, server: float) -> None:
        """Take notice that the authority's clock shows at least *server* now, as a heartbeat says."""
        if server > self.now():
            self._set(server, self.instant())

    def has_stepped(self) -> bool:
        """Say whether one of the clocks was set or stood still since the last round trip: then it is time for another."""
        now = self.instant()
        return abs((now.wall - self._last.wall) - (now.boot - self._last.boot)) > _STEP

    def _set(self, server: float, at: Instant) -> None:
        self._offsets = (server - at.wall, server - at.boot)
        self._last = at
