"""A client of the demo: one device, with its credentials and its connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import urllib3

from keyfob.demo.processes import SERVICES, DemoFailed, Stage

REFRESH_COOKIE = "__Host-refresh"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, and its body where it is a JSON object."""

    status: int
    body: Mapping[str, object]
    cookies: Mapping[str, str]

    @property
    def code(self) -> str:
        """The cause of a refusal, empty for none."""
        return str(self.body.get("code", "")) if self.status >= 400 else ""


class Device:
    """One device of one user. Access tokens and session tokens travel as Bearer; the hybrid's refresh token in its cookie."""

    def __init__(self, stage: Stage, strategy: str) -> None:
        self._stage = stage
        self._strategy = strategy
        self._pool = urllib3.PoolManager(retries=False, timeout=10.0, maxsize=4)
        self.token = ""
        self.refresh_token = ""

    def log_in(self, name: str, password: str) -> Reply:
        """Sign in for the authority and all three services."""
        body = {
            "username": name,
            "password": password,
            "strategy": self._strategy,
            "audience": [self._stage.authority, *SERVICES],
            "transport": "body" if self._strategy == "session" else "cookie",
        }
        self.token = ""
        return self._keep(self.post("/login", body))

    def refresh(self, refresh_token: str | None = None) -> Reply:
        """Refresh with the present refresh token, or with another, as a thief would."""
        headers = {
            "Cookie": f"{REFRESH_COOKIE}={refresh_token or self.refresh_token}",
            "Origin": self._stage.authority,
        }
        reply = self._request("POST", f"{self._stage.authority}/refresh", headers=headers)
        return reply if refresh_token else self._keep(reply)

    def change_password(self, current: str, new: str) -> Reply:
        """Change the password, and go on with the renewed credentials."""
        return self._keep(self.post("/password", {"current": current, "new": new}))

    def post(self, path: str, body: Mapping[str, object], *, authorized: bool = True) -> Reply:
        """Post JSON to the authority."""
        return self._request("POST", self._stage.authority + path, headers=self._authorization(), body=body)

    def get(self, path: str) -> Reply:
        """Get from the authority."""
        return self._request("GET", self._stage.authority + path, headers=self._authorization())

    def put(self, path: str, body: Mapping[str, object]) -> Reply:
        """Put JSON to the authority."""
        return self._request("PUT", self._stage.authority + path, headers=self._authorization(), body=body)

    def delete(self, path: str) -> Reply:
        """Delete at the authority."""
        return self._request("DELETE", self._stage.authority + path, headers=self._authorization())

    def call(self, service: str, path: str = "/", *, token: str | None = None) -> Reply:
        """Call a service with the present credential, or with another."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return self._request("GET", self._stage.services[service] + path, headers=headers)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _keep(self, reply: Reply) -> Reply:
        if reply.status == 200:
            self.token = str(reply.body.get("access_token") or reply.body.get("session_token"))
            self.refresh_token = reply.cookies.get(REFRESH_COOKIE, "")
        return reply

    def _request(
        self, method: str, url: str, *, headers: dict[str, str], body: Mapping[str, object] | None = None
    ) -> Reply:
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        try:
            answer = self._pool.request(
                method, url, headers=headers, body=msgspec.json.encode(body) if body is not None else None
            )
        except urllib3.exceptions.HTTPError as error:
            raise DemoFailed(f"{method} {url}: {type(error).__name__}") from None
        return Reply(answer.status, _object(answer.data), _cookies(answer))


def _object(raw: bytes) -> Mapping[str, object]:
    try:
        decoded: object = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _cookies(answer: urllib3.BaseHTTPResponse) -> Mapping[str, str]:
    """Read the cookies that were set; by hand, since a cookie jar does not send Secure cookies to http://127.0.0.1."""
    set_cookies = answer.headers.getlist("Set-Cookie")
    pairs = (line.split(";", 1)[0].split("=", 1) for line in set_cookies)
    return {name: value for name, value in pairs if value}


def require(reply: Reply, status: int, doing: str) -> Reply:
    """Return *reply* if it has *status*.

    Raises:
        DemoFailed: it has not.
    """
    if reply.status != status:
        raise DemoFailed(f"{doing}: {reply.status} {reply.code}, expected {status}")
    return reply
