"""What every queue and every placement must keep to, whatever it decides."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import History, Job, cohort, simulate

from fleetsim.policies.placement import COUNTING, PLACEMENTS
from fleetsim.policies.queue import QUEUES

#: What a queue needs beside its name.
NEEDS: dict[str, dict[str, Any]] = {
    "easy": {"estimate": {"factor": 2.0}},
    "conservative": {"estimate": {"factor": 2.0}},
    "max_min": {"interval": 20},
}

#: Every queue, and those that may stop jobs in each of their ways.
RULES: dict[str, dict[str, Any]] = {
    **{name: {"queue": name, **NEEDS.get(name, {})} for name in QUEUES},
    **{
        f"{name}, skip": {"queue": name, "on_misfit": "skip"}
        for name in ("smallest", "sjf", "qssf", "priority")
    },
    **{f"{name}, skip": {"queue": name, "on_misfit": "skip"} for name in ("fair_share", "drf", "quota")},
    **{
        f"{name}, preemptive": {"queue": name, "preemptive": True}
        for name in ("smallest", "sjf", "priority", "quota")
    },
    "srtf, count": {"queue": "srtf", "admit": "count"},
    "srsf, afresh": {"queue": "srsf", "admit": "afresh"},
    "fifo, ticks": {"queue": "fifo", "interval": 15},
    "srtf, costs": {
        "queue": "srtf",
        "restart": {
            "setup": "2s",
            "costs": [{"up_to_gpus": 4, "cost": "5s"}, {"cost": "9s"}],
            "checkpoint": "7s",
        },
    },
}

#: Rules under which no job waits that fits on the free GPUs, where only their number counts.
CONSERVING = (
    "fifo_skip", "srtf", "srsf", "las", "gittins", "smallest, skip", "sjf, skip", "qssf, skip",
    "priority, skip", "fair_share, skip", "drf, skip", "quota, skip", "smallest, preemptive",
    "sjf, preemptive", "priority, preemptive", "srsf, afresh",
)  # fmt: skip

NODES, SIZE = 4, 4


def fleet() -> list[dict[str, Any]]:
    """Four nodes of four, two to a rack."""
    return [cohort(nodes=NODES, gpus_per_node=SIZE, topology={"nodes_per_rack": 2})]


def jobs_of(seed: int, count: int = 40) -> list[Job]:
    """Jobs of four tenants, close enough together that many wait."""
    draws = np.random.default_rng(seed)
    submit_s = np.cumsum(draws.integers(0, 12, count)) * 1.0
    return [
        Job(
            float(submit_s[i] - submit_s[0]),
            float(draws.integers(1, 90)),
            int(draws.choice([1, 1, 2, 3, 4, 6, 8])),
            tenant=f"t{draws.integers(4)}",
            user=f"u{draws.integers(3)}",
            priority=int(draws.integers(3)),
        )
        for i in range(count)
    ]


def run(jobs: list[Job], rule: str, placement: str = "best_fit") -> History:
    rules = dict(RULES[rule])
    return simulate(jobs, fleet(), queue=rules.pop("queue"), placement=placement, scheduler=rules)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("rule", RULES)
def test_no_gpu_twice_gangs_whole_and_all_work_done(rule: str, placement: str) -> None:
    jobs = jobs_of(seed=len(rule) * 31 + len(placement))
    history = run(jobs, rule, placement)
    rows = history["allocations"].select("job", "attempt", "node", "gpus", "start_s", "end_s").rows()
    at: dict[int, list[tuple[float, int]]] = {}
    spans: dict[tuple[int, int], tuple[float, float]] = {}
    held: dict[tuple[int, int], int] = {}
    for job, attempt, node, gpus, start_s, end_s in rows:
        at.setdefault(node, []).extend([(start_s, gpus), (end_s, -gpus)])
        assert spans.setdefault((job, attempt), (start_s, end_s)) == (start_s, end_s)
        held[job, attempt] = held.get((job, attempt), 0) + gpus
    for changes in at.values():
        used = np.cumsum([gpus for _, gpus in sorted(changes)])  # what ends comes first
        assert used.max() <= SIZE and used[-1] == 0
    for (job, attempt), (start_s, end_s) in spans.items():
        assert held[job, attempt] == jobs[job].gpus
        assert jobs[job].submit_s <= start_s <= end_s
    for (job, attempt), (next_job, following) in pairwise(sorted(spans)):
        if job == next_job:
            assert following == attempt + 1 and spans[job, attempt][1] <= spans[job, following][0]
    assert history.jobs("status") == ["completed"] * len(jobs)  # and the audit has found all their work


@pytest.mark.parametrize("rule", RULES)
def test_names_of_jobs_change_nothing(rule: str) -> None:
    jobs = jobs_of(seed=5)
    named = [replace(job, job_id=f"job-{97 * i % 101}") for i, job in enumerate(jobs)]
    assert run(jobs, rule).jobs("start_s", "end_s") == run(named, rule).jobs("start_s", "end_s")


@pytest.mark.parametrize("placement", ["pool", "spread", "consolidate", "topology"])
@pytest.mark.parametrize("rule", CONSERVING)
def test_no_job_waits_that_fits(rule: str, placement: str) -> None:
    assert placement in COUNTING
    history = run(jobs_of(seed=7, count=60), rule, placement)
    rows = history["allocations"].select("job", "start_s", "end_s", "gpus").rows()
    gpus_of = dict(enumerate(history.jobs("gpus")))
    submit_s = dict(enumerate(history.jobs("submit_s")))
    for now in sorted({time for _, start, end, _ in rows for time in (start, end)} | set(submit_s.values())):
        runs = {job for job, start, end, _ in rows if start <= now < end}
        done = {job for job in gpus_of if max(end for j, _, end, _ in rows if j == job) <= now}
        idle = NODES * SIZE - sum(gpus for _, start, end, gpus in rows if start <= now < end)
        waiting = [gpus_of[job] for job in gpus_of if submit_s[job] <= now and job not in runs | done]
        assert min(waiting, default=99) > idle


@settings(deadline=None, max_examples=40)
@given(
    gaps=st.lists(st.integers(0, 30), min_size=2, max_size=25),
    duration_s=st.integers(1, 60),
    queue=st.sampled_from(["srtf", "srsf", "sjf", "smallest"]),
)
def test_with_equal_jobs_no_order_is_worse_than_fifo(gaps: list[int], duration_s: int, queue: str) -> None:
    submit_s = np.cumsum([0, *gaps])
    jobs = [Job(float(s), float(duration_s)) for s in submit_s]
    fleet = [cohort(gpus_per_node=2)]
    ends = {q: simulate(jobs, fleet, queue=q).jobs("end_s") for q in ("fifo", queue)}
    assert mean(ends[queue]) <= mean(ends["fifo"])


def test_preemption_costs_what_it_says() -> None:
    """One GPU; the long job runs 0-100 s of its 1,000, yields to one of 50 s, and restarts for 20 s.

    With checkpoints every 30 s of work 90 of the 100 s are kept, 910 remain: it ends at 150 + 20 + 910.
    """
    jobs = [Job(0, 1000), Job(100, 50)]
    history = simulate(
        jobs,
        [cohort(gpus_per_node=1)],
        queue="srtf",
        scheduler={"restart": {"costs": [{"cost": "20s"}], "checkpoint": "30s"}},
    )
    assert history.jobs("start_s", "end_s", "attempts", "preemptions") == [(0, 1080, 2, 1), (100, 150, 1, 0)]
    assert history.jobs("allocated_gpu_s", "restart_gpu_s", "lost_gpu_s") == [(1030, 20, 10), (50, 0, 0)]
    columns = ("job", "attempt", "start_s", "end_s", "restart_s", "lost_s", pl.col("outcome").cast(pl.String))
    assert sorted(history["allocations"].select(columns).rows()) == [
        (0, 1, 0, 100, 0, 10, "preempted"),
        (0, 2, 150, 1080, 20, 0, "completed"),
        (1, 1, 100, 150, 0, 0, "completed"),
    ]
    # busy share of training 0.95: of 1,080 s, 20 restarting and 10 x 0.95 lost; nothing is ever idle
    assert history.hours("state") == pytest.approx(
        {
            "stalled": (20 + 1060 * 0.05) / 3600,
            "lost": 10 * 0.95 / 3600,
            "productive": 1050 * 0.95 / 3600,
        },
        rel=1e-12,
    )
    assert history["queue"].rows() == [(100, 1, 1), (150, 0, 0)]
