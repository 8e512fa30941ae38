"""What is made of growth as it was measured: the page and the picture say what the results say, and nothing else."""

from __future__ import annotations

import json

import pytest
from benchmarks import growth, growth_plot
from benchmarks.figures import Figure
from benchmarks.report import written_between

SIZES = {
    str(size): {
        "filled_s": size / 1000,
        "bytes_each": 300,
        "us_each": {"check": 40.0 + place, "refresh": 300.0},
        "p99_ms": {},
    }
    for place, size in enumerate((10_000, 1_000_000))
}
MACHINE = {"date": "2026-11-24", "load_at_start": 0.1, "load_at_end": 0.2}


def figures() -> list[Figure]:
    return [
        Figure(name="stores.sqlite.check", measured=1.0, facts={"sizes": SIZES}),
        Figure(name="stores.sqlite.growth.check", measured=1.0, ratio=1.02),
        Figure(name="stores.sqlite.growth.refresh", measured=1.0, ratio=1.3),
        Figure(name="stores.sqlite.cleanup", measured=1.0, ratio=1.1, facts={"at": 1_000_000}),
    ]


def test_the_page_says_each_size_and_how_far_the_largest_is_from_the_least() -> None:
    record = growth.record_of("sqlite", figures(), MACHINE)
    text = growth.as_markdown({"sqlite": record})
    assert "| SQLite | 10,000 | 10 s | 300 | 40 µs | 300 µs |" in text
    assert "| SQLite | 1,000,000 | 1,000 s | 300 | 41 µs | 300 µs |" in text
    assert "a check took 1.02 times as long and a rotation 1.30 times" in text
    assert "load 0.1 at the start and 0.2 at the end" in text
    assert growth.table_row("sqlite", record).startswith(
        "SQLite, a check / a rotation at 10,000: 40 / 300 µs"
    )


def test_the_picture_has_a_curve_of_each_operation() -> None:
    picture = growth_plot.as_svg({"sqlite": SIZES})
    assert picture.count("<polyline") == 2
    assert "SQLite, a check: 41" in picture


def test_the_page_and_the_picture_are_those_of_the_results() -> None:
    if not growth.RESULTS.exists():
        pytest.skip("growth was not measured yet")
    measured = json.loads(growth.RESULTS.read_text("utf-8"))
    page = (growth.REFERENCE / "performance.md").read_text("utf-8")
    text = growth.as_markdown(measured)
    assert written_between(page, text, begin=growth.BEGIN, end=growth.END) == page
    sizes = {store: one["sizes"] for store, one in measured.items()}
    assert (growth.REFERENCE / "growth.svg").read_text("utf-8") == growth_plot.as_svg(sizes)
