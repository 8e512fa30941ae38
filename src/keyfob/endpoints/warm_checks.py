"""The warm path of `/check`: a credential that was good before, found good again from memory.

It only ever says yes, and only where everything is plain: one credential, one header of it, a safe original method where it is a cookie,
and rules that a comparison answers. Anything else it leaves to `Check`, which decides from the beginning. So nothing here may refuse,
and nothing here is needed for an answer to be right; it is why a warm check costs a few microseconds more than an empty application.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.base.principal import Principal
from keyfob.endpoints.check_rules import Rules
from keyfob.endpoints.site import Site
from keyfob.http.cross_origin import SAFE_METHODS
from keyfob.http.headers import Header
from keyfob.http.messages import HttpRequest, RawHeaders
from keyfob.verifier.generations import Generations

CAPACITY = 20_000
"""Credentials that are remembered; about 1.5 KB each with the answer."""
MAX_CREDENTIAL = 4096  # bytes of a header that is remembered

_SAFE = frozenset(method.encode("ascii") for method in SAFE_METHODS)
_WANTED = frozenset({b"authorization", b"cookie", b"x-forwarded-method", b"x-original-method"})


@dataclass(frozen=True, slots=True)
class _Known:
    token: str
    principal: Principal
    answer: tuple[Header, ...]


class WarmChecks:
    """Remembers what good credentials looked like and what was answered. One per application; no secret of it is ever shown."""

    def __init__(self) -> None:
        self._by_cookie: Generations[_Known] = Generations(CAPACITY)
        self._by_bearer: Generations[_Known] = Generations(CAPACITY)
        self._rules: Generations[Rules] = Generations(CAPACITY)

    def answer(self, site: Site, headers: RawHeaders, query: bytes) -> tuple[Header, ...] | None:
        """Return the headers of the 204, or None: then it is to be found out. No I/O."""
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _WANTED:
                if name in found:
                    return None
                found[name] = value
        known = self._known(found)
        if known is None or site.authority.authenticate_cached(known.token) is not known.principal:
            return None
        if query and not self._allows(known.principal, query):
            return None
        return known.answer

    def remember(
        self, request: HttpRequest, token: str, principal: Principal, answer: tuple[Header, ...]
    ) -> None:
        """Remember that *request* carried *token*, which is *principal*'s, if it carried it plainly."""
        cookie, authorization = request.all(b"cookie"), request.all(b"authorization")
        known = _Known(token, principal, answer)
        if len(cookie) == 1 and not authorization and len(cookie[0]) <= MAX_CREDENTIAL:
            self._by_cookie.put(cookie[0].decode("latin-1"), known)
        elif len(authorization) == 1 and not cookie and len(authorization[0]) <= MAX_CREDENTIAL:
            self._by_bearer.put(authorization[0].decode("latin-1"), known)

    def remember_rules(self, query: bytes, rules: Rules) -> None:
        """Remember what *query* asks on the path `/check` itself."""
        self._rules.put(query.decode("latin-1"), rules)

    def rules(self, query: bytes) -> Rules | None:
        """Return what is remembered of *query*."""
        return self._rules.get(query.decode("latin-1"))

    def _known(self, found: dict[bytes, bytes]) -> _Known | None:
        cookie, authorization = found.get(b"cookie"), found.get(b"authorization")
        if cookie is None:
            return None if authorization is None else self._by_bearer.get(authorization.decode("latin-1"))
        if authorization is not None:
            return None
        forwarded, original = found.get(b"x-forwarded-method"), found.get(b"x-original-method")
        method = original if forwarded is None else forwarded
        if method not in _SAFE or (original is not None and original != method):
            return None
        return self._by_cookie.get(cookie.decode("latin-1"))

    def _allows(self, principal: Principal, query: bytes) -> bool:
        rules = self.rules(query)
        return (
            rules is not None
            and rules.is_plain
            and rules.roles <= principal.roles
            and rules.scopes <= principal.scopes
        )
