"""Django REST framework: `authentication_classes = [KeyfobAuthentication]`, `permission_classes = [Policy(scopes={"orders:read"})]`.

`request.user` is the user of the project, `request.auth` the `Principal`. Refusals are 401 with `WWW-Authenticate`, 403, or 503 with
`Retry-After` where it cannot be found out; the body is the problem document, of which `exception_handler` makes the whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack, cast

import msgspec
from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler as handle_others

from keyfob.base.errors import Denied, KeyfobError, RequestRefused, Unavailable
from keyfob.base.principal import Principal
from keyfob.http.problem import problem
from keyfob.integrations.django.caller import admit, find_principal
from keyfob.integrations.django.refusals import ANSWERED, answer
from keyfob.integrations.django.sources import current_sources
from keyfob.integrations.django.users import User, is_person
from keyfob.integrations.refusals import refusal_of
from keyfob.integrations.requirement import Requirement, Rules


class Refused(APIException):
    """A refused request, as Django REST framework answers it."""

    def __init__(self, error: KeyfobError, requirement: Requirement | None = None) -> None:
        response = problem(error, refusal_of(requirement, error))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        super().__init__(error.code, error.code)
        self.detail = msgspec.json.decode(response.body, type=dict[str, object])
        self.status_code = response.status
        self.auth_header = headers.get("www-authenticate")
        self.wait = float(headers["retry-after"]) if "retry-after" in headers else None
        self.error = error
        self.requirement = requirement


class KeyfobAuthentication(BaseAuthentication):
    """Takes the credential of the request, of any strategy. Nobody's is left to the other classes; one that is no good is refused.

    With a session cookie a request that changes something is refused unless its own page is behind it, as everywhere.
    """

    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, Principal] | None:
        """Return who is calling: the user, anonymous for a subject that is none of the project's, and the principal."""
        try:
            principal = find_principal(request._request)  # noqa: SLF001 - Django's own request
        except ANSWERED as error:
            raise Refused(error) from error
        if principal is None:
            return None
        user = current_sources().configuration.users.find(principal.subject) if is_person(principal) else None
        return user or AnonymousUser(), principal

    def authenticate_header(self, request: Request) -> str:
        """Return what a stranger is told to bring: so the answer is 401 and not 403."""
        return 'Bearer realm="keyfob"'


class Policy(BasePermission):
    """The policy of a view: `permission_classes = [Policy(roles={"payer"}, max_auth_age=timedelta(minutes=5))]`. `scopes` mean all of them.

    Raises:
        ConfigurationError: a rule does not fit.
    """

    def __init__(self, **rules: Unpack[Rules]) -> None:
        self._requirement = Requirement.of(**rules)

    def __call__(self) -> Policy:
        """Return itself: the framework calls what stands in `permission_classes`."""
        return self

    def has_permission(self, request: Request, view: object) -> bool:
        """Let through whoever meets the policy.

        Raises:
            Refused: anybody else, with the cause.
        """
        try:
            admit(request._request, self._requirement)  # noqa: SLF001 - Django's own request
        except ANSWERED as error:
            raise Refused(error, self._requirement) from error
        return True


def exception_handler(error: Exception, context: Mapping[str, object]) -> object:
    """Answer every error of Keyfob by the problem document itself: `REST_FRAMEWORK = {"EXCEPTION_HANDLER": "keyfob.integrations.django.drf.exception_handler"}`."""
    request = cast("Request", context["request"])
    match error:
        case Refused(error=refused, requirement=requirement):
            return answer(refused, request._request, requirement=requirement)  # noqa: SLF001 - as above
        case Denied() | RequestRefused() | Unavailable():
            return answer(error, request._request)  # noqa: SLF001 - as above
        case _:
            return cast("Response | None", handle_others(error, context))
