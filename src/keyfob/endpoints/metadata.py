"""The metadata of the authority (RFC 8414; OpenID Connect Discovery 1.0): what exists, and nothing else."""

from __future__ import annotations

import msgspec

from keyfob.authority.user_info import IDENTITY_CLAIMS, IDENTITY_SCOPES
from keyfob.endpoints import introspect, jwks, token
from keyfob.endpoints.answers import public_document
from keyfob.endpoints.client_proof import PROOF_METHODS
from keyfob.endpoints.oauth import end_session, paths, revoke, userinfo
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.grants import pkce, scope
from keyfob.grants.prompting import Prompt
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.jwt.algorithms import Algorithm
from keyfob.tokens.id_token import ID_CLAIMS


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is stated although it is the default was asked for: where nothing is said, some clients take more for granted."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str
    pushed_authorization_request_endpoint: str
    token_endpoint: str
    device_authorization_endpoint: str
    token_endpoint_auth_methods_supported: list[str]
    token_endpoint_auth_signing_alg_values_supported: list[str]
    introspection_endpoint: str
    introspection_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_signing_alg_values_supported: list[str]
    introspection_signing_alg_values_supported: list[str]
    revocation_endpoint: str
    revocation_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_signing_alg_values_supported: list[str]
    response_types_supported: list[str]
    response_modes_supported: list[str]
    grant_types_supported: list[str]
    code_challenge_methods_supported: list[str]
    prompt_values_supported: list[str]
    authorization_response_iss_parameter_supported: bool
    require_pushed_authorization_requests: bool
    request_parameter_supported: bool
    request_uri_parameter_supported: bool
    subject_types_supported: list[str]
    userinfo_endpoint: str
    end_session_endpoint: str
    id_token_signing_alg_values_supported: list[str]
    scopes_supported: list[str]
    claims_supported: list[str]
    claims_parameter_supported: bool
    backchannel_logout_supported: bool
    backchannel_logout_session_supported: bool


async def metadata(site: Site, _request: HttpRequest) -> HttpResponse:
    """Answer with the metadata. URLs are the configured issuer's, whatever the request calls this host."""
    issuer = site.authority.issuer
    base = issuer.rstrip("/")
    methods = list(PROOF_METHODS)
    algorithms = [algorithm.value for algorithm in Algorithm]
    return public_document(
        Metadata(
            issuer=issuer,
            jwks_uri=base + jwks.PATH,
            authorization_endpoint=base + paths.AUTHORIZE,
            pushed_authorization_request_endpoint=base + paths.PAR,
            token_endpoint=base + token.PATH,
            device_authorization_endpoint=base + paths.DEVICE_AUTHORIZATION,
            token_endpoint_auth_methods_supported=[*methods, "none"],
            token_endpoint_auth_signing_alg_values_supported=algorithms,
            introspection_endpoint=base + introspect.PATH,
            introspection_endpoint_auth_methods_supported=methods,
            introspection_endpoint_auth_signing_alg_values_supported=algorithms,
            introspection_signing_alg_values_supported=[site.authority.keys.signer().algorithm],
            revocation_endpoint=base + revoke.PATH,
            revocation_endpoint_auth_methods_supported=[*methods, "none"],
            revocation_endpoint_auth_signing_alg_values_supported=algorithms,
            response_types_supported=["code"],
            response_modes_supported=["query"],
            grant_types_supported=[grant_type.value for grant_type in token.GRANT_TYPES],
            code_challenge_methods_supported=[pkce.METHOD],
            prompt_values_supported=[prompt.value for prompt in Prompt],
            authorization_response_iss_parameter_supported=True,
            require_pushed_authorization_requests=False,
            request_parameter_supported=False,
            request_uri_parameter_supported=False,
            subject_types_supported=["public"],
            userinfo_endpoint=base + userinfo.PATH,
            end_session_endpoint=base + end_session.PATH,
            id_token_signing_alg_values_supported=list(site.authority.id_tokens.algorithms()),
            scopes_supported=[*IDENTITY_SCOPES, scope.OFFLINE_ACCESS],
            claims_supported=[*ID_CLAIMS, *IDENTITY_CLAIMS],
            claims_parameter_supported=False,
            backchannel_logout_supported=True,
            backchannel_logout_session_supported=True,
        )
    )


ROUTES = tuple(
    Route(
        method="GET",
        path=f"/.well-known/{name}",
        endpoint=metadata,
        summary="The metadata of this authority",
        response=Metadata,
        public=True,
    )
    for name in ("oauth-authorization-server", "openid-configuration")
)
