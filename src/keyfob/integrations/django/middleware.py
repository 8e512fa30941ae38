"""The middleware: `request.principal`, a lazy `request.user`, and problem documents for refusals.

Below `AuthenticationMiddleware`, where there is one. `SessionMiddleware` replaces Django's for projects that keep their sessions here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth.middleware import auser as auser_of_session
from django.contrib.auth.middleware import get_user as user_of_session
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions import middleware as sessions
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from keyfob.base.errors import Denied
from keyfob.integrations.django.caller import (
    KEPT_TOKEN,
    Lazy,
    LazyPrincipal,
    aadmit,
    device_of,
    keep_apart,
    note_admitted,
    note_asked,
    note_watched,
    principal_of,
)
from keyfob.integrations.django.present import enter, leave
from keyfob.integrations.django.refusals import ANSWERED, answer
from keyfob.integrations.django.sessions import SessionStore
from keyfob.integrations.django.sources import current_sources
from keyfob.integrations.django.taking_over import FormerSession
from keyfob.integrations.django.users import is_person
from keyfob.integrations.requirement import ANYBODY_SIGNED_IN
from keyfob.verifier.verifier import Verifier

GetResponse = Callable[[HttpRequest], HttpResponse]


class KeyfobMiddleware:
    """Gives each request `principal` and `user`, both found out when first used, for synchronous and asynchronous servers.

    `request.user` is whoever Django's own session says, except where a Bearer token says it; without either, the user of the session cookie of
    the authority. A credential that is no good makes it an `AnonymousUser`; that it cannot be found out is never that, but answered with 503.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer *request*."""
        if self._is_async:
            return self._answer_async(request)
        _prepare(request)
        token = enter(request)
        try:
            response = self._get_response(request)
        finally:
            leave(token)
        keep_apart(request, response)
        return response

    async def _answer_async(self, request: HttpRequest) -> HttpResponse:
        _prepare(request)
        token = enter(request)
        try:
            response = await cast("Awaitable[HttpResponse]", self._get_response(request))
        finally:
            leave(token)
        keep_apart(request, response)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer an error of Keyfob that a view did not handle."""
        return answer(error, request) if isinstance(error, ANSWERED) else None


def _prepare(request: HttpRequest) -> None:
    note_watched(request)
    # No browser adds it for a page of another site; with a session cookie beside it, it is refused.
    if _brings_token(request):
        request._dont_enforce_csrf_checks = True  # noqa: SLF001 - what Django's CSRF middleware asks
    request.principal = LazyPrincipal(request)
    request.user = Lazy(partial(_user, request))
    request.auser = partial(_auser, request)


def _user(request: HttpRequest) -> object:
    note_asked(request)
    if not _brings_token(request) and hasattr(request, "session"):
        user = user_of_session(request)
        if user.is_authenticated and _stands(request):
            note_admitted(request)
            return user
    try:
        principal = principal_of(request)
    except Denied:
        return AnonymousUser()
    if not is_person(principal):
        return AnonymousUser()
    return current_sources().configuration.users.find(principal.subject) or AnonymousUser()


async def _auser(request: HttpRequest) -> object:
    note_asked(request)
    if not _brings_token(request) and hasattr(request, "session"):
        user = await auser_of_session(request)
        if user.is_authenticated and await sync_to_async(_stands)(request):
            note_admitted(request)
            return user
    try:
        principal = await aadmit(request, ANYBODY_SIGNED_IN)
    except Denied:
        return AnonymousUser()
    if not is_person(principal):
        return AnonymousUser()
    return await current_sources().configuration.users.afind(principal.subject) or AnonymousUser()


def _stands(request: HttpRequest) -> bool:
    """Say whether the login still stands at the authority elsewhere by which Django's own session began; else end that."""
    token = request.session.get(KEPT_TOKEN)
    if token is None:
        return True
    source = current_sources().source
    try:
        if isinstance(source, Verifier):
            source.authenticate_blocking(token)
            return True
    except Denied:
        pass
    request.session.flush()
    return False


def _brings_token(request: HttpRequest) -> bool:
    return str(request.META.get("HTTP_AUTHORIZATION", ""))[:7].lower() == "bearer "


class SessionMiddleware(sessions.SessionMiddleware):
    """Django's own, for sessions of Keyfob: in its place.

    A store that does not answer is a 503 and never "signed out"; devices are remembered; and sessions of the engine before are taken over.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Give *request* its session, which is read when first used."""
        super().process_request(request)
        session = request.session
        if not isinstance(session, SessionStore):
            return
        session.device = device_of(request)
        take_over = current_sources().configuration.take_over
        if take_over is not None and session.session_key is None and take_over.cookie in request.COOKIES:
            session.former = FormerSession(take_over, request.COOKIES[take_over.cookie])

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Write the session, and set its cookie."""
        try:
            return self._written(request, response)
        except ANSWERED as error:
            return answer(error, request)

    def _written(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        session = getattr(request, "session", None)
        if isinstance(session, SessionStore) and session.is_borrowed:
            if session.modified and response.status_code < 500:
                _save(session)
            patch_vary_headers(response, ("Cookie",))
            return response  # the request that has the key sets the cookie
        response = cast("HttpResponse", super().process_response(request, response))
        take_over = current_sources().configuration.take_over
        if take_over is not None and take_over.cookie in request.COOKIES and _sets_key(response):
            response.delete_cookie(take_over.cookie)
        return response


def _sets_key(response: HttpResponse) -> bool:
    cookie = response.cookies.get(settings.SESSION_COOKIE_NAME)
    return cookie is not None and bool(cookie.value)


def _save(session: SessionStore) -> None:
    try:
        session.save()
    except UpdateError:
        raise SessionInterrupted("The request's session was ended before the request completed.") from None
