"""Telling the authority where this verifier stands, so that somebody sees when revocations do not arrive."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import msgspec

from keyfob.base.errors import AuthorityUnavailable, ConfigurationError
from keyfob.revocation.slo import REPORT_INTERVAL
from keyfob.verifier.authority_client import AuthorityClient
from keyfob.verifier.canary_log import CanaryLog
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.settings import FollowSettings

_LONGEST = 366 * 86_400.0  # seconds: a report takes no longer ones
_PAUSE = REPORT_INTERVAL.total_seconds()


class Reporting:
    """Reports for one verifier in one process, under the name that it was given. A report that fails changes nothing about checks."""

    def __init__(
        self,
        settings: FollowSettings,
        *,
        client: AuthorityClient,
        view: FeedView,
        log: CanaryLog,
        bound: Callable[[], float],
    ) -> None:
        """*bound* says for how many seconds a route may go on accepting when the verifier is cut off."""
        self.sent = 0
        self.failures = 0
        self._name = settings.report_as
        self._instance = os.urandom(8).hex()
        self._max_staleness = settings.max_staleness.total_seconds()
        self._client = client
        self._view = view
        self._log = log
        self._bound = bound
        self._due = -math.inf
        self._failed = False

    def is_due(self, now: float) -> bool:
        """Say whether it is time, *now* being that of the boot-time clock: with a canary at once, unless the last report failed."""
        return self._name is not None and (now >= self._due or (len(self._log) > 0 and not self._failed))

    def report(self, now: float) -> None:
        """Report. What cannot be delivered is reported with the next, a while later."""
        self._due = now + _PAUSE
        denials = self._log.take()
        try:
            self._client.report(self._document(denials=denials))
        except (AuthorityUnavailable, ConfigurationError):
            self.failures += 1
            self._failed = True
            self._log.put_back(denials)
            return
        self.sent += 1
        self._failed = False

    def leave(self) -> None:
        """Say goodbye, where a report ever arrived: whoever closes is not silent."""
        if not self.sent:
            return
        try:
            self._client.report(self._document(leaving=True))
        except (AuthorityUnavailable, ConfigurationError):
            self.failures += 1

    def _document(self, *, denials: Sequence[tuple[int, int]] = (), leaving: bool = False) -> bytes:
        view = self._view
        level_at, head = view.level_at, view.live.head  # in this order: what is level is held
        return msgspec.json.encode(
            {
                "verifier": self._name,
                "instance": self._instance,
                "sent_at": _micros(view.time.now()),
                "timeline": head.timeline,
                "position": head.position,
                "level_at": None if level_at == -math.inf else _micros(level_at),
                "max_staleness": min(self._max_staleness, _LONGEST),
                "bound": min(self._bound(), _LONGEST),
                "denials": [{"position": position, "at": at} for position, at in denials],
                "leaving": leaving,
            }
        )


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)
