"""Experiment 6, played: a thief copies everything from a device, and both go on.

The moments are shares of the access token's lifetime: the thief refreshes at 0.3, where there is something to refresh with, and the user at
0.5. Where nothing was noticed by 0.7, the user signs out.
"""

from __future__ import annotations

from typing import Literal

from keyfob.lab.device import Device, Reply
from keyfob.lab.plays.watching import Beginning
from keyfob.lab.readings.theft import Act, TheftSeen
from keyfob.lab.stage import Stage

CALLS = 40  # by each of the two, over the lifetime of an access token, and at least one a second
THIEF_REFRESHES, USER_REFRESHES, USER_SIGNS_OUT = 0.3, 0.5, 0.7
_DUE = {"thief's refresh": THIEF_REFRESHES, "user's refresh": USER_REFRESHES, "sign-out": USER_SIGNS_OUT}
LONGEST = 2.2  # lifetimes after which nobody looks any longer


def play(stage: Stage) -> TheftSeen:
    """Steal, and watch.

    Raises:
        LabFailed: something did not answer.
    """
    both = _Both(stage)
    interval = min(1.0, stage.access_seconds / CALLS)
    moment = 0
    while both.beginning.since() < LONGEST * stage.access_seconds and not both.is_over():
        both.step(both.beginning.since() / stage.access_seconds)
        moment += 1
        both.beginning.wait_until(moment * interval)
    return TheftSeen(access_seconds=stage.access_seconds, stolen=both.stolen, acts=both.acts)


class _Both:
    """The user and the thief."""

    def __init__(self, stage: Stage) -> None:
        self._door = stage.doors[0]
        self._user = stage.user_on_the_second()
        self._thief = stage.device(agent="a thief")
        self._thief.held = dict(self._user.held)
        self._due = ["sign-out"]
        if stage.setup.refresh_cookie:
            self._due = ["thief's refresh", "user's refresh", "sign-out"]
        self.stolen: list[str] = [credential.kind for credential in self._thief.credentials()]
        self.acts: list[Act] = []
        self.beginning = Beginning()

    def is_over(self) -> bool:
        """Say whether everything has happened, and the thief was refused three times in a row."""
        last = [act.accepted for act in self.acts if act.who == "thief" and act.what == "call"][-3:]
        return not self._due and len(last) == 3 and not any(last)

    def step(self, share: float) -> None:
        """Do what is due at *share* of the lifetime, then let both call a service."""
        if self._due and share >= _DUE[self._due[0]]:
            self._carry_out(self._due.pop(0))
        for device in (self._thief, self._user):
            at = self.beginning.since()
            self._note(device, "call", at, device.call(self._door))

    def _carry_out(self, what: str) -> None:
        if what == "sign-out":
            if not self._is_noticed():
                reply = self._user.log_out()
                self._note(self._user, "sign-out", self.beginning.since(), reply)
            return
        device = self._thief if what.startswith("thief") else self._user
        reply = device.refresh()
        self._note(device, "refresh", self.beginning.since(), reply)

    def _note(
        self, device: Device, what: Literal["call", "refresh", "sign-out"], at: float, reply: Reply
    ) -> None:
        who: Literal["user", "thief"] = "thief" if device is self._thief else "user"
        self.acts.append(Act(at, who, what, reply.accepted, reply.code))

    def _is_noticed(self) -> bool:
        return any(act.code == "reused" for act in self.acts)
