"""The text is what Prometheus reads: judged by the parser of prometheus_client and by promtool."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fleetsim.metrics import Page
from fleetsim_collectors import dcgm, nvidia_smi
from fleetsim_collectors.catalogue import Family, Histogram, Sample
from fleetsim_collectors.exposition import number, render, render_columns, shortest

from .gpus import BARE, H100, columns

GAUGE = Family("g", "s", "gauge", "Help.", ("a", "b"), "t", "v")
COUNTER = Family("c_total", "s", "counter", 'Back\\slash, "quote"\nand line.', ("a",), "t", "v")
WAIT = Family("h", "s", "histogram", "Help.", ("a",), "t", "v", (0.0, 0.5, 60.0))


def text(*samples: Sample) -> str:
    return "".join(render(samples))


def series(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = [s for family in text_string_to_metric_families(page) for s in family.samples]
    return {(s.name, frozenset(s.labels.items())): s.value for s in found}


def test_text_to_the_letter() -> None:
    made = text(
        (WAIT, ("x",), Histogram((1, 1, 3, 4), 90.5)),
        (GAUGE, ("z", 2), 2.5),
        (GAUGE, (None, ""), -3.0),
        (COUNTER, ('\\ " \n',), 10**15),
        (GAUGE, ("a", None), math.nan),
    )
    assert made == (
        '# HELP c_total Back\\\\slash, "quote"\\nand line.\n'
        "# TYPE c_total counter\n"
        'c_total{a="\\\\ \\" \\n"} 1000000000000000\n'
        "# HELP g Help.\n"
        "# TYPE g gauge\n"
        "g -3\n"
        'g{a="a"} NaN\n'
        'g{a="z",b="2"} 2.5\n'
        "# HELP h Help.\n"
        "# TYPE h histogram\n"
        'h_bucket{a="x",le="0"} 1\n'
        'h_bucket{a="x",le="0.5"} 1\n'
        'h_bucket{a="x",le="60"} 3\n'
        'h_bucket{a="x",le="+Inf"} 4\n'
        'h_sum{a="x"} 90.5\n'
        'h_count{a="x"} 4\n'
    )


def test_histogram_without_labels() -> None:
    bare = Family("h", "s", "histogram", "Help.", (), "t", "v", (1.0,))
    lines = text((bare, (), Histogram((2, 2), 0.0))).splitlines()[2:]
    assert lines == ['h_bucket{le="1"} 2', 'h_bucket{le="+Inf"} 2', "h_sum 0", "h_count 2"]


def test_families_without_samples_are_not_mentioned() -> None:
    assert text() == ""


@given(st.lists(st.tuples(st.text(), st.text(), st.floats()), unique_by=lambda row: row[:2]), st.randoms())
def test_hostile_labels_and_numbers_round_trip_in_any_order(
    rows: list[tuple[str, str, float]], random: Any
) -> None:
    samples: list[Sample] = [(GAUGE, (a, b), value) for a, b, value in rows]
    page = text(*samples)
    back = series(page)
    assert len(back) == len(rows)
    for a, b, value in rows:
        labels = frozenset({(k, v) for k, v in (("a", a), ("b", b)) if v})
        assert math.isnan(value) == math.isnan(back["g", labels])
        assert math.isnan(value) or back["g", labels] == value
    random.shuffle(samples)
    assert text(*samples) == page
    assert page.encode().decode() == page


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_exact_and_no_longer_than_python_writes_them(value: float) -> None:
    written = number(value)
    assert float(written) == value and math.copysign(1, float(written)) == math.copysign(1, value)
    assert len(written) <= len(repr(value)) and not written.endswith(".0")


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        ([(GAUGE, ("x", "y"), 1), (GAUGE, ("x", "y"), 2)], r"g: labels \('x', 'y'\) are given twice"),
        ([(GAUGE, ("x", None), 1), (GAUGE, ("x", ""), 2)], "given twice"),
        ([(GAUGE, ("x",), 1)], r"not values of \('a', 'b'\)"),
        ([(COUNTER, ("x",), -1)], "-1 is no value of a counter"),
        ([(COUNTER, ("x",), math.nan)], "nan is no value of a counter"),
        ([(COUNTER, ("x",), math.inf)], "inf is no value of a counter"),
        ([(GAUGE, ("x", "y"), Histogram((1,), 1.0))], "is no value of a gauge"),
        ([(WAIT, ("x",), 1.0)], "1.0 is no value of a histogram"),
        ([(WAIT, ("x",), Histogram((1, 2), 1.0))], "no value of a histogram of 4 buckets"),
        ([(WAIT, ("x",), Histogram((2, 1, 2, 2), 1.0))], "no value of a histogram"),
        ([(WAIT, ("x",), Histogram((-1, 1, 2, 2), 1.0))], "no value of a histogram"),
        ([(WAIT, ("x",), Histogram((1, 1, 2, 2), math.nan))], "no value of a histogram"),
        ([(GAUGE, ("x", "y"), 1), (Family("g", "m", "gauge", "?", (), "t", "v"), (), 1)], "defined twice"),
    ],
)
def test_what_a_server_would_misread_is_refused(samples: list[Sample], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        text(*samples)


def test_columns_to_the_letter() -> None:
    table: dict[str, list[Any]] = {
        "a": ['x"', "y", "z"],
        "b": [0, None, ""],
        "v": [2.5, None, math.nan],
        "w": [1, 0, 1000000],
    }
    families = [GAUGE, Family("n", "1", "gauge", "Line\nbreak.", ("a", "b"), "t", "w", of=lambda w: w * 2)]
    assert list(render_columns(families, {"t": table})) == [
        '# HELP g Help.\n# TYPE g gauge\ng{a="x\\"",b="0"} 2.5\n',
        '# HELP n Line\\nbreak.\n# TYPE n gauge\nn{a="x\\"",b="0"} 2\nn{a="y"} 0\nn{a="z"} 2e+06\n',
    ]


@given(st.lists(st.tuples(st.text(), st.none() | st.floats()), unique_by=lambda row: row[0]))
def test_columns_give_what_samples_give(rows: list[tuple[str, float | None]]) -> None:
    family = Family("g", "s", "gauge", "Help.", ("a",), "t", "v")
    known = [(a, v) for a, v in rows if v is not None and not math.isnan(v)]
    wanted = series(text(*((family, (a,), v) for a, v in known)))
    table: dict[str, list[Any]] = {"a": [a for a, _ in rows], "v": [v for _, v in rows]}
    assert series("".join(render_columns([family], {"t": table}))) == wanted


def test_columns_that_do_not_fit_are_refused() -> None:
    family = Family("g", "s", "gauge", "Help.", ("a",), "t", "v")
    with pytest.raises(ValueError, match=r"g: labels \{a=\"x\"\} are given twice"):
        list(render_columns([family], {"t": {"a": ["x", "y", "x"], "v": [1, 2, 3]}}))
    with pytest.raises(ValueError, match="g: 1 values for 2 sets of labels"):
        list(render_columns([family], {"t": {"a": ["x", "y"], "v": [1]}}))
    with pytest.raises(KeyError, match="'v'"):
        list(render_columns([family], {"t": {"a": ["x"]}}))


def test_text_that_is_no_unicode_does_not_stop_the_page() -> None:
    page = text((GAUGE, ("\udcff", "b"), 1.0))
    assert page.encode().endswith(b'g{a="?",b="b"} 1\n')


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_shortest_numbers_are_exact(value: float) -> None:
    written = shortest(value)
    assert float(written) == value and written != "-0"
    assert ("e" in written) == (value != 0 and not 1e-4 <= abs(value) < 1e6)
    assert len(written) <= len(repr(value)) + 4  # at most e+06 in place of zeros


def promtool(page: str) -> list[str]:
    """What ``promtool check metrics`` complains of; the test skips where it is not installed."""
    command = shutil.which("promtool")
    if command is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    done = subprocess.run(
        [command, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    return done.stderr.splitlines()


def test_promtool_reads_a_run(run_page: Page) -> None:
    # GPU hours are the unit of the field; the linter would have seconds
    assert promtool(run_page.text) == ['fleetsim_gpu_hours_total use base unit "seconds" instead of "hours"']


def test_promtool_reads_a_node() -> None:
    """It has no fault to find but in names, which are not ours."""
    node = columns(H100, BARE)
    names = "|".join(
        (
            'counter metrics should have "_total" suffix',
            'non-counter metrics should not have "_total" suffix',
            "metric name should not include type 'counter'",
            "label names should be written in 'snake_case' not 'camelCase'",
        )
    )
    for page in (dcgm.page(node, optional=True), nvidia_smi.page(node)):
        for complaint in promtool("".join(page)):
            assert re.fullmatch(rf"\w+ (?:{names})", complaint), complaint
