"""The `keyfob.toml` of an advice, as `keyfob serve` takes it."""

from __future__ import annotations

from collections.abc import Iterator

from keyfob.advice.advice import Advice, limits_of
from keyfob.advice.rules import Rules
from keyfob.base.identifiers import Strategy


def settings_file(advice: Advice, rules: Rules) -> str:
    """Return the file. It holds no secret, and starts a server on this machine as it is."""
    return "\n".join([*_head(advice), *_sections(advice, rules)]) + "\n"


def _head(advice: Advice) -> Iterator[str]:
    yield "# Made by keyfob advise. Every setting: docs/reference/settings.md"
    yield "#"
    for one in advice.recommendations:
        yield f"# {one.client.value}: {one.chosen.strategy.value} (rule {one.rule})"
    yield f"# Verifiers: max_staleness={advice.max_staleness:g}, on_stale={advice.on_stale!r}"
    yield ""
    yield '# issuer = "https://id.example.com"    # where browsers and services reach this server'
    if advice.need.services > 1 or advice.need.regions > 1:
        yield '# store = "postgresql://keyfob@db.example.com/keyfob"    # for more than one machine; the password from PGPASSFILE'
    yield 'store = "sqlite:///keyfob.db"'
    yield f'access_lifetime = "{advice.access_seconds}s"'


def _sections(advice: Advice, rules: Rules) -> Iterator[str]:
    yield ""
    yield "[sessions]"
    yield f'max_cache_age = "{rules.figures.cache_age}s"'
    for strategy in (Strategy.SESSION, Strategy.HYBRID):
        limits = limits_of(advice.need, strategy, rules)
        yield ""
        yield f"[sessions.{strategy.value}]"
        yield f'idle = "{limits.idle}s"'
        yield f'absolute = "{limits.absolute}s"'
    yield ""
    yield "[sessions.jwt]"
    yield f'absolute = "{min(rules.lifetimes[Strategy.JWT].absolute or 600, advice.access_seconds)}s"'
