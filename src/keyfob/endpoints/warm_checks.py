"""The warm path of `/check`: a request that was good before, found good again from memory.

Which credential a request carries, and whether the cross-origin guard lets it pass, follows from a few headers and nothing else. So where those
headers are, byte for byte, those of a request that `Check` let pass, only what can change is asked anew: whether the credential is still good
(`Authority.authenticate_cached`: expiry, idleness, the feed's rule) and still the same principal's, and the roles and scopes of the query.

It only ever says yes. Whatever it cannot answer it leaves to `Check`, which decides from the beginning.
"""

from __future__ import annotations

from keyfob.base.principal import Principal
from keyfob.endpoints.check_rules import Rules
from keyfob.endpoints.site import Site
from keyfob.http.headers import Header, PreparedHeaders
from keyfob.http.messages import RawHeaders
from keyfob.verifier.generations import Generations

CAPACITY = 20_000
"""Requests that are remembered; about 2.5 KB each with the answer."""
MAX_REMEMBERED = 4096  # bytes of the deciding headers of one request

_DECIDING = frozenset(
    {
        b"authorization",
        b"cookie",
        b"x-forwarded-method",
        b"x-original-method",
        b"sec-fetch-site",
        b"origin",
    }
)

_Deciding = tuple[tuple[bytes, bytes], ...]
_Known = tuple[str, Principal, PreparedHeaders]
"""The token, whose it is, and the answer. A bare tuple: it is read for every check, and nothing prints it."""


class WarmChecks:
    """Remembers good requests and what was answered. One per application."""

    def __init__(self) -> None:
        self._known: Generations[_Deciding, _Known] = Generations(CAPACITY)
        self._rules: Generations[bytes, Rules] = Generations(CAPACITY)

    def answer(self, site: Site, headers: RawHeaders, query: bytes) -> PreparedHeaders | None:
        """Return the headers of the 204, or None: then it is to be found out. No I/O."""
        known = self._known.get(_deciding(headers))
        if known is None or site.authority.authenticate_cached(known[0]) is not known[1]:
            return None
        if query and not self._allows(known[1], query):
            return None
        return known[2]

    def remember(
        self, headers: RawHeaders, *, token: str, principal: Principal, answer: tuple[Header, ...]
    ) -> None:
        """Remember that a request with *headers* carried *token*, which is *principal*'s, and that the guard let it pass by these headers alone."""
        key = _deciding(headers)
        if sum(len(value) for _, value in key) <= MAX_REMEMBERED:
            self._known.put(key, (token, principal, PreparedHeaders.of(answer)))

    def remember_rules(self, query: bytes, rules: Rules) -> None:
        """Remember what *query* asks on the path `/check` itself."""
        self._rules.put(query, rules)

    def rules(self, query: bytes) -> Rules | None:
        """Return what is remembered of *query*."""
        return self._rules.get(query)

    def _allows(self, principal: Principal, query: bytes) -> bool:
        rules = self._rules.get(query)
        return (
            rules is not None
            and rules.is_plain
            and rules.roles <= principal.roles
            and rules.scopes <= principal.scopes
        )


def _deciding(headers: RawHeaders) -> _Deciding:
    return tuple([(name, value) for name, value in headers if name in _DECIDING])
