"""What a refusal says of the policy of the route."""

from __future__ import annotations

from keyfob.http.problem import Refusal
from keyfob.integrations.requirement import Requirement


def refusal_of(requirement: Requirement | None) -> Refusal:
    """Say what a refusal tells the client of the route's policy."""
    if requirement is None:
        return Refusal()
    age = requirement.max_auth_age
    return Refusal(
        scopes=tuple(sorted(requirement.scopes)),
        max_auth_age=None if age is None else int(age.total_seconds()),
    )
