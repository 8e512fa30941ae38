"""The eight experiments: what each asks, how it is played, and how its observations are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keyfob.lab.readings import csrf, load, logout, revocation, services, storage, theft, xss
from keyfob.lab.readings.cell import Cell, Row, Unreadable, missing
from keyfob.lab.result import Column

Read = Callable[[Any], Mapping[str, Cell]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment. `key` is the field of a column that its observations are in."""

    number: int
    key: str
    dimension: str
    question: str
    how: str
    rows: tuple[Row, ...]
    read: Read
    needs_browser: bool = False


EXPERIMENTS = (
    Experiment(
        number=1,
        key="revocation",
        dimension="Instant revocation",
        question="Somebody is ended while the services are busy. When does each of three services deny?",
        how="A thread for each service calls without a pause, beside a load on all of them, while an administrator ends the user. Counted is "
        "from the moment at which that is acknowledged until the first refusal arrives.",
        rows=revocation.ROWS,
        read=revocation.read,
    ),
    Experiment(
        number=2,
        key="logout",
        dimension="Effectiveness of logout",
        question="Somebody signs out. For how long is what was captured before still good?",
        how="Everything that the device ever held is replayed from another client, at each service in turn, until all of it is refused: "
        "without a pause at first, then at least once a second.",
        rows=logout.ROWS,
        read=logout.read,
    ),
    Experiment(
        number=3,
        key="storage",
        dimension="Storage in the client",
        question="A script runs in the page. What does it get?",
        how="In a real Chromium the page logs in and works; then a script reads what it can: cookies, storage, caches, global variables, "
        "the page's own requests as they are sent, and what /refresh answers. What it found counts if it works when somebody else presents it.",
        rows=storage.ROWS,
        read=storage.read,
        needs_browser=True,
    ),
    Experiment(
        number=4,
        key="xss",
        dimension="Exposure to XSS",
        question="An injected script sends what it can to another origin. What can the attacker do with it, and until when?",
        how="The script gets in through a hole of the page, and a second server takes what it sends. From there it is replayed; the user "
        "signs out, and it is replayed until it is refused.",
        rows=xss.ROWS,
        read=xss.read,
        needs_browser=True,
    ),
    Experiment(
        number=5,
        key="csrf",
        dimension="Exposure to CSRF",
        question="A page of another site forges requests. Which of them change something?",
        how="A form, a simple fetch and a top-level GET by a real Chromium; then the same as an old browser sends them, with cookies and "
        "without a word of where they come from. The same forgeries change something at a shop without defences: that is checked in the same run.",
        rows=csrf.ROWS,
        read=csrf.read,
        needs_browser=True,
    ),
    Experiment(
        number=6,
        key="theft",
        dimension="A stolen credential",
        question="A thief copies everything that a device holds, and its user goes on working. Is it noticed? What can the thief do?",
        how="Both call a service. The thief refreshes at 0.3 of the access token's lifetime, the user at 0.5; where nothing was noticed by "
        "0.7, the user signs out.",
        rows=theft.ROWS,
        read=theft.read,
    ),
    Experiment(
        number=7,
        key="load",
        dimension="Load per request",
        question="What does one checked request cost?",
        how="As many requests as one core answers, over 32 connections, with every counter read before and after. The check alone is the "
        "difference to a route of the same service that checks nothing.",
        rows=load.ROWS,
        read=load.read,
    ),
    Experiment(
        number=8,
        key="services",
        dimension="Several services",
        question="1, 3 and 10 services check one credential; then what they depend on is killed. Do they go on?",
        how="Network calls are counted by the services, over 50 requests to each. Then the authority is killed, and after it the store where "
        "that is a process of its own, while every service is asked ten times a second.",
        rows=services.ROWS,
        read=services.read,
    ),
)
BY_KEY = {experiment.key: experiment for experiment in EXPERIMENTS}


def cells(experiment: Experiment, column: Column) -> Mapping[str, Cell]:
    """Return the cells of *experiment* in *column*: from what was seen, or why there is nothing."""
    reason = column.missing.get(experiment.key)
    seen = getattr(column, experiment.key)
    if reason is None and seen is not None:
        try:
            return experiment.read(seen)
        except Unreadable as unreadable:
            reason = str(unreadable)
    return {row.key: missing(reason or "not played in this run") for row in experiment.rows}
