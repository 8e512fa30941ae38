"""What a revocation would do, for a terminal."""

from __future__ import annotations

import sys
from datetime import timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from keyfob.authority.preview import RevocationPreview
from keyfob.cli.output import moment, plain
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.slo import VerifierSlo, VerifierState

_UNCUT = 1_000  # columns
_STYLES = {
    VerifierState.LEVEL: "green",
    VerifierState.BEHIND: "yellow",
    VerifierState.STALE: "yellow",
    VerifierState.SILENT: "red",
}


def say_preview(found: RevocationPreview) -> None:
    """Print what *found* says, and that nothing was changed."""
    # A terminal wraps; whatever else reads gets each row whole.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNCUT)
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _facts(found):
        grid.add_row(name, text)
    console.print(grid)
    if found.behind:
        console.print(_behind(found))
    console.print("Nothing was changed.")


def _facts(found: RevocationPreview) -> list[tuple[str, Text]]:
    target = " ".join((found.scope.value, plain(found.id))).strip()
    return [
        ("revoking", Text(f"{target} (reach {found.reach.value})")),
        ("sessions", Text(_sessions(found))),
        ("verifiers", _verifiers(found)),
        ("connected", Text(_connected(found))),
        ("cut off", Text(f"{_shown(found.worst)} at most, until the last one denies, on its own clock")),
    ]


def _sessions(found: RevocationPreview) -> str:
    if found.is_over:
        return "it is over already: nothing would change"
    if found.scope is Scope.TOKEN:
        return "none: one access token is denied, its session goes on"
    if found.scope is Scope.KEY:
        return "none: everything that the key signed is denied, sessions go on with other keys"
    number = f"{'' if found.is_counted_out else 'at least '}{found.sessions}"
    return f"{number} would {'end' if found.reach is Reach.END else 'be refreshed, without a login'}"


def _verifiers(found: RevocationPreview) -> Text:
    if not found.slo.verifiers:
        return Text("none reports: start them with report_as=NAME, and this says how long they take")
    counts = [(state, found.slo.count(state)) for state in VerifierState]
    parts = [Text(f"{count} {state.value}", _STYLES[state]) for state, count in counts if count]
    return Text(", ").join(parts)


def _connected(found: RevocationPreview) -> str:
    lags = found.slo.lags
    if lags is None:
        return "not measured"
    minutes = found.slo.window // timedelta(minutes=1)
    measured = f"p50 {_shown(lags.p50)}, p99 {_shown(lags.p99)}, longest {_shown(lags.longest)}"
    return f"{measured}, over {minutes} minutes"


def _behind(found: RevocationPreview) -> Table:
    table = Table(title="not level", title_justify="left", box=None, pad_edge=False)
    for column in ("verifier", "client", "state", "last heard", "level until", "denies after"):
        table.add_column(column, overflow="fold")
    for one in found.behind:
        table.add_row(*_row(one))
    return table


def _row(one: VerifierSlo) -> tuple[Text, ...]:
    return (
        Text(f"{plain(one.name)}/{one.instance}"),
        Text(plain(one.client_id)),
        Text(one.state.value, _STYLES[one.state]),
        Text(moment(one.heard_at)),
        Text(moment(one.level_at)),
        Text(_shown(max(one.bound, one.max_staleness))),
    )


def _shown(length: timedelta) -> str:
    """Return *length* in the unit that suits it."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
