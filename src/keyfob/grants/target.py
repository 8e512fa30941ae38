"""The audience that is asked for: one of those that a client may ask for. Pure."""

from __future__ import annotations

from collections.abc import Collection

from keyfob.base.errors import GrantRefused
from keyfob.base.identifiers import is_identifier


def asked(*, audience: str | None, resource: str | None) -> str | None:
    """Return what is asked for: `audience` (RFC 8693) and `resource` (RFC 8707) are two names of one thing here.

    Raises:
        GrantRefused: `invalid_target`: both are there, and differ.
    """
    if audience and resource and audience != resource:
        raise GrantRefused(
            "invalid_target", "audience and resource differ: ask for one token after the other."
        )
    return audience or resource


def one_audience(allowed: Collection[str], asked: str | None, *, issuer: str) -> str:
    """Return the audience: *asked*, which must be *allowed* (nothing in it: any is).

    Without a word it is the issuer if that is allowed, else the only one that is.

    Raises:
        GrantRefused: `invalid_target`.
    """
    if asked is not None:
        if not is_identifier(asked) or (allowed and asked not in allowed):
            raise GrantRefused("invalid_target", "This client may not ask for this audience.")
        return asked
    if not allowed or issuer in allowed:
        return issuer
    if len(allowed) > 1:
        raise GrantRefused("invalid_target", "Name one of the audiences that this client may ask for.")
    return next(iter(allowed))
