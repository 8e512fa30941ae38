"""Access tokens that were checked once: from then on only expiry and the rule."""

from __future__ import annotations

import msgspec

from keyfob.base.principal import Principal
from keyfob.verifier.generations import Generations

LARGEST_VERDICT = 384 * 1024
"""Bytes that one verdict can take at most: a token of the largest size, and the claims in it that take most room. Ours take about 2,500."""
UNSETTLED = -1
"""A `checked` that no change counter has: the rule is applied at every look."""


class Verdict(msgspec.Struct, gc=False):
    """One access token whose signature and claims hold.

    `fresh_until` is its `exp`, in seconds since the epoch. `checked` is the change counter of the feed at which the rule last said that
    nothing covers it. A `Struct` that the garbage collector does not look at: it is part of no cycle, and there are tens of thousands.
    """

    principal: Principal
    fresh_until: float
    checked: int = UNSETTLED


class VerdictCache(Generations[str, Verdict]):
    """Verdicts by their token's text, bounded."""
