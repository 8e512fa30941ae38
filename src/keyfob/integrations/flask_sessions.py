"""`flask.session` on the server, in the sessions of Keyfob.

    auth = Auth(lambda: keyfob.sync.Authority.open("sqlite:////var/lib/keyfob.db", issuer="https://shop.example"), app)
    app.session_interface = sessions = KeyfobSessions(auth)

    @app.post("/login")
    def login():
        with auth.source.sign_in() as attempt:
            sessions.begin(attempt.login(check_password(...), strategy="session"))

A visitor who has not signed in gets a visit (`keyfob.authority.visits`) when something is first put into the session: in the same cookie, and a
credential for nothing. Signing in makes a new session with a new id and a new token; what the visitor had goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from flask import Flask, Request, Response, session
from flask.sessions import SessionInterface, SessionMixin

from keyfob.authority.authority import Authority as AsyncAuthority
from keyfob.authority.endings import Devices
from keyfob.authority.issued import Issued
from keyfob.authority.visits import Visit
from keyfob.base.errors import Cause, ConfigurationError, Conflict, Denied, Unavailable
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.http import cookies
from keyfob.http.cross_origin import is_vouched_for, own_origins
from keyfob.http.headers import CLEAR_SITE_DATA
from keyfob.integrations.flask import Auth, answer_of
from keyfob.integrations.flask_data import dump, encoded, load
from keyfob.integrations.request_head import RequestHead
from keyfob.integrations.session_changes import Changes, changes_since, fingerprints
from keyfob.integrations.shared_caches import kept_private
from keyfob.revocation.entry import Entry
from keyfob.sync import Authority

_ATTEMPTS = 16
"""How often a write is tried again that another request came before: of that many at once one is the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the data of a request lies: in the session of *principal*, by *token*; nowhere yet without one."""

    token: str | None = field(default=None, repr=False)
    principal: Principal | None = None
    session_id: str | None = None
    data: bytes = field(default=b"", repr=False)
    version: int = 0


NOWHERE = _Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A token that the browser is to keep, until *until* where it is to outlast the browser's session."""

    token: str = field(repr=False)
    until: datetime | None = None


class Session(SessionMixin):
    """What `flask.session` is: read from the store when it is first used, compared with what was read when it is saved.

    So a list inside that was appended to is saved without `modified = True`, which is taken and means nothing.
    """

    def __init__(self, find: Callable[[], _Place]) -> None:
        self._find = find
        self._place: _Place | None = None
        self._values: dict[str, object] = {}
        self._before: dict[str, str] = {}
        self.accessed = False
        self.cookies: dict[bytes, _Told | None] = {}
        """What the browser is to be told, by the name of the cookie: a token, or None to forget."""
        self.has_ended = False

    @property
    def principal(self) -> Principal | None:
        """Who has signed in to this session; None for a visitor."""
        return self.place.principal

    @property
    def session_id(self) -> str | None:
        """The id of the session in which the data lies; None where nothing was put into it yet."""
        return self.place.session_id

    @property
    def place(self) -> _Place:
        """Where the data lies; found when first asked for."""
        if self._place is None:
            place = self._find()
            self._values = load(place.data)
            self._before = fingerprints(self._values, dump)
            self._place = place
        return self._place

    @property
    def is_loaded(self) -> bool:
        """Whether anything asked for the data, or changed it."""
        return self._place is not None

    @property
    def changes(self) -> Changes:
        """What this request changed."""
        return changes_since(self._before, self._content, dump)

    @property
    def modified(self) -> bool:
        """Whether this request changed anything."""
        return self.is_loaded and bool(self.changes)

    @modified.setter
    def modified(self, value: bool) -> None:
        """Take a word that others need."""

    def move(self, place: _Place, *, keep: bool) -> None:
        """Let the data lie in another session from now on: all of it is new there, or dropped unless *keep*."""
        values = dict(self._content) if keep else {}
        self._place, self._values, self._before = place, values, {}

    @property
    def _content(self) -> dict[str, object]:
        assert self.place is not None
        return self._values

    def __getitem__(self, name: str) -> object:
        return self._content[name]

    def __setitem__(self, name: str, value: object) -> None:
        self._content[name] = value

    def __delitem__(self, name: str) -> None:
        del self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


class KeyfobSessions(SessionInterface):
    """Keeps `flask.session` in the sessions of the authority behind *auth*. May be used from any thread.

    A key that two requests change at once has the value of the later one; other keys of either stay. What a request changed of a session
    that ended meanwhile is lost with it, and never makes another. The cookie is `__Host-session`; the settings `SESSION_COOKIE_*` mean
    nothing here.
    """

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    # What a view says

    def begin(self, issued: Issued) -> None:
        """Go on in the session of *issued*, a login of strategy `session` just made, under its new id.

        What a visitor had, or the same subject before, goes with it; what another subject had does not. The session before is ended.

        Raises:
            ConfigurationError: *issued* has no session token.
            Unavailable: it could not be done; the login stands, and nobody has its token.
        """
        if issued.session_token is None:
            raise ConfigurationError(
                "sessions.begin takes a login that gives a session token: strategy='session'"
            )
        current = _current()
        former = current.place
        keep = former.principal is None or former.principal.subject == issued.subject
        principal = self._authority.authenticate(issued.session_token)
        current.move(
            _Place(token=issued.session_token, principal=principal, session_id=issued.session_id), keep=keep
        )
        current.cookies[cookies.SESSION_COOKIE] = _told(issued.session_token, issued)
        current.cookies[cookies.REFRESH_COOKIE] = None
        if former.token is not None and former.session_id != issued.session_id:
            self._authority.logout(former.token)

    def renew(self) -> None:
        """Give the session a fresh token, at a change of privilege. Requests under way with the old one are answered for the replay window.

        Raises:
            Denied: `no_credential`: nobody has signed in; else as `Authority.renew`.
        """
        current = _current()
        if current.principal is None:
            raise Denied(Cause.NO_CREDENTIAL, "nobody has signed in to this session")
        issued = self._authority.renew(current.principal)
        if issued.session_token is not None:
            current.cookies[cookies.SESSION_COOKIE] = _told(issued.session_token, issued)

    def end(self, *, devices: Devices = "this") -> Entry | None:
        """Sign out: end the session with an entry on the feed (or the others of its subject, or all), drop its data, clear the cookies.

        Without a session it does nothing. With `others` this one goes on.
        """
        current = _current()
        token = current.place.token
        entry = None if token is None else self._authority.logout(token, devices=devices)
        if devices == "others":
            return entry
        current.move(NOWHERE, keep=False)
        current.has_ended = True
        current.cookies[cookies.SESSION_COOKIE] = current.cookies[cookies.REFRESH_COOKIE] = None
        return entry

    # What Flask asks

    def open_session(self, app: Flask, request: Request) -> Session:
        """Return the session of *request*. Nothing is read before the application uses it."""
        head = RequestHead.of_wsgi(request.environ)
        return Session(lambda: self._find(head))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write what the request changed, and set the cookies.

        A change that cannot be written is answered by 503 or 409 in place of the view's answer, which would say that it was.

        Raises:
            InvalidRequest: `session_data_too_large`; the message names the largest keys.
        """
        assert isinstance(session, Session)
        if session.accessed or session.is_loaded:
            response.vary.add("Cookie")
        if not session.is_loaded:
            return
        try:
            self._save(session)
        except (Unavailable, Conflict, Denied) as error:
            _replace(response, error)
            return
        self._set_cookies(session, response)
        if session.session_id is not None:
            stated = ", ".join(response.headers.getlist("Cache-Control"))
            response.headers["Cache-Control"] = kept_private(stated)

    # How it is done

    @property
    def _authority(self) -> Authority:
        return self._auth.authority

    def _find(self, head: RequestHead) -> _Place:
        """Find the session of a request: one that was signed in to, or a visit. One that is over is none."""
        authority = self._authority
        is_vouched_for(
            head.method,
            site=head.all(b"sec-fetch-site"),
            origin=head.all(b"origin"),
            own_origins=own_origins(authority.issuer, *self._auth.origins),
        )
        try:
            token = cookies.read(head.all(b"cookie"), cookies.SESSION_COOKIE)
            kind = None if token is None else kind_of(token)
            if token is not None and kind is OpaqueKind.ANONYMOUS:
                return authority.call(lambda inner: _place_of_visit(inner, token))
            if token is not None and kind is OpaqueKind.SESSION:  # an API key has no business in a cookie
                return _place_of_login(authority, token)
        except Denied:
            pass
        return NOWHERE

    def _save(self, session: Session) -> None:
        changes = session.changes
        if not changes:
            return
        place = session.place
        if place.session_id is None:
            encoded(session)  # what is too large makes no session
            self._make_room(session)
        elif place.principal is None and not session:
            self._forget(session)
            return
        self._write(session, changes)

    def _make_room(self, session: Session) -> None:
        """Begin a visit."""
        visit = self._authority.visits.begin(persistent=session.permanent)
        session.move(_Place(token=visit.token, session_id=visit.session_id), keep=True)
        session.cookies[cookies.SESSION_COOKIE] = _told(visit.token, visit)

    def _forget(self, session: Session) -> None:
        """End a visit that was emptied."""
        token = session.place.token
        assert token is not None
        self._authority.logout(token)
        session.cookies[cookies.SESSION_COOKIE] = None

    def _write(self, session: Session, changes: Changes) -> None:
        """Write *changes* on what lies in the store: compare, set, and where another request was first, do it again on what that wrote."""
        authority, place = self._authority, session.place
        session_id = place.session_id
        assert session_id is not None
        data, version = place.data, place.version
        for _ in range(_ATTEMPTS):
            if authority.write_data(session_id, encoded(changes.on(load(data))), version=version):
                return
            current = authority.read_data(session_id)
            if current is None:  # it ended while the view ran: what it wrote ends with it
                session.cookies.setdefault(cookies.SESSION_COOKIE, None)
                return
            data, version = current.data, current.version
        raise Conflict("session_changed", "The session is being changed by too many requests at once.")

    def _set_cookies(self, session: Session, response: Response) -> None:
        for name, told in session.cookies.items():
            response.headers.add("Set-Cookie", self._cookie(name, told))
            response.vary.add("Cookie")
            response.headers.setdefault("Cache-Control", "no-store")
        if session.has_ended:
            response.headers.setdefault(*(part.decode("ascii") for part in CLEAR_SITE_DATA))

    def _cookie(self, name: bytes, told: _Told | None) -> str:
        if told is None:
            return cookies.clear(name)[1].decode("ascii")
        max_age = None if told.until is None else told.until - self._authority.clock.now()
        return cookies.write(name, told.token, max_age=max_age)[1].decode("ascii")


def _place_of_login(authority: Authority, token: str) -> _Place:
    """Return where the data of the session of *token* lies; nowhere if it is over.

    Raises:
        Denied: the token is no good.
    """
    principal = authority.authenticate(token)
    kept = authority.read_data(principal.session_id) if principal.session_id else None
    if kept is None:
        return NOWHERE
    return _Place(
        token=token,
        principal=principal,
        session_id=principal.session_id,
        data=kept.data,
        version=kept.version,
    )


async def _place_of_visit(authority: AsyncAuthority, token: str) -> _Place:
    """Return where the data of the visit of *token* lies; nowhere if it is over, or was none."""
    visit = await authority.visits.find(token)
    kept = None if visit is None else await authority.read_data(visit.session_id)
    if visit is None or kept is None:
        return NOWHERE
    return _Place(token=token, session_id=visit.session_id, data=kept.data, version=kept.version)


def _current() -> Session:
    current = session._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - werkzeug's way to what a proxy stands for
    if not isinstance(current, Session):
        raise ConfigurationError("app.session_interface is not KeyfobSessions")
    return current


def _told(token: str, given: Issued | Visit) -> _Told:
    return _Told(token=token, until=given.expires_at if given.persistent else None)


def _replace(response: Response, error: Unavailable | Conflict | Denied) -> None:
    """Answer *error* in place of what the view answered."""
    answer = answer_of(error)
    response.direct_passthrough = False
    response.set_data(answer.get_data())
    response.status_code = answer.status_code
    response.headers.clear()
    response.headers.extend(answer.headers)
