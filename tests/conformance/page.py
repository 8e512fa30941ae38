"""Writes docs/reference/conformance.md from rows.toml and from the marks of the tests: `python tests/conformance/page.py`, or `make conformance`.

A test says with `@pytest.mark.meets("10.4.2", "OA-19")` which rows it shows. Marks are read from the source, so nothing has to be imported or run.
Only the standard library is needed.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance.md"
ROWS = Path(__file__).with_name("rows.toml")
_PLACES = ("tests",)
_MARK = "meets"
_HEAD = """\
# Conformance, row by row

What the standards of OAuth ask of an authorization server, of resource servers and of clients, and the tests that show it.
A row that nothing here is about, or that no test can show, says why.

This page is written by `make conformance` from the marks of the tests; a test compares the two, so it says of each row what the tests say.
The rows are in our words; ids are those of ASVS 5.0, of the RFCs with their sections, and `OURS` for what follows from them here.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement."""

    id: str
    level: str
    asks: str


@dataclass(frozen=True, slots=True)
class Section:
    """The requirements of one standard. `because` holds for each of its rows that no test shows and that has no reason of its own."""

    title: str
    rows: tuple[Row, ...]
    because: str


def sections() -> tuple[Section, ...]:
    """Return every section, in the order of the page."""
    read = tomllib.loads(ROWS.read_text("utf-8"))["section"]
    return tuple(
        Section(each["title"], tuple(Row(*row) for row in each["rows"]), each.get("because", ""))
        for each in read
    )


def reasons() -> Mapping[str, str]:
    """Return the reasons by row."""
    return tomllib.loads(ROWS.read_text("utf-8"))["because"]


def marks() -> dict[str, list[str]]:
    """Return the tests (`file::name`) that each row is shown by, in the order of files and lines."""
    found: dict[str, list[str]] = {}
    for place in _PLACES:
        for path in sorted((ROOT / place).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for test, rows in _marked(ast.parse(path.read_text("utf-8")).body):
                for row in rows:
                    found.setdefault(row, []).append(f"{name}::{test}")
    return found


def page() -> str:
    """Return the page."""
    shown_by, because = marks(), reasons()
    all_rows = [row for section in sections() for row in section.rows]
    tested = sum(row.id in shown_by for row in all_rows)
    lines = [_HEAD, f"{len(all_rows)} rows: {tested} shown by tests, {len(all_rows) - tested} argued."]
    for section in sections():
        lines += ["", f"## {section.title}", ""]
        if section.because:
            lines += [section.because, ""]
        lines += ["| id | level | asks | shown by, or why not |", "|---|---|---|---|"]
        lines += [
            _line(row, section, shown_by.get(row.id, ()), because.get(row.id, "")) for row in section.rows
        ]
    return "\n".join(lines) + "\n"


def _line(row: Row, section: Section, tests: Iterable[str], because: str) -> str:
    names = ", ".join(f"`{test}`" for test in tests)
    said = "; ".join(part for part in (names, because) if part) or (section.because and "See above.")
    return f"| {row.id} | {row.level} | {row.asks} | {said} |"


def _marked(
    statements: Iterable[ast.stmt], of: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give each marked function of a module or class, with its rows and those of its class."""
    for statement in statements:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        rows = of + tuple(row for decorator in statement.decorator_list for row in _rows(decorator))
        if isinstance(statement, ast.ClassDef):
            yield from _marked(statement.body, rows)
        elif rows:
            yield statement.name, rows


def _rows(decorator: ast.expr) -> list[str]:
    if not (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and decorator.func.attr == _MARK
    ):
        return []
    return [ast.literal_eval(argument) for argument in decorator.args]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
