"""One route of a framework, guarded by Keyfob or by nothing: `python -m benchmarks.framework_server fastapi guarded` prints its port when it is ready.

Both have the same layers: what Keyfob's side does in a dependency, a middleware or a decorator is beside one that does nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import uvicorn
from gunicorn.app.base import BaseApplication

from keyfob import Principal, Verifier

THREADS = 4
GUARDED, PLAIN = "guarded", "plain"
FRAMEWORKS = ("fastapi", "django", "flask")


def verifier() -> Verifier:
    """Return a verifier that follows the authority of the environment."""
    return Verifier.follow(
        os.environ["ISSUER"],
        audience=os.environ["ISSUER"],
        credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    )


def fastapi_app(kind: str) -> Any:
    """Return a FastAPI application: a route with a dependency."""
    from fastapi import Depends, FastAPI

    from keyfob.integrations.fastapi import Auth

    async def nothing() -> None:
        return None

    if kind == PLAIN:
        app = FastAPI()
        dependency: Any = nothing
    else:
        auth = Auth(verifier())
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)
        dependency = auth.required()

    async def orders(_user: Annotated[Principal | None, Depends(dependency)]) -> dict[str, str]:
        return {"orders": "none"}

    orders.__annotations__ = {"_user": Annotated[Any, Depends(dependency)], "return": dict[str, str]}
    app.get("/orders", response_model=None)(orders)
    return app


def flask_app(kind: str) -> Any:
    """Return a Flask application: a view with a decorator."""
    from flask import Flask

    from keyfob.integrations.flask import Auth

    app = Flask(__name__)
    guard = _decorated if kind == PLAIN else Auth(verifier(), app).required()

    @app.get("/orders")
    @guard
    def orders() -> dict[str, str]:
        return {"orders": "none"}

    return app


def _decorated(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def called(*arguments: Any, **named: Any) -> Any:
        return view(*arguments, **named)

    return called


def django_app(kind: str) -> Any:
    """Return a Django application: a view behind a middleware."""
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    guarded = {
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "keyfob.integrations.django",
        ],
        "MIDDLEWARE": ["keyfob.integrations.django.middleware.KeyfobMiddleware"],
        "KEYFOB": {"SOURCE": verifier},
    }
    plain = {
        "INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes"],
        "MIDDLEWARE": ["benchmarks.framework_server.nothing"],
    }

    def orders(_request: HttpRequest) -> JsonResponse:
        answer = JsonResponse({"orders": "none"})
        answer["Content-Length"] = str(len(answer.content))  # what Django's CommonMiddleware would do
        return answer

    settings.configure(
        SECRET_KEY=os.urandom(16).hex(),
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        **(plain if kind == PLAIN else guarded),
    )
    django.setup()
    view = orders
    if kind == GUARDED:
        from keyfob.integrations.django import required

        view = required()(orders)
    globals()["urlpatterns"] = [path("orders", view)]
    return get_wsgi_application()


def nothing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a middleware of Django that does nothing."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


class _Gunicorn(BaseApplication):  # type: ignore[misc]  # no types of its own
    """One worker with a few threads, as Flask and Django are often run."""

    def __init__(self, make: Callable[[], Any], listening: socket.socket) -> None:
        self._make = make
        self._listening = listening
        super().__init__()

    def load_config(self) -> None:
        for name, value in {
            "bind": f"fd://{self._listening.fileno()}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": THREADS,
            "keepalive": 60,
            "loglevel": "error",
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._make()


def main(framework: str, kind: str) -> None:
    """Serve until told to stop."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        if framework == "fastapi":
            config = uvicorn.Config(
                fastapi_app(kind), loop="uvloop", http="httptools", log_level="error", access_log=False
            )
            uvicorn.Server(config).run(sockets=[listening])
            return
        make = {"flask": flask_app, "django": django_app}[framework]
        _Gunicorn(lambda: make(kind), listening).run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
