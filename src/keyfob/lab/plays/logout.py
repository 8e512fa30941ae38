"""Experiment 2, played: everything that a device ever held is captured, the user signs out, and all of it is replayed until it is refused."""

from __future__ import annotations

from keyfob.lab.device import Credential
from keyfob.lab.plays.replaying import Replaying
from keyfob.lab.processes import LabFailed
from keyfob.lab.readings.logout import LogoutSeen
from keyfob.lab.stage import Stage


def play(stage: Stage) -> LogoutSeen:
    """Capture, sign out, replay.

    Raises:
        LabFailed: something did not answer, or the user cannot sign out.
    """
    user = stage.user_on_the_second()
    captured: dict[str, Credential] = {}
    if stage.setup.refresh_cookie:
        captured |= {f"first {one.kind}": one for one in user.credentials()}
        if not user.refresh().accepted:
            raise LabFailed(f"{stage.setup.name}: the user cannot refresh")
    captured |= {one.kind: one for one in user.credentials()}
    replaying = Replaying(stage, stage.device(agent="a thief"), captured)
    if not user.log_out().accepted:
        raise LabFailed(f"{stage.setup.name}: the user cannot sign out")
    replaying.signed_out()
    replaying.until_refused()
    return LogoutSeen(
        access_seconds=stage.access_seconds,
        interval=round(replaying.interval, 4),
        tracks=replaying.tracks(),
    )
