"""Experiment 1: somebody is ended under load; when does each of three services deny?"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from keyfob.lab.readings.cell import Cell, Observation, Row, Unreadable, missing, seconds, until_exp, usual

ROWS = (Row(key="denied", title="revoked → denied by three services"),)


class Denial(Observation, frozen=True, kw_only=True):
    """When one service first refused: seconds after the revocation was acknowledged, below 0 if before that; None if it never did.

    `accepted_before` says that it had taken the same credential, before it was revoked.
    """

    door: int
    after: float | None
    code: str
    accepted_before: bool


class Round(Observation, frozen=True, kw_only=True):
    """One revocation: how long its call took, and what each service did."""

    took: float
    denials: list[Denial]


class RevocationSeen(Observation, frozen=True, kw_only=True):
    """All rounds, the load beside them in requests per second, and how long services were watched at most."""

    access_seconds: float
    watched: float
    rounds: list[Round]
    load_per_second: float


def read(seen: RevocationSeen) -> Mapping[str, Cell]:
    """Say how long after the revocation was acknowledged the first service denied, and the last."""
    if not seen.rounds or not all(one.denials for one in seen.rounds):
        return {"denied": missing("nothing was revoked")}
    denials = [denial for one in seen.rounds for denial in one.denials]
    if not all(denial.accepted_before for denial in denials):
        raise Unreadable("a service refused a good credential before it was revoked")
    if any(denial.after is None for denial in denials):
        return {"denied": _never(seen)}
    first = median(min(_after(denial) for denial in one.denials) for one in seen.rounds)
    last = median(max(_after(denial) for denial in one.denials) for one in seen.rounds)
    worst = max(_after(denial) for denial in denials)
    figures = {"first": first, "last": last, "worst": worst, "rounds": len(seen.rounds)}
    if any(denial.code == "expired" for denial in denials):
        text = f"not before exp: {until_exp(worst, access_seconds=seen.access_seconds)}"
        brief = f"not before exp: {usual(worst, access_seconds=seen.access_seconds)}"
        return {"denied": Cell(text=text, brief=brief, figures={**figures, "until_exp": True})}
    text = f"first after {seconds(first)}, last after {seconds(last)}; worst of {len(seen.rounds)} rounds {seconds(worst)}"
    brief = f"{seconds(first)} to {seconds(last)}"
    return {"denied": Cell(text=text, brief=brief, figures={**figures, "until_exp": False})}


def lags(seen: RevocationSeen) -> list[float]:
    """Return every denial's seconds after the acknowledgement, for the histogram."""
    return sorted(_after(denial) for one in seen.rounds for denial in one.denials if denial.after is not None)


def _after(denial: Denial) -> float:
    assert denial.after is not None
    return max(0.0, denial.after)


def _never(seen: RevocationSeen) -> Cell:
    still = sum(denial.after is None for one in seen.rounds for denial in one.denials)
    return Cell(
        text=f"not within {seconds(seen.watched)}: {still} still accept",
        figures={"still_accepting": still, "watched": seen.watched},
    )
