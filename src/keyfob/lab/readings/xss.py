"""Experiment 4: an injected script sends what it can to another origin, and the attacker replays that from another client."""

from __future__ import annotations

from collections.abc import Mapping

from keyfob.lab.readings.cell import Cell, Observation, Row, Unreadable, missing, seconds, until_exp, usual
from keyfob.lab.readings.replays import Track, end_of, survival, survives
from keyfob.lab.setups import PLACEMENT_TITLES, Placement

ROWS = (
    Row(key="own", title="XSS: replays elsewhere, until how long after the sign-out"),
    Row(key="others", title="the same, kept elsewhere"),
)


class InjectionSeen(Observation, frozen=True, kw_only=True):
    """One placement. `arrived` says that the script's message came to the other origin, `acted` that it used the login inside the page.

    `tracks` are the replays of what it brought, by the attacker, around the user's sign-out at moment 0.
    """

    placement: Placement
    arrived: bool
    acted: bool
    tracks: list[Track]


class XssSeen(Observation, frozen=True, kw_only=True):
    """Every placement that was played, the set-up's own first."""

    access_seconds: float
    injections: list[InjectionSeen]


def read(seen: XssSeen) -> Mapping[str, Cell]:
    """Say for each placement how many replays succeeded, and for how long."""
    if not seen.injections:
        return {"own": missing("no page was opened"), "others": missing("no page was opened")}
    if not all(one.arrived for one in seen.injections):
        raise Unreadable("the injected script did not reach the other origin")
    own, *others = [_cell(one, seen.access_seconds) for one in seen.injections]
    figures = {
        f"{one.placement}.{name}": value
        for one, cell in zip(seen.injections[1:], others, strict=True)
        for name, value in cell.figures.items()
    }
    return {
        "own": own,
        "others": Cell(
            text="; ".join(cell.text for cell in others) or "–",
            brief="; ".join(cell.brief for cell in others) or "–",
            figures=figures,
        ),
    }


def _cell(seen: InjectionSeen, access_seconds: float) -> Cell:
    where = PLACEMENT_TITLES[seen.placement]
    acted = "; the script acted in the page" if seen.acted else ""
    tracks = seen.tracks
    for track in tracks:
        if not track.replays or not track.replays[0].accepted:
            raise Unreadable(
                f"the {track.name}, was good at the shop and refused by a service before the sign-out"
            )
    succeeded = sum(replay.accepted for track in tracks for replay in track.replays)
    figures: dict[str, float | int | bool | str] = {"replays": succeeded, "acted": seen.acted}
    if not tracks:
        return Cell(
            text=f"{where}: nothing to replay{acted}",
            brief=f"nothing to replay ({where})",
            figures={**figures, "survival": 0.0},
        )
    longest = max(tracks, key=lambda track: (survives(track), survival(track)))
    lasted = survival(longest)
    figures |= {"survival": lasted}
    if survives(longest) and end_of(longest) == "expired":
        until = until_exp(lasted, access_seconds=access_seconds)
        return Cell(
            text=f"{where}: {succeeded} replays, {until} after the sign-out{acted}",
            brief=f"{usual(lasted, access_seconds=access_seconds)} ({where})",
            figures=figures,
        )
    after = f"until {seconds(lasted)}" if survives(longest) else "none"
    return Cell(
        text=f"{where}: {succeeded} replays, {after} after the sign-out{acted}",
        brief=f"{after} ({where})",
        figures=figures,
    )
