"""`POST /oauth/token`: access tokens for machines, by client credentials (RFC 6749, section 4.4) or for an API key (RFC 8693); for people who
signed in at a client, by a code (RFC 6749, section 4.1.3), a refresh token (section 6), for a device (RFC 8628) or a hand-off (ADR 0019).

1. No parameter is in the address, none is there twice; one without a value is absent, an unknown one is ignored.
2. A client says who it is in one way (`client_proof`); a public one only names itself.
3. `grant_type` is one of those there are.
4. Whatever is granted, with its scopes; nothing of it may be cached.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.authority.machine_tokens import Granted, Wanted
from keyfob.authority.user_tokens import UserGranted
from keyfob.base.errors import Cause, Denied, GrantRefused, InvalidRequest
from keyfob.clients.client import GrantType, is_scope
from keyfob.clients.redirect_uri import MAX_URI
from keyfob.clients.scopes import MAX_SCOPES
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import read_oauth_form
from keyfob.endpoints.client_proof import ProofFields, read_proof
from keyfob.endpoints.oauth import user_grants
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.grants import target
from keyfob.grants.authorization_code import CodeUse
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal, oauth_error

PATH = "/oauth/token"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
API_KEY = "urn:keyfob:token-type:api-key"
_NO_CACHE = (b"pragma", b"no-cache")  # (RFC 6749, section 5.1)
_Text = Annotated[str, Meta(max_length=255)]


class TokenRequest(ProofFields, frozen=True, kw_only=True):
    """`resource` (RFC 8707) and `audience` (RFC 8693) are two names of one thing here."""

    grant_type: _Text | None = None
    scope: Annotated[str, Meta(max_length=8192)] | None = None
    audience: _Text | None = None
    resource: _Text | None = None
    code: _Text | None = None
    redirect_uri: Annotated[str, Meta(max_length=MAX_URI)] | None = None
    code_verifier: _Text | None = None
    refresh_token: Annotated[str, Meta(max_length=16_384)] | None = None
    device_code: _Text | None = None
    hand_off: _Text | None = None
    subject_token: Annotated[str, Meta(max_length=8192)] | None = None
    subject_token_type: _Text | None = None
    requested_token_type: _Text | None = None
    actor_token: Annotated[str, Meta(max_length=8192)] | None = None
    actor_token_type: _Text | None = None


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token, and what is known of it (RFC 6749, section 5.1; RFC 8693, section 2.2.1). `expires_in` is in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str | None = None
    issued_token_type: str | None = None
    refresh_token: str | None = None
    id_token: str | None = None


GRANT_TYPES = (
    GrantType.AUTHORIZATION_CODE,
    GrantType.REFRESH_TOKEN,
    GrantType.DEVICE_CODE,
    GrantType.HAND_OFF,
    GrantType.CLIENT_CREDENTIALS,
    GrantType.TOKEN_EXCHANGE,
)
"""The grants that there are here."""


async def token(site: Site, request: HttpRequest) -> HttpResponse:
    """Give an access token to a client: for itself, for an API key, or for somebody who signed in at it."""
    if request.query:
        raise InvalidRequest("invalid_request", "Parameters belong into the body.")
    asked = await read_oauth_form(request, TokenRequest)
    credentials = read_proof(request, asked)
    match asked.grant_type:
        case GrantType.AUTHORIZATION_CODE:
            use = CodeUse(
                secret=asked.code or "", redirect_uri=asked.redirect_uri, verifier=asked.code_verifier
            )
            return _user_answer(site, await user_grants.for_code(site, request, credentials, use=use))
        case GrantType.REFRESH_TOKEN:
            return _user_answer(
                site,
                await user_grants.for_refresh_token(
                    site, request, credentials, token=asked.refresh_token, scope=asked.scope
                ),
            )
        case GrantType.DEVICE_CODE:
            granted_to = user_grants.for_device(site, request, credentials, device_code=asked.device_code)
            return _user_answer(site, await granted_to)
        case GrantType.HAND_OFF:
            return _user_answer(
                site,
                await user_grants.for_hand_off(
                    site, request, credentials, hand_off=asked.hand_off, redirect_uri=asked.redirect_uri
                ),
            )
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
    scopes = None if asked.scope is None else frozenset(asked.scope.split(" "))
    if scopes is not None and (len(scopes) > MAX_SCOPES or not all(map(is_scope, scopes))):
        raise GrantRefused("invalid_scope", "scope is a list of scopes with one space between two.")
    return Wanted(audience=target.asked(audience=asked.audience, resource=asked.resource), scopes=scopes)


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


def _user_answer(site: Site, granted: UserGranted) -> HttpResponse:
    """Answer with what a client gets for somebody who signed in at it; an OpenID client with an ID token."""
    id_token = None
    if granted.identity is not None:
        id_token = site.authority.id_tokens.issue(
            granted.identity, nonce=granted.nonce, access_token=granted.access_token.text
        )
    return json_answer(
        TokenAnswer(
            access_token=granted.access_token.text,
            token_type="Bearer",
            expires_in=granted.access_token.expires_in,
            scope=" ".join(sorted(granted.scopes)) or None,
            refresh_token=granted.refresh_token,
            id_token=id_token,
        ),
        _NO_CACHE,
    )


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
        summary="Get tokens: for a client itself, an API key, a code or a refresh token",
        request=TokenRequest,
        request_type="application/x-www-form-urlencoded",
        response=TokenAnswer,
        refusal=Refusal(challenge=Challenge.BASIC),
        render_error=oauth_error,
    ),
)
