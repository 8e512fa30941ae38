"""What is known of a user today, for the client that they allowed to know it (OpenID Connect Core 1.0, sections 5.1 to 5.4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from keyfob.accounts.store import AccountStore
from keyfob.authority.claims import ClaimsSource
from keyfob.base.principal import Principal

_SCOPES: Final[Mapping[str, Collection[str]]] = MappingProxyType(
    {
        "profile": (
            "name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile",
            "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at",
        ),
        "email": ("email", "email_verified"),
        "roles": ("roles",),
    }
)  # fmt: skip
IDENTITY_SCOPES: Final = ("openid", *_SCOPES)
"""The scopes by which claims are asked for."""
IDENTITY_CLAIMS: Final = tuple(name for names in _SCOPES.values() for name in names)
"""The claims that there can be; all but `preferred_username` and `roles` come from the claims source of the deployment."""


def userinfo_audience(issuer: str) -> str:
    """Return the audience of an access token that may ask for claims: the address of the endpoint, and so of nothing else."""
    return issuer.rstrip("/") + "/oauth/userinfo"


class UserInfo:
    """Answers with claims. `sub` is always there, what no scope asks for never."""

    def __init__(self, accounts: AccountStore, claims_source: ClaimsSource) -> None:
        self._accounts = accounts
        self._claims_source = claims_source

    async def about(self, principal: Principal) -> Mapping[str, object]:
        """Return what *principal*, which was checked just now, may know of its subject.

        Raises:
            Denied: `revoked`: the subject is disabled.
            Unavailable: it could not be found out.
        """
        known: dict[str, object] = {}
        if not principal.scopes.isdisjoint(_SCOPES):
            known = await self._known(principal)
        wanted = [name for scope, names in _SCOPES.items() if scope in principal.scopes for name in names]
        claims = {name: known[name] for name in wanted if known.get(name) is not None}
        return {**claims, "sub": principal.subject}

    async def _known(self, principal: Principal) -> dict[str, object]:
        today = await self._claims_source(principal.subject, principal.client_id)
        account = await self._accounts.find(principal.subject)
        known = dict(today.claims)
        if account is not None:
            known["preferred_username"] = account.name
        known["roles"] = sorted(today.roles) or None
        return known
