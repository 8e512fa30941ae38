"""A client and a browser at the authorization endpoint: the moves that tests make."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from keyfob.clients.registration import Registration
from keyfob.grants.pkce import challenge_of

FORM = {"content-type": "application/x-www-form-urlencoded"}
ISSUER = "https://auth.example"
CALLBACK = "https://shop.example/signed-in"
VERIFIER = "v" * 43
PASSWORD = "correct horse battery"


def asking(client_id: str = "shop", **changes: str | None) -> dict[str, str]:
    """Return the parameters of a request that is in order, with *changes*; None leaves one out."""
    parameters: dict[str, str | None] = {
        "client_id": client_id,
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": "orders:read",
        "state": "st4te",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        **changes,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def answered(answer: Any) -> tuple[str, dict[str, str]]:
    """Return where an answer leads, and what it carries there."""
    assert answer.status == 303, answer.body
    target = urlsplit(answer.header("location"))
    carried = parse_qsl(target.query, strict_parsing=True)
    assert len(dict(carried)) == len(carried)
    assert not target.fragment
    return target._replace(query="").geturl(), dict(carried)


@dataclass
class Browser:
    """A browser with cookies, which follows no redirect of its own accord."""

    desk: Any
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        if self.cookies:
            options["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.desk.ask(method, path, **options)
        for name in answer.cleared():
            self.cookies.pop(name, None)
        self.cookies.update(
            (name, value) for name, value in answer.cookies().items() if name not in answer.cleared()
        )
        return answer

    async def get(self, path: str, **options: Any) -> Any:
        return await self.ask("GET", path, own_page=False, **options)

    async def authorize(self, parameters: Any = None, **options: Any) -> Any:
        query = urlencode(asking() if parameters is None else parameters)
        return await self.get(f"/oauth/authorize?{query}", **options)

    async def submit(self, page: Any, **fields: str) -> Any:
        """Send the form of *page*, with its hidden fields and *fields*."""
        text = page.body.decode()
        action = re.search(r'<form method="post" action="([^"]+)"', text)
        assert action is not None, text
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text)
        known = {name: html.unescape(value) for name, value in hidden}
        body = urlencode({**known, **fields}).encode()
        return await self.ask("POST", action[1], body=body, headers=FORM | {"sec-fetch-site": "same-origin"})

    async def sign_in(self, page: Any, name: str = "alice", password: str = PASSWORD) -> Any:
        return await self.submit(page, username=name, password=password)

    async def login(self, name: str = "alice") -> None:
        """Sign in beforehand, away from any client."""
        self.cookies.update((await self.desk.login(name)).cookies())

    async def code(self, parameters: Any = None) -> str:
        """Return the code for a request of a client that nothing is asked for."""
        _, carried = answered(await self.authorize(parameters))
        return carried["code"]


@dataclass
class Relying:
    """A client, at the token endpoint."""

    desk: Any
    client_id: str
    secret: str | None

    async def post(self, path: str, **fields: str | None) -> Any:
        stated = {name: value for name, value in fields.items() if value is not None}
        options: dict[str, Any] = {}
        if self.secret is None:
            stated.setdefault("client_id", self.client_id)
        else:
            options["basic"] = (self.client_id, self.secret)
        return await self.desk.ask(
            "POST", path, body=urlencode(stated).encode(), headers=FORM, own_page=False, **options
        )

    async def exchange(self, code: str, **changes: str | None) -> Any:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        return await self.post("/oauth/token", **{**fields, "code_verifier": VERIFIER, **changes})

    async def refresh(self, token: str, **fields: str | None) -> Any:
        return await self.post("/oauth/token", grant_type="refresh_token", refresh_token=token, **fields)


async def relying(desk: Any, client_id: str = "shop", **stated: Any) -> Relying:
    """Add a client of the deployment's own, unless *stated* otherwise."""
    options = {name: stated.pop(name) for name in ("scopes", "audiences", "grant_types") if name in stated}
    options.setdefault("scopes", ("orders:read", "orders:write", "openid", "offline_access"))
    registration = Registration(**{"redirect_uris": (CALLBACK,), "first_party": True, **stated})
    added = await desk.authority.clients.add(client_id, registration=registration, **options)
    return Relying(desk, client_id, added.secret)


def refused(answer: Any, error: str, status: int = 400) -> None:
    """See that the token endpoint refuses, and gives nothing."""
    assert (answer.status, answer.json()["error"]) == (status, error), answer.body
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.header("cache-control") == "no-store"
