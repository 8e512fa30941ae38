"""The moving parts of a following verifier in one process: made anew after a fork."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, ConfigurationError
from keyfob.base.events import Event
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
        self.reader = FeedReader(
            settings.issuer,
            client=self._client,
            keys=keys,
            view=view,
            clock=clock,
            on_event=on_event,
            on_entries=log.hear if settings.report_as else None,
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
        """Start the threads. Once."""
        self.reader.start()
        self.upkeep.start()

    def close(self) -> None:
        """End the threads; what is pending is reported. Twice is once."""
        self.reader.close()
        self.upkeep.close()
        self.introspection.close()
        self._client.close()

    def ask(self, token: str, *, source: str) -> Future[CachedSession]:
        """Ask the authority about *token*; see `Introspection.ask`."""
        return self.introspection.ask(token, source=source)

    def wait_until_level(self) -> None:
        """Wait until the event stream said that everything is held.

        Raises:
            ConfigurationError: the authority refuses the credentials.
            AuthorityUnavailable: it took longer than `start_timeout`.
        """
        reader, timeout = self.reader, self._settings.start_timeout.total_seconds()
        self._view.wait_for(
            lambda: reader.is_level or isinstance(reader.failure, ConfigurationError), timeout=timeout
        )
        if reader.is_level:
            return
        if isinstance(reader.failure, ConfigurationError):
            raise reader.failure
        raise AuthorityUnavailable(
            f"not level with the feed of {self._settings.issuer} after {timeout:g} s: "
            f"{reader.failure or 'no answer yet'}; is the authority running, and is that its address?"
        )
