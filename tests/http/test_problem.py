"""Every error becomes one status, one body, and the headers that belong to it."""

from __future__ import annotations

import json

import pytest

from keyfob.base.errors import (
    AuthorityUnavailable,
    Cause,
    ConfigurationError,
    Conflict,
    Denied,
    GrantRefused,
    InvalidRequest,
    NotFound,
    RateLimited,
    StoreUnavailable,
)
from keyfob.http.messages import HttpResponse
from keyfob.http.problem import Challenge, MethodNotAllowed, Refusal, oauth_error, problem

FORBIDDEN = {Cause.INSUFFICIENT_ROLE, Cause.INSUFFICIENT_SCOPE, Cause.CROSS_ORIGIN}


def headers_of(response: HttpResponse) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in response.headers}


@pytest.mark.meets("OA-33")
@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_status_and_body(cause: Cause) -> None:
    response = problem(Denied(cause, "for the log alone"))
    body = json.loads(response.body)
    expected = 503 if cause is Cause.VERIFIER_STALE else 403 if cause in FORBIDDEN else 401
    assert response.status == body["status"] == expected
    assert set(body) == {"type", "title", "status", "code", "detail", "next"}
    assert body["type"] == "about:blank"
    assert body["code"] == cause.value == headers_of(response)["x-auth-cause"]
    assert body["next"] in {"refresh", "login", "retry", None}
    assert body["detail"]
    assert b"for the log" not in response.body
    assert headers_of(response)["cache-control"] == "no-store"
    assert headers_of(response)["content-type"] == "application/problem+json"
    assert ("www-authenticate" in headers_of(response)) is (
        expected == 401 or cause is Cause.INSUFFICIENT_SCOPE
    )
    assert ("retry-after" in headers_of(response)) is (expected == 503)


@pytest.mark.parametrize(
    ("error", "status", "code", "next_"),
    [
        (InvalidRequest("malformed_json", "No JSON."), 400, "malformed_json", None),
        (InvalidRequest("body_too_large", "Too large.", status=413), 413, "body_too_large", None),
        (InvalidRequest("unsupported_media_type", "No.", status=415), 415, "unsupported_media_type", None),
        (InvalidRequest("invalid_request", "No.", status=422), 422, "invalid_request", None),
        (NotFound("no_account", "No."), 404, "no_account", None),
        (Conflict("name_taken", "No."), 409, "name_taken", None),
        (RateLimited(12.2), 429, "rate_limited", "retry"),
        (StoreUnavailable("postgresql://secret@host is away"), 503, "store_unavailable", "retry"),
        (AuthorityUnavailable("away"), 503, "authority_unavailable", "retry"),
        (MethodNotAllowed(["GET", "POST"]), 405, "method_not_allowed", None),
    ],
)
def test_errors_of_requests_and_outages(error: Exception, status: int, code: str, next_: str | None) -> None:
    response = problem(error)
    body = json.loads(response.body)
    assert (response.status, body["status"], body["code"], body["next"]) == (status, status, code, next_)
    assert b"secret" not in response.body
    assert headers_of(response)["x-auth-cause"] == code


@pytest.mark.parametrize("error", [ValueError("secret"), ConfigurationError("secret"), KeyError("secret")])
def test_whatever_is_no_answer_of_ours_says_nothing(error: Exception) -> None:
    response = problem(error)
    assert response.status == 500
    assert b"secret" not in response.body
    assert json.loads(response.body)["code"] == "internal_error"


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "1"), (1.0, "1"), (1.1, "2"), (300.0, "300")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, shown: str) -> None:
    assert headers_of(problem(RateLimited(seconds)))["retry-after"] == shown
    assert headers_of(problem(StoreUnavailable("x", retry_after=seconds)))["retry-after"] == shown


def test_a_method_that_is_not_there_names_those_that_are() -> None:
    assert headers_of(problem(MethodNotAllowed(["GET", "HEAD"])))["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("cause", "refreshable", "next_"),
    [
        (Cause.EXPIRED, True, "refresh"),
        (Cause.EXPIRED, False, "login"),
        (Cause.STALE_CLAIMS, True, "refresh"),
        (Cause.STALE_CLAIMS, False, "login"),
        (Cause.REVOKED, True, "login"),
        (Cause.IDLE, True, "login"),
        (Cause.NO_CREDENTIAL, False, "login"),
        (Cause.REAUTHENTICATION_REQUIRED, True, "login"),
        (Cause.VERIFIER_STALE, True, "retry"),
        (Cause.NOT_YET_VALID, False, "retry"),
        (Cause.INSUFFICIENT_ROLE, True, None),
        (Cause.CROSS_ORIGIN, True, None),
        (Cause.BAD_CREDENTIALS, False, None),
    ],
)
def test_next_says_what_can_help(cause: Cause, refreshable: bool, next_: str | None) -> None:
    response = problem(Denied(cause), Refusal(refreshable=refreshable))
    assert json.loads(response.body)["next"] == next_


@pytest.mark.meets("10.3.4", "OA-32", "OA-33", "9470-3a", "9470-3b")
@pytest.mark.parametrize(
    ("error", "refusal", "challenges"),
    [
        (Denied(Cause.NO_CREDENTIAL), Refusal(), ['Bearer realm="keyfob"']),
        (
            Denied(Cause.EXPIRED),
            Refusal(),
            ['Bearer realm="keyfob", error="invalid_token", error_description="expired"'],
        ),
        (
            Denied(Cause.INSUFFICIENT_SCOPE),
            Refusal(scopes=("keyfob:feed",)),
            ['Bearer realm="keyfob", error="insufficient_scope", scope="keyfob:feed"'],
        ),
        (
            Denied(Cause.REAUTHENTICATION_REQUIRED),
            Refusal(max_auth_age=300),
            ['Bearer realm="keyfob", error="insufficient_user_authentication", max_age="300"'],
        ),
        (
            Denied(Cause.BAD_CREDENTIALS),
            Refusal(challenge=Challenge.BASIC),
            ['Basic realm="keyfob", charset="UTF-8"'],
        ),
        (
            Denied(Cause.NO_CREDENTIAL),
            Refusal(challenge=Challenge.EITHER),
            ['Bearer realm="keyfob"', 'Basic realm="keyfob", charset="UTF-8"'],
        ),
        (Denied(Cause.INSUFFICIENT_ROLE), Refusal(), []),
        (Denied(Cause.CROSS_ORIGIN), Refusal(), []),
        (NotFound("x", "y"), Refusal(), []),
    ],
)
def test_challenges_are_those_of_the_rfcs(error: Exception, refusal: Refusal, challenges: list[str]) -> None:
    response = problem(error, refusal)
    assert [value.decode() for name, value in response.headers if name == b"www-authenticate"] == challenges


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (Denied(Cause.BAD_CREDENTIALS), 401, "invalid_client"),
        (Denied(Cause.NO_CREDENTIAL), 401, "invalid_client"),
        (Denied(Cause.INSUFFICIENT_SCOPE), 403, "unauthorized_client"),
        (InvalidRequest("invalid_request", "No.", status=422), 400, "invalid_request"),
        (InvalidRequest("body_too_large", "No.", status=413), 413, "invalid_request"),
        (StoreUnavailable("x"), 503, "temporarily_unavailable"),
        (RuntimeError("secret"), 500, "server_error"),
    ],
)
def test_an_oauth_endpoint_answers_as_its_rfc_says(error: Exception, status: int, name: str) -> None:
    response = oauth_error(error, Refusal(challenge=Challenge.BASIC))
    body = json.loads(response.body)
    assert (response.status, body["error"]) == (status, name)
    assert set(body) == {"error", "error_description"}
    assert headers_of(response)["content-type"] == "application/json"
    assert "secret" not in body["error_description"]


@pytest.mark.meets("OA-17")
def test_an_error_of_oauth_describes_itself_in_the_characters_that_it_may() -> None:
    text = 'a "quoted" back\\slash, ünïcode\n and \x7f'
    described = json.loads(oauth_error(InvalidRequest("x", text)).body)["error_description"]
    assert described == "a 'quoted' back'slash, 'n'code' and '"


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (GrantRefused("invalid_target", "x"), 400, "invalid_target"),
        (RateLimited(7), 429, "temporarily_unavailable"),
        (StoreUnavailable("x"), 503, "temporarily_unavailable"),
        (Denied(Cause.BAD_CREDENTIALS), 401, "invalid_client"),
        (Denied(Cause.NO_CREDENTIAL), 401, "invalid_client"),
        (InvalidRequest("x", "x", status=422), 400, "invalid_request"),
        (RuntimeError("secret"), 500, "server_error"),
    ],
)
def test_each_error_has_its_name_at_an_endpoint_of_oauth(error: Exception, status: int, name: str) -> None:
    answer = oauth_error(error)
    assert (answer.status, json.loads(answer.body)["error"]) == (status, name)
    assert b"secret" not in answer.body
