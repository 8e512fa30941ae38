"""Flask: decorators for routes, and `current_principal` inside them.

    auth = Auth(Verifier.follow("https://auth.example", audience="orders", credentials=(...)))
    auth.init_app(app)

    @app.post("/payments")
    @auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3))
    def pay(): return {"paid": current_principal.subject}

Under a server that forks (gunicorn), with `--preload` too, each process has a reader, or an authority, of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, cast

from flask import Flask, Response, request
from werkzeug.local import LocalProxy

from keyfob.base.errors import Cause, ConfigurationError, Denied, KeyfobError
from keyfob.base.principal import Principal
from keyfob.http.headers import SecurityHeaders
from keyfob.http.problem import problem
from keyfob.integrations.admission import BlockingAdmission
from keyfob.integrations.checks import blocking_checks_of, started
from keyfob.integrations.per_process import PerProcess
from keyfob.integrations.refusals import refusal_of
from keyfob.integrations.request_head import RequestHead
from keyfob.integrations.requirement import Requirement, Rules
from keyfob.integrations.shared_caches import texts_varied, texts_varied_and_private
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from keyfob.sync import Authority

P = ParamSpec("P")
R = TypeVar("R")

_PRINCIPAL, _REQUIREMENT = "keyfob.principal", "keyfob.requirement"
"""Where in the environment of a request it lies who sent it, and what was asked of whoever did."""
_SECURITY = SecurityHeaders("")  # HSTS is the business of whoever answers the other requests


class Auth:
    """The checks of a Flask application; every method may be called from any thread.

    *source* is a verifier, or a function that opens one or a `keyfob.sync.Authority`: it is called once in each process, when first needed.
    *origins* are the application's own, where they are others than the issuer's: pages that may send its session cookie.
    """

    def __init__(
        self,
        source: Verifier | Callable[[], Verifier | Authority],
        app: Flask | None = None,
        *,
        origins: Iterable[str] = (),
    ) -> None:
        self.origins = tuple(origins)
        opened = (lambda: source) if isinstance(source, Verifier) else source
        self._source = PerProcess(lambda: started(opened()))
        self._admission = PerProcess(
            lambda: BlockingAdmission(blocking_checks_of(self._source()), origins=self.origins)
        )
        if app is not None:
            self.init_app(app)

    @property
    def source(self) -> Verifier | Authority:
        """The verifier or the authority of this process."""
        return self._source()

    @property
    def authority(self) -> Authority:
        """The authority of this process.

        Raises:
            ConfigurationError: this application follows one, and holds none.
        """
        source = self._source()
        if isinstance(source, Verifier):
            raise ConfigurationError(
                "this needs the authority in this process: Auth(lambda: keyfob.sync.Authority.open(...))"
            )
        return source

    def init_app(self, app: Flask) -> None:
        """Let *app* answer every error of Keyfob as a problem document, and keep what goes by who is calling out of shared caches."""
        app.extensions["keyfob"] = self
        app.register_error_handler(KeyfobError, answer_of)
        app.wsgi_app = _KeptApart(app.wsgi_app)  # type: ignore[method-assign]  # as Flask says to

    def required(self, **rules: Unpack[Rules]) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a decorator that lets in whoever meets *rules*; below `@app.route`.

        Raises:
            ConfigurationError: a rule does not fit.
        """
        requirement = Requirement.of(**rules)

        def decorate(view: Callable[P, R]) -> Callable[P, R]:
            @wraps(view)
            def protected(*args: P.args, **kwargs: P.kwargs) -> R:
                self._admit(request.environ, requirement)
                return view(*args, **kwargs)

            return protected

        return decorate

    def optional(self, **rules: Unpack[Rules]) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a decorator that lets in strangers too: then `find_principal()` is None. A credential that is bad is refused, as by `required`."""
        requirement = Requirement.of(**rules)

        def decorate(view: Callable[P, R]) -> Callable[P, R]:
            @wraps(view)
            def protected(*args: P.args, **kwargs: P.kwargs) -> R:
                try:
                    self._admit(request.environ, requirement)
                except Denied as denied:
                    if denied.cause is not Cause.NO_CREDENTIAL:
                        raise
                return view(*args, **kwargs)

            return protected

        return decorate

    def _admit(self, environ: dict[str, Any], requirement: Requirement) -> None:
        """Note in the environment of a request who sent it: whatever asks for `flask.g` takes longer than the check does.

        Raises:
            Denied, Unavailable: the cause.
        """
        environ[_REQUIREMENT] = requirement
        environ[_PRINCIPAL] = self._admission().admit(RequestHead.of_wsgi(environ), requirement)


class _KeptApart:
    """A WSGI application whose answers tell caches whom they are for, where it was asked who is calling."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
            if _REQUIREMENT in environ:
                tell = texts_varied_and_private if _PRINCIPAL in environ else texts_varied
                headers = tell(headers)
            return start_response(status, headers, *rest)

        return self._app(environ, started)


def find_principal() -> Principal | None:
    """Return who is calling, None for a stranger."""
    return cast("Principal | None", request.environ.get(_PRINCIPAL))


def _principal() -> Principal:
    principal = find_principal()
    if principal is None:
        raise Denied(Cause.NO_CREDENTIAL, "no principal: the view is not protected")
    return principal


current_principal: Principal = cast("Principal", LocalProxy(_principal))
"""Who is calling, in a view that `Auth.required` protects; elsewhere using it is refused with `no_credential`."""


def answer_of(error: KeyfobError) -> Response:
    """Return the problem document of *error*, for the request under way."""
    authorization = [value.encode("latin-1", "replace") for value in request.headers.getlist("Authorization")]
    response = problem(error, refusal_of(request.environ.get(_REQUIREMENT), error, authorization))
    answer = Response(response.body, response.status)
    answer.headers.clear()
    for name, value in _SECURITY.complete(response):
        answer.headers.add(name.decode("latin-1"), value.decode("latin-1"))
    return answer
