"""`docs/how-to/choose-a-strategy.md`, made from the rules, so that the two cannot disagree."""

from __future__ import annotations

from collections.abc import Iterator

from keyfob.advice.advice import advise
from keyfob.advice.need import Need
from keyfob.advice.rules import Rule, Rules, When
from keyfob.advice.told import told


def guide(rules: Rules) -> str:
    """Return the page."""
    return "\n".join([*_head(rules), *_rules(rules), *_situations(rules)]) + "\n"


def _head(rules: Rules) -> Iterator[str]:
    yield "# Choose a strategy"
    yield ""
    yield "This page is made from the rules that `keyfob advise` goes by: `python -m keyfob.advice > docs/how-to/choose-a-strategy.md`."
    yield ""
    yield "```sh"
    yield "keyfob advise                                            # asks, and explains"
    yield "keyfob advise --situation microservices --out keyfob.toml"
    yield "keyfob advise --access-log access.log --services 3 --json"
    yield "```"
    yield ""
    yield "A server offers the same questions in a form at `/advise`."
    yield ""
    yield "## What is asked"
    yield ""
    yield "| question | answers | default |"
    yield "|---|---|---|"
    for question in rules.question:
        answers = (
            ", ".join(f"`{choice}`" for choice in question.choices)
            or f"{question.least:g} to {question.most:.0f}"
        )
        yield f"| `{question.name}`: {question.text} | {answers} | `{question.default}` |"
    yield ""


def _rules(rules: Rules) -> Iterator[str]:
    yield "## The rules"
    yield ""
    yield "For each kind of client the first rule that holds decides."
    yield ""
    for rule in rules.rule:
        yield f"### {rule.id}: {rule.advice.value}"
        yield ""
        yield f"Holds for {_condition(rule.when)}."
        yield f"{rule.because}"
        yield f"{rule.feed}"
        yield _classical(rule)
        yield ""


def _classical(rule: Rule) -> str:
    without = "the same" if rule.classical is rule.advice else rule.classical.value
    return f"Without the feed the answer is {without}; the runner-up is {rule.runner_up.value}."


def _condition(when: When) -> str:
    parts = [" or ".join(client.value for client in when.clients)]
    if when.services_to is not None:
        parts.append(f"at most {when.services_to} service")
    if when.services_from > 1:
        parts.append(f"{when.services_from} services or more")
    if when.domains_from > 1:
        parts.append(f"{when.domains_from} domains or more")
    if when.requests_below is not None:
        parts.append(f"fewer than {when.requests_below:g} requests/s")
    if when.regions_to is not None:
        parts.append(f"at most {when.regions_to} region")
    if when.run_by is not None:
        parts.append(f"services run by {when.run_by}")
    if when.at_once:
        parts.append("a revocation that must be immediate")
    return ", ".join(parts)


def _situations(rules: Rules) -> Iterator[str]:
    yield "## Situations"
    for name, situation in rules.situation.items():
        advice = advise(Need.of(rules.question, situation.answers), rules)
        yield ""
        yield f"### {situation.title}"
        yield ""
        yield f"`keyfob advise --situation {name}`"
        yield ""
        yield "```text"
        yield from told(advice)
        yield "```"
