"""One thing that is not as it should be, as `keyfob doctor` says it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """`UNSAFE` makes the exit code 1; `CONSIDER` may be right for a deployment that knows why."""

    UNSAFE = "unsafe"
    CONSIDER = "consider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be. `what` and `mend` are one line each."""

    id: str
    severity: Severity
    what: str
    mend: str


def unsafe(id_: str, what: str, mend: str) -> Finding:
    """Return a finding that makes the exit code 1."""
    return Finding(id=id_, severity=Severity.UNSAFE, what=what, mend=mend)


def consider(id_: str, what: str, mend: str) -> Finding:
    """Return a finding that may be right."""
    return Finding(id=id_, severity=Severity.CONSIDER, what=what, mend=mend)
