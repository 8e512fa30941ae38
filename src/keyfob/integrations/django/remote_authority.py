"""The account routes of an authority elsewhere, by HTTP: login and logout on behalf of a user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import urllib3
from django.views.decorators.debug import sensitive_variables

from keyfob.authority.sign_in import Device
from keyfob.base.errors import AuthorityUnavailable

SECONDS: Final = (
    10.0  # for one request: a password takes the authority some tens of milliseconds, and it queues them
)
_REFUSED: Final = frozenset({400, 401, 403, 422, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLogin:
    """Whom the authority has signed in, and the token of the session."""

    subject: str
    session_token: str = field(repr=False)


class _LoginAnswer(msgspec.Struct, frozen=True):
    subject: str
    session_token: str


class RemoteAuthority:
    """Signs users in and out at *issuer*. May be used from any thread; no redirect is followed, nothing tried again."""

    def __init__(self, issuer: str, *, audiences: Iterable[str], ca: str | None = None) -> None:
        self._issuer = issuer
        self._audiences = sorted({issuer, *audiences})
        self._pool = urllib3.PoolManager(
            retries=False, timeout=SECONDS, maxsize=8, ca_certs=ca, cert_reqs="CERT_REQUIRED"
        )

    @sensitive_variables("password")
    def login(self, username: str, password: str, device: Device) -> RemoteLogin | None:
        """Sign in; None for wrong credentials, and after too many wrong ones.

        The device's address counts where the authority trusts this project's address as a proxy's.

        Raises:
            AuthorityUnavailable: it does not answer, or not as an authority does.
        """
        headers = {"User-Agent": device.user_agent or "keyfob-django"}
        if device.address:
            headers["X-Forwarded-For"] = device.address
        response = self._post(
            "/login",
            {
                "username": username,
                "password": password,
                "strategy": "session",
                "transport": "body",
                "audience": self._audiences,
            },
            headers,
        )
        if response.status in _REFUSED:
            return None
        if response.status != 200:
            raise AuthorityUnavailable(f"the login of the authority answered {response.status}")
        try:
            answer = msgspec.json.decode(response.data, type=_LoginAnswer)
        except msgspec.MsgspecError:
            raise AuthorityUnavailable("the login of the authority answered what is no login") from None
        return RemoteLogin(subject=answer.subject, session_token=answer.session_token)

    def logout(self, token: str) -> None:
        """End the session of *token*; one that is over is left alone.

        Raises:
            AuthorityUnavailable: it is not known to be ended.
        """
        response = self._post("/logout", {}, {"Authorization": f"Bearer {token}"})
        if response.status != 204:
            raise AuthorityUnavailable(f"the logout of the authority answered {response.status}")

    def _post(
        self, path: str, body: Mapping[str, object], headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                "POST",
                self._issuer + path,
                body=msgspec.json.encode(body),
                headers={"Content-Type": "application/json", **headers},
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AuthorityUnavailable(f"the authority does not answer: {error}") from None
