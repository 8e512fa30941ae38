"""The page of the debate, its pictures and the README's part are made from the committed run, and nothing in them was typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.lab import document
from keyfob.lab.experiments import EXPERIMENTS, cells
from keyfob.lab.result import Column, read, write
from keyfob.lab.setups import SETUPS

ROOT = Path(__file__).parents[2]
README = f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n"
_NO_FIGURES = re.compile(r"\[\[[^\]]*\]\]|`[^`]*`|\]\([^)]*\)|!\[")


def test_everything_that_is_made_from_the_run_is_as_the_run_makes_it() -> None:
    stale = [
        str(path)
        for path, text in document.written(ROOT).items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text("utf-8") != text
    ]
    assert stale == [], "python -m keyfob.lab.document writes them anew"


def test_the_committed_run_can_be_read_and_is_whole() -> None:
    result = read(ROOT / document.RESULT)
    assert [column.setup for column in result.columns] == [setup.name for setup in SETUPS]
    assert result.took > 0
    for column in result.columns:
        for experiment in EXPERIMENTS:
            assert set(cells(experiment, column)) == {row.key for row in experiment.rows}


def test_no_figure_is_typed_into_the_words_of_the_page() -> None:
    words = _NO_FIGURES.sub("", document.TEMPLATE.read_text("utf-8"))
    typed = [figure for figure in re.findall(r"\S*\d\S*", words) if figure not in {"ES256"}]
    assert typed == []


def test_the_page_follows_the_run(made_result: Any) -> None:
    before = document.page(made_result)
    column = made_result.columns[0]
    track = column.logout.tracks[0]
    longer = msgspec.structs.replace(
        column.logout, tracks=[msgspec.structs.replace(track, name="another token")]
    )
    made_result.columns[0] = msgspec.structs.replace(column, logout=longer)
    after = document.page(made_result)
    assert "another token" not in before
    assert "another token" in after
    assert "[[" not in after


def test_what_was_not_measured_says_so_on_the_page(made_result: Any) -> None:
    made_result.columns[0] = Column(setup="textbook-session", missing={"csrf": "no browser"})
    text = document.page(made_result)
    assert "| textbook: session | not measured: no browser |" in text
    assert "| textbook: session | not measured: not played in this run |" in text


def test_the_readme_keeps_everything_but_what_stands_between_the_marks(made_result: Any) -> None:
    text = document.readme(README, made_result)
    assert text.startswith(f"before\n{document.BEGIN}\n| |")
    assert text.endswith(f"{document.END}\nafter\n")
    assert "old" not in text.split(document.BEGIN)[1].split("\n")
    assert document.readme(text, made_result) == text, "twice is once"
    for broken in ("nothing", README.replace(document.END, "")):
        with pytest.raises(ConfigurationError, match="lacks"):
            document.readme(broken, made_result)


def test_a_pipe_in_what_was_seen_does_not_end_a_cell(made_result: Any) -> None:
    column = made_result.columns[0]
    made_result.columns[0] = msgspec.structs.replace(column, csrf=None, missing={"csrf": "a | b"})
    assert "not measured: a \\| b" in document.page(made_result)


def test_the_program_writes_what_the_functions_say(
    made_result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(made_result, tmp_path / document.RESULT)
    (tmp_path / document.PAGE).parent.mkdir(parents=True)
    (tmp_path / "README.md").write_text(README)
    monkeypatch.setattr("sys.argv", ["document", str(tmp_path)])
    document.main()
    assert capsys.readouterr().out.split() == [str(path) for path in document.written(tmp_path)]
    for path, text in document.written(tmp_path).items():
        assert (tmp_path / path).read_text("utf-8") == text
