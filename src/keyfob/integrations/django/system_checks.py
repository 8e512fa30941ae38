"""System checks: what is unsafe about the settings of a project, said by `manage.py check`. They open nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from django.conf import settings
from django.core import checks

from keyfob.base.errors import ConfigurationError
from keyfob.integrations.django.configuration import Configuration
from keyfob.integrations.django.sources import current_sources

ENGINE = "keyfob.integrations.django.sessions"
MIDDLEWARE = "keyfob.integrations.django.middleware.KeyfobMiddleware"
SESSION_MIDDLEWARE = "keyfob.integrations.django.middleware.SessionMiddleware"
DJANGO_SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
SESSION_ENDER = "keyfob.integrations.django.passwords.SessionEnder"
COOKIE = "__Host-session"

Check = Callable[[Configuration], Iterator[checks.CheckMessage]]


def check_settings(
    app_configs: Sequence[object] | None = None, **kwargs: object
) -> list[checks.CheckMessage]:
    """Return what is wrong (errors), and what is unsafe (warnings)."""
    try:
        configuration = current_sources().configuration
    except ConfigurationError as error:
        return [checks.Error(str(error), id="keyfob.E001")]
    return [message for check in _CHECKS for message in check(configuration)]


def _middleware(configuration: Configuration) -> Iterator[checks.CheckMessage]:
    order = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in order:
        yield checks.Warning(
            "KeyfobMiddleware is missing: requests have no principal, and Bearer tokens no user.",
            hint=f'Add "{MIDDLEWARE}" to MIDDLEWARE, below AuthenticationMiddleware.',
            id="keyfob.W001",
        )
        return
    if AUTHENTICATION in order and order.index(AUTHENTICATION) > order.index(MIDDLEWARE):
        yield checks.Error(
            "AuthenticationMiddleware stands below KeyfobMiddleware, and takes request.user away from it.",
            hint="Let KeyfobMiddleware follow it in MIDDLEWARE.",
            id="keyfob.E002",
        )


def _sessions(configuration: Configuration) -> Iterator[checks.CheckMessage]:
    if settings.SESSION_ENGINE != ENGINE:
        return
    if SESSION_MIDDLEWARE not in settings.MIDDLEWARE:
        yield checks.Warning(
            "Django's own SessionMiddleware answers 500 when the store is away, where 503 is right"
            + (", and takes no sessions over." if configuration.take_over else "."),
            hint=f'Put "{SESSION_MIDDLEWARE}" in the place of "{DJANGO_SESSIONS}".',
            id="keyfob.W002",
        )
    validators = {validator.get("NAME") for validator in settings.AUTH_PASSWORD_VALIDATORS}
    if SESSION_ENDER not in validators:
        yield checks.Warning(
            "A changed password does not end the sessions that the old one opened: services that follow the authority take them on.",
            hint=f'Add {{"NAME": "{SESSION_ENDER}"}} to AUTH_PASSWORD_VALIDATORS.',
            id="keyfob.W003",
        )
    if "django.contrib.auth.backends.ModelBackend" in settings.AUTHENTICATION_BACKENDS:
        yield checks.Warning(
            "Whoever is cut off while the password is being checked is signed in by it all the same.",
            hint='Put "keyfob.integrations.django.backends.ModelBackend" in the place of Django\'s in AUTHENTICATION_BACKENDS.',
            id="keyfob.W004",
        )


def _cookie(configuration: Configuration) -> Iterator[checks.CheckMessage]:
    if settings.SESSION_ENGINE != ENGINE:
        return
    if not settings.SESSION_COOKIE_SECURE:
        yield checks.Warning(
            "The session cookie is sent over plain HTTP too, where anybody on the way can take it.",
            hint="Set SESSION_COOKIE_SECURE = True.",
            id="keyfob.W005",
        )
    if not settings.SESSION_COOKIE_HTTPONLY:
        yield checks.Warning(
            "Any script in a page can take the session cookie away.",
            hint="Set SESSION_COOKIE_HTTPONLY = True.",
            id="keyfob.W006",
        )
    if settings.SESSION_COOKIE_NAME != COOKIE:
        yield checks.Warning(
            "Another host or a plain HTTP page can set the session cookie, and requests with it alone have no principal.",
            hint=f'Set SESSION_COOKIE_NAME = "{COOKIE}".',
            id="keyfob.W007",
        )
    elif settings.SESSION_COOKIE_DOMAIN or settings.SESSION_COOKIE_PATH != "/":
        yield checks.Error(
            "Browsers drop a __Host- cookie that has a domain, or another path than /.",
            hint='Leave SESSION_COOKIE_DOMAIN None, and SESSION_COOKIE_PATH "/".',
            id="keyfob.E003",
        )
    if settings.SESSION_COOKIE_SAMESITE not in {"Lax", "Strict"}:
        yield checks.Warning(
            "Pages of other sites may send the session cookie.",
            hint='Set SESSION_COOKIE_SAMESITE = "Lax".',
            id="keyfob.W008",
        )


def _issuer(configuration: Configuration) -> Iterator[checks.CheckMessage]:
    store = configuration.store
    if store is not None and store.url.startswith("memory:"):
        yield checks.Warning(
            "The store memory:// belongs to one process, and is empty after each start.",
            hint='Give STORE a database, such as "sqlite:////var/lib/app/keyfob.db".',
            id="keyfob.W009",
        )
    for network in configuration.proxies.networks:
        if network.prefixlen == 0:
            yield checks.Warning(
                f"TRUSTED_PROXIES trusts everybody's X-Forwarded-For ({network}): who guesses passwords chooses the address that is slowed down.",
                hint="List only the addresses of your proxies.",
                id="keyfob.W010",
            )


_CHECKS: tuple[Check, ...] = (_middleware, _sessions, _cookie, _issuer)
