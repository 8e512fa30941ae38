"""The moving parts of a following verifier in one process: made anew after a fork."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, ConfigurationError, KeyfobError
from keyfob.base.events import Event
from keyfob.revocation import wire
from keyfob.verifier.authority_client import AuthorityClient
from keyfob.verifier.canary_log import CanaryLog
from keyfob.verifier.feed_reader import FeedReader
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.introspection import Introspection
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.reporting import Reporting
from keyfob.verifier.session_cache import CachedSession
from keyfob.verifier.session_uses import SessionUses
from keyfob.verifier.settings import FollowSettings
from keyfob.verifier.sources import Sources
from keyfob.verifier.state_file import StateFile
from keyfob.verifier.upkeep import Upkeep


class Following:
    """Reader, upkeep and introspection of one verifier."""

    def __init__(
        self,
        settings: FollowSettings,
        *,
        keys: JwksSource,
        view: FeedView,
        uses: SessionUses,
        clock: Clock,
        on_event: Callable[[Event], None],
        bound: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._view = view
        self._client = AuthorityClient(settings)
        log = CanaryLog(view)
        self._state = _state_file(settings, keys=keys, view=view, clock=clock, on_event=on_event)
        self.reader = FeedReader(
            settings.issuer,
            client=self._client,
            keys=keys,
            view=view,
            clock=clock,
            on_event=on_event,
            on_entries=log.hear if settings.report_as else None,
            tap=self._state,
        )
        self.reporting = Reporting(settings, client=self._client, view=view, log=log, bound=bound)
        self.introspection = Introspection(
            self._client,
            issuer=settings.issuer,
            audiences=settings.audiences,
            time=view.time,
            sources=Sources(clock.elapsed),
            max_cache_age=settings.max_cache_age.total_seconds(),
        )
        self.upkeep = Upkeep(
            self.reader,
            client=self._client,
            keys=keys,
            view=view,
            uses=uses,
            reporting=self.reporting,
            clock=clock,
            touch_interval=settings.touch_interval.total_seconds(),
        )

    def start(self) -> None:
        """Start the threads; with `start="stale"` from what was kept, where this process holds nothing yet. Once."""
        if (
            self._state is not None
            and self._settings.start == "stale"
            and self._view.last_level_at == -math.inf
        ):
            self.reader.restore(self._state.read())
        self.reader.start()
        self.upkeep.start()

    def close(self) -> None:
        """End the threads; what is pending is reported. Twice is once."""
        self.reader.close()
        if self._state is not None:
            self._state.close()
        self.upkeep.close()
        self.introspection.close()
        self._client.close()

    def ask(self, token: str, *, source: str) -> Future[CachedSession]:
        """Ask the authority about *token*; see `Introspection.ask`."""
        return self.introspection.ask(token, source=source)

    def wait_until_level(self) -> None:
        """Wait until the event stream said that everything is held; where something was kept to begin with, until the first attempt fails.

        Raises:
            ConfigurationError: the authority refuses the credentials.
            AuthorityUnavailable: it took longer than `start_timeout`, and nothing was kept.
        """
        reader, timeout = self.reader, self._settings.start_timeout.total_seconds()
        may_be_stale = self._settings.start == "stale" and self._view.last_level_at != -math.inf
        given_up = KeyfobError if may_be_stale else ConfigurationError
        self._view.wait_for(lambda: reader.is_level or isinstance(reader.failure, given_up), timeout=timeout)
        if reader.is_level:
            return
        if isinstance(reader.failure, ConfigurationError):
            raise reader.failure
        if may_be_stale:
            return
        raise AuthorityUnavailable(
            f"not level with the feed of {self._settings.issuer} after {timeout:g} s: "
            f"{reader.failure or 'no answer yet'}; is the authority running, and is that its address?"
        )


def _state_file(
    settings: FollowSettings,
    *,
    keys: JwksSource,
    view: FeedView,
    clock: Clock,
    on_event: Callable[[Event], None],
) -> StateFile | None:
    if settings.state_file is None or settings.credentials is None:
        return None

    def key_document() -> bytes | None:
        return None if keys.key_sets is None else wire.encode_key_document(settings.issuer, keys.key_sets)

    def failed(why: str) -> None:
        on_event(Event(at=clock.now(), code="state_not_kept", facts={"why": why}))

    return StateFile(
        Path(settings.state_file),
        issuer=settings.issuer,
        credentials=settings.credentials,
        key_document=key_document,
        offset=lambda: view.time.offset,
        elapsed=clock.elapsed,
        failed=failed,
    )
