"""Who takes part: Keyfob's `/check` and its guarded routes, and what a user would pick instead."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from benchmarks import processes
from benchmarks.framework_server import FRAMEWORKS, GUARDED
from benchmarks.peers.contest import HEAD, Peer, cookie_of, post
from benchmarks.processes import START_SECONDS, Program

HERE = Path(__file__).parent
_PYTHON = {
    "flask_session": "Flask + Flask-Session, Redis",
    "flask_jwt_extended": "Flask + flask-jwt-extended, ES256",
    "django_db": "Django sessions, db on SQLite",
    "django_cached_db": "Django sessions, cached_db on Redis",
    "starsessions": "Starlette + starsessions, Redis",
    "starlette_signed_cookie": "Starlette's signed cookie (nothing can be revoked)",
    "fastapi_users_jwt": "fastapi-users, JWT and the user's row in SQLite",
}
_NODE = {
    "express": "Express + connect-redis",
    "better_auth": "better-auth getSession, in memory",
}
_OPAQUE = 43  # characters of one of its tokens
MASTER_KEY = bytes(range(32))


def keyfob(port: int, cookies: Sequence[str], tokens: Sequence[str], secret: str) -> list[Peer]:
    """Return Keyfob's entrants, for a server on *port* that knows these credentials."""

    def started(_folder: Path, _core: int | None) -> Iterator[tuple[int, None]]:
        yield port, None

    def framework(name: str, folder: Path, core: int | None) -> Iterator[tuple[int, Program]]:
        environment = {"ISSUER": f"http://127.0.0.1:{port}", "CLIENT_ID": "orders", "CLIENT_SECRET": secret}
        lines = folder / "keyfob.tokens"
        lines.write_text("\n".join(tokens) + "\n", "ascii")
        with processes.framework_server(folder, core, name, GUARDED, environment, lines) as running:
            yield running

    return [
        Peer(
            name="keyfob_check",
            title="Keyfob GET /check, session",
            start=started,
            sign_in=_one_of(cookies, "Cookie: __Host-session="),
            head="GET /check" + HEAD,
            expected=204,
        ),
        *(
            Peer(
                name=f"keyfob_{name}",
                title=f"{name.capitalize()} + Keyfob, JWT",
                start=partial(framework, name),
                sign_in=_one_of(tokens, "Authorization: Bearer "),
                head="GET /orders" + HEAD,
            )
            for name in FRAMEWORKS
        ),
    ]


def keyfob_on_redis(url: str, issuer: str, cookies: Sequence[str]) -> Peer:
    """Return Keyfob's `/check` on the store at *url* with its cache off: each request reads the session, as those of most peers do."""

    def started(folder: Path, core: int | None) -> Iterator[tuple[int, Program]]:
        environment = {
            "KEYFOB_STORE": url,
            "KEYFOB_ISSUER": issuer,
            "KEYFOB_MASTER_KEY": base64.urlsafe_b64encode(MASTER_KEY).rstrip(b"=").decode(),
            "KEYFOB_CACHE_CAPACITY": "2",  # of hundreds: each check is one of the store
        }
        with processes.keyfob_server(folder, core, environment) as running:
            yield running

    return Peer(
        name="keyfob_check_redis",
        title="Keyfob GET /check, session, Redis, cache off",
        start=started,
        sign_in=_one_of(cookies, "Cookie: __Host-session="),
        head="GET /check" + HEAD,
        expected=204,
    )


def python_peers(python: Path, redis_port: int) -> list[Peer]:
    """Return the peers in Python, run by the interpreter *python* of their environment."""
    return [
        Peer(
            name=name,
            title=title,
            start=partial(_run, [str(python), str(HERE / "python_server.py"), name, str(redis_port)], name),
            sign_in=_with_cookie_or_token,
            proof=b"person-0",
        )
        for name, title in _PYTHON.items()
    ]


def node_peers(node: str, modules: Path, redis_port: int) -> list[Peer]:
    """Return the peers on Node.js; *modules* is a folder with their packages and the script."""
    secret = os.urandom(24).hex()
    script = str(modules / "server.mjs")

    def start(name: str) -> Callable[[Path, int | None], Iterator[tuple[int, Program]]]:
        return partial(_run, [node, script, name, str(redis_port)], name, environment={"PEER_SECRET": secret})

    return [
        *(
            Peer(
                name=name,
                title=title,
                start=start(name),
                sign_in=_with_cookie_or_token,
                proof=b"person-0",
            )
            for name, title in _NODE.items()
        ),
        Peer(
            name="oidc_provider",
            title="oidc-provider introspection, in memory",
            start=start("oidc_provider"),
            sign_in=_introspected,
            head=_introspection(secret),
            suffix="",
            proof=b'"active":true',
            stranger="A" * _OPAQUE,
        ),
    ]


def _run(
    command: Sequence[str],
    name: str,
    folder: Path,
    core: int | None,
    *,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[int, Program]]:
    with processes.running_program(
        command, name=name, folder=folder, core=core, environment=environment
    ) as program:
        yield int(program.line(START_SECONDS)), program


def _one_of(credentials: Sequence[str], head: str) -> Callable[[int, str], str]:
    def sign_in(_port: int, person: str) -> str:
        return head + credentials[int(person.rpartition("-")[2])]

    return sign_in


def _with_cookie_or_token(port: int, person: str) -> str:
    headers, body = post(port, f"/login?user={person}")
    token = json.loads(body).get("token")
    return f"Authorization: Bearer {token}" if token else cookie_of(headers)


def _introspected(port: int, person: str) -> str:
    _, body = post(port, f"/login?user={person}")
    return str(json.loads(body)["access_token"])


def _introspection(secret: str) -> str:
    basic = base64.b64encode(f"peer:{secret}".encode()).decode()
    return (
        "POST /token/introspection HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Basic {basic}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len('token=') + _OPAQUE}\r\n\r\ntoken="
    )
