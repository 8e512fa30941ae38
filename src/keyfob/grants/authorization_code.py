"""The authorization code: what it stands for, and whether a use of it is right. Pure.

A use is right if it comes from the client that the code was given to, names the redirect URI that the request named, and brings the
verifier of the request's challenge. A wrong use changes nothing, whoever tries it: else a stranger could end what the right one gave
(OAuth 2.1, section 7.5.3; ASVS 10.4.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from keyfob.base.errors import GrantRefused
from keyfob.base.identifiers import ClientId, SessionId, Subject
from keyfob.grants import pkce

CODE_LIFETIME: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationCode:
    """What a code stands for: the body of its one-time record.

    `session_id` is the browser's login; `given` the session that the first use gives, known before anybody has its tokens, and
    `given_beside` the one that an ID token names where that is another.
    """

    client_id: ClientId
    subject: Subject
    session_id: SessionId
    redirect_uri: str
    redirect_uri_named: bool
    challenge: str
    scopes: frozenset[str]
    audience: str
    auth_time: datetime
    amr: tuple[str, ...] = ()
    acr: str | None = None
    nonce: str | None = None
    given: SessionId | None = None
    given_beside: SessionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeUse:
    """What comes with a code to the token endpoint."""

    secret: str = field(repr=False)
    redirect_uri: str | None = None
    verifier: str | None = field(default=None, repr=False)


def require_right(code: AuthorizationCode, use: CodeUse, client_id: ClientId) -> None:
    """Refuse a use of *code* that is not right; every one in the same words.

    Raises:
        GrantRefused: `invalid_grant`.
    """
    names_it = use.redirect_uri == code.redirect_uri or (
        use.redirect_uri is None and not code.redirect_uri_named
    )
    fits = use.verifier is not None and pkce.fits(use.verifier, code.challenge)
    if client_id != code.client_id or not names_it or not fits:
        raise not_good()


def not_good() -> GrantRefused:
    """Return the refusal of a code, whatever is wrong with it."""
    return GrantRefused("invalid_grant", "The code is not good.")
