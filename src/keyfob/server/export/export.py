"""Follows a feed and keeps one file current. The file's reader trusts it: it is written whole, takes the old one's place at once, and
says itself until when it is good."""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from keyfob.base.clock import Clock, SystemClock
from keyfob.base.errors import AuthorityUnavailable, ConfigurationError
from keyfob.base.events import Event
from keyfob.server import logs
from keyfob.server.export.exported import Exported, Write
from keyfob.server.export.known_entries import KnownEntries
from keyfob.server.gateway.settings import GatewaySettings
from keyfob.server.settings import environment_of_others
from keyfob.verifier.authority_client import AuthorityClient
from keyfob.verifier.feed_reader import FeedReader
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource

PAUSE: Final = 1.0
"""Seconds between two files: a burst of revocations is one file, and one reload."""
TIME_INTERVAL: Final = 30.0  # seconds between two round trips about the time, as a verifier makes them
START_SECONDS: Final = 10.0  # how long one export waits for the authority
_LOOK: Final = 0.05  # seconds
COMMAND_SECONDS: Final = 30.0  # how long `--exec` may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be exported: in which form, where to (None: standard output), and what is run after each new file."""

    write: Write
    out: Path | None
    command: str | None


class Exporter:
    """Follows the feed of one authority for one order."""

    def __init__(
        self, settings: GatewaySettings, order: Order, *, clock: Clock, on_event: Callable[[Event], None]
    ) -> None:
        following = settings.following()
        self._order = order
        self._clock = clock
        self._issuer = following.issuer
        self._max_staleness = settings.max_staleness
        self._entries = KnownEntries()
        self._view = FeedView(clock)
        self._client = AuthorityClient(following)
        self._reader = FeedReader(
            following.issuer,
            client=self._client,
            keys=JwksSource(),
            view=self._view,
            clock=clock,
            on_event=on_event,
            tap=self._entries,
        )
        self._log = structlog.stdlib.get_logger("keyfob.export")
        self._written = b""
        self._is_told = True
        self._renew_at = -math.inf
        self._time_due = TIME_INTERVAL

    def start(self) -> None:
        """Begin to follow."""
        self._reader.start()
        self._time_due = self._clock.elapsed() + TIME_INTERVAL

    def close(self) -> None:
        """Stop following. Twice is once."""
        self._reader.close()
        self._client.close()

    def write_once(self) -> None:
        """Wait until the feed is level, and write.

        Raises:
            ConfigurationError: the authority refuses the credentials; the file cannot be written; the command fails.
            AuthorityUnavailable: it is not level within `START_SECONDS`.
        """
        if not self._is_level_within(START_SECONDS, ended=threading.Event()):
            raise self._reader.failure or AuthorityUnavailable(f"not level with the feed of {self._issuer}")
        self.keep_current()
        if not self._is_told:
            raise ConfigurationError(f"the command failed: {self._order.command}")

    def watch(self, ended: threading.Event) -> None:
        """Keep the file current until *ended*.

        The file of before stands until the feed is level, for `START_SECONDS` at most: then it is replaced by one that lets nothing through.

        Raises:
            ConfigurationError: the authority refuses the credentials at the start; the file cannot be written.
        """
        is_level = self._is_level_within(START_SECONDS, ended=ended)
        if not is_level and isinstance(self._reader.failure, ConfigurationError):
            raise self._reader.failure
        while not ended.is_set():
            self._learn_time()
            self.keep_current()
            ended.wait(PAUSE)

    def _is_level_within(self, seconds: float, *, ended: threading.Event) -> bool:
        """Wait for the first level moment; not for longer than *seconds*, nor past *ended*, nor where asking again will not help."""
        until = self._clock.elapsed() + seconds
        while not self._entries.leveled.wait(_LOOK):
            refused = isinstance(self._reader.failure, ConfigurationError)
            if refused or ended.is_set() or self._clock.elapsed() >= until:
                return False
        return True

    def keep_current(self) -> None:
        """Write the file if it would say something else, or is half-way to the moment from which it is not gone by; then run the command.

        A command that fails is run again with the next look: until it succeeds the proxy has the old file, and the moment in there.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        exported = self._exported()
        lasting = self._order.write(_without_moments(exported))
        now = self._clock.elapsed()
        if lasting != self._written or (exported.is_level and now >= self._renew_at):
            _put(self._order.out, self._order.write(exported))
            self._written = lasting
            left = (exported.good_until - self._clock.now()).total_seconds()
            self._renew_at = now + max(PAUSE, left / 2)
            self._is_told = self._order.command is None
        if not self._is_told and self._order.command is not None:
            self._is_told = self._tell(self._order.command)

    def _exported(self) -> Exported:
        time = self._view.time
        known = self._entries.known(_moment(time.now()))
        level_at = 0.0 if known.level_at is None else known.level_at.timestamp()
        limit = self._max_staleness.total_seconds()
        return Exported(
            issuer=self._issuer,
            timeline=known.timeline,
            position=known.position,
            entries=known.entries,
            level_at=_moment(level_at),
            good_until=_moment(level_at - time.offset if level_at else 0.0) + self._max_staleness,
            is_level=time.now() - level_at < limit,
        )

    def _learn_time(self) -> None:
        if self._clock.elapsed() >= self._time_due or self._view.time.has_stepped():
            self._time_due = self._clock.elapsed() + TIME_INTERVAL
            with suppress(AuthorityUnavailable, ConfigurationError):
                self._reader.learn_time()

    def _tell(self, command: str) -> bool:
        """Run *command*, without a shell; say whether it succeeded."""
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command, given by the operator
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                timeout=COMMAND_SECONDS,
                env=environment_of_others(),
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            self._log.error("command_failed", why=str(error))
            return False
        if done.returncode != 0:
            self._log.error("command_failed", why=f"it ended with {done.returncode}")
        return done.returncode == 0


def export_once(settings: GatewaySettings, order: Order) -> int:
    """Write the file and end; return the exit code.

    Raises:
        ConfigurationError, AuthorityUnavailable: as `Exporter.write_once`.
    """
    with _following(settings, order) as exporter:
        exporter.write_once()
    return 0


def keep_exporting(settings: GatewaySettings, order: Order) -> int:
    """Keep the file current until SIGINT or SIGTERM; return the exit code.

    Raises:
        ConfigurationError: as `Exporter.watch`.
    """
    with _told_to_end() as ended, _following(settings, order) as exporter:
        exporter.watch(ended)
    return 0


@contextmanager
def _following(settings: GatewaySettings, order: Order) -> Iterator[Exporter]:
    logs.configure(settings.log_level)
    log = structlog.stdlib.get_logger("keyfob.export")

    def tell(event: Event) -> None:
        log.warning(event.code, **event.facts)

    exporter = Exporter(settings, order, clock=SystemClock(), on_event=tell)
    exporter.start()
    try:
        yield exporter
    finally:
        exporter.close()


def _put(out: Path | None, content: bytes) -> None:
    """Put *content* in the place of the file at once: a reader finds the old one or the new one, also after a loss of power."""
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    new = out.with_name(out.name + ".new")
    try:
        # Who was signed out is nobody's business but the proxy's.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o640), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(out)
    except OSError as error:
        raise ConfigurationError(f"cannot write {out}: {error.strerror}") from None


def _without_moments(exported: Exported) -> Exported:
    """Return what would be worth a new file: not that time has passed, nor that entries came which say nothing new."""
    epoch = datetime.fromtimestamp(0, UTC)
    until = epoch + timedelta(seconds=1)
    return Exported(
        issuer=exported.issuer,
        timeline=exported.timeline,
        position=max((entry.position for entry in exported.entries), default=0),
        entries=exported.entries,
        level_at=epoch,
        good_until=until,
        is_level=exported.is_level,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Give an event that SIGINT or SIGTERM sets."""
    ended = threading.Event()

    def note(_number: int, _frame: types.FrameType | None) -> None:
        ended.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
