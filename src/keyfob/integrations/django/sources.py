"""What checks the credentials in each process, and the authority where the project holds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from django.apps import apps

from keyfob.base.errors import ConfigurationError
from keyfob.base.principal import Principal
from keyfob.integrations.admission import Admission, BlockingAdmission
from keyfob.integrations.checks import (
    Checking,
    FollowedChecks,
    SharedChecks,
    blocking_checks_of,
    started,
)
from keyfob.integrations.django.configuration import Configuration
from keyfob.integrations.django.remote_authority import RemoteAuthority
from keyfob.integrations.per_process import PerProcess
from keyfob.integrations.request_head import RequestHead
from keyfob.integrations.requirement import Requirement
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from keyfob.sync import Authority


class Sources:
    """The verifier or the authority of this process. Every method may be called from any thread."""

    def __init__(self, described: object, configuration: Configuration) -> None:
        self.described = described
        self.configuration = configuration
        self._source = PerProcess(lambda: started(configuration.open_source()))
        self._blocking = PerProcess(
            lambda: BlockingAdmission(blocking_checks_of(self._source()), origins=configuration.origins)
        )
        self._awaited = PerProcess(
            lambda: Admission(_checking(self._source()), origins=configuration.origins)
        )
        self._remote = PerProcess(lambda: _remote(self._source(), configuration))

    @property
    def remote(self) -> RemoteAuthority:
        """The account routes of the authority that this project follows."""
        return self._remote()

    @property
    def source(self) -> Verifier | Authority:
        """The verifier or the authority of this process; opened when first asked for."""
        return self._source()

    @property
    def authority(self) -> Authority:
        """The authority of this process.

        Raises:
            ConfigurationError: the project follows one.
        """
        source = self._source()
        if isinstance(source, Verifier):
            raise ConfigurationError(
                'this needs the authority itself: let settings.KEYFOB["SOURCE"] return keyfob.sync.Authority.open(...)'
            )
        return source

    def admit(self, head: RequestHead, requirement: Requirement) -> Principal:
        """Return who is calling.

        Raises:
            Denied, Unavailable: the cause.
        """
        return self._blocking().admit(head, requirement)

    async def aadmit(self, head: RequestHead, requirement: Requirement) -> Principal:
        """Return who is calling, without keeping the event loop."""
        return await self._awaited().admit(head, requirement)


class _HoldsSources(Protocol):
    """The configuration of the Django application."""

    @property
    def sources(self) -> Sources: ...


def current_sources() -> Sources:
    """Return those of the project.

    Raises:
        ConfigurationError: `keyfob.integrations.django` is not among the installed applications, or `settings.KEYFOB` does not fit.
    """
    try:
        return cast("_HoldsSources", apps.get_app_config("keyfob")).sources
    except LookupError:
        raise ConfigurationError('add "keyfob.integrations.django" to INSTALLED_APPS') from None


def _remote(source: Verifier | Authority, configuration: Configuration) -> RemoteAuthority:
    if not isinstance(source, Verifier):
        raise ConfigurationError("this project holds its authority: use AuthorityBackend or ModelBackend")
    return RemoteAuthority(source.issuer, audiences=source.audiences or (), ca=configuration.ca)


def _checking(source: Verifier | Authority) -> Checking:
    return FollowedChecks(source) if isinstance(source, Verifier) else SharedChecks(source)
