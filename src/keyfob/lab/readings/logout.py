"""Experiment 2: somebody signs out, and everything that was captured before is replayed until all of it is refused."""

from __future__ import annotations

from collections.abc import Mapping

from keyfob.lab.readings.cell import Cell, Observation, Row, Unreadable, missing, seconds, until_exp, usual
from keyfob.lab.readings.replays import Track, came_back, end_of, survival, survives

ROWS = (Row(key="survival", title="sign-out → every captured credential refused"),)


class LogoutSeen(Observation, frozen=True, kw_only=True):
    """The replays of every credential, `interval` seconds apart."""

    access_seconds: float
    interval: float
    tracks: list[Track]


def read(seen: LogoutSeen) -> Mapping[str, Cell]:
    """Say how long the longest-lived credential survived, and which."""
    if not seen.tracks:
        return {"survival": missing("nothing was captured")}
    back = [track.name for track in seen.tracks if came_back(track)]
    if back:
        raise Unreadable(f"the {back[0]} was accepted again after it had been refused")
    lasting = {track.name: survival(track) for track in seen.tracks}
    longest = max(seen.tracks, key=lambda track: (survives(track), lasting[track.name]))
    figures = {**lasting, "longest": lasting[longest.name], "credentials": len(seen.tracks)}
    if not any(survives(track) for track in seen.tracks):
        text = f"all {len(seen.tracks)} refused at their first replay"
        return {"survival": Cell(text=text, brief="at once", figures=figures)}
    others = sum(not survives(track) for track in seen.tracks)
    rest = f"; {others} of {len(lasting)} refused at once" if others else ""
    if end_of(longest) == "expired":
        lasted = until_exp(lasting[longest.name], access_seconds=seen.access_seconds)
        brief = f"{longest.name}: {usual(lasting[longest.name], access_seconds=seen.access_seconds)}"
        return {"survival": Cell(text=f"{longest.name}: {lasted}{rest}", brief=brief, figures=figures)}
    lasted = f"for {seconds(lasting[longest.name])}"
    return {"survival": Cell(text=f"{longest.name}: {lasted}{rest}", brief=lasted, figures=figures)}


def curve(seen: LogoutSeen) -> list[tuple[float, float]]:
    """Return, for each moment after the sign-out at which something changed, the share of credentials that are good from then on."""
    ends = sorted(_end(track) for track in seen.tracks)
    points = [(0.0, 1.0)]
    for number, end in enumerate(ends, start=1):
        points.append((end, 1 - number / len(ends)))
    return points


def _end(track: Track) -> float:
    """Return when *track* was first refused for good."""
    last = survival(track)
    return next(replay.at for replay in track.replays if replay.at > last or not replay.accepted)
