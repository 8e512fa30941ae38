"""The advice: which strategy for each kind of client, lifetimes, exposure, costs, and what the runner-up would give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyfob.advice.arithmetic import Exposure, Step, costs, exposure, staleness
from keyfob.advice.need import ClientKind, Need
from keyfob.advice.rules import Carried, Limits, Rule, Rules
from keyfob.base.identifiers import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A strategy and how long a stolen credential of it goes on."""

    strategy: Strategy
    limits: Limits
    exposure: Exposure


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What one kind of client should use. `classical` is the answer without a feed, `feed` what the feed changes."""

    client: ClientKind
    rule: str
    chosen: Option
    runner_up: Option
    classical: Strategy
    carried: Carried
    because: str
    feed: str

    @property
    def changes(self) -> bool:
        """Say whether the feed changes the choice itself."""
        return self.classical is not self.chosen.strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The whole answer. `access_seconds` is the life of an access token, `max_staleness` in seconds, `on_stale` what happens past it."""

    need: Need
    recommendations: tuple[Recommendation, ...]
    access_seconds: int
    max_staleness: float
    on_stale: str
    steps: tuple[Step, ...]
    runner_up_steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def worst_seconds(self) -> float:
        """Seconds from a revocation to the last refusal, whatever is cut off."""
        return max(one.chosen.exposure.cut_off for one in self.recommendations)


def advise(need: Need, rules: Rules) -> Advice:
    """Answer *need* by *rules*. The same need always gives the same advice."""
    access = _access_seconds(need, rules)
    recommendations = tuple(_recommend(need, rules, client, access) for client in need.clients)
    chosen = frozenset(one.chosen.strategy for one in recommendations)
    others = frozenset(one.runner_up.strategy for one in recommendations)
    return Advice(
        need=need,
        recommendations=recommendations,
        access_seconds=access,
        max_staleness=staleness(need, rules.figures),
        on_stale="deny",
        steps=tuple(costs(need, chosen, access_seconds=access, figures=rules.figures)),
        runner_up_steps=tuple(costs(need, others, access_seconds=access, figures=rules.figures)),
        notes=tuple(_notes(need, rules)),
    )


def limits_of(need: Need, strategy: Strategy, rules: Rules) -> Limits:
    """Return how long a session of *strategy* lives: its default, shortened to what the profile allows."""
    usual, allowed = rules.lifetimes[strategy], rules.profile[need.profile]
    if usual.idle is None:  # it is never refreshed, so it cannot be left unused
        return usual.within(Limits(absolute=allowed.absolute))
    return usual.within(allowed)


def _access_seconds(need: Need, rules: Rules) -> int:
    return rules.access[need.revocation]


def _recommend(need: Need, rules: Rules, client: ClientKind, access: int) -> Recommendation:
    rule: Rule = rules.deciding(need, client)

    def option(strategy: Strategy) -> Option:
        limits = limits_of(need, strategy, rules)
        return Option(
            strategy=strategy,
            limits=limits,
            exposure=exposure(
                strategy,
                absolute=float(limits.absolute or 0),
                access_seconds=access,
                max_staleness=staleness(need, rules.figures),
                figures=rules.figures,
            ),
        )

    return Recommendation(
        client=client,
        rule=rule.id,
        chosen=option(rule.advice),
        runner_up=option(rule.runner_up),
        classical=rule.classical,
        carried=rule.carried,
        because=rule.because,
        feed=rule.feed,
    )


def _notes(need: Need, rules: Rules) -> Iterator[str]:
    if need.cut_off < rules.figures.least_staleness:
        yield (
            f"No service can know sooner than three heartbeats that it is cut off: {rules.figures.least_staleness:g} s is the least."
            ' Where even that is too long, ask the authority for each request: on_stale="introspect".'
        )
    if need.services > 1 or need.regions > 1:
        yield "For more than one machine use a PostgreSQL or Redis store; SQLite serves one."
    if need.regions > 1 or need.services >= rules.figures.relay_from:
        yield "A relay in each region (keyfob relay) costs the authority one connection, however many services follow it."
    if need.run_by == "others":
        yield "Give services that others run a client of their own each (keyfob client add), with their audience alone: what one of them is shown is no good at another."
    if ClientKind.MACHINE in need.clients:
        yield "Services get their tokens by client credentials; cut one off with keyfob revoke client ID."
    if need.profile in {"aal3", "asvs-l3"}:
        yield "This profile also wants a second, phishing-resistant factor at the login, which no lifetime replaces."
