"""What a refusal says of the policy of the route, and of the client's way out."""

from __future__ import annotations

from collections.abc import Sequence

from keyfob.http.problem import Refusal
from keyfob.http.refresh_hint import with_hint
from keyfob.integrations.requirement import Requirement


def refusal_of(
    requirement: Requirement | None, error: Exception, authorization: Sequence[bytes] = ()
) -> Refusal:
    """Say what a refusal for *error* tells the client, whose `Authorization` header has these values."""
    return with_hint(_of_policy(requirement), error, authorization)


def _of_policy(requirement: Requirement | None) -> Refusal:
    if requirement is None:
        return Refusal()
    age = requirement.max_auth_age
    return Refusal(
        scopes=tuple(sorted(requirement.scopes)),
        max_auth_age=None if age is None else int(age.total_seconds()),
    )
