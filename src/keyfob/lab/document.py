"""The documentation's figures, from one run: `python -m keyfob.lab.document [ROOT]` writes the page, its pictures and the README's part.

Nothing in these is typed: the page's words stand in `page/sessions-or-jwts.md`, with marks where the figures go.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from keyfob.base.errors import ConfigurationError
from keyfob.lab import plots
from keyfob.lab.experiments import BY_KEY, EXPERIMENTS, Experiment, cells
from keyfob.lab.report import ran_on, scaling
from keyfob.lab.result import Result, read
from keyfob.lab.setups import BY_NAME, SETUPS
from keyfob.lab.terminal import heading, is_played

RESULT = Path("benchmarks/results/lab.json")
PAGE = Path("docs/explanation/sessions-or-jwts.md")
README = Path("README.md")
BEGIN, END = "<!-- lab: begin -->", "<!-- lab: end -->"
TEMPLATE = Path(__file__).parent / "page" / "sessions-or-jwts.md"

PICTURES: Mapping[str, tuple[Callable[[Result], str], str]] = {
    "denials": (plots.denials, "When each service denied, in each round"),
    "survival": (plots.survival, "What was captured and is still good, by the time since the sign-out"),
    "rates": (plots.rates, "Checked requests per second on one core"),
}
_README_ROWS = (
    ("revocation", "denied"), ("logout", "survival"), ("storage", "own"), ("xss", "own"), ("csrf", "changed"),
    ("theft", "detected"), ("theft", "thief"), ("load", "queries"), ("load", "rate"), ("services", "calls"),
    ("services", "authority"),
)  # fmt: skip
_MARK = re.compile(r"\[\[(\w+)(?: (\w+))?\]\]")


def page(result: Result) -> str:
    """Return the page of the debate with the figures of *result*.

    Raises:
        ConfigurationError: the page's words have a mark that is not known.
    """

    def filled(match: re.Match[str]) -> str:
        kind, name = match[1], match[2] or ""
        match kind:
            case "scaling":
                return scaling(result)
            case "machine":
                return ran_on(result)
            case "whole":
                return "\n".join(
                    _whole(result, [(one.key, row.key) for one in EXPERIMENTS for row in one.rows])
                )
            case "setups":
                return "\n".join(_setups(result))
            case "rows" if name in BY_KEY:
                return "\n".join(_rows(result, BY_KEY[name]))
            case "plot" if name in PICTURES:
                return f"[{PICTURES[name][1]}]({picture(name).name})"
        raise ConfigurationError(f"{TEMPLATE.name}: {match[0]} is no mark")

    return _MARK.sub(filled, TEMPLATE.read_text("utf-8"))


def picture(name: str) -> Path:
    """Return where the picture *name* lies."""
    return PAGE.parent / f"lab-{name}.svg"


def readme(document: str, result: Result) -> str:
    """Return the README *document* with the figures of *result* between its marks.

    Raises:
        ConfigurationError: the marks are not there.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigurationError(f"the README lacks {BEGIN} or {END}")
    lines = [
        *_whole(result, list(_README_ROWS)),
        "",
        f"![{PICTURES['survival'][1]}]({picture('survival').as_posix()})",
        "",
        scaling(result),
        f"The run: {ran_on(result)}",
    ]
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"


def written(root: Path) -> Mapping[Path, str]:
    """Return every file that is made from the run in *root*, and its text.

    Raises:
        ConfigurationError: there is no run, or something lacks its marks.
    """
    result = read(root / RESULT)
    pictures = {picture(name): draw(result) for name, (draw, _) in PICTURES.items()}
    return {
        PAGE: page(result),
        README: readme((root / README).read_text("utf-8"), result),
        **pictures,
    }


def _whole(result: Result, wanted: list[tuple[str, str]]) -> Iterator[str]:
    yield "| | " + " | ".join(heading(column) for column in result.columns) + " |"
    yield "|---" * (len(result.columns) + 1) + "|"
    for key, name in wanted:
        experiment = BY_KEY[key]
        if not any(is_played(experiment, column) for column in result.columns):
            continue
        title = next(row.title for row in experiment.rows if row.key == name)
        read_cells = [cells(experiment, column)[name] for column in result.columns]
        yield (
            f"| {experiment.number} {title} | "
            + " | ".join(_inline(cell.brief or cell.text) for cell in read_cells)
            + " |"
        )


def _rows(result: Result, experiment: Experiment) -> Iterator[str]:
    yield "| | " + " | ".join(row.title for row in experiment.rows) + " |"
    yield "|---" * (len(experiment.rows) + 1) + "|"
    for column in result.columns:
        shown = cells(experiment, column)
        yield (
            f"| {heading(column)} | "
            + " | ".join(_inline(shown[row.key].text) for row in experiment.rows)
            + " |"
        )


def _setups(result: Result) -> Iterator[str]:
    yield "| set-up | |"
    yield "|---|---|"
    shown = {column.setup for column in result.columns}
    for setup in SETUPS:
        if setup.name in shown:
            yield f"| {setup.kind}: {setup.title} | {BY_NAME[setup.name].summary} |"


def _inline(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write what is made from the run."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    for path, text in written(root).items():
        (root / path).write_text(text, "utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
