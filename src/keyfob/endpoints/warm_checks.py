"""The warm path of `/check`: a request that was good before, found good again from memory.

Which credential a request carries, and whether the cross-origin guard lets it pass, follows from a few headers and nothing else. So where those
headers are, byte for byte, those of a request that `Check` let pass, only what can change is asked anew: whether the credential is still good
(`CheckSource.cached`: expiry, idleness, the feed's rule) and still the same principal's, the roles and scopes of the query, and whether a token
that was minted for these very headers may be given again.

It only ever says yes. Whatever it cannot answer it leaves to `Check`, which decides from the beginning.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from keyfob.base.principal import Principal
from keyfob.endpoints.check_rules import Rules
from keyfob.endpoints.check_source import CheckSource
from keyfob.endpoints.minted_tokens import Minted
from keyfob.http.headers import Header, PreparedHeaders
from keyfob.http.messages import HttpRequest, RawHeaders
from keyfob.verifier.generations import Generations

S = TypeVar("S")

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
        b"x-keyfob-proxy",
    }
)

_Deciding = tuple[tuple[bytes, bytes], ...]
_Known = tuple[str, Principal, PreparedHeaders]
"""The token, whose it is, and the answer. A bare tuple: it is read for every check, and nothing prints it."""


class WarmChecks(Generic[S]):
    """Remembers good requests and what was answered. One per application."""

    def __init__(self, source: CheckSource[S]) -> None:
        self._source = source
        self._cached = source.cached
        self._known: Generations[_Deciding, _Known] = Generations(CAPACITY)
        self._special: Generations[
            tuple[_Deciding, bytes], tuple[Principal, Minted | None, PreparedHeaders]
        ] = Generations(CAPACITY)
        self._rules: Generations[bytes, Rules] = Generations(CAPACITY)

    def answer(self, site: S, headers: RawHeaders, query: bytes) -> PreparedHeaders | None:
        """Return the yes, or None: then it is to be found out. No I/O."""
        deciding = _deciding(headers)
        known = self._known.get(deciding)
        if known is None or self._cached(site, known[0]) is not known[1]:
            return None
        if not query:
            return known[2]
        rules = self._rules.get(query)
        if rules is None or not _allows(known[1], rules):
            return None
        return self._given_again(site, deciding, query, of=known[1]) if rules.is_special else known[2]

    def remember(
        self, headers: RawHeaders, *, token: str, principal: Principal, answer: tuple[Header, ...]
    ) -> None:
        """Remember that a request with *headers* carried *token*, which is *principal*'s, and that the guard let it pass by these headers alone."""
        key = _deciding(headers)
        if sum(len(value) for _, value in key) <= MAX_REMEMBERED:
            self._known.put(key, (token, principal, PreparedHeaders.of(answer)))

    def remember_special(
        self, request: HttpRequest, *, principal: Principal, minted: Minted | None, answer: PreparedHeaders
    ) -> None:
        """Remember that *request*, whose headers `remember` knows, was answered thus, with *minted* if a token stands in the answer.

        The answer says who *principal* is, so it is given to no other, not even to the same one with other roles.
        """
        key = _deciding(request.headers)
        if request.query and self._known.get(key) is not None:
            self._special.put((key, request.query), (principal, minted, answer))

    def remember_rules(self, query: bytes, rules: Rules) -> None:
        """Remember what *query* asks on the path `/check` itself."""
        self._rules.put(query, rules)

    def rules(self, query: bytes) -> Rules | None:
        """Return what is remembered of *query*."""
        return self._rules.get(query)

    def _given_again(
        self, site: S, deciding: _Deciding, query: bytes, *, of: Principal
    ) -> PreparedHeaders | None:
        known = self._special.get((deciding, query))
        if known is None or known[0] is not of:
            return None
        if known[1] is not None and not self._source.may_give_again(site, known[1], of):
            return None
        return known[2]


def _allows(principal: Principal, rules: Rules) -> bool:
    return rules.is_plain and rules.roles <= principal.roles and rules.scopes <= principal.scopes


def _deciding(headers: RawHeaders) -> _Deciding:
    return tuple([(name, value) for name, value in headers if name in _DECIDING])
