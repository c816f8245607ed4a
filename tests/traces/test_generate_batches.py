"""The generator of batches: exact shares, load, streams, and the parameter files it takes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fleetsim_traces import Trace, TraceError
from fleetsim_traces.distributions import Table, draw, scores_of_ranks
from fleetsim_traces.generate import FAMILIES, generate_jobs, gpu_seconds_per_job
from fleetsim_traces.generate_marginals import FAMILIES as MARGINALS
from fleetsim_traces.parameters import Parameters, dump, load_family, parse
from fleetsim_traces.quality import dispersion
from fleetsim_traces.table import schema

PLAIN: dict[str, Any] = {
    "version": 1,
    "kind": "jobs",
    "about": "a plain family",
    "source": "made for a test",
    "jobs_per_day": 2400.0,
    "arrivals": {},
    "batches": {"jobs_by_gpus": {1: {0.5: 1}}, "gap_s": {0.5: 2}},
    "gpu_count_share": {1: 0.5, 4: 0.5},
    "duration_s_by_gpus": {1: {0.5: 600}, 4: {"mu": 5, "sigma": 1, "max": 1e6}},
    "tenants": [{"name": "a", "jobs_share": 1.0}],
}


def family(**changes: Any) -> Parameters:
    return Parameters.model_validate({**PLAIN, **changes})


def frame(trace: Trace) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(trace.jobs))


def test_table_of_a_log_normal() -> None:
    table = Table.of_log_normal(2.0, 0.5, 1e12)
    assert table.at(np.array([0.0, 1.0, -2.0])) == pytest.approx(np.exp([2.0, 2.5, 1.0]))
    assert table.mean() == pytest.approx(np.exp(2 + 0.125), rel=1e-4)  # exp(mu + sigma^2 / 2)
    assert Table.of_log_normal(2.0, 0.5, 10).at(np.array([5.0])) == pytest.approx([10])
    assert Table.of_log_normal(2.0, 0.0, 1e12).mean() == pytest.approx(np.exp(2))
    # the 16th and 84th percentile are a standard deviation away: two points say the same
    two = Table.of_quantiles({0.15865525: np.exp(1.5), 0.84134475: np.exp(2.5)})
    assert two.at(np.array([-0.5, 0.5])) == pytest.approx(np.exp([1.75, 2.25]))
    assert two.at(np.array([9.0])) == pytest.approx([np.exp(2.5)])
    with pytest.raises(ValueError, match="rise"):
        Table.of_quantiles({0.1: 5, 0.9: 4})


def test_draws_come_from_their_own_table() -> None:
    tables = [Table.of_quantiles({0.5: float(v)}) for v in (3, 5, 7)]
    which = np.array([2, 0, 2, 1])
    assert draw(tables, which, np.zeros(4)).tolist() == pytest.approx([7, 3, 7, 5])
    assert scores_of_ranks(np.array([5.0, 1.0, 3.0])) == pytest.approx([0.9674, -0.9674, 0], abs=1e-3)


@pytest.mark.parametrize("name", [f for f in FAMILIES if f not in MARGINALS])
def test_every_family_generates(name: str) -> None:
    p = load_family(name)
    trace = generate_jobs(name, jobs=3000, seed=1)
    assert trace.jobs.schema.equals(schema(), check_metadata=True)
    assert (trace.format, trace.generated, trace.rows_read) == (f"{name}-like", True, 3000)
    jobs = frame(trace)
    assert jobs["submit_s"].is_sorted()
    assert jobs["job_id"].n_unique() == 3000
    assert set(jobs["gpus"]) <= {g for t in p.tenants for g in (t.gpu_count_share or p.gpu_count_share)}
    assert jobs["duration_s"].min() >= 1  # type: ignore[operator]
    again = generate_jobs(name, jobs=3000, seed=1)
    assert trace.jobs.equals(again.jobs, check_metadata=True)
    assert parse(dump(p).encode(), name) == p  # what is written reads the same
    assert "http" not in p.source or "github" in p.source
    assert len(p.source) > 40, "every figure has a source"


def test_gpu_time_is_what_the_tables_say() -> None:
    p = family()
    # half the jobs 1 x 600 s, half 4 x exp(5 + 1/2)
    expected = 0.5 * 600 + 0.5 * 4 * np.exp(5.5)
    assert gpu_seconds_per_job(p) == pytest.approx(expected, rel=1e-4)
    jobs = frame(generate_jobs(p, jobs=200_000, seed=3))
    assert (jobs["gpus"] * jobs["duration_s"]).mean() == pytest.approx(expected, rel=0.01)


def test_load_of_gpus() -> None:
    p = load_family("philly-tenants")
    trace = generate_jobs(p, days=365, load=0.8, gpus=500, seed=2)
    jobs = frame(trace)
    busy = (jobs["gpus"] * jobs["duration_s"]).sum() / (365 * 86400)
    assert busy == pytest.approx(400, rel=0.1)  # heavy tails: a year still varies by some per cent
    assert jobs.height == round(365 * 0.8 * 500 * 86400 / gpu_seconds_per_job(p))


def test_batches_share_owner_and_size() -> None:
    p = family(
        batches={
            "jobs_by_gpus": {1: {0.5: 3}, 4: {0.5: 1}},
            "gap_s": {0.5: 2.5},
            "duration_correlation": 1.0,
            "same_again_share": 0.0,
        },
        duration_s_by_gpus={1: {0.1: 10, 0.9: 9000}},
        tenants=[{"name": "a", "jobs_share": 1.0, "users": 50}],
        jobs_per_day=24.0,
    )
    jobs = frame(generate_jobs(p, jobs=6000, seed=4))
    shares = jobs["gpus"].value_counts(normalize=True).sort("gpus")["proportion"].to_list()
    assert shares == pytest.approx([0.5, 0.5], abs=0.03)  # of jobs, not of batches
    ones = jobs.filter(pl.col("gpus") == 1)
    triples = ones.head(ones.height // 3 * 3)
    gaps = triples["submit_s"].diff().to_list()
    within = [g for i, g in enumerate(gaps) if i % 3]
    assert np.mean(np.array(within) == 2) > 0.95  # 2.5 s, in whole steps; a few batches overlap
    groups = triples["duration_s"].to_numpy().reshape(-1, 3)
    assert np.mean(groups.max(axis=1) == groups.min(axis=1)) > 0.9  # correlation 1: one run time


def test_same_again_repeats_the_job_before() -> None:
    p = family(
        batches={"jobs_by_gpus": {1: {0.5: 5}}, "gap_s": {0.5: 9.5}, "same_again_share": 1.0},
        gpu_count_share={1: 1.0},
        duration_s_by_gpus={1: {0.1: 10, 0.9: 90_000}},
        jobs_per_day=10.0,
    )
    jobs = frame(generate_jobs(p, jobs=500, seed=4))
    assert jobs.select("submit_s", "duration_s").n_unique() == 100


@pytest.mark.parametrize(("level_s", "bursty", "calm"), [(60, 60, 1), (3600, 3600, 10), (86400, 86400, 60)])
def test_load_factors_act_at_their_scale(level_s: int, bursty: int, calm: int) -> None:
    p = family(arrivals={"load_cv_by_s": {level_s: 1.0}, "time_step_s": 0.0}, jobs_per_day=28_800.0)
    submit_s = frame(generate_jobs(p, jobs=1_000_000, seed=6))["submit_s"].to_numpy()
    mean = 28_800 * bursty / 86_400
    # variance of a mixed Poisson count is m + m^2 cv^2
    assert dispersion(submit_s, bursty) == pytest.approx(1 + mean, rel=0.6)
    below = dispersion(submit_s, calm)
    assert below == pytest.approx(1 + 28_800 * calm / 86_400, rel=0.6)


def test_hours_weekdays_and_status() -> None:
    hours, week = [0.0] * 24, [0.0] * 7
    hours[9], hours[10], week[2] = 18.0, 6.0, 7.0
    p = family(
        arrivals={"hour_rate": hours, "weekday_rate": week},
        duration_s_by_gpus={1: {0.1: 10, 0.9: 1000}},
        status=[{"up_to_s": 100, "share": {"failed": 1.0}}, {"share": {"completed": 0.5, None: 0.5}}],
    )
    start = datetime(2024, 1, 1, 8, 30, tzinfo=UTC)  # a Monday
    jobs = frame(generate_jobs(p, days=70, start=start, seed=5))
    clock = (jobs["submit_s"].to_numpy() + 8.5 * 3600) / 3600
    assert set((clock // 24 % 7).astype(int)) == {2}
    hour, count = np.unique((clock % 24).astype(int), return_counts=True)
    assert hour.tolist() == [9, 10]
    assert count[0] / count.sum() == pytest.approx(0.75, abs=0.01)
    short = jobs["duration_s"] <= 100
    assert set(jobs.filter(short)["status"]) == {"failed"}
    assert jobs.filter(~short)["status"].null_count() / (~short).sum() == pytest.approx(0.5, abs=0.02)


def test_tenants_groups_and_users() -> None:
    p = family(
        tenants=[
            {"name": "big", "jobs_share": 0.5, "users": 3, "user_head_share": [0.8], "user_exponent": 0.0,
             "gpu_count_share": {2: 1.0}, "duration_s_by_gpus": {2: {0.5: 7}}},
            {"name": "others", "count": 2, "jobs_share": 0.5, "exponent": 1.0},
        ],
        gpu_share_of_single={0.5: 1.0},
        priority_share={3: 1.0},
        gpu_model_share={"A100": 0.25, None: 0.75},
        workload_class="batch",
    )  # fmt: skip
    jobs = frame(generate_jobs(p, jobs=60_000, seed=8))
    share = {t: n / 60_000 for t, n in jobs["tenant"].cast(pl.String).value_counts().iter_rows()}
    assert share == pytest.approx({"big": 0.5, "others-01": 1 / 3, "others-02": 1 / 6}, abs=0.01)
    big = jobs.filter(pl.col("tenant") == "big")
    assert (set(big["gpus"]), set(big["duration_s"])) == ({2}, {7.0})
    users = big["user"].cast(pl.String).value_counts(sort=True)
    assert users["user"][0] == "big-user-001"
    assert (users["count"] / big.height).to_list() == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert jobs.filter(pl.col("tenant") != "big")["user"].null_count() == 30_000 + (30_000 - big.height)
    parts = jobs.group_by("gpus").agg(pl.col("gpu_share").unique())
    assert {g: s[0] for g, s in parts.iter_rows()} == {1: 0.5, 2: 1.0, 4: 1.0}
    assert set(jobs["priority"]) == {3}
    assert jobs["gpu_model"].null_count() / 60_000 == pytest.approx(0.75, abs=0.01)
    assert set(jobs["workload_class"]) == {"batch"}


def test_a_file_is_a_family(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(dump(family()))
    trace = generate_jobs(path, jobs=40, seed=1)
    assert trace.format == "mine-like"
    assert trace.jobs.equals(generate_jobs(str(path), jobs=40, seed=1).jobs)
    assert trace.jobs.equals(generate_jobs(family(), jobs=40, seed=1).jobs)


def test_every_problem_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        """\
version: 1
kind: jobs
about: x
source: y
jobs_per_day: -3
arrivals: {hour_rates: [1], load_cv_by_s: {60: -1}}
batches: {jobs_by_gpus: {1: {0.5: 2, 0.9: 1}}, gap_s: {mu: 1, sigma: .nan, max: 3}}
gpu_count_share: {1: 0.5, 2: 0.2}
duration_s_by_gpus: {0: {0.5: 3}}
tenants: [{name: "a/b", jobs_share: 1}]
workload_class: trainings
"""
    )
    with pytest.raises(TraceError) as caught:
        generate_jobs(path)
    said = str(caught.value)
    for part in (
        "jobs_per_day: '-3'",
        "arrivals.hour_rates: unknown key",
        "arrivals.load_cv_by_s.60: '-1'",
        "batches.jobs_by_gpus.1: a mapping: quantiles must be above 0 and rise",
        "batches.gap_s.sigma: 'nan'",
        "gpu_count_share: a mapping: shares add to 0.7, not to 1",
        "duration_s_by_gpus.0",
        "tenants.0.name: 'a/b'",
        "workload_class: 'trainings': 'trainings' is not a class",
    ):
        assert part in said, part
    assert said.count(str(path)) == len(caught.value.problems) >= 9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tenants": [{"name": "a", "jobs_share": 0.5}]}, "jobs_share of all add to 0.5"),
        (
            {"tenants": [{"name": "a", "jobs_share": 0.5}, {"name": "a", "jobs_share": 0.5}]},
            "two are called a",
        ),
        ({"arrivals": {"load_cv_by_s": {61: 1.0}}}, "61 s is not a block length"),
        ({"status": [{"share": {"x": 1.0}}, {"up_to_s": 3, "share": {"x": 1.0}}]}, "up_to_s must rise"),
        (
            {"tenants": [{"name": "a", "jobs_share": 1, "users": 1, "user_head_share": [0.5, 0.2]}]},
            "2 shares that add to 0.7, 1 users",
        ),
        ({"duration_s_by_gpus": {1: 5}}, "duration_s_by_gpus.1"),
    ],
)
def test_faults_across_keys(changes: dict[str, Any], said: str) -> None:
    import yaml

    with pytest.raises(TraceError, match=said):
        parse(yaml.safe_dump({**PLAIN, **changes}).encode(), "f")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: [1", "f:1: not YAML"),
        (b"a: &x 1\nb: *x\n", "a YAML alias"),
        (b"- 1", "not a family file"),
        (b"!!python/object/apply:os.system [echo]", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
    ],
)
def test_files_that_are_no_family(text: bytes, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        parse(text, "f")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"family": "helio"}, "no family 'helio'"),
        ({"family": "nowhere.yaml"}, "no such file"),
        ({"days": 3, "jobs": 4}, "days: given together with jobs"),
        ({"days": -1}, "days: -1 is not above 0"),
        ({"days": float("nan")}, "days: nan is not above 0"),
        ({"load": 0.5}, "load and gpus go together"),
        ({"load": 0.5, "gpus": 10, "jobs_per_day": 5}, "load: given together with jobs_per_day"),
        ({"load": float("nan"), "gpus": 10}, "load: nan of 10"),
        ({"jobs_per_day": float("inf")}, "jobs_per_day: inf"),
        ({"jobs": 0}, "jobs: 0 is not from 1"),
        ({"seed": -1}, "seed: -1 is negative"),
        ({"start": datetime(2024, 1, 1)}, "has no UTC offset"),
        ({"family": "philly", "days": 3}, "philly takes no days"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        generate_jobs(**{"family": family(), **options})


def test_more_jobs_begin_alike() -> None:
    """The rate does not shift what jobs ask for."""
    slow, fast = (frame(generate_jobs(family(), jobs=500, seed=3, jobs_per_day=r)) for r in (100, 1e6))
    for name in ("gpus", "duration_s"):
        assert sorted(slow[name]) == sorted(fast[name]), name
