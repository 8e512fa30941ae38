"""The advice in words, line by line, and as a document for machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from keyfob.advice.advice import Advice, Option, Recommendation
from keyfob.advice.arithmetic import figure
from keyfob.advice.rules import Carried

_CARRIED: dict[Carried, str] = {
    "cookie": "an HttpOnly cookie",
    "header": "the Authorization header",
}


def told(advice: Advice) -> Iterator[str]:
    """Yield the lines of *advice*."""
    for one in advice.recommendations:
        yield from _recommendation(one)
        yield ""
    yield f"Access tokens live {advice.access_seconds} s. Verifiers: max_staleness={advice.max_staleness:g} s, then {advice.on_stale}."
    yield ""
    yield "What it costs at the peak:"
    yield from (f"  {step.text()}" for step in advice.steps)
    yield "The runner-up would cost:"
    yield from (f"  {step.text()}" for step in advice.runner_up_steps if step not in advice.steps)
    if advice.notes:
        yield ""
        yield from (f"Note: {note}" for note in advice.notes)


def document(advice: Advice) -> dict[str, object]:
    """Return *advice* for JSON."""
    return {
        "need": asdict(advice.need),
        "recommendations": [
            {
                "client": one.client.value,
                "rule": one.rule,
                "strategy": one.chosen.strategy.value,
                "carried": one.carried,
                "because": one.because,
                "classical": one.classical.value,
                "feed": one.feed,
                "chosen": _option(one.chosen),
                "runner_up": _option(one.runner_up),
            }
            for one in advice.recommendations
        ],
        "access_lifetime_seconds": advice.access_seconds,
        "max_staleness_seconds": advice.max_staleness,
        "on_stale": advice.on_stale,
        "costs": [asdict(step) for step in advice.steps],
        "runner_up_costs": [asdict(step) for step in advice.runner_up_steps],
        "notes": list(advice.notes),
    }


def _recommendation(one: Recommendation) -> Iterator[str]:
    yield f"{one.client.value}: {one.chosen.strategy.value}, in {_CARRIED[one.carried]} (rule {one.rule})"
    yield f"  {one.because}"
    yield f"  {one.feed}"
    if one.changes:
        yield f"  The classical answer is {one.classical.value}."
    yield f"  {_lifetimes(one.chosen)}"
    yield f"  After a theft is noticed and revoked: {_exposed(one.chosen)}"
    yield f"  Runner-up: {one.runner_up.strategy.value}. {_lifetimes(one.runner_up)} {_exposed(one.runner_up)}"


def _lifetimes(option: Option) -> str:
    idle = "" if option.limits.idle is None else f", {figure(option.limits.idle)} s unused"
    return f"A login lasts {figure(option.limits.absolute or 0)} s at most{idle}."


def _exposed(option: Option) -> str:
    exposure = option.exposure
    return (
        f"refused after {exposure.connected * 1000:.0f} ms; by a service that is cut off after {exposure.cut_off:g} s;"
        f" without the feed after {exposure.classical:g} s; never noticed while its owner goes on, {figure(exposure.unnoticed)} s at most."
    )


def _option(option: Option) -> dict[str, object]:
    return {
        "strategy": option.strategy.value,
        "absolute_seconds": option.limits.absolute,
        "idle_seconds": option.limits.idle,
        "refused_after_seconds": asdict(option.exposure),
    }
