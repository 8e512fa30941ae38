"""The account routes of the authority inside the project: `urlpatterns = [path("auth/", include(account_urls()))]` gives `/auth/login` and so on.

Login, refresh, logout, session and sessions, with the users of the project: passwords are checked by `AUTHENTICATION_BACKENDS`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from functools import partial
from queue import SimpleQueue
from typing import Final, cast

from django.contrib.auth import authenticate
from django.http import HttpRequest as DjangoRequest
from django.http import HttpResponse as DjangoResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from keyfob.authority.authority import Authority
from keyfob.base.errors import StoreUnavailable
from keyfob.endpoints import login, logout, refresh, session, sessions
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.cross_origin import own_origins
from keyfob.http.headers import SecurityHeaders
from keyfob.http.messages import MAX_BODY, HttpRequest, HttpResponse, RawHeaders
from keyfob.http.problem import MethodNotAllowed
from keyfob.http.refresh_hint import with_hint
from keyfob.integrations.django.refusals import ANSWERED
from keyfob.integrations.django.sources import current_sources

_log = logging.getLogger("keyfob.django")
_MODULES: Final = (login, refresh, logout, session, sessions)


def account_urls() -> list[object]:
    """Return the patterns of the account routes."""
    by_path: dict[str, dict[str, Route[Site]]] = {}
    for module in _MODULES:
        for route in module.ROUTES:
            by_path.setdefault(route.path, {})[route.method] = route
    return [path(_pattern(at), _view(routes)) for at, routes in by_path.items()]


class _Caller:
    """Brings work from the authority's loop back to the thread that serves the request, whose connection to the database it is."""

    def __init__(self, request: DjangoRequest) -> None:
        self._request = request
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    @sensitive_variables("password")
    async def check_password(self, name: str, password: str) -> str | None:
        """Return the subject of the user of this project whose name and password these are, None for anybody else."""
        checked: Future[str | None] = Future()
        self._work.put(partial(_complete, checked, partial(self._subject_of, name, password)))
        return await asyncio.wrap_future(checked)

    def wait_for(self, answer: Future[HttpResponse]) -> HttpResponse:
        """Do what is brought until *answer* is there, and return it."""
        answer.add_done_callback(lambda _: self._work.put(None))
        while (work := self._work.get()) is not None:
            work()
        try:
            return answer.result()
        except CancelledError:
            raise StoreUnavailable("this authority was closed meanwhile") from None

    @sensitive_variables("password")
    def _subject_of(self, name: str, password: str) -> str | None:
        user = authenticate(self._request, username=name, password=password)
        return None if user is None else current_sources().configuration.users.subject_of(user)


def _complete(checked: Future[str | None], check: Callable[[], str | None]) -> None:
    if not checked.set_running_or_notify_cancel():
        return
    try:
        checked.set_result(check())
    except BaseException as error:  # noqa: BLE001 - it is raised where the password is waited for
        checked.set_exception(error)


def _pattern(at: str) -> str:
    """Write the path of a route as Django does: `/sessions/{session_id}` is `/sessions/<str:session_id>`."""
    return at.removeprefix("/").replace("{", "<str:").replace("}", ">")


def _view(routes: Mapping[str, Route[Site]]) -> Callable[..., DjangoResponse]:
    def view(request: DjangoRequest, **parameters: str) -> DjangoResponse:
        sources = current_sources()
        route = routes.get(request.method)
        asked = _asked(request, parameters)
        caller = _Caller(request)

        async def answered(authority: Authority) -> HttpResponse:
            if route is None:
                raise MethodNotAllowed(sorted(routes))
            site = Site(
                authority=authority,
                own_origins=own_origins(authority.issuer, *sources.configuration.origins),
                check_password=caller.check_password,
            )
            return await route.endpoint(site, asked)

        authority = sources.authority
        try:
            response = caller.wait_for(authority.submit(answered))
        except ANSWERED as error:
            rendering = route or next(iter(routes.values()))
            hint = with_hint(rendering.refusal, error, asked.all(b"authorization"))
            response = rendering.render_error(error, hint)
        except Exception as error:  # noqa: BLE001 - raised again, without the frames behind, which hold the password: Django mails those
            _log.exception("an account route failed")
            raise error.with_traceback(None) from None
        return _document(response, authority.issuer)

    return cast("Callable[..., DjangoResponse]", csrf_exempt(view))  # the endpoints have a guard of their own


def _asked(request: DjangoRequest, parameters: Mapping[str, str]) -> HttpRequest:
    chunks = iter([request.read(MAX_BODY + 1)])  # one byte more is refused

    async def next_chunk() -> bytes | None:
        return next(chunks, None)

    proxies = current_sources().configuration.proxies
    return HttpRequest(
        request.method,
        request.path_info,
        headers=_headers(request.META),
        query=str(request.META.get("QUERY_STRING", "")).encode("latin-1", "replace"),
        peer=str(request.META.get("REMOTE_ADDR", "") or ""),
        proxies=proxies if proxies.networks else None,
        chunks=next_chunk,
        parameters=parameters,
    )


def _headers(environ: Mapping[str, object]) -> RawHeaders:
    named = {name.removeprefix("HTTP_"): value for name, value in environ.items() if name.startswith("HTTP_")}
    named |= {name: environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)}
    return [
        (name.lower().replace("_", "-").encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in named.items()
    ]


def _document(response: HttpResponse, issuer: str) -> DjangoResponse:
    document = DjangoResponse(response.body, status=response.status)
    del document["Content-Type"]
    for name, value in SecurityHeaders(issuer).complete(response):
        if name == b"set-cookie":
            _set_cookie(document, value.decode("latin-1"))
        else:
            document[name.decode("latin-1")] = value.decode("latin-1")
    return document


def _set_cookie(document: DjangoResponse, text: str) -> None:
    """Set one cookie with exactly the attributes that it was written with."""
    pair, *attributes = text.split("; ")
    name, _, value = pair.partition("=")
    document.cookies[name] = value
    for attribute in attributes:
        key, _, worth = attribute.partition("=")
        document.cookies[name][key.lower()] = worth or True
