"""A Django project in this process, its database in a temporary folder, and an authority in memory for each test."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import setup_test_environment
from django.urls import clear_url_caches

from keyfob.sync import Authority

FOLDER = tempfile.TemporaryDirectory(prefix="keyfob-django-")
SETTINGS: dict[str, Any] = {
    "SECRET_KEY": "for these tests alone, and long enough for Django",
    "ALLOWED_HOSTS": ["testserver"],
    "ROOT_URLCONF": "keyfob_test_urls",
    "DATABASES": {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(FOLDER.name) / "project.db"}
    },
    "INSTALLED_APPS": [
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "rest_framework",
        "keyfob.integrations.django",
    ],
    "MIDDLEWARE": [
        "keyfob.integrations.django.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "keyfob.integrations.django.middleware.KeyfobMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    "AUTHENTICATION_BACKENDS": ["keyfob.integrations.django.backends.ModelBackend"],
    "AUTH_PASSWORD_VALIDATORS": [{"NAME": "keyfob.integrations.django.passwords.SessionEnder"}],
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "SESSION_ENGINE": "keyfob.integrations.django.sessions",
    "SESSION_COOKIE_NAME": "__Host-session",
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "USE_TZ": True,
    "STATIC_URL": "static/",
    "KEYFOB": {"STORE": "memory://", "ISSUER": "https://auth.example"},
}
PASSWORD = "correct horse battery"

if not settings.configured:
    settings.configure(**SETTINGS)
    django.setup()
    setup_test_environment()


@pytest.fixture(scope="session")
def database() -> Iterator[None]:
    """Give the tables of the project."""
    call_command("migrate", verbosity=0)
    yield
    connection.close()
    FOLDER.cleanup()


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.open("memory://", issuer="https://auth.example") as opened:
        yield opened


@pytest.fixture
def project(authority: Authority, database: None) -> Iterator[None]:
    """A project that holds *authority*, with no users yet."""
    with override_settings(KEYFOB={"SOURCE": lambda: authority}):
        yield
    with connection.cursor() as cursor:
        for table in ("django_admin_log", "django_session", "auth_user"):
            cursor.execute(f"DELETE FROM {table}")


@pytest.fixture
def user(project: None) -> Any:
    """Alice, with the password that every user of these tests has."""
    from django.contrib.auth.models import User

    return User.objects.create_user("alice", password=PASSWORD)


@pytest.fixture(scope="session")
def password() -> str:
    return PASSWORD


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let the project answer with these patterns."""
    urls = ModuleType("keyfob_test_urls")
    monkeypatch.setitem(sys.modules, "keyfob_test_urls", urls)

    def serving(*patterns: Any) -> None:
        urls.urlpatterns = list(patterns)  # type: ignore[attr-defined]
        clear_url_caches()

    serving()
    yield serving
    clear_url_caches()


@pytest.fixture
def browser() -> Client:
    """A browser: it keeps cookies, and says that its own pages are behind what it sends."""
    return Client(headers={"Sec-Fetch-Site": "same-origin"})


@pytest.fixture
def request_with() -> Callable[..., HttpRequest]:
    """Make a request with a session of our engine, as the middleware does."""
    from django.test import RequestFactory

    from keyfob.integrations.django.sessions import SessionStore

    def making(key: str | None = None) -> HttpRequest:
        request = RequestFactory().get("/")
        request.session = SessionStore(key)
        return request

    return making
