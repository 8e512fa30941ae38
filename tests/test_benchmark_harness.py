"""The harness of the benchmark: that it runs, and that what it reports is consistent. No test here looks at a time."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path

import pytest
from benchmarks import machine, processes
from benchmarks.__main__ import main
from benchmarks.figures import BenchmarkFailed, Figure, compared, percentile, quartiles
from benchmarks.load import Job, Pick, response_length
from benchmarks.plot import as_svg
from benchmarks.report import BEGIN, END, Run, as_json, as_markdown, written_between
from benchmarks.rounds import FEWEST_ROUNDS, Contestant, interleave
from benchmarks.targets import MEASURES, Of, Section, at_least, at_most
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
BOUNDS = st.floats(min_value=1e-3, max_value=1e6)


def figure_of(name: str, *, missed: bool = False) -> Figure:
    target = MEASURES[name].target
    value = 1.0
    if target is not None:
        value = target.bound * (2.0 if missed == target.is_ceiling else 0.5)
    return Figure(name=name, measured=value, against=1.0, against_what="another", ratio=value)


def whole_run(*, missed: bool = False) -> Run:
    figures = [figure_of(name, missed=missed) for name in reversed(MEASURES)]
    return Run(machine={"cores": 2}, figures=figures, is_measurement=True)


def test_a_quick_run_of_the_tokens_gives_each_of_their_figures(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmarks", "--only", "jwt", "--quick", "--seconds", "0.02", "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "latest.json").read_text("utf-8"))
    names = [figure["name"] for figure in document["figures"]]
    assert names == [name for name, measure in MEASURES.items() if measure.section is Section.JWT]
    assert all(figure["measured"] > 0 for figure in document["figures"])
    assert document["is_measurement"] is False


@given(bound=BOUNDS)
def test_a_target_is_met_at_its_bound_and_not_beyond(bound: float) -> None:
    assert at_most(bound).is_met(bound)
    assert not at_most(bound).is_met(bound * 1.001)
    assert at_least(bound).is_met(bound)
    assert not at_least(bound).is_met(bound * 0.999)


@given(bound=BOUNDS, value=BOUNDS)
def test_a_target_is_met_exactly_where_no_more_than_its_allowance_is_used(bound: float, value: float) -> None:
    for target in (at_most(bound), at_least(bound)):
        assert target.is_met(value) == (target.used(value) <= 1.0)


def test_nothing_at_all_never_meets_a_floor() -> None:
    assert at_least(0.5).used(0.0) == float("inf")


@pytest.mark.parametrize("missed", [False, True])
def test_the_report_says_met_where_the_target_is_met(missed: bool) -> None:
    document = json.loads(as_json(whole_run(missed=missed)))
    assert [figure["name"] for figure in document["figures"]] == list(MEASURES)
    for figure in document["figures"]:
        target = MEASURES[figure["name"]].target
        assert figure["met"] is (None if target is None else not missed)


def test_every_target_names_what_it_bounds() -> None:
    for name, measure in MEASURES.items():
        assert measure.name == name
        target = measure.target
        if target is not None and target.of is Of.RATIO:
            with pytest.raises(BenchmarkFailed, match="no ratio"):
                Figure(name=name, measured=1.0).judged  # noqa: B018 - reading it raises


def test_the_ratio_is_that_of_each_round_and_not_of_the_medians() -> None:
    # The machine was ten times slower in the second round, for both.
    figure = compared("http.refresh", [2.0, 20.0, 2.2], [1.0, 10.0, 1.0], what="another")
    assert figure.ratio == 2.0
    assert (figure.measured, figure.against) == (2.2, 1.0)
    assert figure.spread == quartiles([2.0, 2.0, 2.2])


def test_rounds_begin_with_another_contestant_each_time() -> None:
    ran: list[str] = []
    contestants = [
        Contestant(name=name, operations=1, batch=lambda name=name: ran.append(name)) for name in "abc"
    ]
    measured = interleave(contestants, seconds=0.0, tell=lambda what, share: None, title="")
    assert "".join(ran) == "abc" + "abcbcacab"
    assert {len(values) for values in measured.values()} == {FEWEST_ROUNDS}


def test_a_percentile_of_few_values_is_one_of_them() -> None:
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([1.0, 2.0], 0.5) == 2.0
    assert percentile(list(map(float, range(100))), 0.99) == 99.0
    assert quartiles([3.0]) == (3.0, 3.0)


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    written = written_between(page, "new")
    assert written.startswith(f"before\n{BEGIN}")
    assert written.endswith(f"{END}\nafter\n")
    assert "new" in written
    assert "old" not in written
    assert written_between(written, "new") == written


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_page_without_its_markers_is_left_alone(page: str) -> None:
    with pytest.raises(BenchmarkFailed):
        written_between(page, "new")


def test_the_page_of_the_project_has_its_markers() -> None:
    page = (ROOT / "docs/reference/performance.md").read_text("utf-8")
    assert "new" in written_between(page, "new")


def test_the_table_in_markdown_has_a_row_for_each_measure() -> None:
    rows = [line for line in as_markdown(whole_run()).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(MEASURES)
    assert {row.count("|") for row in rows} == {7}


@pytest.mark.parametrize("missed", [False, True])
def test_the_picture_is_well_formed_and_has_a_bar_for_each_target(missed: bool) -> None:
    picture = ET.fromstring(as_svg(whole_run(missed=missed)))
    bars = picture.findall("{http://www.w3.org/2000/svg}rect")
    targets = [measure for measure in MEASURES.values() if measure.target is not None]
    assert [bar.get("class") for bar in bars] == ["missed" if missed else "met"] * len(targets)


def test_the_facts_of_the_machine_name_neither_it_nor_a_path() -> None:
    text = json.dumps(machine.facts())
    assert platform.node() not in text
    assert str(ROOT) not in text


def test_a_response_is_as_long_as_it_says() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\n"
    assert response_length(head + b"12345") == len(head) + 5
    assert response_length(head) == len(head) + 5
    assert response_length(head[:-1]) == -1
    empty = b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n"
    assert response_length(empty) == len(empty)


def test_a_response_without_a_length_is_refused() -> None:
    with pytest.raises(BenchmarkFailed):
        response_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_any_bytes_have_a_length_or_are_refused(data: bytes) -> None:
    with suppress(BenchmarkFailed):
        assert response_length(data) >= -1


def test_the_load_generator_asks_a_bare_server_and_counts_every_status(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{number}\n" for number in range(40)), "ascii")
    with (
        processes.bare_server(tmp_path, None) as (port, _),
        processes.load_generator(tmp_path, None) as generator,
    ):
        job = Job(
            port=port,
            prefix="GET /",
            suffix=" HTTP/1.1\r\nHost: x\r\n\r\n",
            lines=str(lines),
            pick=Pick.EACH,
            warm_up=0.0,
        )
        processes.begin(generator, job)
        assert processes.result_of(generator, job).statuses == {204: 40}
        wrong = Job(port=port, prefix="GET /", suffix=job.suffix, lines=str(lines), expected=200, warm_up=0.0)
        processes.begin(generator, wrong)
        with pytest.raises(BenchmarkFailed, match="not expected"):
            processes.result_of(generator, wrong)


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "make bench" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--only", "all"], ["--sessions", "31"], ["--seconds", "0"], ["--rounds", "x"]]
)
def test_arguments_out_of_bounds_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err
