"""Experiment 7: what one checked request costs, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keyfob.lab.readings.cell import Cell, Observation, Row, Unreadable, missing

ROWS = (
    Row(key="queries", title="store queries per request"),
    Row(key="calls", title="network calls per request"),
    Row(key="cpu", title="processor time per request, and of the check alone"),
    Row(key="rate", title="requests/s on one core"),
)


class LoadSeen(Observation, frozen=True, kw_only=True):
    """One way of keeping what is looked up. Counts are of the checked requests alone; processor seconds include the store's process.

    `floor_requests`, `floor_cpu` and `floor_seconds` are of a route of the same service that checks nothing.
    """

    where: str
    requests: int
    seconds: float
    refused: int
    store_queries: int
    network_calls: int
    cpu: float
    floor_requests: int
    floor_cpu: float
    floor_seconds: float
    pinned: bool


class LoadsSeen(Observation, frozen=True, kw_only=True):
    """Every way that was measured, the set-up's fastest first."""

    variants: list[LoadSeen]


def read(seen: LoadsSeen) -> Mapping[str, Cell]:
    """Say what a checked request costs, each way of keeping things in turn."""
    if not seen.variants:
        return {row.key: missing("no request was counted") for row in ROWS}
    for one in seen.variants:
        _require_counts(one)
    return {
        "queries": _joined(seen, lambda one: f"{one.store_queries / one.requests:.3g}", "store_queries"),
        "calls": _joined(seen, lambda one: f"{one.network_calls / one.requests:.3g}", "network_calls"),
        "cpu": _joined(seen, _cpu, "cpu_us"),
        "rate": _joined(seen, lambda one: f"{one.requests / one.seconds:,.0f}", "per_second"),
    }


def figures(one: LoadSeen) -> dict[str, float]:
    """Return what a request of *one* costs; `check_us` is the difference to a request that checks nothing, and can be below 0 by noise."""
    cpu = one.cpu / one.requests * 1e6
    return {
        "store_queries": one.store_queries / one.requests,
        "network_calls": one.network_calls / one.requests,
        "cpu_us": cpu,
        "check_us": cpu - one.floor_cpu / one.floor_requests * 1e6,
        "per_second": one.requests / one.seconds,
        "floor_per_second": one.floor_requests / one.floor_seconds,
    }


def _joined(seen: LoadsSeen, words: Callable[[LoadSeen], str], figure: str) -> Cell:
    named = len(seen.variants) > 1
    texts = [f"{words(one)} ({one.where})" if named else words(one) for one in seen.variants]
    return Cell(
        text="; ".join(texts),
        brief=words(seen.variants[0]),
        figures={one.where: figures(one)[figure] for one in seen.variants},
    )


def _cpu(one: LoadSeen) -> str:
    costs = figures(one)
    alone = f"{costs['check_us']:.0f}" if costs["check_us"] >= 1 else "under 1"
    return f"{costs['cpu_us']:.0f} µs, {alone} µs"


def _require_counts(one: LoadSeen) -> None:
    if one.requests <= 0 or one.floor_requests <= 0 or one.seconds <= 0 or one.floor_seconds <= 0:
        raise Unreadable(f"no request was counted ({one.where})")
    if one.refused:
        raise Unreadable(f"{one.refused} requests with a good credential were refused ({one.where})")
    if min(one.store_queries, one.network_calls, one.cpu, one.floor_cpu) < 0:
        raise Unreadable(f"a counter went backwards ({one.where})")
