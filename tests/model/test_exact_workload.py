"""From a trace to jobs: windows, warm starts, scaling, copies and repetition, counted by hand."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import P100, T4, V100, Job, cohort, columns_trace, simulate, workload

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
ROOMY = [cohort(nodes=1000)]


# Windows


def test_time_starts_at_the_first_submission_of_the_trace() -> None:
    """A trace whose first row was submitted at 1,000 begins at 0; `starts` shifts it."""
    jobs = [Job(1000, 5), Job(1030, 5)]
    assert simulate(jobs).jobs("submit_s") == [0, 30]
    assert simulate(jobs, workloads=[workload(starts="2min")]).jobs("submit_s") == [120, 150]
    assert simulate(jobs, workloads=[workload(starts="2026-01-02")]).jobs("submit_s") == [DAY_S, DAY_S + 30]


def test_a_window_keeps_what_is_submitted_in_it() -> None:
    """[100, 300): the job at 100 is in, the one at 300 out; times count from the opening."""
    jobs = [Job(0, 5), Job(99, 5), Job(100, 5), Job(299, 5), Job(300, 5)]
    run = simulate(jobs, workloads=[workload(window={"start": 100, "end": 300})])
    assert run.jobs("job_id", "submit_s") == [("2", 0), ("3", 199)]
    assert run.manifest["sources"]["w"]["left_out"] == {"outside the window": 3}


def test_a_selection_does_not_move_the_window() -> None:
    """Times count from the first submission of the trace, whichever of its jobs are kept."""
    jobs = [Job(0, 5, 1), Job(50, 5, 4), Job(60, 5, 8), Job(70, 5, 4, tenant="u", status="failed")]
    run = simulate(jobs, workloads=[workload(select={"min_gpus": 2, "max_gpus": 4})])
    assert run.jobs("job_id", "submit_s") == [("1", 50), ("3", 70)]
    assert run.manifest["sources"]["w"]["left_out"] == {"not selected": 2}
    assert simulate(jobs, workloads=[workload(select={"tenants": ["u"]})]).jobs("job_id") == ["3"]
    assert simulate(jobs, workloads=[workload(select={"statuses": ["failed"]})]).jobs("job_id") == ["3"]


def test_a_warm_start_runs_the_rest_of_what_ran() -> None:
    """The window opens at 400. Job 0 runs 0 to 1,000: 600 s are left; job 1 runs 100 to 600: 200 s are left.

    Job 2 (300 to 350) is over, job 3 (200 to 400) ends as the window opens, job 4 comes at 700.
    """
    jobs = [Job(0, 1000), Job(100, 500), Job(200, 200), Job(300, 50), Job(700, 10)]
    run = simulate(jobs, workloads=[workload(window={"start": 400, "warm_start": True})])
    assert run.jobs("job_id", "submit_s", "start_s", "end_s", "warm", "wait_s") == [
        ("0", 0, 0, 600, True, None),
        ("1", 0, 0, 200, True, None),
        ("4", 300, 300, 310, False, 0),
    ]
    cold = simulate(jobs, workloads=[workload(window={"start": 400})])
    assert cold.jobs("job_id", "warm") == [("4", False)]
    assert cold.manifest["sources"]["w"]["left_out"] == {"outside the window": 4}


def test_a_warm_start_counts_from_the_start_that_the_source_recorded() -> None:
    """Window from 400. Job 0 came at 0 and began at 50: 650 s are left. Job 1 began at 450: it was queued."""
    jobs = [Job(0, 1000, start_s=50), Job(10, 100, start_s=450), Job(500, 10)]
    run = simulate(jobs, workloads=[workload(window={"start": 400, "warm_start": True})])
    assert run.jobs("job_id", "end_s", "warm") == [("0", 650, True), ("2", 110, False)]


def test_warm_jobs_come_before_the_first_arrival() -> None:
    """One GPU: the job submitted as the window opens waits for the 50 s that the warm one has left."""
    jobs = [Job(0, 150), Job(100, 10)]
    window = {"start": 100, "warm_start": True}
    run = simulate(jobs, [cohort(gpus_per_node=1)], [workload(window=window)])
    assert run.jobs("job_id", "start_s", "wait_s") == [("0", 0, None), ("1", 50, 50)]


# Scaling


def test_time_scale_stretches_the_gaps_and_not_the_run_times() -> None:
    run = simulate([Job(0, 7), Job(10, 7), Job(30, 7)], workloads=[workload(time_scale=2.0)])
    assert run.jobs("submit_s", "end_s") == [(0, 7), (20, 27), (60, 67)]


def test_time_scale_comes_after_the_window() -> None:
    """Window [10, 30) of the trace's own time, then stretched by 3."""
    jobs = [Job(0, 1), Job(10, 1), Job(25, 1), Job(30, 1)]
    run = simulate(jobs, workloads=[workload(window={"start": 10, "end": 30}, time_scale=3.0)])
    assert run.jobs("job_id", "submit_s") == [("1", 0), ("2", 45)]


def many(count: int) -> list[Job]:
    """One job a minute from 0 on."""
    return [Job(60.0 * n, 1.0) for n in range(count)]


def trace_ids(job_ids: list[str]) -> list[str]:
    """Identities in the trace, without what marks copies and repetitions."""
    return [job_id.split("~")[0].split(".")[0] for job_id in job_ids]


def test_a_whole_load_multiplies_every_job() -> None:
    """Load 3 of 199 minutes: once at its own time, and twice turned round by the same time; ids unique."""
    run = simulate(many(200), workloads=[workload(load=3.0)])
    ids, submit_s = run.jobs("job_id"), run.jobs("submit_s")
    assert Counter(trace_ids(ids)) == {str(n): 3 for n in range(200)}
    assert len(set(ids)) == 600
    at = dict(zip(ids, submit_s, strict=True))
    assert [at[str(n)] for n in range(200)] == [60.0 * n for n in range(200)]
    for copy in (1, 2):
        away_s = [(at[f"{n}~0.{copy}"] - 60.0 * n) % (199 * 60) for n in range(200)]
        assert away_s == pytest.approx([away_s[0]] * 200)
        assert away_s[0] > 0
    assert submit_s == sorted(submit_s)
    assert all(0 <= at_s < 199 * 60 for name, at_s in at.items() if "~" in name)


@pytest.mark.parametrize("load", [0.5, 0.1, 2.25])
def test_a_fractional_load_is_right_on_average(load: float) -> None:
    """10,000 jobs: whole copies, and the fraction of one more, to a batch of an hour."""
    draws = columns_trace(submit_s=60.0 * np.arange(10_000), duration_s=np.ones(10_000))
    run = simulate(draws, ROOMY, [workload(load=load)])
    whole = int(load)
    each = Counter(Counter(trace_ids(run.jobs("job_id"))).values())
    assert set(each) <= {whole, whole + 1}
    assert abs(run["jobs"].height - 10_000 * load) < 60
    assert run["jobs"]["job_id"].n_unique() == run["jobs"].height


def test_ids_stay_unique_where_the_trace_uses_dots() -> None:
    """`1` and `1.1`, as job steps are written, copied and repeated: all ids differ."""
    jobs = [Job(n, 1, job_id=name) for n, name in enumerate(["1", "1.1", "1.1.1"])]
    run = simulate(jobs, [cohort()], [workload(load=2.0, repeat={"every": "1d"})], horizon="2d")
    assert len(run.jobs("job_id")) == 3 * 2 * 2
    assert run["jobs"]["job_id"].n_unique() == 3 * 2 * 2


def test_copies_of_a_warm_job_are_warm_at_the_opening_too() -> None:
    """A copy of a job that was running when the window opened was running then, not half an hour later."""
    jobs = [Job(n, 50_000.0 - n) for n in range(20)] + [Job(40_000, 1)]
    run = simulate(jobs, ROOMY, [workload(load=2.0, window={"start": 20_000, "warm_start": True})])
    warm = [(submit, end) for submit, end, is_warm in run.jobs("submit_s", "end_s", "warm") if is_warm]
    assert warm == [(0, 30_000)] * 40


# Repetition


def test_a_trace_repeats_until_the_horizon() -> None:
    """Every 100 s from 0: passes begin at 0, 100, 200; the job at 230 of the third is cut at 230.

    That is no loss: every row of the trace was replayed.
    """
    run = simulate([Job(0, 5), Job(30, 5)], workloads=[workload(repeat={"every": 100})], horizon=230)
    assert run.jobs("job_id", "submit_s") == [
        ("0", 0), ("1", 30), ("0~1", 100), ("1~1", 130), ("0~2", 200)
    ]  # fmt: skip
    assert run.manifest["sources"]["w"]["left_out"] == {}


def test_a_trace_repeats_until_a_date() -> None:
    """Until 150, though the run drains: passes at 0 and 100, without the job at 150."""
    run = simulate([Job(0, 5), Job(50, 5)], workloads=[workload(repeat={"every": 100, "until": 150})])
    assert run.jobs("submit_s") == [0, 50, 100]


@pytest.mark.parametrize(
    ("last_s", "more", "every_d"),
    [
        (0.5 * DAY_S, {}, 1),
        (1.5 * DAY_S, {}, 2),
        (1.5 * DAY_S, {"time_scale": 3.0}, 5),  # 4.5 days
        (1.5 * DAY_S, {"window": {"start": "12h"}}, 1),  # the window is a day long
        (1.5 * DAY_S, {"window": {"end": "3d"}}, 3),
    ],
)
def test_the_default_is_to_repeat_after_the_window_in_whole_days(
    last_s: float, more: dict[str, Any], every_d: int
) -> None:
    jobs = [Job(0, 5), Job(DAY_S / 2, 5), Job(last_s, 5)]
    run = simulate(jobs, workloads=[workload(repeat={}, **more)], horizon="12d")
    at = dict(run.jobs("job_id", "submit_s"))
    assert at["1~1"] - at["1"] == every_d * DAY_S
    assert at["1~2"] - at["1"] == 2 * every_d * DAY_S


def test_the_default_repetition_is_that_of_the_window_and_not_of_the_selection() -> None:
    """The trace lasts 1.5 days, so it repeats every 2 days, also for those who select its first morning only.

    (Two workloads that share a trace by tenant would otherwise drift apart.)
    """
    jobs = [Job(0, 5), Job(3600, 5), Job(1.5 * DAY_S, 5, 8)]
    run = simulate(jobs, workloads=[workload(repeat={}, select={"max_gpus": 4})], horizon="5d")
    assert run.jobs("submit_s") == [0, 3600, 2 * DAY_S, 2 * DAY_S + 3600, 4 * DAY_S, 4 * DAY_S + 3600]


def test_warm_jobs_are_not_repeated() -> None:
    """They ran when the first window opened; when the second begins, nothing new is running."""
    jobs = [Job(0, 1000), Job(500, 10)]
    window = {"start": 400, "end": 600, "warm_start": True}
    run = simulate(jobs, workloads=[workload(window=window, repeat={"every": 200})], horizon=500)
    assert run.jobs("job_id", "submit_s") == [("0", 0), ("1", 100), ("1~1", 300)]


def test_growth_compounds_over_the_years() -> None:
    """Ten jobs a day, growing by half a year, for two years.

    Day n brings 10 x 1.5^(n / 365) jobs on average. Year one: 10 x (1.5 - 1) / (1.5^(1/365) - 1) = 4,498.5;
    year two: half as many again. Jobs 2.4 hours apart are batches of one, so each day is right but for a last
    job, which is drawn with a variance of at most 1 / 4: four deviations are 4 sqrt(365 / 4) = 38.
    """
    day = [Job(8640.0 * n, 1.0) for n in range(10)]
    repeat = {"every": "1d", "growth_per_year": 0.5}
    run = simulate(day, ROOMY, [workload(repeat=repeat)], horizon="2y", usage_period="year")
    submit_s = run["jobs"]["submit_s"].to_numpy()
    first = 10 * 0.5 / (1.5 ** (1 / 365) - 1)
    assert first == pytest.approx(4498.5, abs=0.1)
    assert np.sum(submit_s < YEAR_S) == pytest.approx(first, abs=38)
    assert np.sum(submit_s >= YEAR_S) == pytest.approx(1.5 * first, abs=38)
    assert np.sum(submit_s < DAY_S) == 10  # no growth yet
    assert run["jobs"]["job_id"].n_unique() == run["jobs"].height


def test_load_and_growth_multiply() -> None:
    """Load 2, growing by 200 % a year: after half a year 2 x 3^(1/2) = 3.46 jobs for each of the trace."""
    every_s = YEAR_S / 2
    repeat = {"every": every_s, "growth_per_year": 2.0}
    run = simulate(many(400), ROOMY, [workload(load=2.0, repeat=repeat)], horizon=YEAR_S, usage_period="year")
    submit_s = run["jobs"]["submit_s"].to_numpy()
    assert np.sum(submit_s < every_s) == 800
    assert np.sum(submit_s >= every_s) == pytest.approx(400 * 2 * sqrt(3), abs=60)


# What becomes of every row


WINDOWS = st.fixed_dictionaries(
    {"start": st.sampled_from([0, 50, 4000])},
    optional={"end": st.sampled_from([4100, 90_000]), "warm_start": st.booleans()},
)
SELECTIONS = st.sampled_from([{"min_gpus": 2}, {"max_gpus": 2}, {"tenants": ["a"]}, {"statuses": None}])


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.sampled_from([0, 1, 100, 3600, 40_000]), min_size=1, max_size=25),
    more=st.fixed_dictionaries(
        {},
        optional={
            "window": WINDOWS,
            "select": SELECTIONS,
            "time_scale": st.sampled_from([0.1, 3.0]),
            "starts": st.sampled_from([10, 1000]),
        },
    ),
)
def test_every_row_is_a_job_or_left_out_for_a_reason(gaps: list[int], more: dict[str, Any]) -> None:
    """Without copies and repetition: jobs + rows left out = rows; in order of submission, before the end."""
    jobs = [
        Job(
            float(sum(gaps[:n])),
            10.0 * n,
            1 + n % 4,
            tenant="ab"[n % 2],
            start_s=sum(gaps[:n]) + 30.0 * (n % 3),
        )
        for n in range(len(gaps))
    ]
    run = simulate(jobs, workloads=[workload(**more)], horizon="2d")
    assert run["jobs"].height + sum(run.manifest["sources"]["w"]["left_out"].values()) == len(gaps)
    submit_s = run.jobs("submit_s")
    assert submit_s == sorted(submit_s)
    assert all(0 <= submit < 2 * DAY_S for submit in submit_s)
    kept = [int(job_id) for job_id in run.jobs("job_id")]
    assert kept == sorted(kept)  # equal times stay in order of the trace


def test_all_submissions_at_the_horizon_are_left_out() -> None:
    """However many share that instant."""
    jobs = [Job(0, 5), *[Job(100, 5)] * 7, Job(150, 5)]
    run = simulate(jobs, horizon=100)
    assert run["jobs"].height == 1
    assert run.manifest["sources"]["w"]["left_out"] == {"submitted after the end": 8}


def test_a_load_so_low_that_nothing_is_left() -> None:
    """Ten jobs with a chance of one in a million each."""
    run = simulate(many(10), workloads=[workload(load=1e-6)], horizon="1h")
    assert run["jobs"].height == 0


# Tenants and GPU models


def test_a_job_runs_on_any_of_the_models_that_it_asks_for() -> None:
    """One Volta and one Turing: the third job that takes either waits for the first to end."""
    either = [Job(n, 100, gpu_model="Volta|Turing") for n in range(3)]
    jobs = [*either, Job(3, 10, gpu_model="Pascal"), Job(4, 10, gpu_model="Voodoo"), Job(5, 10)]
    names = {"Volta": [V100], "Turing": [T4], "Pascal": [P100]}
    fleet = [cohort(V100, gpus_per_node=1), cohort(T4, gpus_per_node=1)]
    mine = workload(reference_gpu=V100, workload_class="interactive", gpu_names=names)
    run = simulate(jobs, fleet, [mine])
    assert run.jobs("gpu_model", "start_s") == [
        (V100, 0), (T4, 1), (V100, 100), (None, None), (None, None), (T4, 101)
    ]  # fmt: skip
    assert run.manifest["rejected"] == {"no allowed GPU model": 2}
    assert run.manifest["sources"]["w"]["unknown_gpu_models"] == {"Voodoo": 1}


def test_tenants_are_mapped() -> None:
    jobs = [Job(0, 1, tenant=name) for name in ("x", "y", "z")]
    assert simulate(jobs).jobs("tenant") == ["x", "y", "z"]
    assert simulate(jobs, workloads=[workload(tenant="all")]).jobs("tenant") == ["all"] * 3
    some = workload(tenants={"one": ["x", "z"], "rest": ["*"]})
    assert simulate(jobs, workloads=[some]).jobs("tenant") == ["one", "rest", "one"]
