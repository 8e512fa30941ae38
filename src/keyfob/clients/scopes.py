"""Scopes: what a client may do. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from keyfob.base.errors import InvalidRequest
from keyfob.clients.client import is_scope

FEED = "keyfob:feed"
"""Follow the feed. Implies `INTROSPECT`."""
INTROSPECT = "keyfob:introspect"
"""Ask about tokens, and report which sessions are in use."""
CHECK = "keyfob:check"
"""Have access tokens minted by `GET /check`, for the audiences on the client's list."""
ADMIN = "keyfob:admin"
"""Use the administration API."""

OWN_SCOPES = frozenset({FEED, INTROSPECT, CHECK, ADMIN})
MAX_SCOPES = 64  # of one client: they travel in every access token
SCOPE_RULE = (
    f"A scope has 1 to 100 printable ASCII characters without space, quote or backslash; at most {MAX_SCOPES} scopes. "
    f"Scopes of keyfob: are {', '.join(sorted(OWN_SCOPES))}."
)

_RESERVED_PREFIX = "keyfob:"
_IMPLIED = {FEED: frozenset({INTROSPECT})}


def checked_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Return *scopes* with all that they imply.

    Raises:
        InvalidRequest: `invalid_scope`, always with the same text; also for an unknown one of `keyfob:`, which would be a typing error, and for
            one string in place of several.
    """
    checked = frozenset(scopes)
    unknown = {scope for scope in checked - OWN_SCOPES if scope.startswith(_RESERVED_PREFIX)}
    if isinstance(scopes, str) or unknown or len(checked) > MAX_SCOPES or not all(map(is_scope, checked)):
        raise InvalidRequest("invalid_scope", SCOPE_RULE, status=422)
    return checked.union(*(_IMPLIED.get(scope, frozenset()) for scope in checked))
