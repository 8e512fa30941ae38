"""What every endpoint is given: the authority, and what the deployment says about the outside."""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.accounts.accounts import CheckPassword
from keyfob.authority.authority import Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One deployment, as its endpoints see it. `own_origins` are what browsers may name in `Origin` (`cross_origin.own_origins`).

    `check_password` is asked about logins where the application has a table of users of its own; None: the accounts of the authority are.
    """

    authority: Authority
    own_origins: frozenset[bytes]
    check_password: CheckPassword | None = None

    async def close(self) -> None:
        """Close the authority. Twice is once."""
        await self.authority.close()
