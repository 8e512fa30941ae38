"""What the query of `/check` asks of the principal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import is_identifier
from keyfob.clients.client import is_scope
from keyfob.endpoints.route import Parameter
from keyfob.http.query import parse_query, whole_number

MAX_SECONDS = 10 * 366 * 86_400  # the longest `max_auth_age` or `max_staleness`
_REPEATABLE, _SINGLE = ("role", "scope"), ("max_auth_age", "max_staleness", "mint", "status")
_STATUSES = ("200", "204")

PARAMETERS = (
    Parameter(name="role", summary="a role that the principal must have", repeatable=True),
    Parameter(name="scope", summary="a scope that the principal must have", repeatable=True),
    Parameter(name="max_auth_age", summary="seconds since the login, at most"),
    Parameter(name="max_staleness", summary="seconds that this process may be behind the feed, at most"),
    Parameter(
        name="status", summary="status of a yes: 204, or 200 for a proxy that takes nothing else (Envoy)"
    ),
    Parameter(name="mint", summary="audience of an access token for the upstream; for authenticated proxies"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the query asks of the principal."""

    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    max_auth_age: timedelta | None = None
    max_staleness: timedelta | None = None
    mint: str | None = None
    status: int = 204

    @property
    def is_plain(self) -> bool:
        """Say whether roles and scopes are all that is asked of the principal: a comparison answers them."""
        return self.max_auth_age is None and self.max_staleness is None

    @property
    def is_special(self) -> bool:
        """Say whether a yes is another than that to a query that asks nothing."""
        return self.mint is not None or self.status != 204


def read_rules(query: bytes, *, strict: bool) -> Rules:
    """Read what a query asks. *strict* refuses unknown parameters; otherwise they are the original request's, and are passed over.

    Raises:
        InvalidRequest: a parameter that is unknown, twice where it may not be, or out of bounds; an empty or impossible role or scope.
    """
    many: dict[str, set[str]] = {name: set() for name in _REPEATABLE}
    single: dict[str, str] = {}
    for name, value in parse_query(query):
        if name in many:
            many[name].add(_one_name(name, value))
        elif name == "status" and not strict and value not in _STATUSES:
            continue  # the original request's own
        elif name in _SINGLE and name not in single:
            single[name] = value
        elif name in single or strict:
            raise InvalidRequest(
                "invalid_request",
                f"Unknown parameter, or one twice; known are {', '.join((*_REPEATABLE, *_SINGLE))}.",
            )
    return Rules(
        roles=frozenset(many["role"]),
        scopes=frozenset(many["scope"]),
        max_auth_age=_seconds(single, "max_auth_age"),
        max_staleness=_seconds(single, "max_staleness"),
        mint=_one_name("mint", single["mint"]) if "mint" in single else None,
        status=_status(single.get("status", "204")),
    )


def _one_name(parameter: str, value: str) -> str:
    possible = is_scope(value) if parameter == "scope" else is_identifier(value)
    if not possible:
        raise InvalidRequest("invalid_request", f"{parameter} has a value that none can have.")
    return value


def _status(text: str) -> int:
    if text not in _STATUSES:
        raise InvalidRequest("invalid_request", f"status is {' or '.join(_STATUSES)}.")
    return int(text)


def _seconds(single: dict[str, str], name: str) -> timedelta | None:
    if name not in single:
        return None
    return timedelta(seconds=whole_number(single[name], name=name, low=0, high=MAX_SECONDS))
