"""Tenants apart: virtual clusters, limits in every queue, and preemptible tenants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import T4, History, Job, cohort, simulate

from fleetsim.policies.queue import QUEUES
from fleetsim.spec import BACKFILL, MAY_SPOT

Tenant = dict[str, Any]


def named(*names: str) -> list[Tenant]:
    return [{"name": name} for name in names]


def rules(queue: str) -> dict[str, Any]:
    """What *queue* needs to be told."""
    if queue in BACKFILL:
        return {"estimate": {"source": "duration"}}
    return {"interval": 5} if queue == "max_min" else {}


def nodes_of(history: History, tenant: str) -> set[int]:
    rows = history["allocations"].select("tenant", "node").rows()
    return {node for name, node in rows if name == tenant}


def most_held(history: History, *tenants: str) -> int:
    """Most GPUs that *tenants* held together at any time."""
    change: dict[float, int] = defaultdict(int)
    for tenant, gpus, start_s, end_s in (
        history["allocations"].select("tenant", "gpus", "start_s", "end_s").rows()
    ):
        if tenant in tenants:
            change[start_s] += gpus
            change[end_s] -= gpus
    held = most = 0
    for _, gpus in sorted(change.items()):
        held += gpus
        most = max(most, held)
    return most


# virtual clusters

SPLIT = [cohort(nodes=1, name="own", tenants=["a"]), cohort(nodes=1, name="rest")]


def test_a_tenant_with_nodes_of_its_own_runs_nowhere_else_and_others_not_there() -> None:
    jobs = [
        Job(0, 10, 8, tenant="a"),
        Job(0, 10, 8, tenant="a"),
        Job(0, 10, 8, tenant="b"),
        Job(0, 10, 8, tenant="c"),
    ]
    history = simulate(jobs, SPLIT)
    assert history.starts == [0, 10, 0, 10]
    assert (nodes_of(history, "a"), nodes_of(history, "b") | nodes_of(history, "c")) == ({0}, {1})


@pytest.mark.parametrize("queue", QUEUES)
def test_one_virtual_cluster_is_as_if_the_other_were_not_there(queue: str) -> None:
    """Each starts its jobs when it would alone on its nodes."""
    jobs = [
        Job(t, 7 + 3 * (t % 5), size, tenant=tenant)
        for t in range(12)
        for tenant, size in (("a", 1 + t % 8), ("b", 8 - t % 8))
    ]
    together = simulate(jobs, SPLIT, queue=queue, scheduler=rules(queue), tenants=named("a", "b"))
    for tenant, nodes in (("a", cohort(name="own")), ("b", cohort(name="rest"))):
        alone = simulate(
            [job for job in jobs if job.tenant == tenant], [nodes], queue=queue, scheduler=rules(queue),
            tenants=named("a", "b"),
        )  # fmt: skip
        starts = [start for name, start in together.jobs("tenant", "start_s") if name == tenant]
        assert starts == alone.starts


def test_cohorts_with_a_tenant_in_common_are_one_virtual_cluster() -> None:
    fleet = [cohort(name="one", tenants=["a", "b"]), cohort(T4, name="two", tenants=["b"])]
    jobs = [
        Job(0, 10, 8, tenant="a"),
        Job(0, 3, 8, tenant="b"),
        Job(1, 5, 8, tenant="a"),
        Job(2, 3, 8, tenant="b"),
    ]
    history = simulate(jobs, fleet)
    assert nodes_of(history, "a") == {0} and nodes_of(history, "b") == {0, 1}
    assert history.starts == [
        0,
        0,
        10,
        15,
    ]  # b's second job waits behind a's, though it is alone on T4: 3/.15 = 20 s


def test_who_has_no_nodes_is_rejected_with_the_reason() -> None:
    history = simulate([Job(0, 1, tenant="a"), Job(0, 1, tenant="b")], [cohort(tenants=["a"])])
    assert history.jobs("status", "reject_reason") == [
        ("completed", None),
        ("rejected", "no nodes for its tenant"),
    ]


def test_capacity_delivered_to_a_virtual_cluster_starts_its_jobs() -> None:
    fleet = [cohort(name="own", tenants=["a"], delivered=50), cohort(name="rest")]
    assert simulate([Job(0, 10, tenant="a"), Job(0, 10, tenant="b")], fleet).starts == [50, 0]


# limits


@pytest.mark.parametrize("queue", QUEUES)
def test_no_queue_lets_a_tenant_hold_more_than_its_limit(queue: str) -> None:
    jobs = [Job(t // 3, 5 + t % 7, 1 + t % 4, tenant="abc"[t % 3]) for t in range(60)]
    tenants: list[Tenant] = [
        {"name": "ab", "max_gpus": 7},
        {"name": "a", "parent": "ab", "max_gpus": 5},
        {"name": "b", "parent": "ab"},
        {"name": "c"},
    ]
    history = simulate(jobs, [cohort(nodes=2)], queue=queue, scheduler=rules(queue), tenants=tenants)
    assert set(history.jobs("status")) == {"completed"}
    assert most_held(history, "a") == 5
    assert most_held(history, "a", "b") == 7
    assert most_held(history, "c") > 7


@pytest.mark.parametrize("queue", QUEUES)
def test_a_job_held_by_its_limit_holds_up_nobody_else(queue: str) -> None:
    jobs = [Job(0, 20, 2, tenant="a"), Job(1, 20, 2, tenant="a"), Job(2, 20, 2, tenant="b")]
    tenants = [{"name": "a", "max_gpus": 3}, {"name": "b"}]
    history = simulate(jobs, queue=queue, scheduler=rules(queue), tenants=tenants)
    assert history.starts == ([0, 20, 5] if queue == "max_min" else [0, 20, 2])


def test_a_job_larger_than_a_limit_above_its_tenant_is_rejected_at_once() -> None:
    tenants: list[Tenant] = [{"name": "all", "max_gpus": 4}, {"name": "a", "parent": "all", "max_gpus": 6}]
    history = simulate([Job(0, 1, 5, tenant="a"), Job(0, 1, 4, tenant="a")], tenants=tenants)
    assert history.jobs("reject_reason") == ["larger than its tenant's limit", None]


def test_doors_open_in_the_order_of_the_jobs_before_them() -> None:
    # a and b share 4 GPUs; b's job came first to the door, and is let in first when a's has ended
    tenants: list[Tenant] = [{"name": "ab", "max_gpus": 4}, *({"name": n, "parent": "ab"} for n in "ab")]
    jobs = [
        Job(0, 10, 4, tenant="a"),
        Job(1, 10, 4, tenant="b"),
        Job(2, 10, 4, tenant="a"),
        Job(3, 10, 4, tenant="b"),
    ]
    assert simulate(jobs, tenants=tenants).starts == [0, 10, 20, 30]


# preemptible tenants

SPOT: list[Tenant] = [{"name": "firm"}, {"name": "spot", "preemptible": True}]


def spot(jobs: Sequence[Job], notice: Any = 0, nodes: int = 1, **more: Any) -> History:
    tenants: list[Tenant] = [SPOT[0], {**SPOT[1], "notice": notice}]
    return simulate(jobs, [cohort(nodes=nodes)], tenants=tenants, **more)


@pytest.mark.parametrize("queue", MAY_SPOT)
def test_a_firm_job_takes_what_it_needs_from_the_spot_jobs_started_last(queue: str) -> None:
    jobs = [*(Job(t, 100, 2, tenant="spot") for t in range(4)), Job(10, 20, 3, tenant="firm")]
    history = spot(jobs, queue=queue)
    assert history.jobs("preemptions") == [0, 0, 1, 1, 0]
    assert history.starts == [0, 1, 2, 3, 10]
    # 8 and 7 s done; the one GPU left over holds neither; both go on when the firm job ends at 30
    assert history.jobs("end_s") == [100, 101, 30 + 92, 30 + 93, 30]


def test_what_was_done_since_the_last_checkpoint_is_lost() -> None:
    jobs = [Job(0, 100, 8, tenant="spot"), Job(45, 10, 8, tenant="firm")]
    history = spot(jobs, scheduler={"restart": {"checkpoint": 20, "costs": [{"cost": 3}]}})
    # 40 of 45 s are saved; it is back at 55, needs 3 s and 60 more
    assert history.jobs("end_s") == [118, 55]
    assert history.jobs("lost_gpu_s") == [40, 0]


def test_with_notice_the_gpus_come_free_only_then() -> None:
    history = spot([Job(0, 100, 8, tenant="spot"), Job(10, 5, 8, tenant="firm")], notice=30)
    assert history.starts == [0, 40]
    assert history.jobs("end_s") == [45 + 60, 45]  # 40 s were done


def test_no_spot_job_starts_while_others_are_on_notice() -> None:
    # two GPUs are free, but the firm job waits for all eight
    jobs = [Job(0, 100, 6, tenant="spot"), Job(10, 5, 8, tenant="firm"), Job(12, 50, 2, tenant="spot")]
    history = spot(jobs, notice="30s")
    assert history.starts == [0, 40, 45]


def test_a_notice_stands_and_a_job_that_ends_before_is_done() -> None:
    # the firm job starts at 20 on what another firm job gave back; the spot job is stopped at 40 all the same
    jobs = [Job(0, 20, 4, tenant="firm"), Job(0, 100, 4, tenant="spot"), Job(10, 50, 4, tenant="firm")]
    history = spot(jobs, notice=30)
    assert history.starts == [0, 0, 20]
    assert history["allocations"].filter(job=1).select("start_s", "end_s").rows() == [(0, 40), (40, 100)]
    short = spot([Job(0, 15, 8, tenant="spot"), Job(10, 5, 8, tenant="firm")], notice=30)
    assert (short.starts, short.jobs("preemptions")) == ([0, 15], [0, 0])


def test_nothing_is_stopped_if_the_firm_job_still_does_not_fit() -> None:
    jobs = [
        Job(0, 50, 1, tenant="firm"), Job(0, 90, 7, tenant="spot"), Job(1, 50, 1, tenant="firm"),
        Job(1, 90, 7, tenant="spot"), Job(10, 5, 8, tenant="firm"),
    ]  # fmt: skip
    history = spot(jobs, nodes=2)
    assert history.starts[4] == 50
    assert history.jobs("preemptions") == [0, 1, 0, 0, 0]


def test_spot_jobs_use_what_a_firm_job_cannot() -> None:
    jobs = [Job(0, 50, 4, tenant="firm"), Job(1, 50, 8, tenant="firm"), Job(2, 10, 4, tenant="spot")]
    assert spot(jobs).starts == [0, 50, 2]


def test_firm_jobs_do_not_see_spot_jobs_at_all() -> None:
    """Without notice, the firm jobs of a workload start as if there were no others."""

    @settings(deadline=None, max_examples=30)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 30), st.integers(1, 20), st.sampled_from([1, 2, 3, 5, 8]), st.booleans()
            ),
            min_size=1,
            max_size=25,
        ),
        st.sampled_from(["fifo", "fifo_skip"]),
    )
    def check(rows: list[tuple[int, int, int, bool]], queue: str) -> None:
        jobs = [
            Job(submit_s, duration_s, gpus, tenant="firm" if firm else "spot")
            for submit_s, duration_s, gpus, firm in sorted(rows)
        ]
        jobs = [Job(0, 1, tenant="firm"), *jobs]  # time counts from the first job
        both = spot(jobs, nodes=1, queue=queue)
        firm = [job for job in jobs if job.tenant == "firm"]
        starts = [start for tenant, start in both.jobs("tenant", "start_s") if tenant == "firm"]
        assert starts == spot(firm, nodes=1, queue=queue).starts
        assert set(both.jobs("status")) == {"completed"}

    check()


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(1, 8), st.sampled_from("abcd")),
        min_size=1,
    ),
    st.sampled_from([queue for queue in MAY_SPOT if queue != "qssf"]),
    st.sampled_from([0, 7]),
    st.sampled_from(["best_fit", "consolidate", "pool"]),
)
def test_clusters_limits_and_notices_together(
    rows: list[tuple[int, int, int, str]], queue: str, notice: float, placement: str
) -> None:
    """Two clusters, one with a firm and a spot tenant, and a limit over tenants of both: nothing is lost."""
    fleet = [cohort(name="own", tenants=["a", "b"]), cohort(name="rest")]
    tenants: list[Tenant] = [
        {"name": "ac", "max_gpus": 9},
        {"name": "a", "parent": "ac"},
        {"name": "b", "preemptible": True, "notice": notice},
        {"name": "c", "parent": "ac", "preemptible": True, "max_gpus": 8},
        {"name": "d"},
    ]
    jobs = [Job(at_s, duration_s, gpus, tenant=tenant) for at_s, duration_s, gpus, tenant in sorted(rows)]
    history = simulate(jobs, fleet, queue=queue, placement=placement, tenants=tenants)
    assert set(history.jobs("status")) == {"completed"}
    assert nodes_of(history, "a") | nodes_of(history, "b") <= {0}
    assert nodes_of(history, "c") | nodes_of(history, "d") <= {1}
    assert most_held(history, "c") <= 8 and most_held(history, "a", "c") <= 9
    assert all(count == 0 for tenant, count in history.jobs("tenant", "preemptions") if tenant in "ad")
