"""From the head of a request to its principal.

In order; the first that fails refuses:

1. what the browser says of the origin, where the method changes something      `cross_origin`
2. the one credential                                                          `no_credential`, `malformed`
3. its check, and the policy of the route                                      any cause of contract.md
4. where a cookie is the credential and the browser said nothing: a CSRF token of the framework, where that has found one, or of the
   session, which only an authority can check, so that a service that follows one refuses                                  `cross_origin`
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from keyfob.base.errors import Cause, Denied
from keyfob.base.principal import Principal
from keyfob.http.credential import Presented, read_credential
from keyfob.http.cross_origin import SAFE_METHODS, is_vouched_for, own_origins
from keyfob.integrations.checks import BlockingChecks, Checking
from keyfob.integrations.request_head import RequestHead
from keyfob.integrations.requirement import Requirement

C = TypeVar("C", bound=Checking)

MAX_CSRF_TOKEN = 200  # characters


class Admission(Generic[C]):
    """Admits requests of an application with an event loop. *origins* are its own, beside the issuer's: those that may send its cookie."""

    def __init__(self, checks: C, *, origins: Iterable[str] = ()) -> None:
        self.checks = checks
        self._origins = own_origins(checks.issuer, *origins)

    async def admit(self, head: RequestHead, requirement: Requirement) -> Principal:
        """Return who is calling.

        Raises:
            Denied: the cause.
            Unavailable: it could not be found out.
        """
        credential, vouched = _credential(head, self._origins)
        principal = await self.checks.check(credential.token, requirement)
        _require_rest(head, principal, requirement, checks=self.checks, vouched=vouched)
        return principal


class BlockingAdmission:
    """The same for an application without an event loop."""

    def __init__(self, checks: BlockingChecks, *, origins: Iterable[str] = ()) -> None:
        self.checks = checks
        self._origins = own_origins(checks.issuer, *origins)

    def admit(self, head: RequestHead, requirement: Requirement) -> Principal:
        """Return who is calling, as `Admission.admit`."""
        credential, vouched = _credential(head, self._origins)
        principal = self.checks.check(credential.token, requirement)
        _require_rest(head, principal, requirement, checks=self.checks, vouched=vouched)
        return principal


class _MatchesCsrf(Protocol):
    def csrf_matches(self, session_id: str, token: str) -> bool: ...


def _credential(head: RequestHead, origins: frozenset[bytes]) -> tuple[Presented, bool]:
    """Return the credential, and whether nothing more must vouch for the request (steps 1 and 2)."""
    vouched = head.method in SAFE_METHODS or is_vouched_for(
        head.method, site=head.all(b"sec-fetch-site"), origin=head.all(b"origin"), own_origins=origins
    )
    credential = read_credential(authorization=head.all(b"authorization"), cookie=head.all(b"cookie"))
    return credential, vouched or head.is_vouched_for or not credential.by_cookie


def _require_rest(
    head: RequestHead,
    principal: Principal,
    requirement: Requirement,
    *,
    checks: _MatchesCsrf,
    vouched: bool,
) -> None:
    """Apply what is left of the policy, and step 4 to a request that nothing has *vouched* for."""
    if requirement.strategies:
        requirement.require_strategy(principal)
    if not vouched:
        _require_csrf(head, principal, checks)


def _require_csrf(head: RequestHead, principal: Principal, checks: _MatchesCsrf) -> None:
    values = head.all(b"x-csrf-token")
    token = values[0].decode("latin-1") if len(values) == 1 else ""
    session_id = principal.session_id
    if (
        not 0 < len(token) <= MAX_CSRF_TOKEN
        or session_id is None
        or not checks.csrf_matches(session_id, token)
    ):
        raise Denied(Cause.CROSS_ORIGIN, "no CSRF token of the session")
