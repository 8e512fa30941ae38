"""A credential that is replayed again and again until it is refused: what experiments 2 and 4 have in common."""

from __future__ import annotations

from itertools import pairwise

from keyfob.lab.readings.cell import Observation, Unreadable

NOT_FOUND_OUT = frozenset({"store_unavailable", "verifier_stale", "unavailable", "authority_unavailable"})
"""Codes that refuse without saying anything of the credential."""


class Replay(Observation, frozen=True, array_like=True):
    """One replay: seconds after the sign-out (below 0 before it), and whether it was accepted, else why not."""

    at: float
    accepted: bool
    code: str = ""


class Track(Observation, frozen=True, kw_only=True):
    """All replays of one credential, in order; `name` says which it is."""

    name: str
    replays: list[Replay]


def survival(track: Track) -> float:
    """Return how many seconds after the sign-out *track* was last accepted; 0 if it never was.

    Raises:
        Unreadable: it was not replayed after the sign-out, a refusal says nothing of it, or it was never refused.
    """
    after = [replay for replay in track.replays if replay.at >= 0]
    if not after:
        raise Unreadable(f"the {track.name} was not replayed")
    if any(replay.code in NOT_FOUND_OUT for replay in after):
        raise Unreadable(f"a service could not say whether the {track.name} is good")
    if after[-1].accepted:
        raise Unreadable(
            f"the {track.name} was still accepted after {after[-1].at:.1f} s, when the replays ended"
        )
    return max((replay.at for replay in after if replay.accepted), default=0.0)


def survives(track: Track) -> bool:
    """Say whether *track* was accepted at all after the sign-out, be it in the same tenth of a millisecond."""
    return any(replay.accepted for replay in track.replays if replay.at >= 0)


def end_of(track: Track) -> str:
    """Return the code of the first refusal after *track* was last accepted."""
    last = max((place for place, replay in enumerate(track.replays) if replay.accepted), default=-1)
    return track.replays[last + 1].code if last + 1 < len(track.replays) else ""


def came_back(track: Track) -> bool:
    """Say whether *track* was accepted after it had been refused, since the sign-out."""
    after = [replay.accepted for replay in track.replays if replay.at >= 0]
    return any(not first and second for first, second in pairwise(after))
