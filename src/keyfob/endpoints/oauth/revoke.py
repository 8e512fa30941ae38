"""`POST /oauth/revoke` (RFC 7009): a client gives back a token of its own, and no verifier takes it any more.

1. No parameter is in the address, none is there twice; one without a value is absent, an unknown one is ignored.
2. The client says who it is, as at the token endpoint; a public one by its name alone, for it holds no more than the token.
3. What the token is, it says itself: a hint is taken and not needed, so a wrong one costs nothing.
4. 200, whatever came of it: unknown, malformed, over, and another client's are one answer.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyfob.base.errors import InvalidRequest
from keyfob.endpoints.bodies import read_oauth_form
from keyfob.endpoints.client_proof import ProofFields, asking_client, require_no_query
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal, oauth_error

PATH = "/oauth/revoke"
MAX_TOKEN = 16_384  # characters; the longest token that is read has about half
_DONE = HttpResponse(status=200, headers=(NO_STORE,))


class RevokeRequest(ProofFields, frozen=True, kw_only=True):
    """`token_type_hint` is taken and not needed: a token says what it is."""

    token: Annotated[str, Meta(max_length=MAX_TOKEN)] | None = None
    token_type_hint: Annotated[str, Meta(max_length=100)] | None = None


async def revoke(site: Site, request: HttpRequest) -> HttpResponse:
    """End the token if it is the caller's own. When the answer comes, the entry is durable; verifiers deny within milliseconds."""
    require_no_query(request)
    asked = await read_oauth_form(request, RevokeRequest)
    client = await asking_client(site, request, asked)
    if asked.token is None:
        raise InvalidRequest("invalid_request", "token is required.")
    await site.authority.token_revocation.revoke(asked.token, client=client)
    return _DONE


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        endpoint=revoke,
        summary="Give a token back: an own one of the client",
        request=RevokeRequest,
        request_type="application/x-www-form-urlencoded",
        response_type="",
        refusal=Refusal(challenge=Challenge.BASIC),
        render_error=oauth_error,
    ),
)
