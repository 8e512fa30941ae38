"""Experiment 8: 1, 3 and 10 services check one credential; then what they depend on is stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from keyfob.lab.readings.cell import Cell, Figure, Observation, Row, Unreadable, missing, seconds

ROWS = (
    Row(key="calls", title="network calls per request, with 1 · 3 · 10 services"),
    Row(key="authority", title="the authority stops: do the services go on?"),
    Row(key="store", title="the store stops: do the services go on?"),
)


class Spread(Observation, frozen=True, kw_only=True):
    """So many services, each asked so often in all, and the network calls that they made for it."""

    doors: int
    requests: int
    accepted: int
    network_calls: int


class Sample(Observation, frozen=True, array_like=True):
    """One request during an outage: seconds since something was stopped, to which service, and the answer."""

    at: float
    door: int
    status: int


class Outage(Observation, frozen=True, kw_only=True):
    """What was stopped, and how each service answered on `path` until `watched` seconds later."""

    stopped: str
    path: str
    watched: float
    samples: list[Sample]


class ServicesSeen(Observation, frozen=True, kw_only=True):
    """`store` says where what is looked up is kept: in a process of its own, in the authority, or nowhere."""

    spreads: list[Spread]
    outages: list[Outage]
    store: Literal["process", "authority", "none"]


def read(seen: ServicesSeen) -> Mapping[str, Cell]:
    """Say how many network calls a request costs, and until when the services went on."""
    return {
        "calls": _calls(seen.spreads),
        "authority": _outages([one for one in seen.outages if one.stopped == "authority"]),
        "store": _store(seen),
    }


def lasted(outage: Outage) -> tuple[float, bool]:
    """Return until when every service accepted everything, and whether that was to the end of the watch.

    Raises:
        Unreadable: nobody asked, or a service was refused and accepted again.
    """
    if not outage.samples:
        raise Unreadable(f"nobody asked while the {outage.stopped} was stopped")
    refused = [sample.at for sample in outage.samples if sample.status >= 300]
    if not refused:
        return outage.watched, True
    accepted = [sample.at for sample in outage.samples if sample.status < 300 and sample.at < min(refused)]
    return max(accepted, default=0.0), False


def _calls(spreads: Sequence[Spread]) -> Cell:
    if not spreads:
        return missing("nothing was asked")
    for spread in spreads:
        if spread.requests == 0 or spread.accepted != spread.requests:
            raise Unreadable(
                f"{spread.requests - spread.accepted} of {spread.requests} good requests were refused"
            )
    each = {str(spread.doors): spread.network_calls / spread.requests for spread in spreads}
    return Cell(text=" · ".join(f"{value:.2g}" for value in each.values()), figures=each)


def _outages(outages: Sequence[Outage]) -> Cell:
    if not outages:
        return missing("nothing was stopped")
    texts: list[str] = []
    briefs: list[str] = []
    figures: dict[str, Figure] = {}
    for outage in outages:
        until, went_on = lasted(outage)
        route = f" on {outage.path}" if len(outages) > 1 else ""
        texts.append(
            f"yes{route} ({seconds(outage.watched)} watched)"
            if went_on
            else f"{_for(until)}{route}{', then refused' if until > 0 else ''}"
        )
        briefs.append(f"yes{route}" if went_on else f"{_for(until)}{route}")
        figures |= {f"{outage.path}.until": until, f"{outage.path}.went_on": went_on}
    return Cell(text="; ".join(texts), brief="; ".join(briefs), figures=figures)


def _for(until: float) -> str:
    return f"for {seconds(until)}" if until > 0 else "not at all"


def _store(seen: ServicesSeen) -> Cell:
    if seen.store == "none":
        return Cell(text="there is none")
    if seen.store == "authority":
        return Cell(text="it is in the authority")
    return _outages([one for one in seen.outages if one.stopped == "store"])
