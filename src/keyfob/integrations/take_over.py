"""Taking over the sessions that a WSGI application kept before, so that nobody has to sign in again.

    app.wsgi_app = TakeOver(
        app.wsgi_app, auth, former=RedisFormerSessions(redis.Redis()), subject_of=lambda data: data.get("user_id"), until=...
    )

A request that comes with the former cookie, and with none of ours:

1. its former session is read; without one the request goes on as it came;
2. the subject in it is signed in as of before the first entry of the feed: whoever was ended since, in whatever way, is not;
3. what the session held is written to the new one;
4. the former session is retired: from then on its cookie is worth nothing;
5. the request goes on as if it had come with the new cookie, and the answer sets it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from keyfob.authority.sign_in import Device
from keyfob.base.errors import ConfigurationError, Denied, InvalidRequest, Unavailable
from keyfob.base.identifiers import SessionId
from keyfob.http import cookies
from keyfob.http.headers import SecurityHeaders
from keyfob.http.problem import problem
from keyfob.integrations.flask import Auth
from keyfob.integrations.flask_data import encoded
from keyfob.integrations.former_sessions import FormerSessions
from keyfob.sync import Authority

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Data = Mapping[str, object]
_SID = re.compile(r"[A-Za-z0-9_.-]{16,255}")
_log = logging.getLogger("keyfob.take_over")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A session that was taken over, or a visit; *until* is the end of its cookie, None for the browser's session."""

    session_id: SessionId
    token: str = field(repr=False)
    until: datetime | None


def keep_all(data: Data) -> Data:
    """Return *data*."""
    return data


class TakeOver:
    """A WSGI application before *app* that signs in whoever has a former session. May be called from any thread.

    *subject_of* says who has signed in to the session with this data; None for nobody: then a visitor goes on as a visitor. *keep* says
    what of the data goes along, at most 4 KiB; where it is more, or cannot be written as JSON, the user is signed in without it, and the
    log says so. *cookie* is the former `SESSION_COOKIE_NAME`, *unsign* gives the session id of its value where it was signed. At *until*
    nothing is taken over any more: at most the longest lifetime of a session from now, since ends of subjects are not kept for longer.

    Raises:
        ConfigurationError: with the first request: *until* is too late, or *auth* holds no authority.
    """

    def __init__(
        self,
        app: WSGIApplication,
        auth: Auth,
        *,
        former: FormerSessions,
        subject_of: Callable[[Data], str | None],
        until: datetime,
        keep: Callable[[Data], Data] = keep_all,
        cookie: str = "session",
        unsign: Callable[[str], str | None] | None = None,
    ) -> None:
        if until.tzinfo is None:
            raise ConfigurationError("until is a moment with a time zone")
        self._app = app
        self._auth = auth
        self._former = former
        self._subject_of = subject_of
        self._until = until
        self._keep = keep
        self._cookie = cookie
        self._unsign = unsign or str

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        sid = self._sid(str(environ.get("HTTP_COOKIE", "")))
        if sid is None or "HTTP_AUTHORIZATION" in environ:
            return self._app(environ, start_response)
        try:
            taken = self._take_over(sid, environ)
        except Unavailable as error:
            return _refuse(error, start_response)
        if taken is None:
            return self._app(environ, start_response)
        name = cookies.SESSION_COOKIE.decode("ascii")
        environ["HTTP_COOKIE"] = f"{environ['HTTP_COOKIE']}; {name}={taken.token}"
        headers = self._headers(taken)

        def started(status: str, given: list[tuple[str, str]], *error: object) -> Callable[[bytes], object]:
            # Ours first: what the application says of its cookies is later, and counts.
            return start_response(status, [*headers, *given], *error)  # type: ignore[arg-type] # exc_info, passed on

        return self._app(environ, started)

    def _sid(self, header: str) -> str | None:
        """Return the id of the former session, if the request has one and no session of ours."""
        found = None
        for pair in header.split(";"):
            name, _, value = pair.strip(" ").partition("=")
            if name.encode("latin-1", "replace") == cookies.SESSION_COOKIE:
                return None
            if name == self._cookie and found is None:
                found = value
        sid = None if found is None else self._unsign(found)
        return sid if sid is not None and _SID.fullmatch(sid) else None

    def _take_over(self, sid: str, environ: WSGIEnvironment) -> _Taken | None:
        authority = self._authority()
        if authority.clock.now() >= self._until:
            return None
        data = self._former.read(sid)
        if data is None:
            return None
        try:
            taken = self._sign_in(authority, data, environ)
        except Denied as denied:
            _log.warning("a former session was not taken over: %s", denied.code)
            taken = None
        if taken is not None:
            self._carry(authority, taken.session_id, data)
        self._former.retire(sid)
        return taken

    def _sign_in(self, authority: Authority, data: Data, environ: WSGIEnvironment) -> _Taken:
        subject = self._subject_of(data)
        persistent = bool(data.get("_permanent"))
        if subject is None:
            visit = authority.visits.begin(persistent=persistent)
            return _Taken(
                session_id=visit.session_id, token=visit.token, until=visit.expires_at if persistent else None
            )
        device = Device(
            user_agent=str(environ.get("HTTP_USER_AGENT", "")), address=str(environ.get("REMOTE_ADDR", ""))
        )
        with authority.sign_in(as_of=0) as attempt:  # the login was before anything that the feed knows
            issued = attempt.login(subject, strategy="session", persistent=persistent, device=device)
        assert issued.session_token is not None  # the strategy gives one
        return _Taken(
            session_id=issued.session_id,
            token=issued.session_token,
            until=issued.expires_at if persistent else None,
        )

    def _carry(self, authority: Authority, session_id: SessionId, data: Data) -> None:
        try:
            # It is written unless the session is over by now, and then nothing is to be kept.
            authority.write_data(session_id, encoded(self._keep(data)), version=0)
        except (InvalidRequest, TypeError, ValueError) as error:  # too large, or no JSON; never its values
            _log.warning("a former session was taken over without its data: %s", _said(error))

    def _authority(self) -> Authority:
        source = self._auth.authority
        if self._until - source.clock.now() > source.policy.longest_session:
            raise ConfigurationError(
                f"until is more than {source.policy.longest_session} from now: ends are not kept for longer"
            )
        return source

    def _headers(self, taken: _Taken) -> list[tuple[str, str]]:
        """Return the headers that set the new cookie and clear the former."""
        max_age = None if taken.until is None else taken.until - self._authority().clock.now()
        set_cookie = cookies.write(cookies.SESSION_COOKIE, taken.token, max_age=max_age)[1].decode("ascii")
        return [
            ("Set-Cookie", set_cookie),
            ("Set-Cookie", f"{self._cookie}=; Path=/; HttpOnly; Max-Age=0"),
            ("Cache-Control", "no-store"),
        ]


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, InvalidRequest) else type(error).__name__


def _refuse(error: Unavailable, start_response: StartResponse) -> Iterable[bytes]:
    response = problem(error)
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in SecurityHeaders("").complete(response)
    ]
    start_response("503 Service Unavailable", headers)
    return [response.body]
