"""httpx: a service that calls other services, synchronously or not.

    auth = ServiceAuth(
        "https://auth.example",
        credentials=(client_id, client_secret),
        audience="orders",
        origins="https://orders.internal",
    )
    async with httpx.AsyncClient(base_url="https://orders.internal", auth=auth) as orders:
        await orders.get("/orders")

One of them serves any number of clients, threads and tasks, and should be made once. It fetches the token over a connection of its own, and
never through the client that it authenticates.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator, Iterable

import httpx

from keyfob.base.clock import Clock, SystemClock
from keyfob.integrations.service_calls import Origins, is_worth_a_new_token
from keyfob.integrations.service_tokens import ServiceTokens
from keyfob.integrations.token_client import Credentials, SigningClient, TokenClient

__all__ = ["ServiceAuth", "SigningClient"]


class ServiceAuth(httpx.Auth):
    """Sends the access token of a service to the *origins* that it is for, and to no other.

    It is fetched when first needed, renewed before it ends, and a call that is refused for a reason that a new token helps against is made
    once more with one, where its body can be sent again. A call to another origin raises `ConfigurationError` before anything is sent; a
    redirect to one loses the token, as httpx does with every `Authorization`.
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

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the token with *request*, and once more with another if that helps."""
        self._origins.require(str(request.url))
        token = self._tokens.token()
        response = yield _with(request, token)
        if not self._is_worth(response, request):
            return
        other = self._tokens.token(instead_of=token)
        if other != token:
            yield _with(request, other)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the token with *request*, and once more with another if that helps."""
        self._origins.require(str(request.url))
        token = await self._tokens.token_soon()
        response = yield _with(request, token)
        if not self._is_worth(response, request):
            return
        other = await self._tokens.token_soon(instead_of=token)
        if other != token:
            yield _with(request, other)

    def close(self) -> None:
        """Close the connection to the authority. It is opened again if it is needed."""
        self._client.close()

    def _is_worth(self, response: httpx.Response, request: httpx.Request) -> bool:
        """Say whether the call is to be made again: it was refused by whom the token went to, and its body is still there."""
        if not isinstance(request.stream, httpx.ByteStream) or response.request.url != request.url:
            return False
        headers = response.headers
        return is_worth_a_new_token(
            response.status_code,
            headers.get_list("x-auth-cause"),
            headers.get_list("www-authenticate"),
        )


def _with(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request
