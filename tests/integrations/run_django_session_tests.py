"""Runs Django's own `sessions_tests` against our engine, and prints the outcome of each test as JSON. A program of its own: Django is set up once
in a process.

    python run_django_session_tests.py FOLDER-OF-DJANGO'S-TESTS
"""

from __future__ import annotations

import json
import sys
import unittest
from functools import cache
from typing import Any

import django
from django.conf import settings
from django.test.runner import DiscoverRunner

from keyfob.sync import Authority

ENGINE = "keyfob.integrations.django.sessions"


@cache
def open_authority() -> Authority:
    return Authority.open("memory://", issuer="https://auth.example")


class Outcomes(unittest.TextTestResult):
    """Notes how each test ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outcomes: dict[str, str] = {}

    def _note(self, test: Any, outcome: str) -> None:
        self.outcomes.setdefault(test.id(), outcome)

    def addSuccess(self, test: Any) -> None:  # noqa: N802
        super().addSuccess(test)
        self._note(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._note(test, f"failed: {err[1]!r}")

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._note(test, f"failed: {err[1]!r}")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, f"failed: {err[1]!r}")

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._note(test, "skipped")


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    settings.configure(
        SECRET_KEY="for these tests alone",
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3"},
            "other": {"ENGINE": "django.db.backends.sqlite3"},
        },
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "sessions_tests",
            "keyfob.integrations.django",
        ],
        MIDDLEWARE=[],
        USE_TZ=False,
        SESSION_ENGINE=ENGINE,
        KEYFOB={"SOURCE": open_authority},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    )
    django.setup()
    from django.test import SimpleTestCase
    from sessions_tests import tests

    from keyfob.integrations.django.sessions import SessionStore

    class KeyfobSessionTests(tests.SessionTestsMixin, SimpleTestCase):  # type: ignore[misc, name-defined]
        """What Django asks of every engine, asked of ours."""

        backend = SessionStore

    runner = DiscoverRunner(verbosity=0, interactive=False)
    loaded = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite(
        [
            loaded(KeyfobSessionTests),
            loaded(tests.SessionMiddlewareTests),
            loaded(tests.SessionBaseTests),
            loaded(tests.ClearSessionsCommandTests),
        ]
    )
    runner.setup_test_environment()
    databases = runner.setup_databases(aliases={"default"})
    try:
        result = unittest.TextTestRunner(stream=sys.stderr, resultclass=Outcomes).run(suite)
    finally:
        runner.teardown_databases(databases)
        runner.teardown_test_environment()
    assert isinstance(result, Outcomes)
    print(
        json.dumps(
            {
                name.rpartition(".tests.")[2].rpartition("<locals>.")[2]: what
                for name, what in result.outcomes.items()
            }
        )
    )
    open_authority().close()


if __name__ == "__main__":
    main()
