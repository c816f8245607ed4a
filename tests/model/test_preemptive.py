"""Preemptive queues against the rule itself: at every event sort all jobs, empty the cluster, fill it."""

from __future__ import annotations

import csv
import gzip
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model.support import A100, H100, History, Job, cohort, columns_trace, simulate, text, workload

from fleetsim import scenario
from fleetsim.engine import Clock, JobColumns, Replay, Restart
from fleetsim.errors import InputError
from fleetsim.fleet import Pool
from fleetsim.observer import PREEMPTED, Attempts, Observer
from fleetsim.policies.desk import Terms
from fleetsim.policies.orders import gittins
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.policies.queue import QUEUES
from fleetsim.policies.ranked import Ranked
from fleetsim.spec import SchedulerSpec

THRESHOLDS = [60.0, 300.0]

#: Rules of the scheduler by the names that Tiresias' simulator has for them.
TIRESIAS: dict[str, dict[str, Any]] = {
    "sjf": {"queue": "smallest", "preemptive": True},
    "shortest": {"queue": "srtf"},
    "shortest-gpu": {"queue": "srsf"},
    "dlas-gpu": {"queue": "las"},
}


def run(jobs: list[Job], nodes: int, gpus_per_node: int, **scheduler: Any) -> History:
    queue, placement = scheduler.pop("queue"), scheduler.pop("placement", "pool")
    fleet = [cohort(nodes=nodes, gpus_per_node=gpus_per_node)]
    return simulate(jobs, fleet, queue=queue, placement=placement, scheduler=scheduler)


@dataclass
class Running:
    """A job in the oracle."""

    job: Job
    left_s: float
    attained_gpu_s: float = 0.0
    level: int = 0
    runs: bool = False
    preemptions: int = 0
    end_s: float = inf
    starts: list[float] = field(default_factory=list)


def oracle(jobs: list[Job], gpus: int, rule: str) -> list[Running]:
    """Tiresias' loops, in whole seconds: a list, sorted stably at every event; an empty cluster filled."""
    all_jobs = [Running(job, job.duration_s) for job in jobs]
    coming = list(all_jobs)
    runnable: list[Running] = []
    levels: list[list[Running]] = [[] for _ in range(len(THRESHOLDS) + 1)]
    now = 0.0
    key: dict[str, Callable[[Running], float]] = {
        "sjf": lambda r: r.job.gpus,
        "shortest": lambda r: r.left_s,
        "shortest-gpu": lambda r: r.left_s * r.job.gpus,
    }
    while coming or runnable:
        ends = [now + r.left_s for r in runnable if r.runs]
        jumps = [
            now + (THRESHOLDS[r.level] - r.attained_gpu_s) / r.job.gpus
            for r in runnable
            if r.runs and r.level < len(THRESHOLDS) and rule == "dlas-gpu"
        ]
        after = min([*ends, *jumps, *(r.job.submit_s for r in coming[:1])])
        for r in runnable:
            if r.runs:
                r.left_s -= after - now
                r.attained_gpu_s += (after - now) * r.job.gpus
        now = after
        for r in [r for r in runnable if r.runs and r.left_s == 0]:
            r.end_s = now
            runnable.remove(r)
            levels[r.level].remove(r)
        while coming and coming[0].job.submit_s == now:
            runnable.append(coming[0])
            levels[0].append(coming.pop(0))
        for r in runnable:
            if r.runs and r.level < len(THRESHOLDS) and r.attained_gpu_s >= THRESHOLDS[r.level]:
                levels[r.level].remove(r)
                r.level += 1
                levels[r.level].append(r)
        if rule == "dlas-gpu":
            order = [r for level in levels for r in level]
        else:
            runnable.sort(key=key[rule])
            order = runnable
        free = gpus
        for r in order:
            fits = r.job.gpus <= free
            free -= r.job.gpus * fits
            if fits and not r.runs:
                r.starts.append(now)
            r.preemptions += r.runs and not fits
            r.runs = fits
        for level in levels:
            level.sort(key=lambda r: not r.runs)
    return all_jobs


@st.composite
def workloads(draw: st.DrawFn) -> list[Job]:
    """Jobs in whole seconds, close together, with many ties; thresholds are reached at whole seconds."""
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 5, 20, 30, 60]), min_size=2, max_size=14))
    submit_s = 0
    jobs = []
    for gap in [0, *gaps[1:]]:
        submit_s += gap
        gpus = draw(st.sampled_from([1, 1, 2, 4, 5]))
        jobs.append(Job(float(submit_s), float(draw(st.sampled_from([10, 30, 60, 61, 90, 200]))), gpus))
    return jobs


class Counting(Observer):
    """First start, end and number of preemptions of every job."""

    def __init__(self, jobs: int) -> None:
        self.attempts = Attempts.of(jobs, may_stop=True)
        self.first_s = [-1.0] * jobs
        self.preemptions = [0] * jobs

    def _started(self, job: int) -> None:
        if self.first_s[job] < 0:
            self.first_s[job] = self.attempts.start_s[job]

    def completed(self, job: int, /) -> None:
        self._started(job)

    def stopped(self, job: int, restart_s: float, lost_s: float, checkpoint_s: float, why: int, /) -> None:
        self._started(job)
        self.preemptions[job] += why == PREEMPTED


def replay(
    jobs: list[Job],
    nodes: int,
    gpus: int,
    restart: dict[str, Any] | None = None,
    slow: int = 0,
    **scheduler: Any,
) -> list[tuple[float, float, int]]:
    """The engine and the queue alone, without files: start, end and preemptions of each job.

    *restart* may give ``cost_s`` by GPUs, ``setup_s`` and ``every_pass``. *slow* more nodes are half as fast.
    """
    spec = SchedulerSpec.model_validate(
        {"placement": "pool", "las_thresholds_gpu_s": THRESHOLDS, **scheduler}
    )
    free = [0] * (nodes + slow)
    pools = Pool("pool", gpus, free), Pool("slow", gpus, free)
    pool_of = [pools[node >= nodes] for node in range(nodes + slow)]
    for node, pool in enumerate(pool_of):
        pool.add(node)
    sizes = sorted({job.gpus for job in jobs})
    columns = JobColumns(
        array("d", [job.submit_s for job in jobs]),
        array("d", [job.duration_s for job in jobs]),
        [job.gpus for job in jobs],
        [sizes.index(job.gpus) for job in jobs],
        [((pools[0], 1.0), (pools[1], 0.5)) if slow else ((pools[0], 1.0),)] * len(sizes),
    )
    seen = Counting(len(jobs))
    terms = Terms(spec, [], None, gpus)  # type: ignore[arg-type]  # these queues look at no other column
    restart = restart or {}
    costs = array("d", [restart.get("cost_s", lambda gpus: 0.0)(job.gpus) for job in jobs])
    costing = Restart(
        costs,
        array("d", bytes(8 * len(jobs))),
        setup_s=restart.get("setup_s", 0.0),
        moves_free=spec.placement == "pool" or spec.admit == "afresh",
        every_pass=restart.get("every_pass", False),
    )
    clock = Clock()
    model = Replay(
        clock,
        columns,
        pool_of,
        lambda desk: QUEUES[spec.queue](desk, terms),
        PLACEMENTS[spec.placement],
        seen,
        seen.attempts,
        costing,
        float(spec.interval or 0.0),
    )
    while clock.peek() < inf and not model.done:
        clock.step()
    return list(zip(seen.first_s, seen.attempts.end_s, seen.preemptions, strict=True))


@pytest.mark.parametrize(("rule", "admit"), [*((r, "place") for r in TIRESIAS), ("shortest", "afresh")])
@settings(deadline=None, max_examples=500)
@given(jobs=workloads(), gpus=st.sampled_from([5, 6, 8]))
def test_every_job_runs_when_the_rule_says(rule: str, admit: str, jobs: list[Job], gpus: int) -> None:
    expected = [(r.starts[0], r.end_s, r.preemptions) for r in oracle(jobs, gpus, rule)]
    assert replay(jobs, 1, gpus, admit=admit, **TIRESIAS[rule]) == expected


@pytest.mark.parametrize("cluster", ["2x8", "4x4", "15x4", "32x4"])
@pytest.mark.parametrize("policy", TIRESIAS)
def test_tiresias_preempts_the_same_jobs(cases: Path, cluster: str, policy: str) -> None:
    """The published simulator on its 60 jobs: start, end, time pending and preemptions of each, exactly."""
    case = cases / "tiresias-60job"
    with (case / "trace_60_job.csv").open(newline="") as file:
        jobs = [
            Job(float(r["submit_time"]), float(r["duration"]), int(r["num_gpu"]), r["job_id"])
            for r in csv.DictReader(file)
        ]
    nodes, gpus = map(int, cluster.split("x"))
    history = run(jobs, nodes, gpus, **TIRESIAS[policy])
    with (case / "expected_per_job.csv").open(newline="") as file:
        expected = {
            r["job_id"]: (float(r["start_s"]), float(r["end_s"]), int(r["preempt"]), float(r["pending_s"]))
            for r in csv.DictReader(file)
            if (r["cluster"], r["placement"], r["policy"]) == (cluster, "count", policy)
        }
    assert len(expected) == 60
    durations = {job.job_id: job.duration_s for job in jobs}
    found = {
        name: (start_s, end_s, stops, end_s - submit_s - durations[name])
        for name, submit_s, start_s, end_s, stops in history.jobs(
            "job_id", "submit_s", "start_s", "end_s", "preemptions"
        )
    }
    assert found == expected


@dataclass
class Ticked:
    """A job in the oracle of Helios."""

    job: Job
    left_s: int
    runs: bool = False
    nodes: list[int] = field(default_factory=list)  # GPUs taken of each
    start_s: float = -1.0
    end_s: float = -1.0
    preemptions: int = 0


def helios_cost_s(gpus: int) -> float:
    """What a preemption adds in Helios' simulator."""
    return 7.0 if gpus == 1 else 30.0 if gpus <= 8 else 60.0


def place(free: list[int], gpus: int) -> list[int] | None:
    """GPUs to take of each node of 8: the tightest that fits; whole nodes and the tightest for the rest."""
    taken = [0] * len(free)
    whole, rest = divmod(gpus, 8) if gpus > 8 else (0, gpus)
    empty = [n for n, left in enumerate(free) if left == 8][:whole]
    if len(empty) < whole:
        return None
    for n in empty:
        taken[n] = 8
    if rest:
        others = [(left, n) for n, left in enumerate(free) if left >= rest and not taken[n]]
        if not others:
            return None
        taken[min(others)[1]] = rest
    return taken


def helios(jobs: list[Job], nodes: int) -> list[tuple[float, float, int]]:
    """SRTF, second by second: ends, arrivals, admission by count, preemption, placement.

    A job's end is noticed a second after its work is done.
    """
    everyone = [Ticked(job, int(job.duration_s)) for job in jobs]
    coming, waiting, running = list(everyone), list[Ticked](), list[Ticked]()
    free = [8] * nodes
    now = 0
    while coming or waiting or running:
        for t in list(running):
            if t.left_s:
                t.left_s -= 1
                continue
            t.end_s = now
            running.remove(t)
            free = [a + b for a, b in zip(free, t.nodes, strict=True)]
        while coming and coming[0].job.submit_s == now:
            waiting.append(coming.pop(0))
        left, admitted, stopped = 8 * nodes, list[Ticked](), list[Ticked]()
        for t in sorted(waiting + running, key=lambda t: t.left_s):
            if t.job.gpus <= left:
                left -= t.job.gpus
                if not t.runs:
                    admitted.append(t)
            elif t.runs:
                stopped.append(t)
        for t in stopped:
            t.runs = False
            t.preemptions += 1
            t.left_s += int(helios_cost_s(t.job.gpus))
            free = [a + b for a, b in zip(free, t.nodes, strict=True)]
            running.remove(t)
            waiting.append(t)
        for t in admitted:
            if (taken := place(free, t.job.gpus)) is not None:
                free = [a - b for a, b in zip(free, taken, strict=True)]
                t.nodes, t.runs = taken, True
                t.start_s = now if t.start_s < 0 else t.start_s
                waiting.remove(t)
                running.append(t)
        now += 1
        if not waiting:  # nothing can happen before the next arrival or the next end
            nothing = min(
                [t.left_s for t in running] + [int(t.job.submit_s) - now for t in coming[:1]], default=0
            )
            now += max(0, nothing)
            for t in running:
                t.left_s -= max(0, nothing)
    return [(t.start_s, t.end_s, t.preemptions) for t in everyone]


@st.composite
def gangs(draw: st.DrawFn) -> list[Job]:
    """Jobs in whole seconds for nodes of eight."""
    submit_s = 0
    jobs: list[Job] = []
    for gap in draw(st.lists(st.sampled_from([0, 0, 1, 5, 20]), min_size=2, max_size=12)):
        submit_s += gap if jobs else 0
        gpus = draw(st.sampled_from([1, 3, 4, 6, 8, 12, 16]))
        jobs.append(Job(float(submit_s), float(draw(st.sampled_from([5, 10, 30, 31, 60, 90]))), gpus))
    return jobs


@settings(deadline=None, max_examples=300)
@given(jobs=gangs(), nodes=st.sampled_from([2, 3]))
def test_helios_srtf_second_by_second(jobs: list[Job], nodes: int) -> None:
    """A second of set-up stands for the second in which the end is noticed."""
    rules: dict[str, Any] = {"queue": "srtf", "admit": "count", "placement": "best_fit", "interval": 1}
    restart = {"cost_s": helios_cost_s, "setup_s": 1.0}
    assert replay(jobs, nodes, 8, restart, **rules) == helios(jobs, nodes)


@pytest.mark.parametrize(("cluster", "nodes", "preemptions"), [("103959", 8, 19), ("2869ce", 16, 86)])
def test_helios_srtf_on_virtual_clusters_of_philly(
    real_traces: Path, cluster: str, nodes: int, preemptions: int
) -> None:
    """Two months of real jobs, each to the second."""
    with gzip.open(real_traces / "scheduler-inputs" / "helios_philly_slice.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["vc"] == cluster]
    rows.sort(key=lambda row: (float(row["submit_time"]), int(row["seq"])))
    jobs = [
        Job(float(row["submit_time"]), float(row["duration"]), int(row["gpu_num"]), user=row["seq"])
        for row in rows
    ]
    rules: dict[str, Any] = {"queue": "srtf", "admit": "count", "placement": "best_fit", "interval": 1}
    found = replay(jobs, nodes, 8, {"cost_s": helios_cost_s, "setup_s": 1.0}, **rules)
    assert found == helios(jobs, nodes)
    assert sum(stops for _, _, stops in found) == preemptions


def muri_cost_s(gpus: int) -> float:
    """Some start-up time by size."""
    return 7.0 + gpus


def first_fit(free: list[int], size: int, gpus: int) -> bool:
    """Take *gpus* of the first node that fits, or of the first whole nodes and the first for the rest."""
    whole, rest = divmod(gpus, size) if gpus > size else (0, gpus)
    empty = [n for n, left in enumerate(free) if left == size][:whole]
    others = [n for n, left in enumerate(free) if left >= rest and n not in empty]
    if len(empty) < whole or (rest and not others):
        return False
    for n in empty:
        free[n] = 0
    if rest:
        free[others[0]] -= rest
    return True


def muri(jobs: list[Job], nodes: int, size: int, times_gpus: bool) -> list[tuple[float, float, int]]:
    """SRTF or SRSF: at every event each running job loses its start-up time, and all are placed anew."""
    everyone = [Running(job, job.duration_s) for job in jobs]
    coming, runnable = list(everyone), list[Running]()
    checked = {id(r): 0.0 for r in everyone}
    while coming or runnable:
        ends = [(checked[id(r)] + r.left_s) for r in runnable if r.runs]
        now = min([*ends, *(r.job.submit_s for r in coming[:1])])
        for r in [r for r in runnable if r.runs and checked[id(r)] + r.left_s == now]:
            r.end_s = now
            runnable.remove(r)
        while coming and coming[0].job.submit_s == now:
            runnable.append(coming.pop(0))
        for r in runnable:
            if r.runs:
                r.left_s -= max(now - checked[id(r)] - muri_cost_s(r.job.gpus), 0.0)
            checked[id(r)] = now
        runnable.sort(key=lambda r: r.left_s * (r.job.gpus if times_gpus else 1))
        free = [size] * nodes
        for r in runnable:
            fits = first_fit(free, size, r.job.gpus)
            if fits and not r.runs:
                r.starts.append(now)
            r.preemptions += r.runs and not fits
            r.runs = fits
    return [(r.starts[0], r.end_s, r.preemptions) for r in everyone]


@pytest.mark.parametrize("queue", ["srtf", "srsf"])
@settings(deadline=None, max_examples=300)
@given(jobs=workloads(), fleet=st.sampled_from([(1, 5), (1, 8), (2, 4), (3, 2), (4, 5)]))
def test_muri_interrupts_all_running_jobs_at_every_event(
    queue: str, jobs: list[Job], fleet: tuple[int, int]
) -> None:
    restart: dict[str, Any] = {"cost_s": muri_cost_s, "every_pass": True}
    rules: dict[str, Any] = {"queue": queue, "admit": "afresh", "placement": "first_fit"}
    assert replay(jobs, *fleet, restart, **rules) == muri(jobs, *fleet, queue == "srsf")


def test_of_nodes_that_one_gang_frees_its_first_is_cleared() -> None:
    """Nodes of four: a gang has node 0 and half of node 1, another job the rest of that; node 2 is free.

    At 6 one of two nodes comes that is shorter. Taken away from the end of the order the second job frees
    half of node 1, and the gang then node 0 and node 1, in this order: so the second job runs on, to 60. The
    gang has 54 s left and a restart of 7 s when the short one has ended at 16.
    """
    jobs = [Job(0, 60, 6), Job(0, 60, 2), Job(6, 10, 8)]
    restart: dict[str, Any] = {"cost_s": lambda gpus: 7.0}
    found = replay(jobs, 3, 4, restart, queue="srtf", placement="first_fit")
    assert found == [(0, 16 + 7 + 54, 1), (0, 60, 0), (6, 16, 0)]


@pytest.mark.parametrize("queue", ["srtf", "srsf", "las", "max_min"])
@settings(deadline=None, max_examples=100)
@given(jobs=workloads(), nodes=st.sampled_from([1, 2]), slow=st.sampled_from([0, 1, 2]))
@example(  # a job that starts on the slow node ranks behind others there that it went before
    [
        Job(0, 30),
        Job(10, 90, 3),
        Job(10, 200, 2),
        Job(11, 200, 3),
        Job(16, 90),
        Job(17, 20, 3),
        Job(27, 90, 4),
    ],
    1,
    1,
)
def test_what_is_remembered_of_a_search_changes_nothing(
    queue: str, jobs: list[Job], nodes: int, slow: int
) -> None:
    """A job without room is looked at again only where something has changed: no job runs at another time."""
    rules: dict[str, Any] = {"queue": queue, "placement": "best_fit"}
    rules |= {"interval": 20} if queue == "max_min" else {}
    jobs = [replace(job, gpus=min(job.gpus, 4)) for job in jobs]
    found = replay(jobs, nodes, 4, slow=slow, **rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranked, "_may_fit", lambda *_: True)
        assert found == replay(jobs, nodes, 4, slow=slow, **rules)


@pytest.mark.parametrize("queue", ["srtf", "srsf", "las"])
def test_larger_nodes_of_another_pool_are_no_room(queue: str) -> None:
    """A job for an A100 node of four comes at 10: the one there yields, the last in order, on H100, does not.

    It is the shortest for srtf and srsf, and for las the others have 40 GPU seconds or more.
    """
    jobs = [Job(0, 100, 4, gpu_model=A100), Job(1, 1000, 8, gpu_model=H100), Job(10, 5, 4, gpu_model=A100)]
    rules = {"las_thresholds_gpu_s": [30.0]} if queue == "las" else {}
    fleet = [cohort(A100, gpus_per_node=4), cohort(H100, gpus_per_node=8)]
    history = simulate(jobs, fleet, queue=queue, scheduler=rules)
    assert history.jobs("start_s", "preemptions")[2] == (10, 0)
    assert history.jobs("preemptions") == [1, 0, 0]


def test_more_attempts_than_sixteen_bits_hold() -> None:
    """On one GPU a job of 40,000 s yields 32,768 times, every other second, to a job of one second."""
    short = 32_768
    submit_s = np.concatenate([[0.0], 1.0 + 2.0 * np.arange(short)])
    jobs = columns_trace(submit_s=submit_s, duration_s=np.concatenate([[40_000.0], np.ones(short)]))
    history = simulate(jobs, [cohort(gpus_per_node=1)], queue="srtf")
    assert history.jobs("end_s", "attempts")[0] == (40_000 + short, short + 1)
    assert history["allocations"]["attempt"].max() == short + 1


@pytest.mark.parametrize(
    "restart",
    [
        {"costs": [{"up_to_gpus": 1, "cost": "5s"}, {"cost": "20s"}]},  # all of a round
        {"costs": [{"cost": "5s"}], "checkpoint": "10s", "checkpoint_cost": "5s"},  # so is that
        {"checkpoint": "never"},
        {"checkpoint": "trace"},  # which may say anything
    ],
)
def test_rounds_in_which_nothing_may_get_done(restart: dict[str, Any]) -> None:
    """Two jobs would take turns of 20 s for ever. A horizon ends that, and so do rounds of 21 s."""

    def parse(interval: str, horizon: str) -> None:
        rules = {"queue": "max_min", "interval": interval, "restart": restart}
        scenario.parse(text([cohort()], [workload()], scheduler=rules, horizon=horizon), "test")

    with pytest.raises(InputError) as caught:
        parse("20s", "drain")
    [problem] = caught.value.problems
    assert problem.place.endswith("scheduler.interval") and "for ever" in problem.message
    parse("20s", "1h")
    if restart.get("checkpoint") not in ("never", "trace"):
        parse("21s", "drain")


def test_a_run_without_jobs_is_a_run_by_gittins_too() -> None:
    assert gittins(np.zeros(0), [10.0, 20.0]) == [0.0, 0.0, 0.0]
    assert simulate([], queue="gittins", horizon="1d").manifest["jobs"] == 0
