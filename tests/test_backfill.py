"""Backfilling: exact small cases, a plain second simulator, and that nobody is later than promised."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.oracle import SCANS
from model.support import A100, V100, History, Job, cohort, read, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.policies.backfill import Line

TRUE: dict[str, Any] = {"source": "duration"}


def simulate(
    jobs: Sequence[Job],
    cohorts: Sequence[dict[str, Any]] | None = None,
    maintenance: Sequence[dict[str, Any]] = (),
    **scheduler: Any,
) -> History:
    """Replay *jobs* under *scheduler*; estimates are the true run times unless it says otherwise."""
    rules = {"estimate": TRUE, **scheduler}
    words = text(cohorts or [cohort()], [workload()], scheduler=rules, maintenance=list(maintenance))
    with tempfile.TemporaryDirectory() as folder:
        run = experiment.run(scenario.parse(words, "test"), Path(folder) / "run", traces={"w": trace(jobs)})
        return read(run.path)


# EASY, by hand


def test_a_job_that_ends_by_the_reservation_goes_ahead() -> None:
    """Of 8 GPUs 6 run until 10, so the head (4) starts then; 2 GPUs are free for what ends by 10."""
    jobs = [Job(0, 10, 6), Job(1, 5, 4), Job(1, 9, 1), Job(1, 9, 1), Job(2, 8, 1)]
    assert simulate(jobs, queue="easy").starts == [0, 10, 1, 1, 10]  # at 2 none is free


def test_a_job_that_would_delay_the_head_waits() -> None:
    """At 10 the head takes all 8: 2 GPUs are free until then, and 9.5 from 1 on is too long."""
    jobs = [Job(0, 10, 6), Job(1, 5, 8), Job(1, 9.5, 2), Job(1, 9, 2)]
    assert simulate(jobs, queue="easy").starts == [0, 10, 15, 1]


def test_a_long_job_may_have_what_the_head_leaves_over() -> None:
    """At 10 all 8 are free and the head takes 5: three may go to jobs that run on; 2 are free now."""
    jobs = [Job(0, 10, 6), Job(1, 5, 5), Job(1, 100, 2), Job(1, 100, 2)]
    assert simulate(jobs, queue="easy").starts == [0, 10, 1, 15]  # at 10: 8 - 2 - 5 = 1 is free


def test_only_the_head_has_a_reservation() -> None:
    """The second in line could start at 12; job 3 delays it to 21, since it does not delay the first."""
    jobs = [Job(0, 10, 4), Job(0, 12, 2), Job(1, 2, 4), Job(1, 2, 8), Job(1, 20, 2)]
    assert simulate(jobs, queue="easy").starts == [0, 0, 10, 21, 1]


def test_the_reservation_is_on_the_node_that_is_free_first() -> None:
    """Two nodes of 4. Node 0 has 3 free and one job until 20, node 1 has 1 free and jobs until 10: the head
    (4) is promised node 1 at 10. A long job may take the 3 of node 0, but not the one of node 1."""
    jobs = [Job(0, 20, 1), Job(0, 3, 3), Job(0, 10, 3), Job(4, 1, 4), Job(5, 99, 3), Job(5, 99, 1)]
    run = simulate(jobs, [cohort(nodes=2, gpus_per_node=4)], queue="easy")
    assert run.starts == [0, 0, 0, 10, 5, 11]
    assert (run.where(3), run.where(4), run.where(5)) == ([(1, 4)], [(0, 3)], [(1, 1)])
    by_count = simulate(jobs, [cohort(nodes=2, gpus_per_node=4)], queue="easy", placement="pool")
    assert by_count.starts == [0, 0, 0, 4, 5, 5]  # 8 - 1 - 3 = 4 are free at 4, wherever they are


def test_a_gang_is_promised_whole_nodes() -> None:
    """Three nodes of 4, running until 10, 20 and 30; the head (8) takes the first two of them at 20, and a
    job longer than that may start on the third alone."""
    jobs = [Job(0, 10, 3), Job(0, 20, 3), Job(0, 30, 3), Job(1, 1, 8), *[Job(2, 99, 1)] * 3, Job(2, 18, 1)]
    run = simulate(jobs, [cohort(nodes=3, gpus_per_node=4)], queue="easy")
    assert run.starts[3:] == [20, 2, 21, 21, 2]
    assert run.where(3) == [(0, 4), (1, 4)]
    assert run.where(4) == [(2, 1)]


def test_the_pool_where_the_head_starts_first_is_promised() -> None:
    """An A100 is free at 10, a V100 (slower: 4.5 / 0.45 = 10) at 10 / 0.45 = 22.2: the head goes to the
    A100, and a long job may take the V100 at 22.2 though the head might have run there."""
    jobs = [Job(0, 10), Job(0, 10), Job(1, 5), Job(2, 99, gpu_model=V100)]
    run = simulate(jobs, [cohort(gpus_per_node=1), cohort(V100, gpus_per_node=1)], queue="easy")
    assert run.starts == [0, 0, 10, 10 / 0.45]


def test_a_job_that_outruns_its_estimate_is_expected_to_end_at_once() -> None:
    """Believed: half the run time. Job 0 is to end at 5; when it does not, the head may start at any moment,
    so job 3 (which would hold up to the head's 8 GPUs) does not start even though job 0 runs until 10."""
    jobs = [Job(0, 10, 4), Job(1, 5, 8), Job(2, 6, 1), Job(6, 0.5, 1)]
    run = simulate(jobs, queue="easy", estimate={"factor": 0.5})
    assert run.starts == [0, 10, 2, 15]


def test_limits_of_the_trace_are_what_counts() -> None:
    """Job 2 runs for 1 s, but its limit is 60: it must wait; job 3 has no limit and gets the default, 5."""
    jobs = [
        Job(0, 10, 6, estimate_s=10.0),
        Job(1, 5, 8, estimate_s=5.0),
        Job(1, 1, 1, estimate_s=60.0),
        Job(1, 1, 1),
    ]
    assert simulate(jobs, queue="easy", estimate={"source": "trace", "default": 5}).starts == [0, 10, 15, 1]


def test_only_as_many_jobs_are_looked_at_as_the_depth_says() -> None:
    jobs = [Job(0, 10, 6), Job(1, 5, 8), Job(1, 99, 1), Job(1, 2, 1)]
    assert simulate(jobs, queue="easy", depth=1).starts == [0, 10, 15, 15]
    assert simulate(jobs, queue="easy", depth=2).starts == [0, 10, 15, 15]
    assert simulate(jobs, queue="easy", depth=3).starts == [0, 10, 15, 1]


def test_a_head_whose_nodes_are_yet_to_come_holds_nobody_up() -> None:
    """9 GPUs are never free before the second node comes at 50; until then everything may pass."""
    jobs = [Job(0, 5, 9), Job(1, 100, 8), Job(2, 10, 2)]
    run = simulate(jobs, [cohort(), cohort(name="late", delivered=50)], queue="easy", placement="pool")
    assert run.starts == [101, 1, 50]


@pytest.mark.parametrize("queue", ["easy", "conservative"])
def test_nodes_that_come_make_a_reservation_possible(queue: str) -> None:
    """12 GPUs are none before 20; then 8 are free, and 8 more from 100 on: 4 of those free are promised."""
    jobs = [Job(0, 100, 8), Job(1, 10, 12), Job(30, 500, 5), Job(31, 500, 4)]
    cohorts = [cohort(), cohort(name="late", delivered=20)]
    assert simulate(jobs, cohorts, queue=queue, placement="pool").starts == [0, 100, 110, 31]


@pytest.mark.parametrize("queue", ["easy", "conservative"])
def test_a_job_that_was_stopped_is_back_in_its_place(queue: str) -> None:
    """Stopped at 5 with 15 s left, it goes before who came later, from 10 to 25; by then 15 s are believed
    to be left, so the job of 14 s does not delay what waits for it."""
    jobs = [Job(0, 20, 6), Job(1, 7, 8), Job(11, 14, 1), Job(11, 14.5, 1)]
    down = [{"cohort": A100, "at": 5, "lasts": 5, "stop": True}]
    run = simulate(jobs, maintenance=down, queue=queue)
    assert run.jobs("end_s") == [25, 32, 25, 46.5]


# Against a second simulator that looks at everything at every event


@dataclass(frozen=True)
class Case:
    """A pool of GPUs, jobs in order of arrival, and what their run times are believed to be."""

    gpus: int
    jobs: list[Job]
    estimate: dict[str, Any]

    def estimates(self) -> list[float]:
        if self.estimate.get("source") == "trace":
            return [5.0 if job.estimate_s is None else job.estimate_s for job in self.jobs]
        return [job.duration_s * self.estimate.get("factor", 1.0) for job in self.jobs]


@st.composite
def job_lists(draw: st.DrawFn, most_gpus: int = 6) -> list[Job]:
    jobs: list[Job] = []
    now = 0.0
    for _ in range(draw(st.integers(1, 24))):
        jobs.append(
            Job(
                now,
                float(draw(st.sampled_from([0, 1, 2, 3, 5, 8, 13, 21, 40]))),
                draw(st.sampled_from([n for n in (1, 1, 1, 2, 2, 3, 4, 5, 6, 8, 12) if n <= most_gpus])),
                estimate_s=draw(st.sampled_from([None, 1.0, 2.0, 5.0, 10.0, 30.0])),
            )
        )
        now += draw(st.sampled_from([0, 0, 0, 0.5, 1, 3, 9]))
    return jobs


ESTIMATES = st.sampled_from([TRUE, TRUE, {"factor": 2.0}, {"factor": 0.5}, {"source": "trace", "default": 5}])


@st.composite
def counted(draw: st.DrawFn) -> Case:
    gpus = draw(st.integers(2, 6))
    return Case(gpus, draw(job_lists(gpus)), draw(ESTIMATES))


def textbook_easy(case: Case) -> list[float]:
    """EASY as in Mu'alem & Feitelson (2001), figure 2, over a number of GPUs: starts of all jobs."""
    estimates, jobs = case.estimates(), case.jobs
    start: dict[int, float] = {}
    waiting: list[int] = []
    coming = list(range(len(jobs)))
    now = 0.0
    while coming or waiting:
        times = [jobs[coming[0]].submit_s] if coming else []
        times += [start[n] + jobs[n].duration_s for n in start if start[n] + jobs[n].duration_s > now]
        while coming and jobs[coming[0]].submit_s <= now:
            waiting.append(coming.pop(0))
        running = [n for n in start if start[n] + jobs[n].duration_s > now]
        free = case.gpus - sum(jobs[n].gpus for n in running)
        while waiting and jobs[waiting[0]].gpus <= free:
            n = waiting.pop(0)
            start[n] = now
            running.append(n)
            free -= jobs[n].gpus
        zero = [n for n in running if start[n] + jobs[n].duration_s == now]
        if waiting:
            head, spare = jobs[waiting[0]], free
            ends = sorted((max(now, start[n] + estimates[n]), n) for n in running)
            shadow = inf
            for end, n in ends:
                if end > shadow:
                    break
                spare += jobs[n].gpus
                if spare >= head.gpus:
                    shadow = end
            spare -= head.gpus
            for n in waiting[1:]:
                job = jobs[n]
                if job.gpus <= free and (now + estimates[n] <= shadow or job.gpus <= spare):
                    if now + estimates[n] > shadow:
                        spare -= job.gpus
                    waiting.remove(n)
                    start[n] = now
                    free -= job.gpus
                    if not job.duration_s:
                        zero.append(n)
        if zero:
            continue  # they have ended: another pass at this time
        times = [jobs[coming[0]].submit_s] if coming else []
        times += [start[n] + jobs[n].duration_s for n in start if start[n] + jobs[n].duration_s > now]
        now = min(times, default=now)
    return [start[n] for n in range(len(jobs))]


@settings(deadline=None, max_examples=150)
@given(case=counted())
def test_easy_over_a_count_is_that_of_the_textbook(case: Case) -> None:
    run = simulate(
        case.jobs,
        [cohort(gpus_per_node=case.gpus)],
        queue="easy",
        placement="pool",
        estimate=case.estimate,
    )
    assert run.starts == textbook_easy(case)


# Nobody is later than promised


@dataclass(frozen=True)
class Fleet:
    """Pools of nodes: model, nodes, GPUs a node, and speed; jobs that may run on any of them."""

    pools: list[tuple[str, int, int, float]]
    jobs: list[Job]
    placement: str

    def run(self, **scheduler: Any) -> History:
        cohorts = [cohort(model, nodes, gpus) for model, nodes, gpus, _ in self.pools]
        return simulate(self.jobs, cohorts, placement=self.placement, **scheduler)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    pools = [
        (model, draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 4, 4])), speed)
        for model, speed in ((A100, 1.0), (V100, 0.45))[: draw(st.integers(1, 2))]
    ]
    most = max(nodes * gpus for _, nodes, gpus, _ in pools)
    return Fleet(pools, draw(job_lists(most)), draw(st.sampled_from(list(SCANS))))


def earliest(
    fleet: Fleet, gpus: int, running: dict[int, list[tuple[int, int]]], ends: dict[int, float]
) -> float:
    """When a gang of *gpus* first fits if only *running* jobs run, each until its end."""
    for at_s in sorted({-inf, *(ends[n] for n in running)}):
        first = 0
        for _, nodes, size, _ in fleet.pools:
            free = [size] * nodes
            for n, where in running.items():
                for node, held in where:
                    if ends[n] > at_s and first <= node < first + nodes:
                        free[node - first] -= held
            if SCANS[fleet.placement](free, size, gpus) is not None:
                return at_s
            first += nodes
    return inf


@settings(deadline=None, max_examples=150)
@given(fleet=fleets())
def test_the_head_is_never_later_than_its_first_reservation(fleet: Fleet) -> None:
    """Estimates are exact. Who is first in line after the pass of some instant was promised to start when it
    would fit beside those alone that ran then and were not behind it in that pass; and it does."""
    run = fleet.run(queue="easy")
    starts, ends = dict(run.jobs("job", "start_s")), dict(run.jobs("job", "end_s"))
    where = {n: run.where(n) for n in range(len(fleet.jobs))}
    for now in sorted({job.submit_s for job in fleet.jobs} | set(ends.values())):
        waiting = [n for n, job in enumerate(fleet.jobs) if job.submit_s <= now < starts[n]]
        if waiting:
            head = waiting[0]
            running = {
                n: where[n]
                for n in range(len(fleet.jobs))
                if starts[n] <= now < ends[n] and (n < head or starts[n] < now)
            }
            assert starts[head] <= earliest(fleet, fleet.jobs[head].gpus, running, ends)


@settings(deadline=None, max_examples=40)
@given(
    fleet=fleets(),
    queue=st.sampled_from(["easy", "conservative"]),
    estimate=ESTIMATES,
    depth=st.sampled_from([None, 1, 2, 5]),
)
def test_every_job_runs_once_whatever_is_believed(
    fleet: Fleet, queue: str, estimate: dict[str, Any], depth: int | None
) -> None:
    """The run's own checks hold (no GPU twice, gangs whole), every job completes, ids do not matter."""
    run = fleet.run(queue=queue, estimate=estimate, depth=depth)
    assert set(run.jobs("status")) == {"completed"}
    renamed = [replace(job, job_id=f"j{7 * n % 25:02}") for n, job in enumerate(fleet.jobs)]
    again = replace(fleet, jobs=renamed).run(queue=queue, estimate=estimate, depth=depth)
    assert again.starts == run.starts


# Conservative


Booked = tuple[float, float, int]  # from, to, GPUs


def first_time(gpus: int, size: int, span_s: float, now: float, booked: Sequence[Booked]) -> float:
    """When *gpus* of *size* GPUs are free for *span_s* beside what is booked."""
    for at_s in sorted({now, *(to for _, to, _ in booked if to > now)}):
        times = [at_s, *(frm for frm, _, _ in booked if at_s < frm < at_s + span_s)]
        used = (sum(g for frm, to, g in booked if frm <= time < to) for time in times)
        if all(gpus + of_time <= size for of_time in used):
            return at_s
    raise AssertionError("at last all is free")


@settings(deadline=None, max_examples=150)
@given(fleet=fleets(), placement=st.sampled_from(["consolidate", "pool", "spread"]))
def test_with_exact_estimates_every_job_starts_when_it_was_promised(fleet: Fleet, placement: str) -> None:
    """At its arrival each job gets the first time that all before it leave, in the pool where it is first
    (the faster one if equal), and it keeps it: nothing is late, and nothing is early."""
    fleet = replace(fleet, jobs=[replace(job, duration_s=max(1.0, job.duration_s)) for job in fleet.jobs])
    booked: list[list[Booked]] = [[] for _ in fleet.pools]
    promised: list[float] = []
    for job in fleet.jobs:
        found = [
            (
                first_time(job.gpus, nodes * size, job.duration_s / speed, job.submit_s, booked[k]),
                k,
                job.duration_s / speed,
            )
            for k, (_, nodes, size, speed) in enumerate(fleet.pools)
            if job.gpus <= nodes * size
        ]
        at_s, k, span_s = min(found)
        booked[k].append((at_s, at_s + span_s, job.gpus))
        promised.append(at_s)
    assert replace(fleet, placement=placement).run(queue="conservative").starts == promised


@settings(deadline=None, max_examples=150)
@given(case=counted())
def test_early_ends_bring_reservations_forward_in_order_of_arrival(case: Case) -> None:
    """All estimates are too long, each by another factor. When a job ends early each that waits, in order,
    gets the first time that all others leave; so nobody is ever later than at first promised."""
    jobs = [
        replace(job, duration_s=max(1.0, job.duration_s), estimate_s=max(1.0, job.duration_s) * (1 + n % 4))
        for n, job in enumerate(case.jobs)
    ]
    slot: dict[int, float] = {}
    first: dict[int, float] = {}
    done: dict[int, float] = {}
    now = 0.0

    def book(*but: int) -> list[Booked]:
        return [
            (at_s, at_s + (jobs[n].estimate_s or 0.0), jobs[n].gpus)
            for n, at_s in slot.items()
            if n not in but and n not in done
        ]

    while len(done) < len(jobs):
        ended = {
            n
            for n, at_s in slot.items()
            if n not in done and at_s <= now and at_s + jobs[n].duration_s <= now
        }
        done |= dict.fromkeys(ended, now)
        early = any(slot[n] + (jobs[n].estimate_s or 0.0) > now for n in ended)
        for n in sorted(slot):
            if early and n not in done and slot[n] >= now:
                others = book(n)
                slot[n] = min(
                    slot[n], first_time(jobs[n].gpus, case.gpus, jobs[n].estimate_s or 0.0, now, others)
                )
        for n, job in enumerate(jobs):
            if job.submit_s <= now and n not in slot:
                slot[n] = first_time(job.gpus, case.gpus, job.estimate_s or 0.0, now, book())
                first[n] = slot[n]
        times = [job.submit_s for job in jobs] + [at_s + jobs[n].duration_s for n, at_s in slot.items()]
        times += list(slot.values())
        now = min((time for time in times if time > now), default=now)
    run = simulate(
        jobs,
        [cohort(gpus_per_node=case.gpus)],
        queue="conservative",
        placement="pool",
        estimate={"source": "trace"},
    )
    assert run.starts == [slot[n] for n in range(len(jobs))]
    assert all(slot[n] <= first[n] for n in first)


# The waiting jobs of one shape


@settings(max_examples=100)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "add", "late", "remove", "first"]), st.integers(0, 30)), max_size=80
    )
)
def test_a_line_finds_the_first_job_that_is_short_enough(steps: list[tuple[str, int]]) -> None:
    line, plain = Line(1, ()), dict[int, float]()
    coming = 100
    for step, number in steps:
        if step == "add":
            line.add(coming, number)
            plain[coming] = number
            coming += 1
        elif step == "late" and number not in plain:
            line.add(number, 7.0)
            plain[number] = 7.0
        elif step == "remove" and plain:
            gone = sorted(plain)[number % len(plain)]
            line.remove(gone)
            del plain[gone]
        assert line.first(number) == min((n for n, left_s in plain.items() if left_s <= number), default=-1)
        assert line.count == len(plain)
