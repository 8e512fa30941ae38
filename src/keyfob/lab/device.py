"""A client of the lab: what a device holds of one login, what can be copied from it, and how either is presented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import urllib3

from keyfob.lab.processes import LabFailed
from keyfob.lab.setups import SetUp

CALL_SECONDS = 20.0
CredentialKind = Literal["session token", "access token", "refresh token"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret text, and what it is."""

    kind: CredentialKind
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, its body where that is a JSON object, and the cookies that it sets."""

    status: int
    body: Mapping[str, object]
    cookies: Mapping[str, str]

    @property
    def code(self) -> str:
        """The cause of a refusal, empty for none."""
        return str(self.body.get("code", "")) if self.status >= 400 else ""

    @property
    def accepted(self) -> bool:
        """Whether the request was carried out."""
        return self.status < 300


class Device:
    """One device. *agent* is what it calls itself. May be used from several threads, but for logging in and refreshing."""

    def __init__(self, setup: SetUp, shop: str, *, agent: str = "the user") -> None:
        self.setup = setup
        self.shop = shop
        self.subject = ""
        self.held: dict[CredentialKind, str] = {}
        self._csrf = ""
        self._agent = agent
        self._pool = urllib3.PoolManager(retries=False, timeout=CALL_SECONDS, maxsize=16)

    def log_in(self, name: str, password: str) -> None:
        """Sign in for the shop and its services.

        Raises:
            LabFailed: it is refused.
        """
        body: dict[str, object] = {"username": name, "password": password}
        if self.setup.is_keyfob:
            transport = "body" if self.setup.design == "session" else "cookie"
            body |= {"strategy": self.setup.design, "audience": [self.shop, "shop"], "transport": transport}
        reply = self.request("POST", f"{self.shop}/login", body=body)
        if not reply.accepted:
            raise LabFailed(f"{self.setup.name}: {name} cannot log in: {reply.status} {reply.code}")
        self.held = {}
        self.subject = str(reply.body.get("subject", name))
        self.keep(reply)

    def keep(self, reply: Reply) -> None:
        """Hold what an answer gives."""
        given: dict[CredentialKind, object] = {
            "access token": reply.body.get("access_token"),
            "session token": reply.body.get("session_token") or reply.cookies.get(self.setup.session_cookie),
            "refresh token": reply.cookies.get(self.setup.refresh_cookie),
        }
        self.held |= {kind: str(value) for kind, value in given.items() if value}
        if "csrf_token" in reply.body:
            self._csrf = str(reply.body["csrf_token"])

    def credentials(self) -> list[Credential]:
        """Return everything that could be copied from this device now."""
        return [Credential(kind, value) for kind, value in self.held.items()]

    @property
    def main(self) -> Credential:
        """The credential that requests carry."""
        kind: CredentialKind = "access token" if self.setup.has_access_token else "session token"
        return Credential(kind, self.held[kind])

    def call(self, url: str, path: str = "/orders", *, credential: Credential | None = None) -> Reply:
        """Call a service with the present credential, or with another."""
        return self.request("GET", url + path, headers=self.headers(credential or self.main))

    def present(self, credential: Credential, url: str) -> Reply:
        """Present *credential* where it is good for something: a refresh token at the shop, any other at *url*."""
        if credential.kind == "refresh token":
            return self.refresh(credential.value)
        return self.call(url, credential=credential)

    def refresh(self, refresh_token: str | None = None) -> Reply:
        """Refresh with the present refresh token, and keep what it gives; or with another, as a thief would, and keep nothing."""
        token = refresh_token or self.held["refresh token"]
        headers = {"Cookie": f"{self.setup.refresh_cookie}={token}", "Origin": self.shop}
        reply = self.request("POST", f"{self.shop}/refresh", headers=headers)
        if refresh_token is None and reply.accepted:
            self.keep(reply)
        return reply

    def log_out(self) -> Reply:
        """Sign out, as the page of the set-up does: with everything that it holds."""
        headers = self.headers(self.main)
        if "refresh token" in self.held:
            headers["Cookie"] = f"{self.setup.refresh_cookie}={self.held['refresh token']}"
        headers |= {"Origin": self.shop, "X-CSRF-Token": self._csrf}
        return self.request("POST", f"{self.shop}/logout", headers=headers, body={})

    def headers(self, credential: Credential) -> dict[str, str]:
        """Return the headers that present *credential* to a service: a textbook session by its cookie, all others as Bearer."""
        if credential.kind == "session token" and not self.setup.is_keyfob:
            return {"Cookie": f"{self.setup.session_cookie}={credential.value}"}
        return {"Authorization": f"Bearer {credential.value}"}

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | bytes | None = None,
    ) -> Reply:
        """Send one request.

        Raises:
            LabFailed: nobody answers.
        """
        sent = {"User-Agent": self._agent, **(headers or {})}
        if isinstance(body, Mapping):
            sent["Content-Type"] = "application/json"
            body = msgspec.json.encode(body)
        try:
            answer = self._pool.request(method, url, headers=sent, body=body)
        except urllib3.exceptions.HTTPError as error:
            raise LabFailed(f"{self.setup.name}: {method} {url}: {type(error).__name__}") from None
        return Reply(answer.status, _object(answer.data), _cookies(answer))

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


def _object(raw: bytes) -> Mapping[str, object]:
    try:
        decoded: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _cookies(answer: urllib3.BaseHTTPResponse) -> Mapping[str, str]:
    """Read the cookies that were set; by hand, since a cookie jar does not send Secure cookies to http://127.0.0.1."""
    pairs = (line.split(";", 1)[0].split("=", 1) for line in answer.headers.getlist("Set-Cookie"))
    return {name: value for name, value in pairs if value}
