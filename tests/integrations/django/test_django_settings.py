"""`settings.KEYFOB`, the system checks, and `manage.py keyfob`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.core.management import ManagementUtility, call_command
from django.test import override_settings

from keyfob import ConfigurationError, Verifier
from keyfob.integrations.django.configuration import Configuration
from keyfob.integrations.django.sources import current_sources
from keyfob.integrations.django.system_checks import check_settings
from keyfob.integrations.django.users import SubjectsByName, SubjectsByPrimaryKey
from keyfob.sync import Authority

MOMENT = datetime(2027, 1, 1, tzinfo=UTC)
OWN = {"STORE": "sqlite:///keyfob.db", "ISSUER": "https://app.example"}


def open_nothing() -> Authority:
    raise AssertionError("nothing is opened by reading the settings")


@pytest.mark.parametrize(
    ("described", "says"),
    [
        (None, "is a dictionary"),
        ({}, "needs STORE and ISSUER"),
        ({"STORE": "memory://"}, "together"),
        ({"ISSUER": "https://app.example", "MASTER_KEY": "x"}, "together"),
        ({**OWN, "STORE": ""}, 'settings.KEYFOB["STORE"] is a string'),
        ({"SOURCES": open_nothing}, 'did you mean "SOURCE"'),
        ({"SOURCE": 5}, "is a function"),
        ({"SOURCE": "no.such.module.open"}, "No module named"),
        ({**OWN, "USERS": object()}, "subject_of, find and afind"),
        ({**OWN, "ORIGINS": "https://app.example"}, "several strings"),
        ({**OWN, "AUDIENCES": [5]}, "several strings"),
        ({**OWN, "TRUSTED_PROXIES": ["everybody"]}, "trusted_proxies"),
        ({**OWN, "TAKE_OVER": "django.contrib.sessions.backends.db"}, "ENGINE"),
        (
            {
                **OWN,
                "TAKE_OVER": {"ENGINE": "django.contrib.sessions.backends.signed_cookies", "UNTIL": MOMENT},
            },
            "cannot be ended",
        ),
        ({**OWN, "TAKE_OVER": {"ENGINE": "django.contrib.sessions.backends.db"}}, "UNTIL"),
        (
            {**OWN, "TAKE_OVER": {"ENGINE": "django.contrib.sessions.backends.db", "UNTIL": "2027-01-01"}},
            "with a time zone",
        ),
        ({**OWN, "TAKE_OVER": {"COOKIE": "sessionid"}}, "ENGINE"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_what_to_mend(described, says):
    with pytest.raises(ConfigurationError) as refused:
        Configuration.read(described)
    assert says in str(refused.value)
    with override_settings(KEYFOB=described):
        assert [message.id for message in check_settings()] == ["keyfob.E001"]


def test_what_is_left_out_has_a_default():
    read = Configuration.read({"SOURCE": open_nothing})

    assert isinstance(read.users, SubjectsByPrimaryKey)
    assert (read.origins, read.audiences, read.take_over, read.store) == ((), (), None, None)


def test_a_dotted_path_and_a_class_are_taken_for_what_they_name():
    read = Configuration.read(
        {"SOURCE": open_nothing, "USERS": "keyfob.integrations.django.users.SubjectsByName"}
    )

    assert isinstance(read.users, SubjectsByName)


def test_the_master_key_is_in_no_repr():
    read = Configuration.read({**OWN, "MASTER_KEY": "c2VjcmV0"})

    assert "c2VjcmV0" not in repr(read)


def test_a_project_that_follows_has_no_authority_and_says_so():
    with Authority.open("memory://", issuer="https://auth.example") as authority:
        jwks = authority.call(_jwks)
        verifier = Verifier.from_jwks(jwks, issuer="https://auth.example", audience="orders")
        with (
            override_settings(KEYFOB={"SOURCE": verifier}),
            pytest.raises(ConfigurationError, match="needs the authority itself"),
        ):
            _ = current_sources().authority
        with (
            override_settings(KEYFOB={"SOURCE": lambda: authority}),
            pytest.raises(ConfigurationError, match="holds its authority"),
        ):
            _ = current_sources().remote


async def _jwks(inner):
    return inner.keys.jwks()


def test_sessions_are_good_at_the_audiences_that_the_settings_name(authority, project):
    from django.contrib.auth import login
    from django.contrib.auth.models import User
    from django.test import RequestFactory

    from keyfob.integrations.django.sessions import SessionStore

    request = RequestFactory().get("/", headers={"User-Agent": "Brow\u00e9ser"}, REMOTE_ADDR="10.0.0.1")
    request.META["HTTP_X_FORWARDED_FOR"] = "192.0.2.7"
    request.session = SessionStore()
    described = {"SOURCE": lambda: authority, "AUDIENCES": ["orders"], "TRUSTED_PROXIES": ["10.0.0.0/8"]}
    with override_settings(KEYFOB=described):
        user = User.objects.create_user("alice")
        login(request, user, "keyfob.integrations.django.backends.ModelBackend")

        found = authority.authenticate(request.session.session_key, audience="orders")
        listed = authority.list_sessions(found.subject).sessions[0]
    assert (listed.address, listed.user_agent) == ("192.0.2.7", "Brow?ser")


# The system checks


def test_a_project_as_the_how_to_page_says_has_nothing_to_mend():
    with override_settings(KEYFOB=OWN):
        assert check_settings() == []


def without(middleware: str) -> dict[str, object]:
    return {"MIDDLEWARE": [one for one in settings.MIDDLEWARE if not one.endswith(middleware)]}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (without("KeyfobMiddleware"), "keyfob.W001"),
        ({"MIDDLEWARE": [*reversed(settings.MIDDLEWARE)]}, "keyfob.E002"),
        (without("django.middleware.SessionMiddleware"), "keyfob.W002"),
        ({"AUTH_PASSWORD_VALIDATORS": []}, "keyfob.W003"),
        ({"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"]}, "keyfob.W004"),
        ({"SESSION_COOKIE_SECURE": False}, "keyfob.W005"),
        ({"SESSION_COOKIE_HTTPONLY": False}, "keyfob.W006"),
        ({"SESSION_COOKIE_NAME": "sessionid"}, "keyfob.W007"),
        ({"SESSION_COOKIE_DOMAIN": ".example"}, "keyfob.E003"),
        ({"SESSION_COOKIE_PATH": "/app"}, "keyfob.E003"),
        ({"SESSION_COOKIE_SAMESITE": "None"}, "keyfob.W008"),
        ({"SESSION_COOKIE_SAMESITE": False}, "keyfob.W008"),
        ({"KEYFOB": {**OWN, "STORE": "memory://"}}, "keyfob.W009"),
        ({"KEYFOB": {**OWN, "TRUSTED_PROXIES": ["0.0.0.0/0"]}}, "keyfob.W010"),
    ],
)
def test_what_is_unsafe_is_warned_of(changed, found):
    with override_settings(**{"KEYFOB": OWN, **changed}):
        assert [message.id for message in check_settings()] == [found]


def test_another_session_engine_is_not_our_business():
    with override_settings(
        KEYFOB=OWN, SESSION_ENGINE="django.contrib.sessions.backends.db", SESSION_COOKIE_SECURE=False
    ):
        assert check_settings() == []


def test_the_checks_run_with_those_of_django(capsys):
    with override_settings(KEYFOB={**OWN, "STORE": "memory://"}):
        call_command("check", tags=["security"])
    assert "keyfob.W009" in capsys.readouterr().err


# manage.py keyfob


@pytest.mark.slow
def test_manage_py_passes_to_the_command_line_on_the_projects_own_store(tmp_path, capfd):
    store, issuer = f"sqlite:///{tmp_path / 'keyfob.db'}", "http://127.0.0.1:8000"
    with Authority.open(store, issuer=issuer) as authority:
        issued = authority.login("user-17")

    with override_settings(KEYFOB={"STORE": store, "ISSUER": issuer}):
        call_command("keyfob", "sessions", "list", "user-17", "--json")
        with pytest.raises(SystemExit) as used_wrongly:
            ManagementUtility(["manage.py", "keyfob", "revoke", "--nonsense"]).execute()

    assert issued.session_id in capfd.readouterr().out
    assert used_wrongly.value.code == 2
