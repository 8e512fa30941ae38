"""Experiment 3: a script in a real page tries to get at the credential, wherever the page keeps it."""

from __future__ import annotations

from collections.abc import Mapping

from keyfob.lab.readings.cell import Cell, Observation, Row, Unreadable, missing, several
from keyfob.lab.setups import PLACEMENT_TITLES, Placement

ROWS = (
    Row(key="own", title="what a script in the page gets"),
    Row(key="others", title="the same, kept elsewhere"),
)


class Take(Observation, frozen=True, kw_only=True):
    """Something that the script got: by which means, and what it was good for when somebody else presented it; empty for nothing."""

    means: str
    good_for: str


class PlacementSeen(Observation, frozen=True, kw_only=True):
    """One placement. `page_works` says that the page could use its own credential; `acted` that the script could, inside the page."""

    placement: Placement
    page_works: bool
    acted: bool
    takes: list[Take]


class StorageSeen(Observation, frozen=True, kw_only=True):
    """Every placement of a set-up, its own first."""

    placements: list[PlacementSeen]


def read(seen: StorageSeen) -> Mapping[str, Cell]:
    """Say for each placement by which means a script got a credential that works elsewhere."""
    if not seen.placements:
        return {"own": missing("no page was opened"), "others": missing("no page was opened")}
    broken = [one.placement.value for one in seen.placements if not one.page_works]
    if broken:
        raise Unreadable(f"the page with the credential in {broken[0]} does not work")
    own, *others = seen.placements
    return {
        "own": Cell(text=_words(own), brief=_brief(own), figures=_figures(own)),
        "others": Cell(
            text="; ".join(_words(one) for one in others) or "–",
            brief="; ".join(_brief(one) for one in others) or "–",
            figures={
                f"{one.placement}.{name}": value for one in others for name, value in _figures(one).items()
            },
        ),
    }


def working(seen: PlacementSeen) -> list[Take]:
    """Return what the script got that works elsewhere."""
    return [take for take in seen.takes if take.good_for]


def _words(seen: PlacementSeen) -> str:
    where = PLACEMENT_TITLES[seen.placement]
    got = working(seen)
    if not got:
        return f"{where}: nothing"
    return f"{where}: {several([take.good_for for take in got])}, by {several([take.means for take in got])}"


def _brief(seen: PlacementSeen) -> str:
    got = several([take.good_for for take in working(seen)])
    return f"{got} ({PLACEMENT_TITLES[seen.placement]})"


def _figures(seen: PlacementSeen) -> dict[str, float | int | bool | str]:
    return {"got": len(working(seen)), "tried": len(seen.takes), "acted": seen.acted}
