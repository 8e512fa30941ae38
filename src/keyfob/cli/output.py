"""What commands print: tables and JSON on stdout, free of anything that could deceive a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from keyfob.audit.trail import encoded
from keyfob.revocation.entry import Entry


def plain(text: str) -> str:
    """Return *text* with control characters encoded: names and User-Agents come from strangers."""
    return encoded(text)


def say(line: str) -> None:
    """Print one line."""
    sys.stdout.write(plain(line) + "\n")


def warn(line: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"keyfob: {plain(line)}\n")


def say_json(document: object) -> None:
    """Print *document* as JSON."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


def say_entry(entry: Entry | None, *, what: str, unchanged: str) -> None:
    """Say what was done and where in the feed it stands; *unchanged* if nothing was."""
    say(f"{what} (entry {entry.position}, {entry.reach.value})" if entry else unchanged)


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print *rows* in columns as wide as their widest cell; one line *empty* if there are none.

    Plain text, so that it can be read by `grep` and `awk` and is not cut at the width of a terminal.
    """
    cells = [tuple(plain(cell) for cell in row) for row in rows]
    if not cells:
        say(empty)
        return
    table = [tuple(column.upper() for column in columns), *cells]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def moment(at: datetime | None) -> str:
    """Return *at* to the second, in UTC; a dash for None."""
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M:%SZ")


def listed(items: Iterable[str]) -> str:
    """Return *items* sorted in one cell; a dash for none."""
    return " ".join(sorted(items)) or "-"


def examples(*lines: str) -> str:
    """Return the examples below the help of a command."""
    return "\n\n".join(("[bold]Examples[/bold]", *(f"  $ {line}" for line in lines)))
