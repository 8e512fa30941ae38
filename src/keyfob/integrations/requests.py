"""requests: a service that calls other services.

    orders = requests.Session()
    orders.auth = ServiceAuth(
        "https://auth.example",
        credentials=(client_id, client_secret),
        audience="orders",
        origins="https://orders.internal",
    )
    orders.get("https://orders.internal/orders")

One of them serves any number of sessions and threads, and should be made once. It fetches the token over a connection of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import urljoin

import requests
from requests.auth import AuthBase

from keyfob.base.clock import Clock, SystemClock
from keyfob.integrations.service_calls import Origins, is_worth_a_new_token, origin_of
from keyfob.integrations.service_tokens import ServiceTokens
from keyfob.integrations.token_client import Credentials, SigningClient, TokenClient

__all__ = ["ServiceAuth", "SigningClient"]
_SCHEME = "Bearer "


class ServiceAuth(AuthBase):
    """Sends the access token of a service to the *origins* that it is for, and to no other.

    It is fetched when first needed, renewed before it ends, and a call that is refused for a reason that a new token helps against is made
    once more with one, where its body can be sent again. A call to another origin raises `ConfigurationError` before anything is sent; a
    redirect to another one loses the token.
    """

    def __init__(
        self,
        issuer: str,
        *,
        credentials: Credentials,
        origins: str | Iterable[str],
        audience: str | None = None,
        scopes: Collection[str] = (),
        ca: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take the authority and what to ask it for; without *audience* or *scopes*, whatever is granted to the client.

        *credentials* are a client's id and secret, a `SigningClient`, or an API key. *ca* is a file of certificates to trust at the authority.

        Raises:
            ConfigurationError: something does not fit. Nobody is asked yet.
        """
        ticking = clock or SystemClock()
        self._origins = Origins(origins)
        self._client = TokenClient(
            issuer, credentials, audience=audience, scopes=scopes, ca=ca, clock=ticking
        )
        self._tokens = ServiceTokens(self._client.fetch, clock=ticking)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Send the token with *request*.

        Raises:
            ConfigurationError: it goes to another origin.
            KeyfobError: there is no token to be had.
        """
        self._origins.require(request.url or "")
        request.headers["Authorization"] = _SCHEME + self._tokens.token()
        request.register_hook("response", self._answered)
        return request

    def close(self) -> None:
        """Close the connection to the authority. It is opened again if it is needed."""
        self._client.close()

    def _answered(self, response: requests.Response, **options: Any) -> requests.Response:
        """Take the token from what is redirected elsewhere, and make a call once more that a new token helps."""
        request = response.request
        location = response.headers.get("Location")
        if response.is_redirect and location is not None:
            target = urljoin(response.url, location)
            if origin_of(target) != origin_of(response.url):
                request.headers.pop("Authorization", None)
            return response
        sent = str(request.headers.get("Authorization", "")).removeprefix(_SCHEME)
        if not sent or not self._is_worth(response):
            return response
        other = self._tokens.token(instead_of=sent)
        if other == sent:
            return response
        response.content  # noqa: B018 - read to its end, so that the connection can be used again
        response.close()
        again = request.copy()
        again.headers["Authorization"] = _SCHEME + other
        answer: requests.Response = response.connection.send(again, **options)
        answer.history.append(response)
        answer.request = again
        return answer

    def _is_worth(self, response: requests.Response) -> bool:
        """Say whether the call is to be made again: it was refused by whom the token may go to, and its body is still there."""
        body = response.request.body
        if not isinstance(body, str | bytes | None) or not self._origins.allows(response.request.url or ""):
            return False
        causes, challenges = (
            [response.headers[name]] if name in response.headers else []
            for name in ("X-Auth-Cause", "WWW-Authenticate")
        )
        return is_worth_a_new_token(response.status_code, causes, challenges)
