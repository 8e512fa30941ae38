"""The answer to a request that is refused: a problem document."""

from __future__ import annotations

from django.http import HttpResponse

from keyfob.base.errors import Denied, KeyfobError, RequestRefused, Unavailable
from keyfob.http.headers import SecurityHeaders
from keyfob.http.problem import problem
from keyfob.integrations.django.caller import Request
from keyfob.integrations.refusals import refusal_of
from keyfob.integrations.requirement import Requirement

ANSWERED = (Denied, RequestRefused, Unavailable)
"""What is answered by a document. A configuration that is wrong is Django's to report: a 500, with its message in the log."""
_SECURITY = SecurityHeaders("")  # HSTS is the business of whoever answers the other requests


def answer(error: KeyfobError, request: Request, *, requirement: Requirement | None = None) -> HttpResponse:
    """Return the problem document of *error*: its status, cause, and what the client can do about it."""
    value = request.META.get("HTTP_AUTHORIZATION")
    authorization = [value.encode("latin-1", "replace")] if isinstance(value, str) else []
    asked = requirement or getattr(request, "keyfob_requirement", None)
    response = problem(error, refusal_of(asked, error, authorization))
    document = HttpResponse(response.body, status=response.status)
    for name, value in _SECURITY.complete(response):
        document[name.decode("latin-1")] = value.decode("latin-1")
    return document
