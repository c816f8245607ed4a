"""Fits of traces whose parameters are known, and what a family file must not give away."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from fleetsim_traces import Trace, TraceError, quality
from fleetsim_traces import fit as fit_module
from fleetsim_traces.distributions import Table
from fleetsim_traces.fit import fit
from fleetsim_traces.fit_arrivals import batches_of
from fleetsim_traces.fit_tables import CROWD, quantiles, shares, spread_ties
from fleetsim_traces.generate import generate_jobs, gpu_seconds_per_job
from fleetsim_traces.generate_cells import as_table
from fleetsim_traces.parameters import Parameters, dump, parse
from fleetsim_traces.quality import check
from fleetsim_traces.rows import to_arrow
from fleetsim_traces.table import COLUMNS

HOURS = [0.5] * 8 + [1.75] * 8 + [0.75] * 8
KNOWN = Parameters.model_validate(
    {
        "version": 1,
        "kind": "jobs",
        "about": "known",
        "source": "made for a test",
        "jobs_per_day": 3000.0,
        "arrivals": {
            "hour_rate": HOURS,
            "weekday_rate": [1.2] * 5 + [0.5] * 2,
            "load_cv_by_s": {3600: 0.5, 86_400: 0.4},
        },
        "batches": {
            "jobs_by_gpus": {1: {0.7: 1.0, 0.9: 5.0, 0.99: 10.0}, 8: {0.5: 1.0}},
            "gap_s": {0.1: 1.0, 0.9: 9.0},
            "duration_correlation": 0.6,
        },
        "gpu_count_share": {1: 0.9, 8: 0.1},
        "duration_s_by_gpus": {
            1: {"mu": 6.0, "sigma": 1.5, "max": 1e6},
            8: {"mu": 8.0, "sigma": 1.0, "max": 1e6},
        },
        "tenants": [
            {"name": "acme-secret", "jobs_share": 0.7, "users": 20, "user_exponent": 1.0},
            {"name": "zen-secret", "jobs_share": 0.3, "users": 5, "gpu_count_share": {1: 1.0}},
        ],
        "status": [
            {"up_to_s": 300.0, "share": {"failed": 0.8, "completed": 0.2}},
            {"share": {"completed": 1.0}},
        ],
        "workload_class": "training",
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def source() -> Trace:
    return generate_jobs(KNOWN, jobs=60_000, seed=1)


@pytest.fixture(scope="module")
def fitted(source: Trace) -> Parameters:
    return fit(source, about="a test", batch_gap_s=10)


def test_known_parameters_come_back(fitted: Parameters) -> None:
    assert fitted.jobs_per_day == pytest.approx(3000, rel=0.02)
    assert fitted.workload_class == "training"
    assert fitted.arrivals.time_step_s == 1
    # hours of 20 days, each with a coefficient of variation of 0.64: known to about 14 %
    assert np.mean(np.abs(np.array(fitted.arrivals.hour_rate) / HOURS - 1)) < 0.25
    assert np.mean(fitted.arrivals.weekday_rate[5:]) < 0.7
    cv = fitted.arrivals.load_cv_by_s
    assert cv[3600] == pytest.approx(0.5, abs=0.15)
    assert cv[86_400] == pytest.approx(0.4, abs=0.2)
    assert cv.get(60, 0) < 0.35
    assert fitted.batches.duration_correlation == pytest.approx(0.6, abs=0.1)
    one, two = fitted.tenants
    assert (one.name, two.name) == ("tenant-01", "tenant-02")
    assert (one.jobs_share, two.jobs_share) == pytest.approx((0.7, 0.3), abs=0.03)
    assert (one.users, two.users) == (20, 5)
    ranks = np.arange(1, 21) ** -1.0
    assert one.user_head_share[0] == pytest.approx(ranks[0] / ranks.sum(), rel=0.15)
    assert two.gpu_count_share == {1: 1.0}
    assert one.gpu_count_share == pytest.approx({1: 0.9, 8: 0.1}, abs=0.03)
    assert gpu_seconds_per_job(fitted) == pytest.approx(gpu_seconds_per_job(KNOWN), rel=0.1)
    assert fitted.status is not None
    first = fitted.status[0]
    assert first.share["failed"] == pytest.approx(0.8, abs=0.03)
    assert fitted.status[-1].share["completed"] > 0.98


def test_look_alike_of_a_known_process_is_close(source: Trace, fitted: Parameters) -> None:
    made = generate_jobs(fitted, jobs=60_000, seed=9)
    twin = generate_jobs(KNOWN, jobs=60_000, seed=2)  # what the process itself varies
    distance, own = (
        {k: m["distance"] for k, m in check(source, t)["measures"].items()} for t in (made, twin)
    )
    for name, least in {
        "size.ks": 0.01, "duration.ks": 0.03, "gap.ks": 0.03, "duration.wasserstein_log": 0.06,
        "hour.tv": 0.05,
        "status_by_jobs.tv": 0.02, "tenant_by_jobs.tv": 0.03, "mean_gpus": 0.04, "dispersion.10min": 0.15,
        "dispersion.1h": 0.2, "user_by_jobs.tv": 0.05,
    }.items():  # fmt: skip
        assert distance[name] <= max(least, 2 * own[name]), (name, distance[name], own[name])


def test_file_reads_the_same_and_names_nobody(source: Trace, fitted: Parameters) -> None:
    text = dump(fitted)
    assert parse(text.encode(), "f") == fitted
    assert len(text) < 20_000
    for word in ("secret", "acme", "zen", "job-"):
        assert word not in text, word
    assert fit(source, about="a test", batch_gap_s=10) == fitted  # no draw in it


def test_no_row_is_copied(source: Trace, fitted: Parameters) -> None:
    """Rows of (gap, run time, GPUs) recur no more than in a look-alike with each column shuffled."""
    made = generate_jobs(fitted, jobs=60_000, seed=9)

    def triples(trace: Trace, shuffle: int | None = None) -> Any:
        rng = np.random.default_rng(shuffle)
        columns = [np.diff(np.asarray(trace.jobs["submit_s"])), np.asarray(trace.jobs["duration_s"])[1:],
                   np.asarray(trace.jobs["gpus"], float)[1:]]  # fmt: skip
        if shuffle is not None:
            columns = [rng.permutation(c) for c in columns]
        return np.stack(columns, axis=1)

    known = {tuple(row) for row in triples(source).tolist()}
    found, chance = (
        np.mean([tuple(row) in known for row in rows.tolist()]) for rows in (triples(made), triples(made, 1))
    )
    assert found <= chance * 1.3 + 0.01, (found, chance)

    # no run of three rows is anywhere in the source
    def runs(rows: Any) -> list[Any]:
        windows = np.lib.stride_tricks.sliding_window_view(rows, 3, 0).reshape(len(rows) - 2, 9)
        return [tuple(row) for row in windows.tolist()]

    once = set(runs(triples(source)))
    again = [run in once for run in runs(triples(made))]
    assert np.mean(again) < 1e-3


def test_jobs_of_cpu_alone_are_left_out() -> None:
    """What is generated asks for GPUs."""
    trace = generate_jobs("openb", jobs=200, seed=3)
    rows = trace.jobs.to_pylist()
    more = [{**row, "job_id": f"c{n}", "gpus": 0, "cpu_milli": 500} for n, row in enumerate(rows)]
    both = sorted(rows + more, key=lambda row: float(row["submit_s"]))
    mixed = dataclasses.replace(trace, jobs=pa.Table.from_pylist(both, schema=trace.jobs.schema))
    assert mixed.jobs.num_rows == 400
    assert fit(mixed, batch_gap_s=10.0) == fit(trace, batch_gap_s=10.0)


def test_quantiles_rest_on_a_crowd() -> None:
    values = np.exp(np.random.default_rng(3).normal(5, 2, 1000))
    table = quantiles(values)
    inner = sorted(table)[1:-1]
    assert all(min(p, 1 - p) * 1000 >= CROWD for p in inner)
    assert len(table) <= 20
    assert as_table(table).mean() == pytest.approx(values.mean(), rel=0.02)
    # one job does not show: whatever the longest is, only the mean moves
    more = values.copy()
    more[np.argmax(more)] *= 1.5
    changed = quantiles(more)
    assert {p: changed[p] for p in inner} == {p: table[p] for p in inner}
    assert max(table.values()) not in values
    for few in (values[:25], np.array([60.0] * 30), np.array([1.0, 2.0, 3.0] * 5)):
        small = quantiles(few)
        assert as_table(small).mean() == pytest.approx(few.mean(), rel=0.05)


def test_quantiles_of_whole_numbers_keep_their_mean() -> None:
    sizes = np.random.default_rng(4).geometric(0.4, 5000).astype(float)
    table = quantiles(sizes, whole=True)
    assert Table.of_quantiles(table).mean(whole=True) == pytest.approx(sizes.mean(), rel=0.02)


def test_ties_are_spread_over_their_step() -> None:
    spread = spread_ties(np.array([0.0, 2.0, 0.0, 0.0, 0.0]), 1.0)
    assert spread.tolist() == [0.125, 0.375, 0.625, 0.875, 2.5]
    assert spread_ties(np.array([0.3, 0.0]), 0.0).tolist() == [0.3, 1e-6]


def test_shares_hide_the_rare() -> None:
    assert shares(pl.Series(["a"] * 85 + ["b"] * 14 + ["odd"]), 10) == {"a": 0.86, "b": 0.14}
    assert shares(pl.Series(["x", None, None, None])) == {None: 0.75, "x": 0.25}
    assert shares(pl.Series(["x", "y"]), 10) == {"x": 1.0}


def test_batches_by_hand() -> None:
    rows = pl.DataFrame(
        {
            "submit_s": [0.0, 5, 6, 12, 30, 31],
            "tenant": ["a", "a", "b", "a", "a", "a"],
            "user": [None] * 6,
            "gpus": [1, 1, 1, 1, 1, 2],
            "duration_s": [1.0, 2, 3, 4, 5, 6],
        },
        schema_overrides={"user": pl.String},
    )
    found = batches_of(rows, 10)
    b = found["batch"].to_list()
    assert b[0] == b[1] == b[3]  # 0, 5, 12: the one of b in between is another's
    assert len({b[0], b[2], b[4], b[5]}) == 4  # too late; another GPU count
    assert found["gap_s"].to_list() == [None, 5, None, 7, None, None]
    assert found["before_s"].to_list() == [None, 1, None, 2, None, None]


@pytest.mark.parametrize("seeds", [range(5), range(5, 10), range(10, 15)])
def test_the_gap_of_batches_is_found_whatever_the_seeds(
    source: Trace, seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine in ten pauses of the process are up to 9 s; beyond, an owner's next job is of another batch."""
    monkeypatch.setattr(fit_module, "_SEEDS", seeds)
    assert fit_module._best_gap(source, "UTC") in (10, 30)


@pytest.mark.parametrize("mean_s", [20, 200])
def test_jobs_that_come_by_chance_are_in_no_batch(mean_s: float) -> None:
    """However many pauses are short, the longer gaps that would join them are not even tried."""
    rng = np.random.default_rng(5)
    frame = pl.DataFrame(
        {
            "job_id": [str(i) for i in range(5000)],
            "submit_s": np.cumsum(rng.exponential(mean_s, 5000)),
            "duration_s": rng.exponential(1000, 5000),
            "gpus": np.ones(5000),
        }
    )
    trace = Trace(to_arrow(frame, {"tenant": "all", "gpu_share": 1.0}), "chance", "chance", None, 5000)
    assert fit_module._likely_gaps(trace) == [0.5]
    assert fit(trace).batches.jobs_by_gpus == fit(trace, batch_gap_s=0.5).batches.jobs_by_gpus


def test_a_gap_that_one_seed_makes_nearest_is_passed_over(
    source: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {0.5: (0.90, 0.80, 0.90), 3.0: (0.20, 0.22, 0.21), 10.0: (0.05, 0.40, 0.41)}  # by seed
    asked: list[float] = []

    def measured(*_: object, **__: object) -> dict[str, Any]:
        gap_s, seed = divmod(len(asked), 3)
        asked.append(gap_s)
        distances = dict.fromkeys(("dispersion.1min", "dispersion.10min"), None)
        known = {**distances, "gap.ks": list(shown.values())[gap_s][seed]}
        return {"measures": {name: {"distance": distance} for name, distance in known.items()}}

    few = dataclasses.replace(source, jobs=source.jobs.slice(0, 500))
    monkeypatch.setattr(fit_module, "_SEEDS", (0, 1, 2))
    monkeypatch.setattr(fit_module, "_likely_gaps", lambda _: list(shown))
    monkeypatch.setattr(quality, "check", measured)
    assert fit_module._best_gap(few, "UTC") == 3.0


def test_small_and_odd_traces(source: Trace) -> None:
    few = dataclasses.replace(source, jobs=source.jobs.slice(0, 60))
    p = fit(few)
    assert generate_jobs(p, jobs=1000, seed=1).jobs.num_rows == 1000
    for count in (0, 1, 49):
        with pytest.raises(TraceError, match=r"jobs over .* are too few to fit"):
            fit(dataclasses.replace(source, jobs=source.jobs.slice(0, count)))
    with pytest.raises(TraceError, match="batch_gap_s: -1 is not above 0"):
        fit(source, batch_gap_s=-1)
    with pytest.raises(TraceError, match="no time zone 'Mars'"):
        fit(source, zone="Mars")


GIVEN = {
    "job_id", "submit_s", "duration_s", "gpus", "gpu_share", "tenant", "gpu_model", "priority",
}  # fmt: skip


def test_what_only_some_sources_know() -> None:
    n = 400
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "job_id": [str(i) for i in range(n)],
            "submit_s": np.sort(rng.uniform(0, 40 * 86400, n)),
            "duration_s": rng.integers(0, 1000, n).astype(float),
            "gpus": [1] * (n - 3) + [2, 3, 700],  # no count but 1 is common
            "gpu_share": [0.5, 1.0] * (n // 2),
            "tenant": [f"t{i % 80}" for i in range(n)],  # five jobs each
            "gpu_model": ["A10" if i % 4 else None for i in range(n)],
            "priority": [i % 2 for i in range(n)],
        }
    ).with_columns(
        **{
            c.name: pl.lit(None, pl.Float64 if c.numeric else pl.String)
            for c in COLUMNS
            if c.name not in GIVEN
        }
    )
    p = fit(Trace(to_arrow(frame), "mine", "mine.csv", None, n))
    assert p.gpu_count_share == {1: 1.0}
    assert p.gpu_share_of_single == pytest.approx({0.5: 0.5, 1.0: 0.5}, abs=0.01)
    assert (p.status, p.workload_class, p.clock) == (None, None, None)
    assert p.gpu_model_share == pytest.approx({"A10": 0.75, None: 0.25})
    assert p.priority_share == pytest.approx({0: 0.5, 1: 0.5})
    assert [(t.name, t.count, t.users) for t in p.tenants] == [("others", 80, 0)]
    assert p.arrivals.time_step_s == 0
    assert p.arrivals.weekday_rate == [1.0] * 7  # no dates
    made = generate_jobs(p, jobs=1000, seed=1)
    assert set(made.jobs["gpu_model"].to_pylist()) == {"A10", None}
