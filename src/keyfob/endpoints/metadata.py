"""The metadata of the authority (RFC 8414; OpenID Connect Discovery 1.0): what exists, and nothing else."""

from __future__ import annotations

import msgspec

from keyfob.clients.client import GrantType
from keyfob.endpoints import introspect, jwks, token
from keyfob.endpoints.answers import public_document
from keyfob.endpoints.oauth import revoke
from keyfob.endpoints.oauth.asking_client import AUTHENTICATION_METHODS
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.jwt.algorithms import Algorithm


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """There is no authorization endpoint, so there are no response types; left out, some would be taken for granted."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
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
    grant_types_supported: list[str]
    subject_types_supported: list[str]


async def metadata(site: Site, _request: HttpRequest) -> HttpResponse:
    """Answer with the metadata. URLs are the configured issuer's, whatever the request calls this host."""
    issuer = site.authority.issuer
    base = issuer.rstrip("/")
    methods = list(AUTHENTICATION_METHODS)
    algorithms = [algorithm.value for algorithm in Algorithm]
    return public_document(
        Metadata(
            issuer=issuer,
            jwks_uri=base + jwks.PATH,
            token_endpoint=base + token.PATH,
            token_endpoint_auth_methods_supported=methods,
            token_endpoint_auth_signing_alg_values_supported=algorithms,
            introspection_endpoint=base + introspect.PATH,
            introspection_endpoint_auth_methods_supported=methods,
            introspection_endpoint_auth_signing_alg_values_supported=algorithms,
            introspection_signing_alg_values_supported=[site.authority.keys.signer().algorithm],
            revocation_endpoint=base + revoke.PATH,
            revocation_endpoint_auth_methods_supported=[*methods, "none"],
            revocation_endpoint_auth_signing_alg_values_supported=algorithms,
            response_types_supported=[],
            grant_types_supported=[grant_type.value for grant_type in GrantType],
            subject_types_supported=["public"],
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
