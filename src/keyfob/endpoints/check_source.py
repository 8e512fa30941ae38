"""Who answers what `/check` asks: an authority, or a verifier beside a proxy. What is asked, and what is answered, is the same."""

from __future__ import annotations

from typing import Protocol, TypeVar

from keyfob.base.principal import Principal
from keyfob.endpoints.check_rules import Rules
from keyfob.endpoints.minted_tokens import Minted
from keyfob.http.messages import HttpRequest

S_contra = TypeVar("S_contra", contravariant=True)


class CheckSource(Protocol[S_contra]):
    """Answers for a site, which is what the application serves. One per application."""

    def own_origins(self, site: S_contra) -> frozenset[bytes]:
        """Return what browsers may name in `Origin`."""
        ...

    def cached(self, site: S_contra, token: str) -> Principal | None:
        """Answer from memory, or not at all. No I/O, about a microsecond."""
        ...

    def answers_at_once(self, site: S_contra) -> bool:
        """Say whether `check` finds whatever it reads without waiting, so that a request need not become a task."""
        ...

    async def check(self, site: S_contra, request: HttpRequest, *, token: str, rules: Rules) -> Principal:
        """Return whose *token* it is, which satisfies *rules* but for `mint`.

        Raises:
            Denied: the first cause in the order of contract.md.
            Unavailable: it could not be found out.
        """
        ...

    async def require_csrf(self, site: S_contra, request: HttpRequest, *, token: str) -> None:
        """Refuse *request* unless it carries the CSRF token of the session of *token*.

        Raises:
            Denied: `cross_origin`; what is wrong with *token*.
            Unavailable: it could not be found out.
        """
        ...

    async def mint(
        self, site: S_contra, request: HttpRequest, *, token: str, principal: Principal, audience: str
    ) -> Minted:
        """Return an access token for *audience*, from *token*, which is *principal*'s: for a proxy that authenticates itself in *request*.

        Raises:
            Denied: `insufficient_scope` for a caller that is no proxy, or an audience that is not on its list; `bad_credentials`.
            Unavailable: it could not be found out.
        """
        ...

    def may_give_again(self, site: S_contra, minted: Minted, principal: Principal) -> bool:
        """Say whether *minted* may be given again to whoever is *principal* by now. No I/O."""
        ...
