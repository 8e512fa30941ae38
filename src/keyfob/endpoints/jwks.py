"""`GET /.well-known/jwks.json`: the keys that access tokens are checked with."""

from __future__ import annotations

from keyfob.endpoints.answers import public_document
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse

PATH = "/.well-known/jwks.json"


async def jwks(site: Site, _request: HttpRequest) -> HttpResponse:
    """Answer with the access keys. The feed's keys stand at `/feed/keys`: nothing that they sign is an access token."""
    return public_document(site.authority.keys.jwks())


ROUTES = (Route(method="GET", path=PATH, endpoint=jwks, summary="The key set (RFC 7517)", public=True),)
