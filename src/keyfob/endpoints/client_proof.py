"""How a client says who it is in a request to an endpoint of OAuth: HTTP Basic, a secret or an assertion in the form, or its name alone."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.authority.client_authentication import (
    ClientAssertion,
    ClientCredentials,
    ClientName,
    ClientSecret,
)
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.clients.assertion import ASSERTION_TYPE, MAX_ASSERTION
from keyfob.clients.client import Client
from keyfob.endpoints.site import Site
from keyfob.http import bearer
from keyfob.http.messages import HttpRequest

_Text = Annotated[str, Meta(max_length=255)]


class ProofFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a form by which a client says who it is (RFC 6749, section 2.3.1; RFC 7523, section 2.2)."""

    client_id: _Text | None = None
    client_secret: Annotated[str, Meta(max_length=1024)] | None = None
    client_assertion: Annotated[str, Meta(max_length=MAX_ASSERTION)] | None = None
    client_assertion_type: _Text | None = None


PROOF_METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")
"""As metadata calls them (RFC 8414, section 2); that of a public client is `none`."""
PROOF_FIELDS = frozenset(ProofFields.__struct_fields__)


def read_proof(request: HttpRequest, asked: ProofFields) -> ClientCredentials | None:
    """Return how the client says who it is; None if it does not.

    Raises:
        Denied: `bad_credentials` for a header that holds none.
        InvalidRequest: it says it in two ways, or names another client beside (RFC 6749, section 2.3).
    """
    header = bearer.read_basic(request.all(b"authorization"))
    ways = (header, asked.client_secret, asked.client_assertion)
    if sum(way is not None for way in ways) > 1:
        raise InvalidRequest("invalid_request", "A client says who it is in one way.")
    if header is not None:
        if asked.client_id not in {None, header.client_id}:
            raise InvalidRequest("invalid_request", "client_id is another than in the header.")
        return ClientSecret(header.client_id, header.secret)
    if asked.client_secret is not None:
        return ClientSecret(asked.client_id or "", asked.client_secret)
    if (asked.client_assertion is None) != (asked.client_assertion_type is None):
        raise InvalidRequest("invalid_request", "client_assertion and client_assertion_type go together.")
    if asked.client_assertion is None:
        return None if asked.client_id is None else ClientName(asked.client_id)
    if asked.client_assertion_type != ASSERTION_TYPE:
        raise InvalidRequest("invalid_request", f"client_assertion_type must be {ASSERTION_TYPE}.")
    return ClientAssertion(asked.client_assertion, asked.client_id)


async def asking_client(site: Site, request: HttpRequest, asked: ProofFields) -> Client:
    """Return the client that sends *request*; a public one says its name and no more.

    Raises:
        Denied: `no_credential` or `bad_credentials`.
        InvalidRequest: as `read_proof`.
        RateLimited: wrong credentials, and too many were before.
    """
    credentials = read_proof(request, asked)
    if credentials is None:
        raise Denied(Cause.NO_CREDENTIAL, "a client that does not say who it is")
    return await site.authority.client_authentication.authenticate(credentials, address=request.address)


def require_no_query(request: HttpRequest) -> None:
    """Refuse parameters in the address, where logs keep them.

    Raises:
        InvalidRequest: there are some.
    """
    if request.query:
        raise InvalidRequest("invalid_request", "Parameters belong into the body.")
