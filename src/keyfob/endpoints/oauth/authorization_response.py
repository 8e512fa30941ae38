"""The authorization response: what the browser carries back to the client, always with `iss` and the client's own `state`.

A 303, so that whatever was posted here is not posted there (RFC 9700, section 4.12). `iss` names who answers, in errors too (RFC 9207,
section 2).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlencode

from keyfob.endpoints.site import Site
from keyfob.grants.authorization_request import Place
from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpResponse

_UNFIT: Final = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")
"""What an `error_description` may not hold (RFC 6749, section 4.1.2.1)."""


def code_response(site: Site, place: Place, code: str) -> HttpResponse:
    """Send the browser back with a code."""
    return see_client(location(site, place, code=code))


def error_response(site: Site, place: Place, error: str, description: str = "") -> HttpResponse:
    """Send the browser back with an error."""
    return see_client(error_location(site, place, error, description))


def error_location(site: Site, place: Place, error: str, description: str = "") -> str:
    """Return where an error leads."""
    fields = {"error": error}
    if description:
        fields["error_description"] = _UNFIT.sub("'", description)
    return location(site, place, **fields)


def location(site: Site, place: Place, **fields: str) -> str:
    """Return the redirect URI with *fields* behind its query, which stays as it is registered (RFC 6749, section 4.1.2)."""
    if place.state is not None:
        fields["state"] = place.state
    fields["iss"] = site.authority.issuer
    uri = place.redirect_uri
    joint = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return uri + joint + urlencode(fields, quote_via=quote)


def see_client(target: str) -> HttpResponse:
    """Answer 303 to a client. *target* comes from `location`: a registered URI, and what was escaped behind it."""
    return HttpResponse(status=303, headers=((b"location", target.encode("ascii")), NO_STORE))
