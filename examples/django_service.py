"""A Django project in one file that holds its authority: see docs/how-to/django.md."""

import os
from datetime import timedelta
from pathlib import Path

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application

FOLDER = Path(os.environ.get("DATA", "."))


settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"],
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "project.db"}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "keyfob.integrations.django",
    ],
    MIDDLEWARE=[
        "keyfob.integrations.django.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "keyfob.integrations.django.middleware.KeyfobMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
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
    AUTHENTICATION_BACKENDS=["keyfob.integrations.django.backends.ModelBackend"],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.Argon2PasswordHasher"],
    AUTH_PASSWORD_VALIDATORS=[
        {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
        {"NAME": "keyfob.integrations.django.passwords.SessionEnder"},
    ],
    SESSION_ENGINE="keyfob.integrations.django.sessions",
    SESSION_COOKIE_NAME="__Host-session",
    SESSION_COOKIE_SECURE=True,
    CSRF_COOKIE_SECURE=True,
    USE_TZ=True,
    STATIC_URL="static/",
    KEYFOB={
        "STORE": f"sqlite:///{FOLDER / 'keyfob.db'}",
        "ISSUER": os.environ.get("ISSUER", "http://127.0.0.1:8000"),
    },
)
django.setup()

from django.contrib import admin  # noqa: E402 - Django is set up by now
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402

from keyfob.integrations.django import principal_of, required  # noqa: E402
from keyfob.integrations.django.account_urls import account_urls  # noqa: E402


@required()
def orders(request: HttpRequest) -> JsonResponse:
    """Answer whoever is signed in, by a cookie or a Bearer token of any strategy."""
    return JsonResponse({"subject": principal_of(request).subject, "process": str(os.getpid())})


@required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
def pay(request: HttpRequest) -> JsonResponse:
    """Take a payment of whoever may, has signed in lately, and can be vouched for."""
    return JsonResponse({"paid": principal_of(request).subject})


def me(request: HttpRequest) -> JsonResponse:
    """Greet anybody, and count the visits in the session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"user": request.user.get_username(), "visits": request.session["visits"]})


urlpatterns = [
    path("orders", orders),
    path("payments", pay),
    path("me", me),
    path("auth/", include(account_urls())),  # /auth/login, /auth/refresh, /auth/logout, ...
    path("admin/", admin.site.urls),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line()
