"""The rules of `rules.toml`, read once and applied: the first rule that holds for a kind of client decides."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Literal

import msgspec

from keyfob.advice.need import Asked, ClientKind, Need
from keyfob.base.identifiers import Strategy

Carried = Literal["cookie", "header"]


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The condition of a rule: everything that it states must hold. `_from` and `_to` include their bound, `_below` does not."""

    clients: tuple[ClientKind, ...]
    services_from: int = 1
    services_to: int | None = None
    domains_from: int = 1
    requests_below: float | None = None
    regions_to: int | None = None
    run_by: str | None = None
    at_once: bool | None = None

    def holds(self, need: Need, client: ClientKind) -> bool:
        """Say whether it holds for *client* of *need*."""
        return (
            client in self.clients
            and need.services >= self.services_from
            and need.domains >= self.domains_from
            and _within(need.services, self.services_to)
            and _within(need.regions, self.regions_to)
            and (self.requests_below is None or need.requests < self.requests_below)
            and self.run_by in {None, need.run_by}
            and self.at_once in {None, need.revocation.is_at_once}
        )


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule. `classical` is the answer without a feed, `feed` what the feed changes."""

    id: str
    when: When
    classical: Strategy
    advice: Strategy
    runner_up: Strategy
    carried: Carried
    because: str
    feed: str


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds that a session lives at most, and that it may be left unused; None is no limit."""

    absolute: int | None = None
    idle: int | None = None

    def within(self, other: Limits) -> Limits:
        """Return the stricter of each."""
        return Limits(
            absolute=_stricter(self.absolute, other.absolute), idle=_stricter(self.idle, other.idle)
        )


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures of the arithmetic, in the units that `rules.toml` states."""

    active_seconds: int
    cache_age: int
    touch_interval: int
    entry_margin: int
    entry_bytes: int
    wire_bytes: int
    heartbeat_bytes: int
    connected_ms: int
    least_staleness: float
    relay_from: int


class Situation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A situation whose answer is known."""

    title: str
    answers: Mapping[str, str]
    expects: Mapping[ClientKind, Strategy]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    question: tuple[Asked, ...]
    rule: tuple[Rule, ...]
    lifetimes: Mapping[Strategy, Limits]
    access: Mapping[str, int]
    profile: Mapping[str, Limits]
    figures: Figures
    situation: Mapping[str, Situation]

    def deciding(self, need: Need, client: ClientKind) -> Rule:
        """Return the rule that decides for *client*: the file has one for every need, which a test proves."""
        return next(rule for rule in self.rule if rule.when.holds(need, client))


def read_rules() -> Rules:
    """Read the rules that are installed with the package."""
    text = resources.files("keyfob.advice").joinpath("rules.toml").read_bytes()
    return msgspec.toml.decode(text, type=Rules)


def _within(value: int, most: int | None) -> bool:
    return most is None or value <= most


def _stricter(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given, default=None)
