"""`POST /oauth/token`: access tokens for machines, by client credentials (RFC 6749, section 4.4) or for an API key (RFC 8693).

1. No parameter is in the address, none is there twice; one without a value is absent, an unknown one is ignored.
2. A client says who it is in one way: HTTP Basic, `client_id` and `client_secret`, or `client_assertion` (RFC 7523, section 2.2).
3. `grant_type` is one of those there are.
4. Whatever is granted, with its scopes; nothing of it may be cached.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.authority.machine_tokens import Granted, Wanted
from keyfob.base.errors import Cause, Denied, GrantRefused, InvalidRequest
from keyfob.clients.client import GrantType, is_scope
from keyfob.clients.scopes import MAX_SCOPES
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import read_oauth_form
from keyfob.endpoints.oauth.asking_client import ClientFields, Text, credentials_of, require_no_query
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal, oauth_error

PATH = "/oauth/token"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
API_KEY = "urn:keyfob:token-type:api-key"
_NO_CACHE = (b"pragma", b"no-cache")  # (RFC 6749, section 5.1)


class TokenRequest(ClientFields, frozen=True, kw_only=True):
    """`resource` (RFC 8707) and `audience` (RFC 8693) are two names of one thing here."""

    grant_type: Text | None = None
    scope: Annotated[str, Meta(max_length=8192)] | None = None
    audience: Text | None = None
    resource: Text | None = None
    subject_token: Annotated[str, Meta(max_length=8192)] | None = None
    subject_token_type: Text | None = None
    requested_token_type: Text | None = None
    actor_token: Annotated[str, Meta(max_length=8192)] | None = None
    actor_token_type: Text | None = None


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token, and what is known of it (RFC 6749, section 5.1; RFC 8693, section 2.2.1). `expires_in` is in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str | None = None
    issued_token_type: str | None = None


async def token(site: Site, request: HttpRequest) -> HttpResponse:
    """Give an access token to a client for itself, or for an API key."""
    require_no_query(request)
    asked = await read_oauth_form(request, TokenRequest)
    credentials = credentials_of(request, asked)
    match asked.grant_type:
        case GrantType.CLIENT_CREDENTIALS:
            if credentials is None:
                raise Denied(Cause.NO_CREDENTIAL, "a client that does not say who it is")
            granted = await site.authority.machine_tokens.for_client(
                credentials, _wanted(asked), address=request.address
            )
            return _answer(granted)
        case GrantType.TOKEN_EXCHANGE:
            granted = await site.authority.machine_tokens.for_api_key(
                _subject_token(asked), _wanted(asked), credentials=credentials, address=request.address
            )
            return _answer(granted, issued_token_type=ACCESS_TOKEN)
        case None:
            raise InvalidRequest("invalid_request", "grant_type is required.")
        case _:
            raise GrantRefused("unsupported_grant_type", "There is no such grant type here.")


def _wanted(asked: TokenRequest) -> Wanted:
    if asked.audience and asked.resource and asked.audience != asked.resource:
        raise GrantRefused(
            "invalid_target", "audience and resource differ: ask for one token after the other."
        )
    scopes = None if asked.scope is None else frozenset(asked.scope.split(" "))
    if scopes is not None and (len(scopes) > MAX_SCOPES or not all(map(is_scope, scopes))):
        raise GrantRefused("invalid_scope", "scope is a list of scopes with one space between two.")
    return Wanted(audience=asked.audience or asked.resource, scopes=scopes)


def _subject_token(asked: TokenRequest) -> str:
    """Return the token that is to be exchanged (RFC 8693, section 2.1)."""
    if asked.actor_token is not None or asked.actor_token_type is not None:
        raise GrantRefused("invalid_request", "Nobody acts for another here: no actor_token is taken.")
    if asked.subject_token is None or asked.subject_token_type not in {API_KEY, ACCESS_TOKEN}:
        raise GrantRefused(
            "invalid_request", f"subject_token is an API key, subject_token_type {API_KEY} or {ACCESS_TOKEN}."
        )
    if asked.requested_token_type not in {None, ACCESS_TOKEN, JWT}:
        raise GrantRefused("invalid_request", f"requested_token_type can only be {ACCESS_TOKEN} or {JWT}.")
    return asked.subject_token


def _answer(granted: Granted, *, issued_token_type: str | None = None) -> HttpResponse:
    return json_answer(
        TokenAnswer(
            access_token=granted.token.text,
            token_type="Bearer",
            expires_in=granted.token.expires_in,
            scope=" ".join(sorted(granted.scopes)) or None,
            issued_token_type=issued_token_type,
        ),
        _NO_CACHE,
    )


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        endpoint=token,
        summary="Get an access token: for a client itself, or for an API key",
        request=TokenRequest,
        request_type="application/x-www-form-urlencoded",
        response=TokenAnswer,
        refusal=Refusal(challenge=Challenge.BASIC),
        render_error=oauth_error,
    ),
)
