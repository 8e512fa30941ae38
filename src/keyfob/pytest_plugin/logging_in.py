"""A logged-in client in one line, whatever the framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar, Unpack, cast

from keyfob.authority.issued import Issued
from keyfob.authority.sign_in import LoginOptions
from keyfob.base.principal import Principal
from keyfob.sync import Authority

C = TypeVar("C")


class _Headers(Protocol):
    def update(self, headers: dict[str, str], /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """One login of a test."""

    authority: Authority = field(repr=False)
    issued: Issued

    @property
    def token(self) -> str:
        """The credential of requests: the session token, or the access token."""
        return self.issued.session_token or self.issued.access_token or ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request that carries it."""
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that a browser would have: none of strategy `jwt`."""
        held = {"__Host-session": self.issued.session_token, "__Host-refresh": self.issued.refresh_token}
        return {name: token for name, token in held.items() if token is not None}

    @property
    def csrf_token(self) -> str:
        """What a page sends as `X-CSRF-Token`."""
        return self.authority.csrf_token(self.issued.session_id)

    @property
    def principal(self) -> Principal:
        """Who this is, as the authority sees it now.

        Raises:
            Denied: the login is over, or its claims are stale.
        """
        return self.authority.authenticate(self.token)

    def into(self, client: C) -> C:
        """Let *client* send the credential with every request from now on, and return it.

        It may be a client of httpx, requests or Starlette, and the test client of Flask, Django or Litestar.

        Raises:
            TypeError: it is none of these: use `headers`.
        """
        for attribute, name in (
            ("environ_base", "HTTP_AUTHORIZATION"),
            ("defaults", "HTTP_AUTHORIZATION"),
            ("headers", "Authorization"),
        ):
            headers = getattr(client, attribute, None)
            if hasattr(headers, "update"):
                cast("_Headers", headers).update({name: f"Bearer {self.token}"})
                return client
        raise TypeError(f"{type(client).__name__} keeps no headers: send LoggedIn.headers with each request")

    def log_out(self) -> None:
        """End the session, as the user would."""
        self.authority.logout(self.issued.refresh_token or self.token)


class Login:
    """Logs subjects in at the authority of a test."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def __call__(self, subject: str = "alice", **options: Unpack[LoginOptions]) -> LoggedIn:
        """Log *subject* in; the options are those of `Authority.login`."""
        return LoggedIn(authority=self._authority, issued=self._authority.login(subject, **options))
