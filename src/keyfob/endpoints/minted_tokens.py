"""Access tokens that were minted for upstreams, given again to the same proxy for the same credential, under the rule.

A token is given again only while all of this holds:

1. it is not just about to expire: an upstream needs time to check it, and to use it
2. the principal is, in everything that the token says of it, what it was
3. nothing in the feed covers the token itself, which is older than what a re-read of the session may know by now
4. nothing in the feed covers the proxy that it was minted for: a deleted client gets nothing more
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from keyfob.base.identifiers import ClientId, Subject
from keyfob.base.principal import Principal
from keyfob.revocation.entry import Head
from keyfob.revocation.live_entries import LiveEntries
from keyfob.verifier.generations import Generations

CAPACITY: Final = 20_000
"""Tokens that are kept; about 3 KB each."""
MARGIN: Final = 30.0
"""Seconds before its end from which on a token is not given again; of a short-lived one a tenth of its life."""

MintKey = tuple[str, str, tuple[bytes, ...]]
"""The credential, the audience, and what the proxy authenticated itself with: the values of its header."""


class Minted:
    """One token: the header that carries it, whose it is by its own claims, and for whom it was minted.

    A plain class: nothing prints it, and `checked` moves with the feed.
    """

    __slots__ = ("checked", "fresh_until", "header", "of", "principal", "proxy")

    def __init__(self, text: str, *, principal: Principal, of: Principal, proxy: Principal) -> None:
        """*principal* is what the token says, *of* what it was minted from, *proxy* stands for the client that asked (`proxy_principal`)."""
        end = principal.expires_at.timestamp()
        life = end - principal.issued_at.timestamp()
        self.header = (b"authorization", b"Bearer " + text.encode("ascii"))
        self.principal = principal
        self.of = of
        self.proxy = proxy
        self.fresh_until = end - min(MARGIN, life / 10)
        self.checked = -1

    def is_good(self, of: Principal, *, live: LiveEntries, now: float) -> bool:
        """Say whether it may be given again to whoever is *of* at *now*, in seconds since the epoch; at exactly `fresh_until` it may not."""
        if now >= self.fresh_until:
            return False
        if of is not self.of and _said(of) != _said(self.of):
            return False
        changes = live.changes  # before the look-up (design.md, precondition 10)
        if self.checked == changes:
            return True
        if live.cause(self.principal) is not None or live.cause(self.proxy) is not None:
            return False
        if live.is_settled(self.principal):
            self.checked = changes
        return True


class MintedTokens:
    """The tokens of one process."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._kept: Generations[MintKey, Minted] = Generations(capacity)

    def find(self, key: MintKey, *, of: Principal, live: LiveEntries, now: float) -> Minted | None:
        """Return the token that is kept for *key*, if it may be given again."""
        kept = self._kept.get(key)
        return kept if kept is not None and kept.is_good(of, live=live, now=now) else None

    def keep(self, key: MintKey, minted: Minted) -> Minted:
        """Keep *minted* for *key*, and return it."""
        self._kept.put(key, minted)
        return minted


def proxy_principal(client_id: str, *, known: Head, now: datetime) -> Principal:
    """Return what the rule is asked about to learn whether a proxy's client still stands; *known* is the head before the client was found good."""
    return Principal(
        subject=Subject(client_id),
        client_id=ClientId(client_id),
        strategy=None,
        audience=(),
        issued_at=now,
        expires_at=now,
        as_of=known.position,
        timeline=known.timeline,
    )


def _said(of: Principal) -> tuple[object, ...]:
    return of.subject, of.session_id, of.roles, of.scopes, of.auth_time, of.amr, of.acr, of.claims
