"""How a client says that it is itself: by a secret, by an assertion signed with a key of its own; a public one only by its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from keyfob.accounts.throttle import Throttle
from keyfob.base.errors import Denied
from keyfob.clients.assertion import claimed_client
from keyfob.clients.client import Client
from keyfob.clients.clients import Clients


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A client's id and secret, by HTTP Basic or in a form (RFC 6749, section 2.3.1)."""

    client_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientAssertion:
    """An assertion that a client signed (RFC 7523, section 2.2), and the client that the request names beside it, if any."""

    assertion: str = field(repr=False)
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClientName:
    """The id of a public client, which has nothing to prove itself with (RFC 6749, section 3.2.1)."""

    client_id: str


ClientCredentials = ClientSecret | ClientAssertion | ClientName


class ClientAuthentication:
    """Authenticates clients, and slows down whoever is wrong again and again."""

    def __init__(self, clients: Clients, throttle: Throttle, *, issuer: str) -> None:
        self._clients = clients
        self._throttle = throttle
        self._issuer = issuer

    async def authenticate(self, credentials: ClientCredentials, *, address: str) -> Client:
        """Return the client whose *credentials* these are; *address* is where they come from, empty where that is not known.

        Raises:
            Denied: `bad_credentials`.
            RateLimited: they are wrong, and too many were before (`Throttle.count_failure`).
        """
        try:
            match credentials:
                case ClientSecret(client_id, secret):
                    return await self._clients.authenticate(client_id, secret)
                case ClientAssertion(assertion, named):
                    return await self._clients.authenticate_assertion(
                        assertion, issuer=self._issuer, client_id=named
                    )
                case ClientName(client_id):
                    return await self._clients.named(client_id)
                case _:
                    assert_never(credentials)
        except Denied:
            await self._throttle.count_failure(_name(credentials), address)
            raise


def _name(credentials: ClientCredentials) -> str:
    if isinstance(credentials, ClientAssertion):
        return claimed_client(credentials.assertion) or ""
    return credentials.client_id
