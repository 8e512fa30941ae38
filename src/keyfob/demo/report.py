"""What the demo shows: progress, a table, and what to try by hand."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from keyfob.demo.figures import Result
from keyfob.demo.processes import Stage

_ROWS = (
    ("log in (argon2id included)", lambda figures: f"{figures.login_ms:.0f} ms"),
    ("one checked request at a service", lambda figures: f"{figures.check_ms:.2f} ms"),
    ("sign out → denied (each service)", lambda figures: _list(figures.denied_after_ms)),
    ("all devices → denied (slowest)", lambda figures: _milliseconds(figures.all_devices_denied_after_ms)),
    ("password changed → denied", lambda figures: _milliseconds(figures.password_change_denied_after_ms)),
    ("account deleted → denied", lambda figures: _milliseconds(figures.deletion_denied_after_ms)),
    ("role taken away → refused", lambda figures: _milliseconds(figures.role_change_denied_after_ms)),
    ("… with the cause", lambda figures: figures.causes["role_change"]),
    ("a repeated refresh gives the same", lambda figures: _yes(figures.replayed_refresh_is_identical)),
    ("a stolen refresh token is noticed", lambda figures: _yes(figures.reuse_detected)),
)


def show(console: Console, result: Result) -> None:
    """Print the figures as a table."""
    table = Table(title="What was revoked, and when three services knew", title_justify="left")
    table.add_column("")
    for strategy in result.strategies:
        table.add_column(strategy, justify="right")
    for label, figure in _ROWS:
        table.add_row(label, *(figure(figures) for figures in result.strategies.values()))
    console.print(table)
    console.print(
        "0.0 ms: a service knew before the answer to the request that revoked had arrived.\n"
        "Everybody was denied long before an access token's 10 minutes were over.\n",
        highlight=False,
    )


def show_what_next(console: Console, stage: Stage) -> None:
    """Print commands that work against the server that is still up."""
    url, service = stage.authority, next(iter(stage.services.values()))
    login = (
        f"curl -s {url}/login -H 'Content-Type: application/json' "
        f'-d \'{{"username":"{stage.administrator}","password":"{stage.password}",'
        f'"strategy":"hybrid","transport":"body","audience":["{url}","orders"]}}\''
    )
    lines = (
        f"The server is still up at {url} (SQLite, its log: {stage.log}). Try by hand:",
        "",
        "# log in, and keep the access token",
        f"TOKEN=$({login} | python3 -c 'import json,sys; print(json.load(sys.stdin)[\"access_token\"])')",
        "# a service that has never asked the server about this token",
        f'curl -s {service}/ -H "Authorization: Bearer $TOKEN"',
        "# who am I, and on which devices",
        f'curl -s {url}/session -H "Authorization: Bearer $TOKEN"',
        f'curl -s {url}/sessions -H "Authorization: Bearer $TOKEN"',
        "# sign out, and ask the service again",
        f'curl -s -X POST {url}/logout -H "Authorization: Bearer $TOKEN"',
        f'curl -s {service}/ -H "Authorization: Bearer $TOKEN"',
        "",
        "Ctrl-C ends everything and removes the demo's data.",
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _list(figures: list[float]) -> str:
    return " · ".join(f"{figure:.1f}" for figure in figures) + " ms"


def _milliseconds(figure: float) -> str:
    return f"{figure:.1f} ms"


def _yes(fact: bool | None) -> str:  # noqa: FBT001 - a fact to be shown, not a choice
    return {None: "-", True: "yes", False: "NO"}[fact]
