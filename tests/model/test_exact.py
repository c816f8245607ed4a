"""Small histories worked out by hand: who starts when and where, and why some never do."""

from __future__ import annotations

from math import sqrt

import pytest
from model.support import A100, H100, P100, T4, V100, Job, cohort, simulate, workload

HOUR_S = 3600.0
FOUR = [cohort(gpus_per_node=4)]  # one node of four GPUs
ONE = [cohort(gpus_per_node=1)]


# Gangs and queues


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
def test_a_gang_waits_for_all_its_gpus(queue: str) -> None:
    """3 of 4 GPUs are held until 100; a gang of 2 does not start on the one that is free."""
    run = simulate([Job(0, 100, 3), Job(10, 50, 2)], FOUR, queue=queue)
    assert run.jobs("start_s", "end_s") == [(0, 100), (100, 100 + 50)]
    assert run.jobs("wait_s") == [0, 100 - 10]


@pytest.mark.parametrize(("queue", "third"), [("fifo", 100), ("fifo_skip", 20)])
def test_head_of_line_blocks_strict_fifo_and_not_skip_ahead(queue: str, third: float) -> None:
    """One GPU is free from 0 on. Job 1 needs two and waits; job 2 needs one and came after it."""
    run = simulate([Job(0, 100, 3), Job(10, 50, 2), Job(20, 20, 1)], FOUR, queue=queue)
    assert run.starts == [0, 100, third]


def test_strict_fifo_blocks_across_gpu_models() -> None:
    """Job 1 may run on the busy A100 only; job 2, for the idle V100, waits behind it unless it may skip."""
    jobs = [Job(0, 100, gpu_model=A100), Job(10, 50, gpu_model=A100), Job(20, 45, gpu_model=V100)]
    fleet = [cohort(gpus_per_node=1), cohort(V100, gpus_per_node=1)]
    assert simulate(jobs, fleet, queue="fifo").starts == [0, 100, 100]
    assert simulate(jobs, fleet, queue="fifo_skip").starts == [0, 100, 20]


def test_skip_ahead_takes_the_oldest_that_fits_first() -> None:
    """At 100 two GPUs are free: job 2 (2 GPUs, at 20) goes before job 3 (1 GPU, at 30), job 1 (4) waits."""
    jobs = [Job(0, 300, 2), Job(0, 100, 2), Job(10, 50, 4), Job(20, 60, 2), Job(30, 70, 1)]
    run = simulate(jobs, FOUR, queue="fifo_skip")
    #   job 3: 100 to 160; job 4: 160 to 230; job 2 needs all four: when job 0 ends at 300
    assert run.starts == [0, 0, 300, 100, 160]


def test_skip_ahead_reserves_nothing() -> None:
    """A gang of 2 waits for ever younger single jobs that keep one of two GPUs busy, until they end."""
    jobs = [Job(0, 60), Job(10, 10, 2), *(Job(30 * n, 60) for n in range(1, 10))]
    run = simulate(jobs, [cohort(gpus_per_node=2)], queue="fifo_skip")
    #   singles start at 0, 30, ..., 270, each as it comes; the last two end at 300 and 330
    assert run.starts == [0, 330, *(30 * n for n in range(1, 10))]


# Ties


def test_a_finish_frees_gpus_for_an_arrival_of_the_same_instant() -> None:
    run = simulate([Job(0, 100), Job(100, 50)], ONE)
    assert run.jobs("start_s", "wait_s") == [(0, 0), (100, 0)]
    assert run["queue"].height == 0  # it never waited


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
def test_an_older_job_goes_before_an_arrival_of_the_instant_that_frees_its_gpus(queue: str) -> None:
    """At 100 all four GPUs are freed and job 2 (1 GPU) arrives; job 1 (4 GPUs) has waited since 10."""
    run = simulate([Job(0, 100, 4), Job(10, 50, 4), Job(100, 30, 1)], FOUR, queue=queue)
    assert run.starts == [0, 100, 150]


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
def test_all_finishes_of_an_instant_come_before_the_pass(queue: str) -> None:
    """At 100 job 1 frees a GPU of node 1 and job 2 all of node 0; job 4 sees both and takes node 0.

    Nodes of two GPUs, first fit. Job 0 holds node 0 to 50; jobs 1 and 3 share node 1, to 100 and 550; job 2
    has node 0 from 50 to 100.
    """
    jobs = [Job(0, 50, 2), Job(0, 100, 1), Job(50, 50, 2), Job(50, 500, 1), Job(60, 10, 1)]
    run = simulate(jobs, [cohort(nodes=2, gpus_per_node=2)], queue=queue, placement="first_fit")
    assert [run.where(job) for job in range(5)] == [[(0, 2)], [(1, 1)], [(0, 2)], [(1, 1)], [(0, 1)]]
    assert run.starts[4] == 100


def test_a_delivery_comes_before_an_arrival_of_the_same_instant() -> None:
    """The H100 arrives at 100, and so does a job that prefers it to the A100 that is free."""
    fleet = [cohort(A100), cohort(H100, delivered=100)]
    run = simulate([Job(0, 10), Job(100, 22)], fleet)
    assert run.jobs("gpu_model", "start_s") == [(A100, 0), (H100, 100)]


def test_finish_and_delivery_of_one_instant_share_one_pass() -> None:
    """At 100 the A100 is freed and an H100 delivered: the job that waits sees both and takes the faster."""
    fleet = [cohort(A100, gpus_per_node=1), cohort(H100, gpus_per_node=1, delivered=100)]
    run = simulate([Job(0, 100), Job(10, 22)], fleet)
    assert run.jobs("gpu_model", "start_s") == [(A100, 0), (H100, 100)]


def test_finish_delivery_and_arrival_of_one_instant() -> None:
    """At 100: job 0 ends, a second node comes, job 2 arrives. Job 1 goes first, then job 2, both at 100."""
    fleet = [cohort(gpus_per_node=2), cohort(name="new", gpus_per_node=2, delivered=100)]
    run = simulate([Job(0, 100, 2), Job(50, 10, 2), Job(100, 10, 2)], fleet)
    assert run.starts == [0, 100, 100]
    assert [run.where(job) for job in (1, 2)] == [[(0, 2)], [(1, 2)]]


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
def test_equal_submissions_go_in_the_order_of_the_trace(queue: str) -> None:
    run = simulate([Job(0, 30), Job(0, 10), Job(0, 20)], ONE, queue=queue)
    assert run.starts == [0, 30, 30 + 10]


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
def test_equal_submissions_go_in_the_order_of_workloads(queue: str) -> None:
    """Workload `z` is listed first: its jobs go before those of `a` with the same submission."""
    given = {"z": [Job(0, 10), Job(50, 10)], "a": [Job(0, 20), Job(50, 20)]}
    run = simulate(given, ONE, queue=queue)
    assert run.jobs("workload", "submit_s", "start_s") == [
        ("z", 0, 0),
        ("a", 0, 10),
        ("z", 50, 50),
        ("a", 50, 60),
    ]


# Speed


def test_a_job_on_a_slower_card_takes_longer_by_the_ratio_of_training_speeds() -> None:
    """Measured on an A100 (1.0): on a V100 (0.45) 900 s become 900 / 0.45 = 2,000 s."""
    run = simulate([Job(0, 900)], [cohort(V100)])
    assert run.jobs("end_s", "reference_duration_s") == [(pytest.approx(2000, rel=1e-12), 900)]


def test_a_job_measured_on_a_slow_card_is_faster_on_a_fast_one() -> None:
    """Measured on a V100 (0.45): on an H100 (2.2) 2,200 s become 2,200 x 0.45 / 2.2 = 450 s."""
    run = simulate([Job(0, 2200)], [cohort(H100)], [workload(reference_gpu=V100)])
    assert run.jobs("end_s") == [pytest.approx(450, rel=1e-12)]


@pytest.mark.parametrize(
    ("workload_class", "speed"),  # of an H100 against an A100: training 2.2, inference 3.0
    [
        ("training", 2.2),
        ("fine_tuning", 2.2),
        ("inference", 3.0),
        ("batch", sqrt(2.2 * 3.0)),
        ("interactive", 1.0),
    ],
)
def test_speed_is_that_of_the_class(workload_class: str, speed: float) -> None:
    """Whether the scenario or the trace names it."""
    by_workload = simulate([Job(0, 990)], [cohort(H100)], [workload(workload_class=workload_class)])
    by_trace = simulate([Job(0, 990, workload_class=workload_class)], [cohort(H100)])
    for run in (by_workload, by_trace):
        assert run.jobs("workload_class", "end_s") == [
            (workload_class, pytest.approx(990 / speed, rel=1e-12))
        ]


def test_the_class_of_the_workload_goes_before_that_of_the_trace() -> None:
    """A scenario that names a class means all its jobs: the trace's `interactive` (speed 1) gives way."""
    jobs = [Job(0, 990, workload_class="interactive")]
    run = simulate(jobs, [cohort(H100)], [workload(workload_class="inference")])
    assert run.jobs("workload_class", "end_s") == [("inference", pytest.approx(330, rel=1e-12))]


def test_each_workload_has_its_own_reference() -> None:
    """100 s on a P100 (0.13) are 13 s on an A100; 100 s on a T4 (0.15) are 15 s."""
    run = simulate(
        {"p": [Job(0, 100)], "t": [Job(0, 100)]},
        workloads=[workload("p", reference_gpu=P100), workload("t", reference_gpu=T4)],
    )
    assert run.jobs("end_s") == [pytest.approx(13, rel=1e-12), pytest.approx(15, rel=1e-12)]


# Preference among models


@pytest.mark.parametrize(
    ("prefer", "order"),
    [("fastest", [H100, A100, V100]), ("slowest", [V100, A100, H100]), ("listed", [A100, V100, H100])],
)
def test_prefer_orders_the_models_that_are_tried(prefer: str, order: list[str]) -> None:
    """One GPU of each; the first job takes the favourite, the next what is left."""
    fleet = [cohort(model, gpus_per_node=1) for model in (A100, V100, H100)]
    run = simulate([Job(0, 1000)] * 3, fleet, prefer=prefer)
    assert run.jobs("gpu_model") == order
    assert run.starts == [0, 0, 0]


@pytest.mark.parametrize("prefer", ["fastest", "slowest"])
def test_equal_speeds_are_tried_as_listed(prefer: str) -> None:
    """Interactive sessions last as long everywhere."""
    fleet = [cohort(model, gpus_per_node=1) for model in (V100, H100, A100)]
    run = simulate([Job(0, 10, workload_class="interactive")] * 3, fleet, prefer=prefer)
    assert run.jobs("gpu_model") == [V100, H100, A100]


def test_a_busy_favourite_is_not_waited_for() -> None:
    """The H100 is busy to 100: a job at 10 starts at once on the V100, though it would end sooner waiting."""
    fleet = [cohort(H100, gpus_per_node=1), cohort(V100, gpus_per_node=1)]
    run = simulate([Job(0, 220), Job(10, 220)], fleet)
    assert run.jobs("gpu_model", "start_s") == [(H100, 0), (V100, 10)]
    assert run.jobs("end_s") == [pytest.approx(100), pytest.approx(10 + 220 / 0.45)]


def test_cohorts_of_one_model_are_one_pool_and_sites_are_not() -> None:
    """A gang of 16 spans two cohorts of one model at one site; across two sites it can never run."""
    sites = [{"name": "north"}, {"name": "south"}]
    one = simulate([Job(0, 10, 16)], [cohort(), cohort(name="b")], sites=sites)
    assert one.where(0) == [(0, 8), (1, 8)]
    two = simulate([Job(0, 10, 16)], [cohort(), cohort(name="b", site="south")], sites=sites, horizon=5)
    assert two.jobs("status", "reject_reason") == [("rejected", "larger than any pool")]


def test_a_gang_never_mixes_models_or_node_sizes() -> None:
    """Eight A100 in a node of eight and four in a node of four are two pools: 12 GPUs fit neither."""
    fleet = [cohort(), cohort(name="half", gpus_per_node=4), cohort(V100)]
    run = simulate([Job(0, 10, 12), Job(0, 10, 8)], fleet, horizon=5)
    assert run.jobs("status") == ["rejected", "running"]


# Eligibility and rejection


def test_memory_decides_which_models_may_run_a_job() -> None:
    """16 GB on the V100, 80 GB on the A100; 16 needs no more than a V100, 16.5 an A100, 81 is on neither."""
    jobs = [Job(0, 10, min_memory_gb=16), Job(0, 10, min_memory_gb=16.5), Job(0, 10, min_memory_gb=81)]
    run = simulate(jobs, [cohort(V100), cohort(A100)], prefer="slowest")
    assert run.jobs("gpu_model", "status") == [(V100, "completed"), (A100, "completed"), (None, "rejected")]
    assert run.jobs("reject_reason") == [None, None, "not enough GPU memory"]


def test_memory_of_the_workload_holds_for_jobs_that_do_not_say() -> None:
    jobs = [Job(0, 10), Job(0, 10, min_memory_gb=4)]
    run = simulate(jobs, [cohort(V100), cohort(A100)], [workload(min_memory_gb=32)], prefer="slowest")
    assert run.jobs("gpu_model") == [A100, V100]


def test_models_of_the_workload_the_tenant_and_the_trace_must_all_agree() -> None:
    """Workload: V100, A100. Tenant `poor`: P100, V100. Trace: as each job says. Slowest first."""
    fleet = [cohort(model) for model in (P100, V100, A100)]
    jobs = [
        Job(0, 10, tenant="rich"),  # workload: V100 or A100 -> V100 is the slower
        Job(0, 10, tenant="poor"),  # and tenant -> V100
        Job(0, 10, tenant="rich", gpu_model=A100),
        Job(0, 10, tenant="poor", gpu_model=A100),  # not the tenant's
        Job(0, 10, tenant="rich", gpu_model=P100),  # not the workload's
        Job(0, 10, tenant="rich", gpu_model=H100),  # not in the fleet
        Job(0, 10, tenant="rich", gpu_model="Voodoo 2"),  # not in the catalogue
    ]
    run = simulate(
        jobs,
        fleet,
        [workload(gpu_models=[V100, A100])],
        tenants=[{"name": "rich"}, {"name": "poor", "gpu_models": [P100, V100]}],
        prefer="slowest",
    )
    assert run.jobs("gpu_model") == [V100, V100, A100, None, None, None, None]
    assert run.jobs("reject_reason") == [None] * 3 + ["no allowed GPU model"] * 4
    assert run.manifest["rejected"] == {"no allowed GPU model": 4}


def test_every_reason_for_rejection_is_counted() -> None:
    """Two nodes of eight A100: 17 GPUs, 81 GB, half a GPU and an absent model can never run."""
    jobs = [
        Job(0, 10, 16),
        Job(1, 10, 17),
        Job(2, 10, min_memory_gb=81),
        Job(3, 10, gpu_share=0.5),
        Job(4, 10, gpu_model=V100),
        Job(4, 10, 18),
    ]
    run = simulate(jobs, [cohort(nodes=2)])
    assert run.jobs("status", "reject_reason") == [
        ("completed", None),
        ("rejected", "larger than any pool"),
        ("rejected", "not enough GPU memory"),
        ("rejected", "needs part of a GPU"),
        ("rejected", "no allowed GPU model"),
        ("rejected", "larger than any pool"),
    ]
    assert run.manifest["rejected"] == {
        "larger than any pool": 2,
        "not enough GPU memory": 1,
        "needs part of a GPU": 1,
        "no allowed GPU model": 1,
    }
    for column in ("start_s", "end_s", "wait_s", "gpu_model", "nodes"):
        assert run.jobs(column)[1:] == [None] * 5


def test_rejected_jobs_never_wait_and_block_nobody() -> None:
    run = simulate([Job(0, 10), Job(1, 10, 9), Job(2, 10)])
    assert run.starts == [0, None, 2]
    assert run["queue"].height == 0


# Deliveries


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
def test_a_delivery_starts_a_waiting_job_at_once(queue: str) -> None:
    """The only node is busy to 1,000; another comes at 250."""
    fleet = [cohort(gpus_per_node=1), cohort(name="b", gpus_per_node=1, delivered=250)]
    run = simulate([Job(0, 1000), Job(10, 50)], fleet, queue=queue)
    assert run.jobs("start_s", "end_s") == [(0, 1000), (250, 300)]
    assert run.where(1) == [(1, 1)]


@pytest.mark.parametrize(("queue", "third"), [("fifo", 300), ("fifo_skip", 20)])
def test_a_job_too_large_for_today_waits_for_tomorrow(queue: str, third: float) -> None:
    """12 GPUs: eight stand, eight more come at 300. It blocks strict FIFO till then, and 4 GPUs are left."""
    run = simulate([Job(0, 5), Job(10, 50, 12), Job(20, 5, 2)], [cohort(), cohort(name="b", delivered=300)],
                   queue=queue)  # fmt: skip
    assert run.jobs("status") == ["completed"] * 3
    assert run.starts == [0, 300, third]


def test_nothing_stands_before_the_first_delivery() -> None:
    run = simulate([Job(0, 10), Job(60, 10)], [cohort(gpus_per_node=1, delivered=50)])
    assert run.jobs("start_s", "wait_s") == [(50, 50), (60, 0)]


def test_node_states_and_events_tell_of_deliveries() -> None:
    """Nodes are numbered in order of cohorts; a cohort bought at the age of a year is a year old that day."""
    fleet = [
        cohort(name="later", delivered=100, earlier_age="1y"),
        cohort(name="old", nodes=2, delivered="-1y", earlier_age="2y"),
    ]
    run = simulate([Job(0, 200)], fleet)
    year_s = 365 * 86_400
    assert run["node_states"].select("time_s", "node", "state", "cause", "cohort", "age_s").rows() == [
        (0, 1, "up", "initial", "old", 3 * year_s),
        (0, 2, "up", "initial", "old", 3 * year_s),
        (100, 0, "up", "delivery", "later", year_s),
    ]
    assert run["events"].select("time_s", "kind", "subject").rows() == [
        (0, "initial", "old"),
        (100, "delivery", "later"),
    ]


# Ends of a run


def test_a_horizon_cuts_what_runs_and_what_waits() -> None:
    """At 100: job 0 has ended, job 1 runs, job 2 waits, job 3 was never submitted."""
    run = simulate([Job(0, 40), Job(10, 500), Job(20, 5), Job(100, 5)], ONE, horizon=100)
    assert run.jobs("status", "start_s", "end_s", "allocated_gpu_s") == [
        ("completed", 0, 40, 40),
        ("running", 40, 100, 60),
        ("queued", None, None, 0),
    ]
    assert run["allocations"].select("job", "start_s", "end_s", "outcome").rows() == [
        (0, 0, 40, "completed"),
        (1, 40, 100, "running"),
    ]
    assert run.manifest["end_s"] == 100
    assert run.manifest["sources"]["w"]["left_out"] == {"submitted after the end": 1}
    #   the queue: jobs 1 and 2 come at 10 and 20, job 1 leaves at 40, job 2 never
    assert run["queue"].rows() == [(10, 1, 1), (20, 2, 2), (40, 1, 1)]


def test_a_job_that_ends_with_the_run_is_completed() -> None:
    """It ends at the horizon, to the instant; the job behind it has no time left and stays queued."""
    run = simulate([Job(0, 100), Job(10, 5)], ONE, horizon=100)
    assert run.jobs("status", "end_s") == [("completed", 100), ("queued", None)]


def test_a_drained_run_ends_with_its_last_job() -> None:
    """`drain`: until the last job has ended. 70 + 33 = 103, and no later."""
    run = simulate([Job(0, 50), Job(70, 33)])
    assert run.manifest["end_s"] == 103
    assert run["usage"]["period_end_s"].max() == 103
    assert sum(run.hours("state").values()) == pytest.approx(8 * 103 / HOUR_S, rel=1e-12)


def test_a_drained_run_does_not_wait_for_a_delivery_that_nobody_needs() -> None:
    run = simulate([Job(0, 50), Job(70, 33)], [cohort(), cohort(name="late", delivered="30d")])
    assert run.manifest["end_s"] == 103
    assert run["node_states"]["cohort"].to_list() == [A100]


def test_a_drained_run_of_nothing_is_a_run() -> None:
    """No job: no history, and books that balance."""
    run = simulate([])
    assert run.manifest["end_s"] == 0
    assert run["jobs"].height == 0


def test_a_drained_run_of_jobs_that_can_never_run_is_a_run() -> None:
    """Both jobs are rejected, and the only cohort comes when all is over."""
    run = simulate([Job(0, 10, 99), Job(5, 10, 99)], [cohort(delivered="1d")])
    assert run.jobs("status") == ["rejected", "rejected"]
    assert run.manifest["end_s"] == 5


def test_a_horizon_without_jobs_is_a_run() -> None:
    """Eight GPUs stand idle for an hour."""
    run = simulate([], horizon="1h")
    assert run.hours("state") == {"idle_no_queue": 8.0}


def test_jobs_of_no_length() -> None:
    """They wait their turn like others, hold nothing, and end as they start, in any number."""
    run = simulate([Job(0, 0), Job(0, 0), Job(0, 100), Job(10, 0), Job(20, 0), Job(20, 30)], ONE)
    assert run.jobs("start_s", "end_s") == [(0, 0), (0, 0), (0, 100), (100, 100), (100, 100), (100, 130)]
    assert run.jobs("status") == ["completed"] * 6
    assert run.jobs("allocated_gpu_s") == [0, 0, 100, 0, 0, 30]


def test_only_jobs_of_no_length() -> None:
    """All is over at the instant it began, in the middle of a month or at its beginning."""
    for start in ("2026-01-01", "2026-01-15"):
        run = simulate([Job(0, 0, 8), Job(0, 0, 8)], start=start)
        assert run.jobs("start_s", "end_s") == [(0, 0), (0, 0)]
        assert run.manifest["end_s"] == 0
        assert run["usage"]["gpu_hours"].sum() == 0
