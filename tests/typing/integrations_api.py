"""What a user's type checker sees of the integrations, the synchronous authority and the pytest plugin. It is checked by mypy, and never run.

An unused `type: ignore` is an error too: each of those here says that a mistake is found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import assert_type

import grpc
import httpx
from aiohttp import web
from aiohttp.typedefs import Middleware
from fastapi import FastAPI
from flask import Flask
from flask.testing import FlaskClient
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler

import keyfob
from keyfob import Cause, Issued, Principal, Verifier
from keyfob.accounts.account import Account
from keyfob.authority.api_keys import ApiKeyPage
from keyfob.authority.client_authentication import ClientSecret
from keyfob.authority.machine_tokens import Granted, Wanted
from keyfob.authority.visits import Visit
from keyfob.base.identifiers import SessionId
from keyfob.clients.client import Client
from keyfob.clients.clients import NewClient
from keyfob.integrations import aiohttp, asgi, fastapi, flask, grpc_aio, litestar
from keyfob.integrations import grpc as grpc_threads
from keyfob.integrations.flask_sessions import KeyfobSessions, Session
from keyfob.integrations.former_sessions import FileFormerSessions
from keyfob.integrations.take_over import TakeOver
from keyfob.pytest_plugin.authority_races import AuthorityRaces
from keyfob.pytest_plugin.logging_in import LoggedIn, Login
from keyfob.pytest_plugin.moved_clock import TestClock
from keyfob.pytest_plugin.server import TestServer
from keyfob.revocation.entry import Entry
from keyfob.sessions.session import Session as Row
from keyfob.sessions.store import SessionData
from keyfob.sync import Authority
from keyfob.verifier.blocking_guard import BlockingGuard


def blocks(authority: Authority, principal: Principal) -> None:
    assert_type(authority.accounts.add("alice", "a password", roles=["buyer"]), Account)
    assert_type(authority.accounts.find("alice"), Account | None)
    assert_type(authority.clients.add("orders", scopes=["a"]), NewClient)
    assert_type(authority.clients.get("orders"), Client)
    assert_type(authority.sessions.write_data(SessionId("id"), b"", 0), bool)
    assert_type(authority.write_data("id", b"", version=0), bool)
    assert_type(authority.read_data("id"), SessionData | None)
    assert_type(authority.staleness, float)
    assert_type(authority.policy, keyfob.SessionPolicy)
    assert_type(authority.access_lifetime, timedelta)
    assert_type(authority.call(lambda inner: inner.login("alice")), Issued)
    with authority.sign_in(as_of=0) as attempt:
        assert_type(attempt.login("alice"), Issued)
    causes: list[Cause] = []
    with authority.guard(principal, ended=causes.append) as guard:
        assert_type(guard, BlockingGuard)
        assert_type(guard.cause, Cause | None)
    authority.accounts.add("alice")  # type: ignore[call-arg]
    authority.accounts.add("alice", "a password", role="buyer")  # type: ignore[call-arg]
    authority.write_data("id", "text", version=0)  # type: ignore[arg-type]
    authority.guard(principal)  # type: ignore[call-arg]


async def on_asgi(verifier: Verifier, app: asgi.App, scope: asgi.Scope) -> None:
    auth = asgi.Auth(verifier, origins=["https://app.example"])
    assert_type(auth.protect(app, roles={"payer"}), asgi.App)
    assert_type(asgi.principal_of(scope), Principal)
    assert_type(auth.authority, keyfob.Authority)
    auth.protect(app, role="payer")  # type: ignore[call-arg]


def on_fastapi(verifier: Verifier, app: FastAPI) -> None:
    auth = fastapi.Auth(verifier)
    auth.install(app)
    assert_type(auth.required(scopes={"a"}, max_staleness=timedelta(seconds=3)), fastapi.Dependency)
    assert_type(auth.optional(), fastapi.OptionalDependency)
    auth.required(max_staleness=3)  # type: ignore[arg-type]


def gives_to_machines_and_visitors(authority: Authority) -> None:
    granted = authority.machine_tokens.for_client(
        ClientSecret("orders", "secret"), Wanted(), address="192.0.2.1"
    )
    assert_type(granted, Granted)
    assert_type(authority.machine_tokens.for_api_key("kfk_...", Wanted(audience="orders")), Granted)
    assert_type(authority.api_keys.list("alice"), ApiKeyPage)
    assert_type(authority.visits.begin(persistent=True), Visit)
    assert_type(authority.visits.find("kfa_..."), Row | None)
    authority.machine_tokens.for_client("orders", "secret")  # type: ignore[arg-type]


def on_flask(authority: Authority, app: Flask) -> None:
    auth = flask.Auth(lambda: authority, app)

    @auth.required(roles={"payer"})
    def pay(amount: int) -> str:
        return flask.current_principal.subject

    assert_type(pay(5), str)
    pay("5")  # type: ignore[arg-type]
    assert_type(flask.current_principal, Principal)
    assert_type(flask.find_principal(), Principal | None)
    assert_type(auth.authority, Authority)
    sessions = KeyfobSessions(auth)
    app.session_interface = sessions
    sessions.begin(authority.login("alice"))
    assert_type(sessions.end(devices="all"), Entry | None)
    sessions.end(devices="some")  # type: ignore[arg-type]


def in_a_session(session: Session) -> None:
    assert_type(session.principal, Principal | None)
    assert_type(session.session_id, str | None)
    assert_type(session.modified, bool)


def taking_over(app: Flask, auth: flask.Auth) -> None:
    def subject_of(data: Mapping[str, object]) -> str | None:
        return str(data["user_id"])

    until = datetime(2026, 12, 1, tzinfo=UTC)
    TakeOver(app.wsgi_app, auth, former=FileFormerSessions("sessions"), subject_of=subject_of, until=until)
    TakeOver(app.wsgi_app, auth, former=FileFormerSessions("sessions"), until=until)  # type: ignore[call-arg]


def on_aiohttp(verifier: Verifier, app: web.Application, request: web.Request) -> None:
    auth = aiohttp.Auth(verifier)
    auth.install(app)

    @auth.required(roles={"payer"})
    async def pay(request: web.Request) -> web.StreamResponse:
        return web.Response(text=aiohttp.principal_of(request).subject)

    app.router.add_post("/pay", pay)
    assert_type(auth.protect(roles={"admin"}), Middleware)
    assert_type(aiohttp.find_principal(request), Principal | None)
    assert_type(auth.routes(), list[web.RouteDef])
    auth.required(roles={"payer"}, scope="a")  # type: ignore[call-arg]


def on_litestar(verifier: Verifier) -> Litestar:
    auth = litestar.Auth(verifier)

    @get("/me", guards=[auth.required(max_auth_age=timedelta(minutes=5))])
    async def me(principal: litestar.CurrentPrincipal) -> dict[str, str]:
        assert_type(principal, Principal)
        return {"subject": principal.subject}

    @get("/hello", guards=[auth.optional()])
    async def hello(optional_principal: litestar.OptionalPrincipal) -> str:
        assert_type(optional_principal, Principal | None)
        return "hello"

    assert_type(auth.routes(), list[HTTPRouteHandler])
    auth.required(max_auth_age=5)  # type: ignore[arg-type]
    return Litestar([me, hello], plugins=[auth])


async def on_grpc(verifier: Verifier, opened: keyfob.Authority) -> None:
    auth = grpc_threads.Auth(verifier, methods={"/shop.Orders/Pay": {"roles": {"payer"}}}, public={"/a.B/"})
    assert_type(auth.interceptor(), grpc_threads.Interceptor)
    assert_type(grpc_threads.current_principal(), Principal)
    assert_type(auth.source, Verifier | Authority)
    grpc_threads.Auth(verifier, methods={"/shop.Orders/Pay": {"role": "payer"}})  # type: ignore[typeddict-unknown-key]
    on_a_loop = grpc_aio.Auth(opened)
    assert_type(on_a_loop.interceptor(), grpc_aio.Interceptor)
    assert_type(on_a_loop.authority, keyfob.Authority)
    async with on_a_loop.lifespan():
        grpc.aio.server(interceptors=[on_a_loop.interceptor()])


def in_tests(keyfob_login: Login, keyfob_clock: TestClock, keyfob_server: TestServer, app: Flask) -> None:
    alice = keyfob_login("alice", roles=["payer"], strategy="jwt")
    assert_type(alice, LoggedIn)
    assert_type(alice.headers, dict[str, str])
    with httpx.Client() as client:
        assert_type(alice.into(client), httpx.Client)
    assert_type(alice.into(app.test_client()), FlaskClient)
    assert_type(alice.principal, Principal)
    assert_type(keyfob_clock.advance(5), datetime)
    assert_type(keyfob_server.follow(audience="orders"), Verifier)
    assert_type(keyfob_server.url, str)
    assert_type(AuthorityRaces.rounds, int)
    keyfob_login("alice", role="payer")  # type: ignore[call-arg]


async def streams(verifier: Verifier, principal: Principal) -> AsyncIterator[str]:
    async with verifier.guard(principal):
        yield principal.subject


def holds(authority: Authority, principal: Principal) -> AbstractContextManager[BlockingGuard]:
    return authority.guard(principal, ended=print)
