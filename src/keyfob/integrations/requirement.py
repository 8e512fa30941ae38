"""What a route asks of whoever calls it, stated in one place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Self, TypedDict

from keyfob.base.errors import Cause, ConfigurationError, Denied
from keyfob.base.identifiers import Strategy
from keyfob.base.principal import Principal

OnStale = Literal["deny", "accept", "introspect"]


class Rules(TypedDict, total=False):
    """The words of a route's policy; `Requirement` says what each is."""

    roles: Collection[str]
    scopes: Collection[str]
    max_staleness: timedelta | None
    on_stale: OnStale | None
    max_auth_age: timedelta | None
    strategy: Strategy | str | Collection[Strategy | str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """The policy of a route.

    `roles` and `scopes` mean all of them. `max_staleness` and `on_stale` say what is borne while this process is behind the feed, None what
    the verifier was made with. At exactly `max_staleness` and `max_auth_age` a request passes. `strategies` are those whose credentials
    are taken; empty: any.
    """

    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    max_staleness: timedelta | None = None
    on_stale: OnStale | None = None
    max_auth_age: timedelta | None = None
    strategies: frozenset[Strategy] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        roles: Collection[str] = (),
        scopes: Collection[str] = (),
        max_staleness: timedelta | None = None,
        on_stale: OnStale | None = None,
        max_auth_age: timedelta | None = None,
        strategy: Strategy | str | Collection[Strategy | str] | None = None,
    ) -> Self:
        """Return the policy of these words, checked when the route is defined and not when it is called.

        Raises:
            ConfigurationError: one string where several are meant, a strategy or a word that does not exist, a negative span.
        """
        if isinstance(roles, str) or isinstance(scopes, str):
            raise ConfigurationError('roles and scopes take several strings, such as roles={"payer"}')
        if on_stale not in {None, "deny", "accept", "introspect"}:
            raise ConfigurationError(f"on_stale is {on_stale!r}: it takes deny, accept or introspect")
        if any(span is not None and span < timedelta(0) for span in (max_staleness, max_auth_age)):
            raise ConfigurationError("max_staleness and max_auth_age are never below 0")
        return cls(
            roles=frozenset(roles),
            scopes=frozenset(scopes),
            max_staleness=max_staleness,
            on_stale=on_stale,
            max_auth_age=max_auth_age,
            strategies=_strategies(strategy),
        )

    def require_strategy(self, principal: Principal) -> None:
        """Refuse a credential of a strategy that the route does not take.

        Raises:
            Denied: `wrong_type`.
        """
        if self.strategies and principal.strategy not in self.strategies:
            raise Denied(Cause.WRONG_TYPE, f"takes credentials of {sorted(self.strategies)}")


ANYBODY_SIGNED_IN = Requirement()


def _strategies(named: Strategy | str | Collection[Strategy | str] | None) -> frozenset[Strategy]:
    if named is None:
        return frozenset()
    try:
        return frozenset(Strategy(name) for name in ([named] if isinstance(named, str) else named))
    except ValueError:
        raise ConfigurationError(f"strategy is {named!r}: it takes session, jwt and hybrid") from None
