"""Scopes that people grant: what a client may ask them for, and what is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from keyfob.base.errors import GrantRefused

OPENID: Final = "openid"
OFFLINE_ACCESS: Final = "offline_access"
"""A login of the client's own: it does not end with the browser's (OpenID Connect Core 1.0, section 11)."""
MAX_SCOPE: Final = 8192  # characters: all scopes of one request
_RESERVED: Final = "keyfob:"
_ONLY_IF_ASKED: Final = frozenset({OPENID, OFFLINE_ACCESS})


def grantable(scopes: Iterable[str]) -> frozenset[str]:
    """Return those of a client's *scopes* that a person can grant it: those of `keyfob:` are nobody's but an administrator's to give."""
    return frozenset(scope for scope in scopes if not scope.startswith(_RESERVED))


def asked(text: str | None, scopes: frozenset[str]) -> frozenset[str]:
    """Return the scopes that a request asks for, all of them among the client's *scopes*.

    Without a word they are all that it has, without those that change what a login is (`openid`, `offline_access`).

    Raises:
        GrantRefused: `invalid_scope`.
    """
    allowed = grantable(scopes)
    if text is None:
        return allowed - _ONLY_IF_ASKED
    return narrowed(text, allowed)


def narrowed(text: str | None, granted: frozenset[str]) -> frozenset[str]:
    """Return the scopes of *text*, all of which must be *granted*; without a word all that are.

    Raises:
        GrantRefused: `invalid_scope`.
    """
    if text is None:
        return granted
    wanted = frozenset(text.split(" "))
    if len(text) > MAX_SCOPE or not wanted <= granted:
        raise GrantRefused("invalid_scope", "A scope that this client may not ask for.")
    return wanted
