"""One peer in Python: `python python_server.py flask_session 6379` prints its port. POST /login?user=NAME signs somebody in, GET /me says who it is.

It runs in an environment of its own, without Keyfob. Each peer is set up as its documentation says; where it has a choice, the faster one.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

THREADS = 4
PASSWORD = "a long phrase nobody guesses"


def flask_session(redis_port: int) -> Any:
    """Flask with Flask-Session on Redis."""
    from flask import Flask, request, session
    from flask_session import Session
    from redis import Redis

    app = Flask(__name__)
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis(port=redis_port))
    Session(app)

    @app.post("/login")
    def login() -> dict[str, str]:
        session["user"] = request.args["user"]
        return {}

    @app.get("/me")
    def me() -> tuple[dict[str, str], int]:
        return ({"user": session["user"]}, 200) if "user" in session else ({}, 401)

    return app


def flask_jwt_extended(_redis_port: int) -> Any:
    """Flask with flask-jwt-extended, ES256."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )
    from flask import Flask, request
    from flask_jwt_extended import JWTManager, create_access_token, get_jwt_identity, jwt_required

    key = ec.generate_private_key(ec.SECP256R1())
    app = Flask(__name__)
    app.config.update(
        JWT_ALGORITHM="ES256",
        JWT_PRIVATE_KEY=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        JWT_PUBLIC_KEY=key.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        JWT_ACCESS_TOKEN_EXPIRES=7200,
    )
    JWTManager(app)

    @app.post("/login")
    def login() -> dict[str, str]:
        return {"token": create_access_token(identity=request.args["user"])}

    @app.get("/me")
    @jwt_required()
    def me() -> dict[str, str]:
        return {"user": get_jwt_identity()}

    return app


def django_db(redis_port: int) -> Any:
    """Django with sessions in its database, SQLite."""
    return _django(redis_port, engine="django.contrib.sessions.backends.db")


def django_cached_db(redis_port: int) -> Any:
    """Django with sessions in its database and a cache of them in Redis."""
    return _django(redis_port, engine="django.contrib.sessions.backends.cached_db")


def _django(redis_port: int, *, engine: str) -> Any:
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    settings.configure(
        SECRET_KEY=os.urandom(16).hex(),
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
        MIDDLEWARE=[
            "django.middleware.common.CommonMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(Path(tempfile.mkdtemp(prefix="keyfob-peer-", dir=Path.cwd())) / "peer.db"),
                "CONN_MAX_AGE": None,
            }
        },
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": f"redis://127.0.0.1:{redis_port}",
            }
        },
        SESSION_ENGINE=engine,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth import login as sign_in
    from django.contrib.auth.models import User
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    def login(request: HttpRequest) -> JsonResponse:
        user, _ = User.objects.get_or_create(username=request.GET["user"])
        sign_in(request, user, backend="django.contrib.auth.backends.ModelBackend")
        return JsonResponse({})

    def me(request: HttpRequest) -> JsonResponse:
        if not request.user.is_authenticated:
            return JsonResponse({}, status=401)
        return JsonResponse({"user": request.user.get_username()})

    globals()["urlpatterns"] = [path("login", login), path("me", me)]
    return get_wsgi_application()


def starsessions_redis(redis_port: int) -> Any:
    """Starlette with starsessions on Redis."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.stores.redis import RedisStore

    async def login(request: Request) -> JSONResponse:
        request.session["user"] = request.query_params["user"]
        return JSONResponse({})

    async def me(request: Request) -> JSONResponse:
        user = request.session.get("user")
        return JSONResponse({"user": user}, 200 if user else 401)

    return Starlette(
        routes=[Route("/login", login, methods=["POST"]), Route("/me", me)],
        middleware=[
            Middleware(
                SessionMiddleware,
                store=RedisStore(f"redis://127.0.0.1:{redis_port}", gc_ttl=86_400),
                lifetime=86_400,
                rolling=False,
                cookie_https_only=False,
            ),
            Middleware(SessionAutoloadMiddleware),
        ],
    )


def starlette_signed_cookie(_redis_port: int) -> Any:
    """Starlette with its own signed cookie: nothing can be revoked."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.sessions import SessionMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def login(request: Request) -> JSONResponse:
        request.session["user"] = request.query_params["user"]
        return JSONResponse({})

    async def me(request: Request) -> JSONResponse:
        user = request.session.get("user")
        return JSONResponse({"user": user}, 200 if user else 401)

    return Starlette(
        routes=[Route("/login", login, methods=["POST"]), Route("/me", me)],
        middleware=[Middleware(SessionMiddleware, secret_key=os.urandom(16).hex())],
    )


def fastapi_users_jwt(_redis_port: int) -> Any:
    """FastAPI with fastapi-users: a JWT, and the user's row for each request."""
    import uuid
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    from fastapi import Depends, FastAPI
    from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
    from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlalchemy.orm import DeclarativeBase

    class Base(DeclarativeBase):
        pass

    class User(SQLAlchemyBaseUserTableUUID, Base):
        pass

    folder = tempfile.mkdtemp(prefix="keyfob-peer-", dir=Path.cwd())
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/peer.db")
    opened = async_sessionmaker(engine, expire_on_commit=False)
    secret = os.urandom(32).hex()

    async def users() -> Any:
        async with opened() as session:
            yield SQLAlchemyUserDatabase(session, User)

    class Manager(UUIDIDMixin, BaseUserManager[Any, uuid.UUID]):
        reset_password_token_secret = verification_token_secret = secret

    async def manager(database: Annotated[Any, Depends(users)]) -> AsyncIterator[Any]:
        yield Manager(database)

    def strategy() -> Any:
        return JWTStrategy(secret=secret, lifetime_seconds=7200)

    backend: Any = AuthenticationBackend(
        name="jwt", transport=BearerTransport(tokenUrl="login"), get_strategy=strategy
    )
    current = FastAPIUsers(manager, [backend]).current_user(active=True)

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    async def login(user: str) -> dict[str, str]:
        async with opened() as session:
            made = User(email=f"{user}@peers.example", hashed_password="none", is_active=True)
            session.add(made)
            await session.commit()
        return {"token": await strategy().write_token(made)}

    async def me(user: Annotated[Any, Depends(current)]) -> dict[str, str]:
        return {"user": user.email}

    # The annotations are text here, of names that are only known in this function.
    manager.__annotations__ = {"database": Annotated[Any, Depends(users)]}
    me.__annotations__ = {"user": Annotated[Any, Depends(current)], "return": dict[str, str]}
    app.post("/login")(login)
    app.get("/me")(me)
    return app


WSGI: dict[str, Callable[[int], Any]] = {
    "flask_session": flask_session,
    "flask_jwt_extended": flask_jwt_extended,
    "django_db": django_db,
    "django_cached_db": django_cached_db,
}
ASGI: dict[str, Callable[[int], Any]] = {
    "starsessions": starsessions_redis,
    "starlette_signed_cookie": starlette_signed_cookie,
    "fastapi_users_jwt": fastapi_users_jwt,
}


def main(peer: str, redis_port: int) -> None:
    """Serve until told to stop."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        if peer in ASGI:
            import uvicorn

            config = uvicorn.Config(
                ASGI[peer](redis_port), loop="uvloop", http="httptools", log_level="error", access_log=False
            )
            uvicorn.Server(config).run(sockets=[listening])
            return
        from gunicorn.app.base import BaseApplication

        class Gunicorn(BaseApplication):  # type: ignore[misc]  # no types of its own
            def load_config(self) -> None:
                for name, value in {
                    "bind": f"fd://{listening.fileno()}",
                    "workers": 1,
                    "worker_class": "gthread",
                    "threads": THREADS,
                    "keepalive": 60,
                    "loglevel": "error",
                }.items():
                    self.cfg.set(name, value)

            def load(self) -> Any:
                return WSGI[peer](redis_port)

        Gunicorn().run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
