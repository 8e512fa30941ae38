"""The policy of a route: what a good credential must have besides."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from keyfob.base.errors import Cause, Denied
from keyfob.base.principal import Principal


def require(
    principal: Principal,
    now: float,
    *,
    roles: Collection[str] = (),
    scopes: Collection[str] = (),
    max_auth_age: timedelta | None = None,
) -> None:
    """Refuse *principal* unless it has *all* of *roles* and *scopes* and signed in at most *max_auth_age* ago.

    At exactly *max_auth_age* it passes. Without an `auth_time` it does not. *now* is in seconds since the epoch.

    Raises:
        Denied: `insufficient_role`, `insufficient_scope` or `reauthentication_required`, in this order.
        TypeError: one string in place of several.
    """
    if isinstance(roles, str) or isinstance(scopes, str):
        raise TypeError("roles and scopes are collections of strings, such as {'payer'}")
    if roles and not principal.roles.issuperset(roles):
        raise Denied(Cause.INSUFFICIENT_ROLE, f"needs all of the roles {sorted(roles)}")
    if scopes and not principal.scopes.issuperset(scopes):
        raise Denied(Cause.INSUFFICIENT_SCOPE, f"needs all of the scopes {sorted(scopes)}")
    if max_auth_age is None:
        return
    if principal.auth_time is None or now - principal.auth_time.timestamp() > max_auth_age.total_seconds():
        raise Denied(Cause.REAUTHENTICATION_REQUIRED, f"signed in longer than {max_auth_age} ago")
