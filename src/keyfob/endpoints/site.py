"""What every endpoint is given: the authority, and what the deployment says about the outside."""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.authority.authority import Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One deployment, as its endpoints see it. `own_origins` are what browsers may name in `Origin` (`cross_origin.own_origins`)."""

    authority: Authority
    own_origins: frozenset[bytes]
