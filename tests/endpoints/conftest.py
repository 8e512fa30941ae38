"""A whole application on a memory store, and a client that sends exactly the bytes that it is told to."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from keyfob.accounts.account import Account
from keyfob.accounts.passwords import PasswordPolicy
from keyfob.authority.authority import Authority
from keyfob.http.forwarded import TrustedProxies
from keyfob.server.app import App
from keyfob.server.build import application
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "https://auth.example"
PASSWORD = "correct horse battery"


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def code(self) -> str:
        return self.json()["code"]

    def cookies(self) -> dict[str, str]:
        """What the browser holds afterwards: name and value of every cookie that is set and not cleared."""
        pairs = (value.split(";")[0].partition("=") for value in self.all("set-cookie"))
        return {name: value for name, _, value in pairs if value}

    def cleared(self) -> set[str]:
        return {value.partition("=")[0] for value in self.all("set-cookie") if "Max-Age=0" in value}


class Desk:
    """The application and its authority, with the moves that tests make."""

    def __init__(self, app: App, authority: Authority, clock: FrozenClock) -> None:
        self.app = app
        self.authority = authority
        self.clock = clock

    async def ask(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        body: bytes | None = None,
        headers: dict[str, str | bytes] | list[tuple[bytes, bytes]] | None = None,
        cookie: str | None = None,
        bearer: str | None = None,
        basic: tuple[str, str] | None = None,
        own_page: bool = True,
        query: bytes = b"",
        peer: str = "203.0.113.7",
    ) -> Answer:
        raw = _raw(headers)
        names = {name for name, _ in raw}
        if json_body is not None:
            body = json.dumps(json_body).encode()
            raw.append((b"content-type", b"application/json"))
        if cookie is not None:
            raw.append((b"cookie", cookie.encode()))
        if bearer is not None:
            raw.append((b"authorization", f"Bearer {bearer}".encode()))
        if basic is not None:
            raw.append((b"authorization", b"Basic " + base64.b64encode(":".join(basic).encode())))
        if own_page and not names & {b"sec-fetch-site", b"origin"}:
            raw.append((b"sec-fetch-site", b"same-origin"))
        path, _, in_path = path.partition("?")
        return await call(
            self.app, method, path, raw, query=query or in_path.encode(), body=body or b"", peer=peer
        )

    async def user(
        self, name: str = "alice", *, password: str = PASSWORD, roles: tuple[str, ...] = ()
    ) -> Account:
        return await self.authority.accounts.add(name, password, roles=roles)

    async def login(self, name: str = "alice", **fields: Any) -> Answer:
        answer = await self.ask(
            "POST", "/login", json_body={"username": name, "password": PASSWORD, **fields}
        )
        assert answer.status == 200, answer.body
        return answer

    async def cookie(self, name: str = "alice", **fields: Any) -> str:
        """Sign in and return the Cookie header that the browser sends from then on."""
        return "; ".join(
            f"{key}={value}" for key, value in (await self.login(name, **fields)).cookies().items()
        )

    async def access_token(self, name: str = "alice", **fields: Any) -> str:
        return (await self.login(name, **{"strategy": "jwt", **fields})).json()["access_token"]

    async def admin(self) -> str:
        """Return the access token of an administrator."""
        await self.user("root", roles=("keyfob:admin",))
        return await self.access_token("root")

    async def client(self, client_id: str, *scopes: str, audiences: tuple[str, ...] = ()) -> tuple[str, str]:
        added = await self.authority.clients.add(client_id, scopes=scopes, audiences=audiences)
        return client_id, added.secret

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.authority.feed.beat()

    async def position(self) -> int:
        return (await self.authority.store.feed.head()).position


def _raw(headers: dict[str, str | bytes] | list[tuple[bytes, bytes]] | None) -> list[tuple[bytes, bytes]]:
    if isinstance(headers, dict):
        return [
            (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in headers.items()
        ]
    return list(headers or [])


async def call(
    app: App,
    method: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
    *,
    query: bytes = b"",
    body: bytes = b"",
    peer: str = "203.0.113.7",
    raw_path: bytes | None = None,
) -> Answer:
    from urllib.parse import unquote

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": raw_path if raw_path is not None else path.encode(),
        "query_string": query,
        "headers": headers,
        "client": (peer, 1234),
    }
    events = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["type"] == "http.response.start"
    assert all(isinstance(part, bytes) for pair in sent[0]["headers"] for part in pair)
    assert not sent[-1].get("more_body", False)
    return Answer(
        sent[0]["status"],
        [(name.decode(), value.decode("latin-1")) for name, value in sent[0]["headers"]],
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    clock = FrozenClock()
    authority = await Authority.open(
        "memory://",
        issuer=ISSUER,
        clock=clock,
        passwords=PasswordPolicy(memory_kib=8, iterations=1, threads=1),
    )

    async def opened() -> Authority:
        return authority

    app = application(opened, issuer=ISSUER, proxies=TrustedProxies.parse(["10.0.0.0/8"]))
    await app.start()
    yield Desk(app, authority, clock)
    await app.stop()
