"""`keyfob doctor`."""

from __future__ import annotations

import typer

from keyfob.cli.opened import AsJson, ConfigFile, StoreUrl
from keyfob.cli.output import examples, say, say_json
from keyfob.server.doctor import examine
from keyfob.server.finding import Finding, Severity


def register(commands: typer.Typer) -> None:
    """Add `doctor` to *commands*."""
    commands.command(
        epilog=examples("keyfob doctor", "keyfob doctor --config /etc/keyfob/keyfob.toml --json")
    )(doctor)


def doctor(json: AsJson = False, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Say what is unsafe about the settings and the store, and how to mend it. Changes nothing; exit code 1 if anything is unsafe."""
    findings = examine(config=config, store=store)
    if json:
        say_json([_document(finding) for finding in findings])
    else:
        _tell(findings)
    if any(finding.severity is Severity.UNSAFE for finding in findings):
        raise typer.Exit(1)


def _tell(findings: list[Finding]) -> None:
    for finding in findings:
        say(f"{finding.severity.value:7}  {finding.id}: {finding.what}")
        say(f"         {finding.mend}")
    unsafe = sum(finding.severity is Severity.UNSAFE for finding in findings)
    say(f"{unsafe} unsafe, {len(findings) - unsafe} to consider" if findings else "nothing to mend")


def _document(finding: Finding) -> dict[str, str]:
    return {
        "id": finding.id,
        "severity": finding.severity.value,
        "what": finding.what,
        "mend": finding.mend,
    }
