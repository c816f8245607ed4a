"""Distances against values worked out by hand, and reports of small tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fleetsim_traces import Trace, TraceError
from fleetsim_traces.generate import generate_jobs
from fleetsim_traces.quality import check, decades, dispersion, ks, table, total_variation, wasserstein
from fleetsim_traces.rows import to_arrow
from fleetsim_traces.table import COLUMNS

samples = arrays(np.float64, st.integers(1, 30), elements=st.integers(-50, 50).map(float))


def made(rows: list[tuple[Any, ...]], epoch: datetime | None = datetime(2024, 1, 1, tzinfo=UTC)) -> Trace:
    """A trace of (submit_s, duration_s, gpus, tenant, status)."""
    import polars as pl

    names = ["submit_s", "duration_s", "gpus", "tenant", "status"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(gpu_share=1.0)
    frame = frame.with_columns(job_id=pl.int_range(pl.len()).cast(pl.String))
    empty = {c.name: pl.lit(None, pl.Float64 if c.numeric else pl.String) for c in COLUMNS}
    frame = frame.with_columns(**{k: v for k, v in empty.items() if k not in frame.columns})
    return Trace(to_arrow(frame), "made", "made", epoch, frame.height)


def test_ks_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])
    # below 3: all of nothing against half of a
    assert ks(a, b) == 0.5
    assert ks(a, a[::-1]) == 0
    assert ks(np.array([0.0]), np.array([1.0, 2.0])) == 1
    # 1 of 3 against 2 of 3 are at most 0
    assert ks(np.array([0.0, 1, 1]), np.array([0.0, 0, 1])) == pytest.approx(1 / 3)


def test_wasserstein_by_hand() -> None:
    assert wasserstein(np.array([0.0, 1.0, 3.0]), np.array([5.0, 6.0, 8.0])) == pytest.approx(5)  # a shift
    # sizes differ: the quantile functions are 0 and (0, 0, 3); a third of the mass moves by 3
    assert wasserstein(np.array([0.0]), np.array([0.0, 3.0, 0.0])) == pytest.approx(1)
    # sorted pairs (1, 2), (3, 5): mean of 1 and 2
    assert wasserstein(np.array([3.0, 1.0]), np.array([2.0, 5.0])) == pytest.approx(1.5)


def test_wasserstein_of_two_uniforms() -> None:
    # the quantile functions are u and 2 u: the area between them is a half
    u = (np.arange(100_000) + 0.5) / 100_000
    assert wasserstein(u, 2 * u) == pytest.approx(0.5, rel=1e-4)
    # and the largest difference of the distributions x and x / 2 on (0, 1) is a half, at 1
    assert ks(u, 2 * u) == pytest.approx(0.5, rel=1e-4)


@given(samples, samples)
def test_distances_are_metrics(a: Any, b: Any) -> None:
    assert ks(a, b) == ks(b, a)
    assert 0 <= ks(a, b) <= 1
    assert wasserstein(a, b) == pytest.approx(wasserstein(b, a))
    assert wasserstein(a, b) >= abs(a.mean() - b.mean()) - 1e-9  # Jensen
    assert (ks(a, b) == 0) == (wasserstein(a, b) == 0)


@given(samples, st.integers(1, 100))
def test_wasserstein_of_a_shift_is_the_shift(a: Any, shift: int) -> None:
    assert wasserstein(a, a + shift) == pytest.approx(shift)


def test_total_variation() -> None:
    assert total_variation({"a": 1, "b": 1}, {"a": 3, "b": 1}) == pytest.approx(0.25)
    assert total_variation({"a": 2}, {"b": 5}) == 1
    assert total_variation({"a": 2, "b": 2}, {"a": 500, "b": 500}) == 0
    assert (total_variation({}, {}), total_variation({}, {"a": 1})) == (0, 1)


def test_dispersion() -> None:
    # counts 2, 0 in turn: mean 1, variance 1; the 21st window is not whole
    pairs = np.repeat(np.arange(0, 210, 20.0), 2)
    assert dispersion(pairs, 10) == pytest.approx(1)
    assert dispersion(np.arange(0.0, 201), 10) == 0  # a clock
    # a Poisson process has 1; batches of k have k
    rng = np.random.default_rng(5)
    times = np.sort(rng.uniform(0, 1e6, 100_000))
    assert dispersion(times, 100) == pytest.approx(1, abs=0.05)
    assert dispersion(np.repeat(times, 7), 100) == pytest.approx(7, abs=0.35)
    assert dispersion(times[:50], 100) is None
    assert dispersion(np.empty(0), 1) is None


def test_decades() -> None:
    assert decades(1, 1000) == decades(1000, 1) == pytest.approx(3)
    assert decades(0, 1) is decades(None, 1) is None


def test_report_by_hand() -> None:
    one = made([(0, 10, 1, "a", "completed"), (60, 10, 1, "b", "failed"), (120, 10, 2, "a", "completed")])
    # an hour later on the clock, a day longer, twice the run time, names of its own
    two = made([(3600, 20, 1, "x", "failed"), (3660, 20, 1, "x", "failed"), (3720, 20, 2, "y", "completed")])
    m = check(one, two)["measures"]
    assert m["size.ks"]["distance"] == 0
    assert m["duration.ks"]["distance"] == 1
    assert m["duration.wasserstein"]["distance"] == pytest.approx(10)
    assert m["duration.wasserstein_log"]["distance"] == pytest.approx(np.log10(2))
    assert m["gap.wasserstein"]["distance"] == 0
    assert m["mean_gpus"]["distance"] == pytest.approx(np.log10(2))
    assert (m["mean_gpus"]["trace"], m["mean_gpus"]["generated"]) == pytest.approx((40 / 120, 80 / 120))
    assert m["hour.tv"]["distance"] == 1  # all in hour 0 against all in hour 1
    assert (m["hour.tv"]["trace"], m["hour.tv"]["generated"]) == (0, 1)
    assert m["weekday.tv"]["distance"] == 0
    assert m["sizes_by_gpu_time.tv"]["distance"] == 0  # a half each, in both
    assert m["tenant_by_jobs.tv"]["distance"] == 0  # ranks 2/3, 1/3 in both, whatever the names
    # GPU time of a 30 of 40, b 10; of x and y 40 each
    assert m["tenant_by_gpu_time.tv"]["distance"] == pytest.approx(0.25)
    assert m["status_by_jobs.tv"]["distance"] == pytest.approx(1 / 3)
    assert m["status_by_gpu_time.tv"]["distance"] == pytest.approx(0.75 - 0.5)
    assert m["dispersion.1h"]["distance"] is None
    assert "user_by_jobs.tv" not in m


def test_report_without_dates_and_its_table() -> None:
    one = made([(0, 10, 1, "a", None), (60, 10, 1, "b", None)], epoch=None)
    report = check(one, one)
    assert "weekday.tv" not in report["measures"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {m["distance"] for m in report["measures"].values()} <= {0.0, None}
    lines = table(report).splitlines()
    assert len(lines) == 1 + len(report["measures"])
    assert lines[0].split() == ["measure", "trace", "generated", "distance"]
    assert any(line.startswith("jobs per day") and line.endswith("0 decades") for line in lines)


def test_one_job_has_a_report() -> None:
    one = made([(5, 0, 1, "a", None)])
    report = check(one, generate_jobs(jobs=50))
    assert "gap.ks" not in report["measures"]
    json.dumps(report, allow_nan=False)
    with pytest.raises(TraceError, match="no time zone 'Mars'"):
        check(one, one, zone="Mars")
