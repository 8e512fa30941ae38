"""The authentication class and the permissions of Django REST framework."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client, override_settings
from django.urls import path
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

import keyfob
from keyfob.integrations.django.drf import KeyfobAuthentication, Policy, exception_handler


class Orders(APIView):
    authentication_classes = (KeyfobAuthentication,)
    permission_classes = (Policy(scopes={"orders:read"}),)

    def get(self, request):
        return Response({"subject": request.auth.subject, "user": request.user.get_username()})

    def post(self, request):
        return Response({"made": True})


class Payments(APIView):
    authentication_classes = (KeyfobAuthentication,)
    permission_classes = (Policy(roles={"payer"}, max_auth_age=timedelta(minutes=5)),)

    def post(self, request):
        return Response({"paid": request.auth.subject})


class Public(APIView):
    authentication_classes = (KeyfobAuthentication,)
    permission_classes = ()

    def get(self, request):
        return Response({"known": request.user.is_authenticated, "auth": request.auth is not None})


class Away(APIView):
    authentication_classes = (KeyfobAuthentication,)
    permission_classes = ()

    def get(self, request):
        raise keyfob.StoreUnavailable("away", retry_after=7)


@pytest.fixture(autouse=True)
def _patterns(serve):
    serve(
        path("orders", Orders.as_view()),
        path("payments", Payments.as_view()),
        path("public", Public.as_view()),
        path("away", Away.as_view()),
    )


@pytest.fixture(params=["body", "document"])
def handled(request):
    """With the framework's own answers, and with whole problem documents."""
    if request.param == "body":
        yield
        return
    from rest_framework.settings import api_settings

    with override_settings(REST_FRAMEWORK={"EXCEPTION_HANDLER": exception_handler}):
        api_settings.reload()
        yield
    api_settings.reload()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
def test_scopes_are_permissions(authority, user, strategy, handled):
    issued = authority.login(f"user-{user.pk}", strategy=strategy, scopes=["orders:read"])
    headers = bearer(issued.session_token or issued.access_token)

    assert APIClient().get("/orders", headers=headers).json() == {
        "subject": f"user-{user.pk}",
        "user": "alice",
    }
    assert APIClient(enforce_csrf_checks=True).post("/orders", headers=headers).status_code == 200


def test_what_depends_on_the_caller_is_kept_out_of_shared_caches(authority, user, handled):
    headers = bearer(authority.login(f"user-{user.pk}", strategy="jwt", scopes=["orders:read"]).access_token)

    answer = APIClient().get("/orders", headers=headers)

    assert answer["Cache-Control"] == "private"
    assert {"Cookie", "Authorization"} <= {name.strip() for name in answer["Vary"].split(",")}
    assert "Cache-Control" not in APIClient().get("/public").headers


def test_a_stranger_is_401_and_told_what_to_bring(project, handled):
    answer = APIClient().get("/orders")

    assert (answer.status_code, answer.json()["code"]) == (401, "no_credential")
    assert answer["WWW-Authenticate"] == 'Bearer realm="keyfob"'


def test_a_bad_credential_is_401_even_where_strangers_are_let_in(project, handled):
    assert APIClient().get("/public").json() == {"known": False, "auth": False}
    answer = APIClient().get("/public", headers=bearer("kfs_nonsense"))
    assert (answer.status_code, answer.json()["code"]) == (401, "malformed")
    assert 'error="invalid_token"' in answer["WWW-Authenticate"]


def test_a_missing_scope_is_403_and_names_it(authority, user, handled):
    issued = authority.login(f"user-{user.pk}", strategy="session")

    answer = APIClient().get("/orders", headers=bearer(issued.session_token))

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    assert 'scope="orders:read"' in answer["WWW-Authenticate"]


def test_a_missing_role_is_403_and_follows_the_roles(authority, user, handled):
    headers = bearer(authority.login(f"user-{user.pk}", strategy="session").session_token)
    answer = APIClient().post("/payments", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_role")
    authority.set_roles(f"user-{user.pk}", ["payer"])
    assert APIClient().post("/payments", headers=headers).json() == {"paid": f"user-{user.pk}"}


def test_a_revoked_credential_is_401_at_once(authority, user, handled):
    issued = authority.login(f"user-{user.pk}", strategy="jwt", scopes=["orders:read"])
    headers = bearer(issued.access_token)
    assert APIClient().get("/orders", headers=headers).status_code == 200

    authority.revoke("subject", f"user-{user.pk}")

    answer = APIClient().get("/orders", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "revoked")


def test_what_cannot_be_found_out_is_503_with_the_time_to_wait(authority, user, handled):
    headers = bearer(authority.login(f"user-{user.pk}", strategy="session").session_token)
    authority.close()

    answer = APIClient().get("/orders", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer["Retry-After"]) >= 1


def test_an_error_of_keyfob_in_a_view_is_answered_by_the_handler_or_the_middleware(project, handled):
    answer = APIClient().get("/away")
    assert (answer.status_code, answer["Retry-After"]) == (503, "7")


def test_a_cookie_without_a_page_of_its_own_behind_it_changes_nothing(authority, user, handled):
    issued = authority.login(f"user-{user.pk}", strategy="session", scopes=["orders:read"])
    client = Client()
    client.cookies["__Host-session"] = issued.session_token

    assert client.post("/orders").json()["code"] == "cross_origin"
    assert client.post("/orders", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/orders", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_subject_that_is_no_user_is_anonymous_with_a_principal(authority, project, handled):
    issued = authority.login("somebody", strategy="jwt", scopes=["orders:read"])

    assert APIClient().get("/orders", headers=bearer(issued.access_token)).json() == {
        "subject": "somebody",
        "user": "",
    }


def test_other_errors_are_left_to_the_framework(project, handled):
    assert APIClient().delete("/public").status_code == 405
