"""Middleware, decorators, mixin: who is calling, and who is let in."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

import pytest
from django.conf import settings
from django.contrib.auth import login
from django.http import JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.views import View

import keyfob
from keyfob import Denied
from keyfob.base.clock import SystemClock
from keyfob.base.identifiers import ClientId, Position, Subject
from keyfob.integrations.django import PolicyMixin, find_principal, optional, principal_of, required
from keyfob.integrations.django.users import SubjectsByName, is_person
from keyfob.integrations.requirement import Rules

BACKEND = "keyfob.integrations.django.backends.ModelBackend"


@required()
def me(request):
    return JsonResponse({"subject": request.principal.subject})


@required()
async def me_async(request):
    return JsonResponse({"subject": request.principal.subject})


@optional()
def greeting(request):
    principal = find_principal(request)
    return JsonResponse({"hello": principal.subject if principal else "stranger"})


@required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
def pay(request):
    return JsonResponse({"paid": request.principal.subject})


@required(strategy="jwt")
def machines_only(request):
    return JsonResponse({})


class Pay(PolicyMixin, View):
    policy: ClassVar[Rules] = {"roles": {"payer"}}

    def post(self, request):
        return JsonResponse({"paid": request.principal.subject})


class PayAsync(PolicyMixin, View):
    policy: ClassVar[Rules] = {"roles": {"payer"}}

    async def post(self, request):
        return JsonResponse({"paid": request.principal.subject})


def anybody(request):
    return JsonResponse(
        {
            "user": request.user.get_username(),
            "known": request.user.is_authenticated,
            "principal": bool(request.principal) if "bool" in request.GET else None,
        }
    )


async def anybody_async(request):
    user = await request.auser()
    return JsonResponse({"user": user.get_username(), "known": user.is_authenticated})


def unprotected(request):
    return JsonResponse({"subject": request.principal.subject})


def sign_in(request):
    from django.contrib.auth.models import User

    login(request, User.objects.get(username="alice"), BACKEND)
    return JsonResponse({})


def hoard(request):
    request.session["basket"] = "".join(chr(33 + (n * n) % 90) + str(n) for n in range(3000))
    return JsonResponse({})


def broken(request):
    raise keyfob.ConfigurationError("what the operator is to know and nobody else")


def away(request):
    raise keyfob.StoreUnavailable("away")


@pytest.fixture(autouse=True)
def _patterns(serve):
    serve(
        path("me", me),
        path("me-async", me_async),
        path("greeting", greeting),
        path("pay", pay),
        path("machines", machines_only),
        path("pay-class", Pay.as_view()),
        path("pay-class-async", PayAsync.as_view()),
        path("anybody", anybody),
        path("anybody-async", anybody_async),
        path("unprotected", unprotected),
        path("sign-in", sign_in),
        path("away", away),
        path("hoard", hoard),
        path("broken", broken),
    )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token_of(issued) -> str:
    return issued.session_token or issued.access_token


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
def test_whoever_is_signed_in_is_the_principal_and_the_user(authority, user, strategy):
    headers = bearer(token_of(authority.login(f"user-{user.pk}", strategy=strategy)))

    assert Client().get("/me", headers=headers).json() == {"subject": f"user-{user.pk}"}
    assert Client().get("/anybody", headers=headers).json()["user"] == "alice"


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
async def test_the_same_without_threads(authority, user, strategy):
    headers = bearer(token_of(authority.login(f"user-{user.pk}", strategy=strategy)))

    assert (await AsyncClient().get("/me-async", headers=headers)).json() == {"subject": f"user-{user.pk}"}
    assert (await AsyncClient().get("/anybody-async", headers=headers)).json()["user"] == "alice"
    assert (await AsyncClient().get("/me-async")).status_code == 401
    assert (await AsyncClient().get("/anybody-async")).json() == {"user": "", "known": False}


def test_a_cookie_of_the_authority_is_the_user_too_and_so_is_a_session_of_django(authority, user, browser):
    issued = authority.login(f"user-{user.pk}", strategy="session")
    browser.cookies["__Host-session"] = issued.session_token
    assert browser.get("/anybody").json()["user"] == "alice"
    assert browser.get("/me").json()["subject"] == f"user-{user.pk}"

    other = Client()
    other.get("/sign-in")
    assert other.get("/anybody").json()["user"] == "alice"
    assert other.get("/me").json()["subject"] == f"user-{user.pk}"


@pytest.mark.parametrize(
    "at", ["/me", "/me-async", "/greeting", "/anybody", "/anybody-async", "/unprotected"]
)
def test_no_cache_gives_the_page_of_one_to_another(authority, user, at):
    headers = bearer(authority.login(f"user-{user.pk}", strategy="jwt").access_token)

    answer = Client().get(at, headers=headers)

    assert answer.status_code == 200
    assert {"Cookie", "Authorization"} <= {name.strip() for name in answer["Vary"].split(",")}
    assert answer["Cache-Control"] == "private"


def test_the_page_of_a_user_of_djangos_own_session_is_private_and_that_of_a_stranger_may_be_kept(user):
    signed_in = Client()
    signed_in.get("/sign-in")
    for at in ("/anybody", "/anybody-async"):
        assert signed_in.get(at)["Cache-Control"] == "private"
        stranger = Client().get(at)
        assert "Cache-Control" not in stranger
        assert "Authorization" in stranger["Vary"]


@pytest.mark.parametrize("at", ["/me", "/me-async"])
def test_a_decorator_without_the_middleware_tells_caches_by_itself(authority, user, at):
    headers = bearer(authority.login(f"user-{user.pk}", strategy="jwt").access_token)

    with override_settings(MIDDLEWARE=[]):
        answer = Client().get(at, headers=headers)

    assert (answer["Vary"], answer["Cache-Control"]) == ("Cookie, Authorization", "private")


def test_djangos_cache_of_a_whole_site_keeps_people_apart(authority, user):
    cached = [
        "django.middleware.cache.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    with override_settings(MIDDLEWARE=cached):
        client = Client()
        for _ in range(2):
            for subject in ("user-98", "user-99"):
                headers = bearer(authority.login(subject, strategy="jwt").access_token)
                assert client.get("/me", headers=headers).json() == {"subject": subject}
        assert client.get("/me").status_code == 401

        headers = bearer(authority.login("user-99", strategy="session").session_token)
        assert client.get("/me", headers=headers).status_code == 200
        authority.revoke("subject", "user-99")
        assert client.get("/me", headers=headers).json()["code"] == "revoked"


def test_a_refusal_is_a_problem_document_that_says_what_to_do(project):
    answer = Client().get("/me")

    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
    assert (answer.json()["code"], answer.json()["next"]) == ("no_credential", "login")
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("at", ["/me", "/me-async"])
def test_a_revoked_credential_is_refused_on_the_next_request(authority, user, at):
    headers = bearer(authority.login(f"user-{user.pk}", strategy="jwt").access_token)
    assert Client().get(at, headers=headers).status_code == 200

    authority.revoke("subject", f"user-{user.pk}")

    answer = Client().get(at, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "revoked")
    assert Client().get("/anybody", headers=headers).json()["known"] is False
    assert Client().get("/unprotected", headers=headers).json()["code"] == "revoked"


@pytest.mark.parametrize("at", ["/pay", "/pay-class", "/pay-class-async"])
def test_the_policy_of_a_view_is_enforced_and_follows_the_roles(authority, user, at):
    headers = bearer(authority.login(f"user-{user.pk}", strategy="session").session_token)
    answer = Client().post(at, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_role")

    authority.set_roles(f"user-{user.pk}", ["payer"])

    assert Client(enforce_csrf_checks=True).post(at, headers=headers).json() == {"paid": f"user-{user.pk}"}


def test_a_view_takes_the_strategies_that_it_names(authority, user):
    session = bearer(authority.login(f"user-{user.pk}", strategy="session").session_token)
    assert Client().get("/machines", headers=session).json()["code"] == "wrong_type"
    token = bearer(authority.login(f"user-{user.pk}", strategy="jwt").access_token)
    assert Client().get("/machines", headers=token).status_code == 200


def test_a_stranger_is_greeted_and_a_bad_credential_is_refused(project):
    assert Client().get("/greeting").json() == {"hello": "stranger"}
    assert Client().get("/greeting", headers=bearer("nonsense")).status_code == 401


def test_a_visitor_with_a_session_is_a_stranger(project, browser):
    from keyfob.integrations.django.sessions import SessionStore

    session = SessionStore()
    session["cart"] = 1
    session.save()
    browser.cookies["__Host-session"] = session.session_key

    assert browser.get("/greeting").json() == {"hello": "stranger"}
    assert browser.get("/me").json()["code"] == "no_credential"
    assert browser.get("/anybody?bool").json() == {"user": "", "known": False, "principal": False}


def test_using_the_principal_of_a_stranger_is_refused(project):
    assert Client().get("/unprotected").json()["code"] == "no_credential"
    assert Client().get("/anybody?bool").json()["principal"] is False


def test_a_subject_that_is_no_user_of_the_project_is_nobody(authority, user):
    for subject in ("user-0", "user-x", f"user-0{user.pk}", "alice", f"user-{10**40}"):
        headers = bearer(authority.login(subject, strategy="session").session_token)
        assert Client().get("/anybody", headers=headers).json()["known"] is False
        assert Client().get("/me", headers=headers).json()["subject"] == subject


@pytest.mark.parametrize(("subject", "session_id"), [("machine", "0" * 32), ("alice", None)])
def test_a_client_that_acts_for_itself_is_no_user_even_with_the_name_of_one(subject, session_id):
    now = SystemClock().now()
    principal = keyfob.Principal(
        subject=Subject(subject),
        client_id=ClientId("machine"),
        strategy=None,
        audience=("orders",),
        issued_at=now,
        expires_at=now,
        as_of=Position(0),
        session_id=session_id,
    )

    assert not is_person(principal)


def test_a_subject_by_name_gets_a_user_without_a_password(authority, project):
    from django.contrib.auth.models import User

    with override_settings(KEYFOB={"SOURCE": lambda: authority, "USERS": SubjectsByName()}):
        headers = bearer(authority.login("usr_carol", strategy="jwt").access_token)
        assert Client().get("/anybody", headers=headers).json()["user"] == "usr_carol"
        carol = User.objects.get(username="usr_carol")
        assert not carol.has_usable_password()
        long = bearer(authority.login("usr_" + "x" * 200, strategy="jwt").access_token)
        assert Client().get("/anybody", headers=long).json()["known"] is False
        User.objects.filter(pk=carol.pk).update(is_active=False)
        assert Client().get("/anybody", headers=headers).json()["known"] is False


def test_a_cookie_that_a_page_of_another_site_sends_changes_nothing(authority, user):
    issued = authority.login(f"user-{user.pk}", strategy="session", roles=["payer"])
    strict = Client(enforce_csrf_checks=True)
    strict.cookies["__Host-session"] = issued.session_token
    assert strict.post("/pay").status_code == 403

    relaxed = Client()  # as if Django had found its own token
    relaxed.cookies["__Host-session"] = issued.session_token
    assert relaxed.post("/pay").status_code == 200
    answer = relaxed.post("/pay", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")


@override_settings(
    MIDDLEWARE=[
        "keyfob.integrations.django.middleware.SessionMiddleware",
        "keyfob.integrations.django.middleware.KeyfobMiddleware",
    ]
)
def test_without_djangos_csrf_middleware_the_browser_or_our_token_must_vouch(authority, user):
    issued = authority.login(f"user-{user.pk}", strategy="session", roles=["payer"])
    client = Client()
    client.cookies["__Host-session"] = issued.session_token

    assert client.post("/pay").json()["code"] == "cross_origin"
    assert client.post("/pay", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    token = {"X-CSRF-Token": authority.csrf_token(issued.session_id)}
    assert client.post("/pay", headers=token).status_code == 200


def test_two_credentials_at_once_are_refused(authority, user):
    issued = authority.login(f"user-{user.pk}", strategy="session")
    client = Client()
    client.cookies["__Host-session"] = issued.session_token

    assert client.get("/me", headers=bearer(issued.session_token)).json()["code"] == "malformed"
    joined = f"Bearer {issued.session_token},Bearer {issued.session_token}"
    assert Client().get("/me", headers={"Authorization": joined}).json()["code"] == "malformed"


def test_a_password_of_a_staging_site_is_no_credential_and_does_not_sign_the_user_out(user):
    client = Client()
    client.get("/sign-in")

    answer = client.get("/anybody", headers={"Authorization": "Basic c3RhZ2U6c3RhZ2U="})
    assert answer.json()["user"] == "alice"


def test_a_store_that_is_away_is_503_and_nobody_is_signed_out(user):
    client = Client()
    client.get("/sign-in")
    key = client.cookies["__Host-session"].value

    answer = client.get("/away")

    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert client.cookies["__Host-session"].value == key


def test_a_mistake_of_the_project_is_a_500_that_says_nothing_to_the_client(project, caplog):
    for at, logged in (("/hoard", "'basket'"), ("/broken", "what the operator is to know")):
        answer = Client(raise_request_exception=False).get(at)
        assert answer.status_code == 500
        assert logged not in answer.content.decode()
        assert logged in caplog.text


def test_a_closed_authority_is_503_wherever_the_session_is_used(authority, user):
    client = Client()
    client.get("/sign-in")
    authority.close()

    for at in ("/anybody", "/me", "/sign-in"):
        answer = client.get(at)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), at


def test_a_policy_that_cannot_be_meant_is_refused_when_the_view_is_made():
    with pytest.raises(keyfob.ConfigurationError):
        required(roles="payer")
    with pytest.raises(keyfob.ConfigurationError):
        type("Bad", (PolicyMixin, View), {"policy": {"strategy": "cookie"}})


def test_principal_of_says_why_there_is_none(project, request_with):
    with pytest.raises(Denied, match="no_credential"):
        principal_of(request_with())
