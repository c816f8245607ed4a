"""Laws of every history: random fleets, jobs, queues and placements, judged from the run folder alone.

And what must not matter does not: names, cohorts nobody may use, later jobs, the unit of time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model import oracle
from model.oracle import Nodes
from model.support import A100, P100, T4, V100, History, Job, cohort, simulate, workload

QUEUES = ("fifo", "fifo_skip")
PLACEMENTS = ("best_fit", "first_fit", "consolidate", "pool")


@dataclass(frozen=True)
class Case:
    """A fleet and its jobs."""

    fleet: list[Nodes]
    jobs: list[Job]
    queue: str
    placement: str
    prefer: str
    horizon_s: float

    def run(self, **changes: Any) -> History:
        """Replay it; *changes* replace scenario keys (``jobs``, ``cohorts`` and ``workloads`` among them)."""
        keys: dict[str, Any] = {
            "cohorts": [described(nodes) for nodes in self.fleet],
            "workloads": [workload(gpu_models=[A100, V100, T4])],
            "queue": self.queue,
            "placement": self.placement,
            "prefer": self.prefer,
            "horizon": "drain" if self.horizon_s == inf else self.horizon_s,
            "sites": [{"name": "main"}, {"name": "south", "pue": 1.1}],
            "usage_period": "hour",
        }
        return simulate(changes.pop("jobs", self.jobs), **{**keys, **changes})

    @property
    def submitted(self) -> list[Job]:
        """Jobs that come before the horizon."""
        return [job for job in self.jobs if job.submit_s < self.horizon_s]


def described(nodes: Nodes) -> dict[str, Any]:
    return cohort(
        nodes.model,
        nodes.nodes,
        nodes.gpus_per_node,
        name=nodes.name,
        delivered=nodes.delivered_s,
        site=nodes.site,
    )


@st.composite
def job_lists(draw: st.DrawFn) -> list[Job]:
    """Up to 25 jobs within 100 s, many at the same instants, and one at 200 s."""
    jobs: list[Job] = []
    now = 0.0
    for _ in range(draw(st.integers(0, 24))):
        jobs.append(
            Job(
                now,
                float(draw(st.sampled_from([0, 1, 3, 5, 10, 20, 60]))),
                draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 8])),
                tenant=draw(st.sampled_from(["a", "b", "c"])),
                workload_class=draw(st.sampled_from([None, "interactive", "fine_tuning"])),
                gpu_model=draw(st.sampled_from([None] * 6 + [A100, V100, T4])),
                min_memory_gb=draw(st.sampled_from([None] * 4 + [16.0, 40.0, 90.0])),
                gpu_share=draw(st.sampled_from([1.0] * 9 + [0.5])),
            )
        )
        now = min(100.0, now + draw(st.sampled_from([0, 0, 0, 1, 5, 20])))
    return [*jobs, Job(200.0 if jobs else 0.0, 1.0, tenant="a")]


@st.composite
def cases(draw: st.DrawFn, models: tuple[str, ...] = (A100, V100, T4)) -> Case:
    horizon_s = draw(st.sampled_from([inf, inf, 5.0, 60.0, 150.0, 300.0]))
    size = draw(st.integers(1, 4))
    fleet = [
        Nodes(
            f"c{n}",
            draw(st.sampled_from(models)),
            draw(st.integers(1, 3)),
            size if len(models) == 1 else draw(st.sampled_from([size, size, 2])),
            draw(st.sampled_from([-1000.0, 0.0, 1.0, 20.0, 33.0, 250.0])) if n else 0.0,
            "main" if len(models) == 1 else draw(st.sampled_from(["main", "main", "south"])),
        )
        for n in range(draw(st.integers(1, 3)))
    ]
    return Case(
        [nodes for nodes in fleet if nodes.delivered_s < horizon_s],
        draw(job_lists()),
        draw(st.sampled_from(QUEUES)),
        draw(st.sampled_from(PLACEMENTS)),
        draw(st.sampled_from(["fastest", "slowest", "listed"])),
        horizon_s,
    )


def pieces(run: History) -> dict[int, list[dict[str, Any]]]:
    """Allocations by job."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in run["allocations"].rows(named=True):
        found[row["job"]].append(row)
    return found


# The laws


def no_node_holds_more_than_it_has(case: Case, run: History) -> None:
    """Swept in order of time, ends before starts of the same instant; nothing on a node not yet up."""
    size = [c.gpus_per_node for c in case.fleet for _ in range(c.nodes)]
    up_s = dict(run["node_states"].select("node", "time_s").rows())
    changes: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for start, end, node, gpus in run["allocations"].select("start_s", "end_s", "node", "gpus").rows():
        assert up_s[node] <= start <= end <= run.manifest["end_s"]
        assert 0 < gpus <= size[node]
        if start < end:
            changes[node] += [(start, gpus), (end, -gpus)]
    for node, of_node in changes.items():
        held = 0
        for _, gpus in sorted(of_node):  # at equal times the negative ones come first
            held += gpus
            assert held <= size[node]


def gangs_are_whole(case: Case, run: History) -> None:
    """All GPUs of a job at once, on distinct nodes of one pool, from one start to one end."""
    pool_of = [c.pool for c in case.fleet for _ in range(c.nodes)]
    rows = pieces(run)
    started = run["jobs"].filter(pl.col("start_s").is_not_null())
    assert set(rows) == set(started["job"].to_list())
    for job in started.rows(named=True):
        of_job = rows[job["job"]]
        assert sum(row["gpus"] for row in of_job) == job["gpus"]
        assert {(row["start_s"], row["end_s"]) for row in of_job} == {(job["start_s"], job["end_s"])}
        assert {row["outcome"] for row in of_job} == {job["status"]}
        assert len({row["node"] for row in of_job}) == len(of_job) == job["nodes"]
        assert len({pool_of[row["node"]] for row in of_job}) == 1
        assert {row["gpu_model"] for row in of_job} == {job["gpu_model"]}


def times_are_in_order(case: Case, run: History) -> None:
    """Submission, start, end; a completed job took its time at its card's speed; a drained run left none."""
    end_s = run.manifest["end_s"]
    for job in run["jobs"].rows(named=True):
        if job["status"] in ("rejected", "queued"):
            assert job["start_s"] is job["end_s"] is job["wait_s"] is job["gpu_model"] is None
            assert (job["reject_reason"] is None) == (job["status"] == "queued")
            continue
        assert job["submit_s"] <= job["start_s"] <= job["end_s"] <= end_s
        assert job["wait_s"] == job["start_s"] - job["submit_s"]
        speed = 1.0 if job["workload_class"] == "interactive" else oracle.MODELS[job["gpu_model"]][1]
        full = job["start_s"] + job["reference_duration_s"] / speed
        assert full == job["end_s"] if job["status"] == "completed" else full > job["end_s"] == end_s
        allocated = job["gpus"] * (job["end_s"] - job["start_s"])
        assert job["allocated_gpu_s"] == pytest.approx(allocated, rel=1e-12)
    statuses = set(run.jobs("status"))
    assert statuses <= {"completed", "rejected"} or case.horizon_s < inf
    assert run["jobs"].height == len(case.submitted)


def the_run_ends_when_it_should(case: Case, run: History) -> None:
    """At the horizon, or with the last job: its end, or its submission if nothing can ever run it."""
    last = max((*run["jobs"]["end_s"].drop_nulls(), *run["jobs"]["submit_s"]))
    assert run.manifest["end_s"] == (case.horizon_s if case.horizon_s < inf else last)


def strict_fifo_overtakes_nobody(case: Case, run: History) -> None:
    """In order of arrival starts never decrease, and behind a job that never starts nobody does."""
    if case.queue != "fifo":
        return
    eligible = run["jobs"].filter(pl.col("status") != "rejected")["start_s"].to_list()
    starts = [inf if start is None else start for start in eligible]
    assert starts == sorted(starts)


def strict_placements_keep_shape(case: Case, run: History) -> None:
    """Up to a node's size on one node; above it whole nodes, and one more for a remainder."""
    if case.placement not in ("best_fit", "first_fit"):
        return
    size_of = [c.gpus_per_node for c in case.fleet for _ in range(c.nodes)]
    for rows in pieces(run).values():
        size = size_of[rows[0]["node"]]
        whole, rest = divmod(sum(row["gpus"] for row in rows), size)
        assert sorted(row["gpus"] for row in rows) == ([rest] if rest else []) + [size] * whole


def hours_add_up(case: Case, run: History) -> None:
    """For every cohort the hours of all states are its GPUs times its time in service; none is negative."""
    end_s = run.manifest["end_s"]
    hours = run.hours("cohort")
    for nodes in case.fleet:
        gpus = nodes.nodes * nodes.gpus_per_node
        installed = gpus * max(0.0, end_s - max(0.0, nodes.delivered_s)) / 3600
        assert hours.get(nodes.name, 0.0) == pytest.approx(installed, rel=1e-9, abs=1e-12)
    assert (run["usage"]["gpu_hours"].to_numpy() > 0).all()
    allocated = run["usage"].filter(pl.col("state").cast(pl.String).is_in(["stalled", "productive"]))
    held_s = float(run["jobs"]["allocated_gpu_s"].sum())
    assert float(allocated["gpu_hours"].sum()) * 3600 == pytest.approx(held_s, rel=1e-9, abs=1e-9)


def the_queue_is_that_of_the_jobs(case: Case, run: History) -> None:
    """The integral of the queue to the end is the sum of all waits, those that go on at the end included."""
    end_s = run.manifest["end_s"]
    waited = sum(
        (end_s if start is None else start) - submit
        for submit, start, status in run.jobs("submit_s", "start_s", "status")
        if status != "rejected"
    )
    times = [*run["queue"]["time_s"].to_list(), end_s]
    jobs = run["queue"]["jobs_waiting"].to_list()
    steps = zip(times, times[1:], jobs, strict=False)
    assert sum((b - a) * n for a, b, n in steps) == pytest.approx(waited, rel=1e-9, abs=1e-9)
    assert all(n >= 0 for n in jobs)


LAWS = (
    no_node_holds_more_than_it_has,
    gangs_are_whole,
    times_are_in_order,
    the_run_ends_when_it_should,
    strict_fifo_overtakes_nobody,
    strict_placements_keep_shape,
    hours_add_up,
    the_queue_is_that_of_the_jobs,
)


def judge(case: Case, run: History) -> None:
    """Each of LAWS, and the history of the second simulator, job by job: starts, ends, nodes, statuses."""
    for law in LAWS:
        law(case, run)
    expected = oracle.replay(
        case.submitted, case.fleet, case.horizon_s, case.queue == "fifo_skip", case.placement, case.prefer
    )
    rows = pieces(run)
    found = [
        oracle.Outcome(
            start, end, status, tuple(sorted((row["node"], row["gpus"]) for row in rows.get(job, ())))
        )
        for job, start, end, status in run.jobs("job", "start_s", "end_s", "status")
    ]
    assert found == expected


@settings(deadline=None, max_examples=150)
@given(case=cases())
def test_laws_of_every_history(case: Case) -> None:
    judge(case, case.run())


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("queue", QUEUES)
def test_a_longer_history_agrees_with_the_second_simulator(queue: str, placement: str) -> None:
    """500 jobs at times of no pattern on ten nodes of three kinds, busy and with queues."""
    draws = np.random.default_rng(len(queue + placement))
    times = np.cumsum(draws.exponential(30.0, 500)).tolist()
    sizes = draws.choice([1, 1, 1, 2, 3, 4, 6, 8, 12], 500).tolist()
    long_s = draws.lognormal(5.0, 1.2, 500).tolist()
    kinds = draws.choice(["training", "interactive"], 500).tolist()
    jobs = [
        Job(at - times[0], runs, gpus, tenant="a", workload_class=kind)
        for at, runs, gpus, kind in zip(times, long_s, sizes, kinds, strict=True)
    ]
    fleet = [
        Nodes("a", V100, 3, 4, -1.0),
        Nodes("b", A100, 4, 4, 0.0),
        Nodes("c", A100, 2, 4, 4321.5),
        Nodes("d", T4, 1, 8, 0.0),
    ]
    case = Case(fleet, jobs, queue, placement, "fastest", inf)
    run = case.run()
    assert (run["jobs"]["wait_s"].to_numpy() > 0).sum() > 100
    judge(case, run)


@settings(deadline=None, max_examples=40)
@given(case=cases(models=(A100,)))
def test_skip_ahead_conserves_work(case: Case) -> None:
    """One pool and only the number of GPUs counts: after no event a job waits that would fit."""
    case = replace(case, queue="fifo_skip", placement="pool")
    run = case.run()
    jobs = [job for job in run["jobs"].rows(named=True) if job["status"] != "rejected"]
    for now in moments(run):
        installed = sum(c.nodes * c.gpus_per_node for c in case.fleet if c.delivered_s <= now)
        held = sum(
            job["gpus"] for job in jobs if job["start_s"] is not None and job["start_s"] <= now < job["end_s"]
        )
        for job in jobs:
            if job["submit_s"] <= now and (job["start_s"] is None or job["start_s"] > now):
                assert installed - held < job["gpus"]


def moments(run: History) -> Iterator[float]:
    """Every instant at which something happened, but the end of the run, after which there is no pass."""
    jobs = run["jobs"]
    times = {*jobs["submit_s"].to_list(), *jobs["start_s"].to_list(), *jobs["end_s"].to_list()}
    times |= set(run["node_states"]["time_s"].to_list())
    return (now for now in sorted(times - {None}) if now < run.manifest["end_s"])


# What must not matter


@settings(deadline=None, max_examples=25)
@given(case=cases())
def test_ids_change_nothing_but_ids(case: Case) -> None:
    run = case.run()
    names = [f"job-{(7919 * n) % 1009:04d}" for n in range(len(case.jobs))]
    renamed = case.run(jobs=[replace(job, job_id=name) for job, name in zip(case.jobs, names, strict=True)])
    assert renamed.jobs("job_id") == names[: len(case.submitted)]
    for table in run.tables:
        same = [column for column in run[table].columns if column != "job_id"]
        assert renamed[table].select(same).equals(run[table].select(same)), table


@settings(deadline=None, max_examples=25)
@given(case=cases(), order=st.permutations(["x", "y", "z"]))
def test_tenants_change_nothing_but_tenants(case: Case, order: list[str]) -> None:
    """Other names, sorted in another order: the same history, and the same hours under the new names."""
    new = dict(zip("abc", order, strict=True))
    run, renamed = case.run(), case.run(jobs=[replace(job, tenant=new[job.tenant]) for job in case.jobs])
    columns = [name for name in run["allocations"].columns if name != "tenant"]
    assert renamed["allocations"].select(columns).equals(run["allocations"].select(columns))
    assert renamed.jobs("tenant") == [new[tenant] for tenant in run.jobs("tenant")]
    hours = {
        (new.get(tenant), state, start): sum_h
        for (tenant, state, start), sum_h in run.hours("tenant", "state", "period_start_s").items()
    }
    assert renamed.hours("tenant", "state", "period_start_s") == pytest.approx(hours, rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(case=cases(), at_s=st.sampled_from([0.0, 1.0, 7.0, 20.0, 100.0, 199.0]))
def test_a_cohort_nobody_may_use_changes_no_start(case: Case, at_s: float) -> None:
    """It is delivered in the middle of the run; passes that it causes start nothing that would not start."""
    useless = described(Nodes("useless", P100, 2, 4, min(at_s, case.horizon_s / 2)))
    run = case.run()
    more = case.run(cohorts=[*map(described, case.fleet), useless])
    assert more.jobs("start_s", "end_s", "status") == run.jobs("start_s", "end_s", "status")
    assert (
        more["allocations"]
        .select("job", "node", "gpus")
        .equals(run["allocations"].select("job", "node", "gpus"))
    )


@settings(deadline=None, max_examples=25)
@given(case=cases())
def test_cohorts_delivered_together_may_be_split(case: Case) -> None:
    """Each cohort as cohorts of one node each: the same nodes, the same pools, the same history."""
    split = [
        replace(nodes, name=f"{nodes.name}-{n}", nodes=1) for nodes in case.fleet for n in range(nodes.nodes)
    ]
    run, other = case.run(), case.run(cohorts=[*map(described, split)])
    columns = ["job", "node", "gpus", "start_s", "end_s", "gpu_model", "power_w"]
    assert other["allocations"].select(columns).equals(run["allocations"].select(columns))
    assert sum(other.hours("state").values()) == pytest.approx(sum(run.hours("state").values()), rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(case=cases())
def test_strict_fifo_knows_nothing_of_the_future(case: Case) -> None:
    """Without the later half of the jobs the earlier half starts where it did and when it did."""
    case = replace(case, queue="fifo", horizon_s=inf)
    half = case.jobs[: len(case.jobs) // 2 + 1]
    run, first = case.run(), case.run(jobs=half)
    assert first.starts == run.starts[: len(half)]
    assert [first.where(job) for job in range(len(half))] == [run.where(job) for job in range(len(half))]


@settings(deadline=None, max_examples=25)
@given(case=cases())
def test_the_unit_of_time_does_not_matter(case: Case) -> None:
    """Everything four times as late and as long: every start and end four times as late, to the bit."""
    slow = replace(
        case,
        fleet=[replace(nodes, delivered_s=4 * nodes.delivered_s) for nodes in case.fleet],
        jobs=[replace(job, submit_s=4 * job.submit_s, duration_s=4 * job.duration_s) for job in case.jobs],
        horizon_s=4 * case.horizon_s,
    )
    run, slowed = case.run(), slow.run()
    times = [(start and 4 * start, end and 4 * end) for start, end in run.jobs("start_s", "end_s")]
    assert slowed.jobs("start_s", "end_s") == times
    assert math.fsum(slowed.hours("state").values()) == pytest.approx(
        4 * math.fsum(run.hours("state").values()), rel=1e-9
    )
