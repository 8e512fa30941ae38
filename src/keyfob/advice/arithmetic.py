"""What a need costs and how long a theft lasts, with the arithmetic shown. Pure functions of a need, the figures and the lifetimes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyfob.advice.need import Need
from keyfob.advice.rules import Figures
from keyfob.base.identifiers import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One figure, and how it was computed."""

    what: str
    value: float
    unit: str
    sum: str

    def text(self) -> str:
        """Return it as a line."""
        return f"{self.what}: {figure(self.value)} {self.unit} = {self.sum}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Seconds from the moment that a stolen credential is revoked until the last service refuses it.

    `connected` while services follow the feed, `cut_off` where one is cut off, `classical` without a feed. `unnoticed` is how long a thief
    whom nobody notices goes on: until the login ends, or until the next refresh betrays that two hold one refresh token.
    """

    connected: float
    cut_off: float
    classical: float
    unnoticed: float


def exposure(
    strategy: Strategy, *, absolute: float, access_seconds: int, max_staleness: float, figures: Figures
) -> Exposure:
    """Return how long a credential of *strategy* goes on after it is revoked."""
    return Exposure(
        connected=figures.connected_ms / 1000,
        cut_off=max_staleness,
        # A look-up for each request answers at once; what is checked alone is good until it expires.
        classical=0.0 if strategy is Strategy.SESSION else float(access_seconds),
        unnoticed=absolute if strategy is Strategy.SESSION else float(access_seconds),
    )


def staleness(need: Need, figures: Figures) -> float:
    """Return how far behind the feed a service may be, in seconds: what is asked for, but three heartbeats at least."""
    return max(need.cut_off, figures.least_staleness)


def costs(
    need: Need, strategies: frozenset[Strategy], *, access_seconds: int, figures: Figures
) -> Iterator[Step]:
    """Yield memory, store and network of clients that use *strategies*, all at their peak."""
    yield from _memory(need, access_seconds=access_seconds, figures=figures)
    yield from _store(need, strategies, access_seconds=access_seconds, figures=figures)
    yield from _network(need, figures)


def _memory(need: Need, *, access_seconds: int, figures: Figures) -> Iterator[Step]:
    lives = max(access_seconds, figures.cache_age) + figures.entry_margin
    entries = need.logins * lives
    yield Step(
        what="live entries",
        value=entries,
        unit="entries",
        sum=f"{figure(need.logins)} endings/s, as many as logins, x {lives} s that an entry lives",
    )
    yield Step(
        what="memory of each verifier",
        value=entries * figures.entry_bytes,
        unit="bytes",
        sum=f"{figure(entries)} entries x {figures.entry_bytes} bytes",
    )


def _store(
    need: Need, strategies: frozenset[Strategy], *, access_seconds: int, figures: Figures
) -> Iterator[Step]:
    active = need.logins * figures.active_seconds
    yield Step(
        what="active people or services",
        value=active,
        unit="at once",
        sum=f"{figure(need.logins)} logins/s x {figures.active_seconds} s of activity",
    )
    if Strategy.SESSION in strategies:
        yield Step(
            what="store, look-ups of sessions",
            value=active * need.services / figures.cache_age,
            unit="/s, at most",
            sum=f"{figure(active)} active x {need.services} services / {figures.cache_age} s in memory; without the feed {figure(need.requests)} /s, one for each request",
        )
    if Strategy.HYBRID in strategies:
        yield Step(
            what="store, refreshes",
            value=active / access_seconds,
            unit="/s",
            sum=f"{figure(active)} active / {access_seconds} s that an access token lives",
        )
    yield Step(
        what="store, logins",
        value=need.logins,
        unit="/s",
        sum="as asked; each costs about 30 ms of a processor for the password",
    )
    yield Step(
        what="store, notes of use",
        value=active / figures.touch_interval,
        unit="/s",
        sum=f"{figure(active)} active / {figures.touch_interval} s, many in one write",
    )


def _network(need: Need, figures: Figures) -> Iterator[Step]:
    followers = need.services
    each = figures.heartbeat_bytes + need.logins * figures.wire_bytes
    yield Step(
        what="network, the feed",
        value=followers * each,
        unit="bytes/s",
        sum=(
            f"{followers} followers x ({figures.heartbeat_bytes} bytes of heartbeat"
            f" + {figure(need.logins)} entries/s x {figures.wire_bytes} bytes)"
        ),
    )
    yield Step(
        what="network, calls for each request",
        value=0,
        unit="/s",
        sum=f"none; a look-up for each request would be {figure(need.requests)} /s",
    )


def figure(value: float) -> str:
    """Return *value* with three digits that count, thousands set apart."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
