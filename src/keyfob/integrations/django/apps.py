"""The Django application of the label `keyfob`."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from keyfob.integrations.django.configuration import Configuration
from keyfob.integrations.django.sources import Sources


class KeyfobConfig(AppConfig):
    """Holds what the processes of one Django project check credentials with."""

    name = "keyfob.integrations.django"
    label = "keyfob"
    verbose_name = "Keyfob"
    _sources: Sources | None = None

    @property
    def sources(self) -> Sources:
        """What `settings.KEYFOB` describes; made anew where a test replaces that.

        Raises:
            ConfigurationError: the settings do not fit.
        """
        described = getattr(settings, "KEYFOB", None)
        if self._sources is None or self._sources.described is not described:
            self._sources = Sources(described, Configuration.read(described))
        return self._sources

    def ready(self) -> None:
        """Register the system checks, and listen for logins and for users that change."""
        check = import_module("keyfob.integrations.django.system_checks").check_settings
        checks.register(check, checks.Tags.security)
        import_module("keyfob.integrations.django.receivers").connect()
