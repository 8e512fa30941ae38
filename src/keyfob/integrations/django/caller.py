"""Who is calling, of a request of Django or of Django REST framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, cast

from django.contrib.sessions.backends.base import SessionBase
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject, empty

from keyfob.authority.sign_in import Device
from keyfob.base.errors import Cause, Denied
from keyfob.base.principal import Principal
from keyfob.http.cookies import SESSION_COOKIE
from keyfob.integrations.django.sessions import SessionStore
from keyfob.integrations.django.sources import current_sources
from keyfob.integrations.request_head import RequestHead
from keyfob.integrations.requirement import ANYBODY_SIGNED_IN, Requirement
from keyfob.integrations.shared_caches import kept_private, varying

_ASKED, _ADMITTED, _WATCHED = "_keyfob_asked", "_keyfob_admitted", "_keyfob_watched"
MAX_USER_AGENT = 256  # characters
KEPT_TOKEN = "_keyfob_session_token"
"""Where Django's own session keeps the token of the session at an authority elsewhere."""


class Request(Protocol):
    """What is needed of a request."""

    @property
    def META(self) -> Mapping[str, object]:  # noqa: N802 - Django's name
        """The environment of the request, as WSGI writes it."""
        ...


def find_principal(request: Request) -> Principal | None:
    """Return who is calling, None for a stranger.

    Raises:
        Denied: a credential is there and is no good.
        Unavailable: it could not be found out.
    """
    try:
        return admit(request, ANYBODY_SIGNED_IN)
    except Denied as denied:
        if denied.cause is Cause.NO_CREDENTIAL:
            return None
        raise


def principal_of(request: Request) -> Principal:
    """Return who is calling.

    Raises:
        Denied: `no_credential` for a stranger, or the cause for a credential that is no good.
        Unavailable: it could not be found out.
    """
    return admit(request, ANYBODY_SIGNED_IN)


def admit(request: Request, requirement: Requirement) -> Principal:
    """Return who is calling if *requirement* is met.

    Raises:
        Denied, Unavailable: the cause.
    """
    note_asked(request)
    head = head_of(request)
    session = _other_session(request, head)
    if session is not None:
        head = _with_token(head, session.get(KEPT_TOKEN))
    principal = current_sources().admit(head, requirement)
    note_admitted(request)
    return principal


async def aadmit(request: Request, requirement: Requirement) -> Principal:
    """Return who is calling if *requirement* is met, without keeping the event loop."""
    note_asked(request)
    head = head_of(request)
    session = _other_session(request, head)
    if session is not None:
        head = _with_token(head, await session.aget(KEPT_TOKEN))
    principal = await current_sources().aadmit(head, requirement)
    note_admitted(request)
    return principal


def note_asked(request: Request) -> None:
    """Note that the answer to *request* depends on who is calling."""
    setattr(request, _ASKED, True)


def note_admitted(request: Request) -> None:
    """Note that the answer to *request* is for somebody in particular."""
    setattr(request, _ADMITTED, True)


def note_watched(request: Request) -> None:
    """Note that the middleware will `keep_apart` the answer to *request*."""
    setattr(request, _WATCHED, True)


def keep_apart_alone(request: Request, response: object) -> None:
    """Do as `keep_apart` where there is no middleware that will."""
    if not hasattr(request, _WATCHED):
        keep_apart(request, response)


def keep_apart(request: Request, response: object) -> None:
    """Tell caches whom *response* is for, if it was asked who is calling."""
    if not isinstance(response, HttpResponseBase):
        return
    if getattr(request, _ASKED, False):
        response["Vary"] = varying(response.get("Vary"))
    if getattr(request, _ADMITTED, False):
        response["Cache-Control"] = kept_private(response.get("Cache-Control"))


def head_of(request: Request) -> RequestHead:
    """Return what of *request* says who is calling. A CSRF token that Django's own middleware has found vouches for the request."""
    return RequestHead.of_wsgi(
        request.META, is_vouched_for=getattr(request, "csrf_processing_done", False) is True
    )


def _other_session(request: Request, head: RequestHead) -> SessionBase | None:
    """Return the session of another engine, in which `RemoteBackend` keeps a token, for a request that brings no credential itself."""
    session = getattr(request, "session", None)
    if not isinstance(session, SessionBase) or isinstance(session, SessionStore) or not session.session_key:
        return None
    if head.all(b"authorization") or any(SESSION_COOKIE in line for line in head.all(b"cookie")):
        return None
    return session


def _with_token(head: RequestHead, token: object) -> RequestHead:
    """Return *head* with the session token that the server keeps for the browser: it stands for the cookie, under the rules of one."""
    if not isinstance(token, str):
        return head
    values = {**head.values, b"cookie": [SESSION_COOKIE + b"=" + token.encode("ascii", "replace")]}
    return RequestHead(head.method, values, is_vouched_for=head.is_vouched_for)


def device_of(request: Request) -> Device:
    """Return what is remembered of where a login came from: printable ASCII alone."""
    agent = str(request.META.get("HTTP_USER_AGENT", ""))[:MAX_USER_AGENT]
    return Device(
        user_agent="".join(character if " " <= character <= "~" else "?" for character in agent),
        address=address_of(request),
    )


def address_of(request: Request) -> str:
    """Return the address of the client, behind the proxies that `settings.KEYFOB` trusts."""
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).encode("latin-1", "replace")
    peer = str(request.META.get("REMOTE_ADDR", "") or "")
    return current_sources().configuration.proxies.client_address(peer, [forwarded] if forwarded else [])


class Lazy(SimpleLazyObject):
    """What *find* returns, found out when first used. Two are made for every request, of which most are never used."""

    def __init__(self, find: Callable[[], object]) -> None:
        # As Django does it, without the detours by which it keeps attributes of the wrapper and of what is wrapped apart.
        object.__setattr__(self, "_setupfunc", find)
        object.__setattr__(self, "_wrapped", empty)


class LazyPrincipal(Lazy):
    """Who is calling, found out when first used. Using what a stranger's request has here is refused with `no_credential`; it is false."""

    def __init__(self, request: Request) -> None:
        super().__init__(partial(principal_of, request))
        object.__setattr__(self, "_request", request)

    def __bool__(self) -> bool:
        if self._wrapped is not empty:
            return True
        return find_principal(cast("Request", self.__dict__["_request"])) is not None
