"""What a following verifier does now and then, in a thread of its own: the time, unknown keys, reports of activity and of itself."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, ConfigurationError
from keyfob.verifier.authority_client import AuthorityClient
from keyfob.verifier.feed_reader import FeedReader
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import REFETCH_INTERVAL, JwksSource
from keyfob.verifier.reporting import Reporting
from keyfob.verifier.session_uses import SessionUses

TIME_INTERVAL = 30.0  # seconds between two round trips
MAX_REPORT = 500  # sessions in one report
_TICK = 1.0  # seconds between two looks, so that a clock that was set is found out


class Upkeep:
    """Runs the errands of one verifier. Its thread is a daemon; `close` ends it."""

    def __init__(
        self,
        reader: FeedReader,
        *,
        client: AuthorityClient,
        keys: JwksSource,
        view: FeedView,
        uses: SessionUses,
        reporting: Reporting,
        clock: Clock,
        touch_interval: float,
    ) -> None:
        self._reader = reader
        self._client = client
        self._keys = keys
        self._view = view
        self._uses = uses
        self._reporting = reporting
        self._elapsed = clock.elapsed
        self._touch_interval = touch_interval
        self._time_due = self._elapsed() + TIME_INTERVAL
        self._keys_due = self._elapsed()
        self._report_due = self._elapsed() + touch_interval
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keyfob-upkeep", daemon=True)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the errand that it is on, and report what is pending. Twice is once."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        with suppress(AuthorityUnavailable, ConfigurationError):
            self._report()

    def run_due(self) -> None:
        """Do what is due."""
        now = self._elapsed()
        if now >= self._time_due or self._view.time.has_stepped():
            with suppress(AuthorityUnavailable, ConfigurationError):
                self._reader.learn_time()
                self._time_due = now + TIME_INTERVAL
        if self._keys.is_wanting and now >= self._keys_due:
            self._keys_due = now + REFETCH_INTERVAL
            self._keys.is_wanting = False
            with suppress(AuthorityUnavailable, ConfigurationError):
                self._reader.fetch_keys()
        if now >= self._report_due:
            self._report_due = now + self._touch_interval
            with suppress(AuthorityUnavailable, ConfigurationError):
                self._report()
        if self._reporting.is_due(now):
            self._reporting.report(now)

    def _report(self) -> None:
        while uses := self._uses.take(MAX_REPORT):
            try:
                self._client.report_seen([(session_id, _rfc3339(at)) for session_id, at in uses.items()])
            except BaseException:
                for session_id, at in uses.items():
                    self._uses.note(session_id, at)
                raise

    def _run(self) -> None:
        while not self._closed.wait(_TICK):
            self.run_due()
        self._reporting.leave()


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
