"""The report, the plots, and what the terminal shows: whole, escaped, and honest about what is missing."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from keyfob.base.errors import ConfigurationError
from keyfob.lab import plots
from keyfob.lab.experiments import EXPERIMENTS, cells
from keyfob.lab.report import page
from keyfob.lab.result import FORMAT, Column, Result, read, write
from keyfob.lab.setups import SETUPS
from keyfob.lab.terminal import show

_VOID = {"meta", "br", "img", "link", "input"}
_SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {"survival": plots.survival, "denials": plots.denials, "rates": plots.rates}


class _Balanced(HTMLParser):
    """Notes every element, what it holds that could be fetched, and whether all are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.fetched += [
            value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}
        ]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> _Balanced:
    parser = _Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_report_is_one_page_that_fetches_nothing(made_result: Any) -> None:
    text = page(made_result)
    report = parsed(text)
    assert report.fetched == []
    assert "script" not in report.seen
    assert "@import" not in text
    assert "url(" not in text
    assert report.seen.count("svg") == 3


def test_the_report_shows_every_set_up_in_every_experiment(made_result: Any) -> None:
    text = page(made_result)
    rows = sum(len(one.rows) for one in EXPERIMENTS)
    assert text.count("<h2>") == len(EXPERIMENTS) + 1
    assert text.count("<td data-label=") == rows * len(SETUPS)
    assert "not measured" not in text


def test_what_was_seen_stays_text(made_result: Any) -> None:
    text = page(made_result)
    assert "access token, by &lt;b&gt;" in text
    assert "<b>" not in text


def test_the_report_has_a_form_for_paper_and_one_for_narrow_screens(made_result: Any) -> None:
    text = page(made_result)
    assert "@media print" in text
    assert "@page { size: A4" in text
    assert "@media (max-width: 40rem)" in text


def test_what_was_not_measured_says_why_in_every_cell(made_result: Any) -> None:
    blank = [
        Column(setup=setup.name, missing={one.key: "no <browser>" for one in EXPERIMENTS}) for setup in SETUPS
    ]
    empty = msgspec.structs.replace(made_result, columns=blank)
    text = page(empty)
    parsed(text)
    rows = sum(len(one.rows) for one in EXPERIMENTS)
    assert text.count("not measured: no &lt;browser&gt;") == rows * len(SETUPS)
    for draw in DRAWN.values():
        assert "nothing was measured" in draw(empty)


def test_observations_that_do_not_fit_are_shown_as_that(made_result: Any) -> None:
    column = made_result.columns[0]
    broken = msgspec.structs.replace(column.logout, tracks=[])
    column = msgspec.structs.replace(
        column, logout=broken, csrf=msgspec.structs.replace(column.csrf, control=[])
    )
    by_key = {one.key: one for one in EXPERIMENTS}
    assert cells(by_key["logout"], column)["survival"].text == "not measured: nothing was captured"
    assert "where nothing defends either" in cells(by_key["csrf"], column)["changed"].missing


def test_what_was_not_asked_for_is_left_out(made_result: Any) -> None:
    alone = [Column(setup=one.setup, logout=one.logout) for one in made_result.columns]
    text = page(msgspec.structs.replace(made_result, columns=alone))
    assert text.count("<h2>") == 2, "the experiment, and the set-ups"


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_says_in_words_what_it_shows(made_result: Any, name: str) -> None:
    root = ET.fromstring(DRAWN[name](made_result))
    assert root.tag == f"{_SVG}svg"
    title, description = root.find(f"{_SVG}title"), root.find(f"{_SVG}desc")
    assert title is not None
    assert description is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    for setup in SETUPS:
        assert f"{setup.kind} {setup.title}" in (description.text or "")


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_stays_within_its_frame(made_result: Any, name: str) -> None:
    root = ET.fromstring(DRAWN[name](made_result))
    _, _, width, height = map(float, (root.get("viewBox") or "").split())
    for element in root.iter():
        for across, bound in (
            ("x", width),
            ("x1", width),
            ("x2", width),
            ("y", height),
            ("y1", height),
            ("y2", height),
        ):
            if element.get(across) is not None:
                assert 0 <= float(element.get(across, "0")) <= bound, ET.tostring(element)
        for pair in (element.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_curves_are_told_apart_without_colour(made_result: Any) -> None:
    root = ET.fromstring(plots.survival(made_result))
    kinds = [element.get("class") for element in root.iter(f"{_SVG}polyline")]
    assert len(kinds) == len(SETUPS)
    assert len(set(kinds)) == len(SETUPS)


@pytest.mark.parametrize("width", [60, 100, 220])
def test_the_terminal_shows_every_dimension_at_any_width(made_result: Any, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(console, made_result)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= width
    for experiment in EXPERIMENTS:
        assert re.search(rf"\b{experiment.number}\b", shown)
    assert "load 0.5 before and 1.5 after" in " ".join(shown.split())


def test_a_result_is_read_as_it_was_written(made_result: Any, tmp_path: Path) -> None:
    write(made_result, tmp_path / "deep" / "lab.json")
    assert read(tmp_path / "deep" / "lab.json") == made_result


def test_what_is_no_result_is_refused_with_its_name(made_result: Any, tmp_path: Path) -> None:
    other = msgspec.structs.replace(made_result, format=FORMAT + 1)
    write(other, tmp_path / "newer.json")
    (tmp_path / "broken.json").write_bytes(b'{"format": ')
    for name in ("newer.json", "broken.json", "absent.json"):
        with pytest.raises(ConfigurationError, match=re.escape(name)):
            read(tmp_path / name)


def test_a_result_holds_no_secret(made_result: Any) -> None:
    names = set(re.findall(r'"(\w+)":', msgspec.json.encode(made_result).decode()))
    assert names.isdisjoint({"token", "secret", "password", "value", "cookie"})
    assert isinstance(made_result, Result)
