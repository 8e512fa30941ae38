"""Access tokens that were checked once: from then on only expiry and the rule."""

from __future__ import annotations

from keyfob.base.principal import Principal
from keyfob.verifier.generations import Generations

LARGEST_VERDICT = 384 * 1024
"""Bytes that one verdict can take at most: a token of the largest size, and the claims in it that take most room. Ours take about 2,500."""
UNSETTLED = -1
"""A `checked` that no change counter has: the rule is applied at every look."""


class Verdict:
    """One access token whose signature and claims hold.

    `fresh_until` is its `exp`, in seconds since the epoch. `checked` is the change counter of the feed at which the rule last said that
    nothing covers it.
    """

    __slots__ = ("checked", "fresh_until", "principal")

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.fresh_until = principal.expires_at.timestamp()
        self.checked = UNSETTLED


class VerdictCache(Generations[str, Verdict]):
    """Verdicts by their token's text, bounded."""
