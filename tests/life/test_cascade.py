"""The ladder, exactly: when nodes go down which rungs, and what becomes of their jobs. Times in days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest
from life.history import DAY_S, HOUR_S, attempts, story
from model.support import A100, H100, V100, History, Job, cohort, simulate, workload

B200 = "b200-sxm-180"
TOP: dict[str, Any] = {"name": "top", "classes": ["training"]}
MIDDLE: dict[str, Any] = {"name": "middle", "classes": ["inference"]}
LOW: dict[str, Any] = {"name": "low", "classes": ["batch"]}
SOLD: dict[str, Any] = {"name": "sold", "for_sale": True}


def days(*jobs: tuple[float, float, int]) -> list[Job]:
    """Jobs from (submission, run time) in days and GPUs."""
    return [Job(at * DAY_S, runs * DAY_S, gpus) for at, runs, gpus in jobs]


def run(
    jobs: Mapping[str, Sequence[Job]],
    cohorts: Sequence[dict[str, Any]],
    tiers: Sequence[dict[str, Any]],
    cascade: Mapping[str, Any] | None,
    *,
    horizon: str = "30d",
    **more: Any,
) -> History:
    """Replay *jobs* by class; numbers of jobs are in order of submission, then of classes as given."""
    words = [
        workload(name, workload_class=name, starts=of_class[0].submit_s) for name, of_class in jobs.items()
    ]
    keys = {"tiers": list(tiers), "cascade": cascade, "horizon": horizon, "queue": "fifo_skip", **more}
    return simulate(dict(jobs), cohorts, words, **keys)


def moves(run: History, node: int) -> list[tuple[float, str, str]]:
    """(day, cause, rung) of each change of *node*."""
    return [(time_s / DAY_S, cause, tier) for time_s, _, cause, tier in story(run, node)]


def ran(run: History, job: int) -> list[tuple[float, float, str, str]]:
    """(start, end, rung, outcome) of each attempt at *job*, days."""
    return [(a / DAY_S, b / DAY_S, tier, outcome) for a, b, tier, _, outcome in attempts(run, job)]


def node4(model: str = A100, nodes: int = 1, **more: Any) -> dict[str, Any]:
    return cohort(model, nodes, 4, **more)


# By age


def test_a_node_drains_first_and_what_runs_on_starts_again_from_its_checkpoint() -> None:
    """Left at 10 d, drained for 2 d. Job 0 ends at 11 d, in time. Job 1 is stopped at 12 d: of 12 d of work
    10 were saved, 2 are lost. The second cohort takes it at 15 d: an hour of restart, 10 d to go, so it ends
    at 25 d and an hour. The batch job, there since day 1, runs when the node has moved."""
    jobs = {"training": days((0, 11, 2), (0, 20, 2)), "batch": days((1, 1, 1))}
    restart = {"checkpoint": "5d", "costs": [{"cost": "1h"}]}
    h = run(
        jobs,
        [node4(name="a"), node4(name="b", delivered="15d", tier="top")],
        [TOP | {"leave_at": "10d"}, LOW],
        {"rule": "age", "drain": "2d"},
        scheduler={"restart": restart},
    )
    assert moves(h, 0) == [(0, "initial", "top"), (12, "cascade", "low")]
    assert ran(h, 0) == [(0, 11, "top", "completed")]
    assert ran(h, 1) == [(0, 12, "top", "preempted"), (15, 25 + 1 / 24, "top", "completed")]
    assert ran(h, 2) == [(12, 13, "low", "completed")]
    assert h.jobs("lost_gpu_s") == [0, 2 * 2 * DAY_S, 0]
    assert h.jobs("restart_gpu_s") == [0, 2 * HOUR_S, 0]
    # b reaches 10 d at 25 d, and waits an hour for its job
    assert moves(h, 1) == [(15, "delivery", "top"), (25 + 1 / 24, "cascade", "low")]


def test_nothing_starts_on_a_node_that_drains_though_gpus_are_free() -> None:
    jobs = {"training": days((0, 11, 1), (10.5, 1, 1), (13, 1, 1))}
    h = run(jobs, [node4()], [TOP | {"leave_at": "10d"}, LOW], {"rule": "age", "drain": "2d"})
    assert h.starts == [0, None, None]
    assert moves(h, 0) == [(0, "initial", "top"), (11, "cascade", "low")]


def test_with_no_time_to_drain_jobs_are_stopped_at_once() -> None:
    jobs = {"training": days((0, 30, 1))}
    h = run(jobs, [node4()], [TOP | {"leave_at": "10d"}, LOW], {"rule": "age", "drain": 0})
    assert moves(h, 0)[1] == (10, "cascade", "low")
    assert ran(h, 0) == [(0, 10, "top", "preempted")]


def test_old_cohorts_go_down_at_once_as_far_as_their_age() -> None:
    """Ages at the start 0, 2 and 4 years; rungs are left at 1 and 3 years."""
    tiers = [TOP | {"leave_at": "1y"}, MIDDLE | {"leave_at": "3y"}, LOW]
    jobs = {"training": days((0, 1, 4)), "inference": days((0, 1, 4)), "batch": days((0, 1, 4))}
    fleet = [node4(name=f"c{age}", delivered=f"-{age}y") for age in (0, 2)]
    h = run(jobs, [*fleet, node4(name="c4", delivered="-3y", earlier_age="1y")], tiers, {"rule": "age"})
    assert moves(h, 0) == [(0, "initial", "top")]
    assert moves(h, 1) == [(0, "initial", "top"), (0, "cascade", "middle")]
    assert moves(h, 2) == [(0, "initial", "top"), (0, "cascade", "middle"), (0, "cascade", "low")]
    assert [h.where(job) for job in range(3)] == [[(0, 4)], [(1, 4)], [(2, 4)]]
    assert h.hours("cohort", "tier") == {
        ("c0", "top"): 4 * 720, ("c2", "middle"): 4 * 720, ("c4", "low"): 4 * 720
    }  # fmt: skip


def test_the_nodes_of_a_cohort_move_each_when_it_is_empty() -> None:
    jobs = {"training": days((0, 10.5, 4), (0, 11.5, 4))}
    h = run(jobs, [node4(nodes=3)], [TOP | {"leave_at": "10d"}, LOW], {"rule": "age", "drain": "1d"})
    assert [moves(h, n)[1:] for n in range(3)] == [
        [(10.5, "cascade", "low")], [(11, "cascade", "low")], [(10, "cascade", "low")]
    ]  # fmt: skip


def test_a_gang_is_stopped_whole_with_one_of_its_nodes() -> None:
    """8 GPUs over a, which leaves at 10 d, and b, of another age in the same pool."""
    fleet = [node4(name="a"), node4(name="b", delivered="-5d")]
    tiers = [TOP | {"leave_at": "15d"}, LOW]
    h = run({"training": days((0, 30, 8))}, fleet, tiers, {"rule": "age", "drain": 0})
    assert attempts(h, 0) == [(0, 10 * DAY_S, "top", [0, 1], "preempted")]
    assert moves(h, 0)[1] == (15, "cascade", "low")
    assert h["usage"].filter(pl.col("tenant").is_not_null())["gpu_hours"].sum() == 8 * 240


# Rungs


def test_rungs_that_a_model_does_not_meet_are_passed_over() -> None:
    """The middle asks for 40 GB: the V100 (16 GB) goes from the top to the bottom, the A100 stops between."""
    tiers = [TOP | {"leave_at": "5d"}, MIDDLE | {"min_memory_gb": 40}, LOW]
    h = run({"batch": days((9, 1, 1))}, [node4(A100), node4(V100)], tiers, {"rule": "age"})
    assert moves(h, 0)[1:] == [(5, "cascade", "middle")]
    assert moves(h, 1)[1:] == [(5, "cascade", "low")]


def test_nodes_begin_on_the_first_rung_they_meet() -> None:
    tiers = [TOP | {"min_memory_gb": 80, "data_type": "fp8"}, MIDDLE | {"min_memory_gb": 40}, LOW]
    h = run({"batch": days((0, 1, 1))}, [node4(H100), node4(A100), node4(V100)], tiers, None)
    assert [moves(h, n) for n in range(3)] == [[(0, "initial", t["name"])] for t in tiers]


def test_next_goes_another_way_than_the_list() -> None:
    """From the top straight to the bottom; from the middle, where the V100 begins, to the bottom too."""
    tiers = [TOP | {"leave_at": "5d", "next": "low", "min_memory_gb": 40}, MIDDLE | {"leave_at": "8d"}, LOW]
    h = run({"batch": days((9, 1, 1))}, [node4(A100), node4(V100)], tiers, {"rule": "age"})
    assert moves(h, 0) == [(0, "initial", "top"), (5, "cascade", "low")]
    assert moves(h, 1) == [(0, "initial", "middle"), (8, "cascade", "low")]


def test_what_comes_to_a_rung_for_sale_leaves_the_fleet() -> None:
    tiers = [TOP | {"leave_at": "5d"}, SOLD]
    h = run({"training": days((0, 6, 1), (6, 1, 1))}, [node4()], tiers, {"rule": "age", "drain": "2d"})
    assert story(h, 0) == [(0, "up", "initial", "top"), (6 * DAY_S, "retired", "sale", "top")]
    assert sum(h.hours("state").values()) == pytest.approx(4 * 144, rel=1e-12)


def test_nothing_is_sold_while_it_is_under_contract() -> None:
    """Due at 5 d, let until 9 d; another rung is no sale."""
    fleet = [node4(contract_until="9d")]
    h = run({"training": days((0, 1, 1))}, fleet, [TOP | {"leave_at": "5d"}, SOLD], {"rule": "age"})
    assert moves(h, 0)[1:] == [(9, "sale", "top")]
    h = run({"batch": days((0, 1, 1))}, fleet, [TOP | {"leave_at": "5d"}, LOW], {"rule": "age"})
    assert moves(h, 0)[1:] == [(5, "cascade", "low")]
    fleet = [node4(A100, contract_until="9d"), node4(H100, delivered="4d")]
    h = run({"training": days((0, 1, 1))}, fleet, [TOP, SOLD], {"rule": "successor"})
    assert moves(h, 0)[1:] == [(9, "sale", "top")]


def test_switched_off_nobody_moves() -> None:
    jobs = {"training": days((0, 40, 4)), "batch": days((0, 1, 1))}
    tiers = [TOP | {"leave_at": "5d"}, LOW]
    h = run(jobs, [node4(delivered="-1y")], tiers, {"rule": "age", "enabled": False})
    assert moves(h, 0) == [(0, "initial", "top")]
    assert ran(h, 0) == [(0, 30, "top", "running")]
    assert h["jobs"]["reject_reason"].to_list() == [None, "no rung of the ladder for it"]


def test_jobs_wait_for_a_rung_that_nodes_will_come_to() -> None:
    """Without the ladder nothing could ever run it; with it, it waits for what comes down."""
    tiers = [TOP | {"leave_at": "5d"}, LOW]
    h = run({"batch": days((0, 1, 4), (0, 1, 5))}, [node4()], tiers, {"rule": "age"})
    assert h.starts == [5 * DAY_S, None]
    assert h["jobs"]["reject_reason"].to_list() == [None, "larger than any pool"]


def test_of_two_rungs_that_admit_a_job_the_lower_is_tried_first() -> None:
    tiers = [TOP | {"leave_at": "100d"}, {"name": "all"}]
    jobs = {"training": days((0, 1, 4), (0, 1, 4), (0, 1, 4))}
    h = run(jobs, [node4(name="new"), node4(name="old", delivered="-1y")], tiers, {"rule": "age"})
    assert [ran(h, j)[0][:3] for j in range(3)] == [(0, 1, "all"), (0, 1, "top"), (1, 2, "all")]


# By a successor


def test_a_successor_pushes_its_predecessor_down_and_that_one_the_next() -> None:
    """H100 on day 5, B200 on day 10: A100 goes to the middle, then H100 does and pushes the A100 on."""
    fleet = [node4(A100), node4(H100, delivered="5d"), node4(B200, delivered="10d")]
    h = run({"training": days((0, 1, 1))}, fleet, [TOP, MIDDLE, LOW], {"rule": "successor"})
    assert moves(h, 0) == [(0, "initial", "top"), (5, "cascade", "middle"), (10, "cascade", "low")]
    assert moves(h, 1) == [(5, "delivery", "top"), (10, "cascade", "middle")]
    assert moves(h, 2) == [(10, "delivery", "top")]


def test_as_many_successors_as_the_rule_says() -> None:
    fleet = [node4(A100), node4(H100, delivered="5d"), node4(B200, delivered="10d")]
    h = run({"training": days((0, 1, 1))}, fleet, [TOP, LOW], {"rule": "successor", "successors": 2})
    assert [moves(h, n)[1:] for n in range(3)] == [[(10, "cascade", "low")], [], []]


def test_more_of_the_same_model_pushes_nobody() -> None:
    fleet = [node4(A100, name="a"), node4(A100, name="b", delivered="5d")]
    h = run({"training": days((0, 1, 1))}, fleet, [TOP, LOW], {"rule": "successor"})
    assert [moves(h, n)[1:] for n in range(2)] == [[], []]


def test_a_node_that_drains_is_not_given_more_time_by_another_successor() -> None:
    """Pushed on day 5 with 3 days to drain; a second successor on day 7 changes nothing."""
    fleet = [node4(A100), node4(H100, delivered="5d"), node4(B200, delivered="7d")]
    jobs = {"training": days((0, 20, 4))}
    h = run(jobs, fleet, [TOP, LOW], {"rule": "successor", "drain": "3d"})
    assert moves(h, 0)[1:] == [(8, "cascade", "low")]


def test_nodes_that_waited_for_a_slot_are_pushed_like_the_rest_of_their_cohort() -> None:
    """Power for two nodes of A100 (4 x 0.8125 = 3.25 kW): the third is stored, and comes on day 12 when the
    first two leave. By then an H100 (5.1 kW) stands elsewhere on its rung."""
    fleet = [
        node4(A100, 3, delivered="1d"),
        node4(H100, delivered="5d", site="other"),
    ]
    h = run(
        {"training": days((0, 1, 1))},
        fleet,
        [TOP, LOW],
        {"rule": "successor"},
        sites=[{"name": "main", "it_power_kw": 6.5, "over_power": "wait"}, {"name": "other"}],
        failures=[
            {
                "name": "end",
                "hazard": [{"curve": [[0, 0], ["11d", 1e6]]}],
                "repairs": [{"name": "none", "retires": True}],
                "gpu_models": [A100],
            }
        ],
    )
    assert [moves(h, n)[1:2] for n in (0, 1)] == [[(5, "cascade", "low")]] * 2
    third = moves(h, 2)[:3]
    assert [(cause, tier) for _, cause, tier in third] == [
        ("delivery", "top"), ("slot", "top"), ("cascade", "low")
    ]  # fmt: skip
    assert third[1][0] == third[2][0] == pytest.approx(12, abs=0.01)


# By pressure

PRESSURE = {"rule": "pressure", "unit": "node", "review": "1d", "step": 1.0, "min_wait": "1h"}


def test_free_nodes_go_where_jobs_wait() -> None:
    """Two batch jobs of 4 GPUs wait from day 0.5; at the review of day 1 two of three free nodes go down."""
    h = run({"batch": days((0.5, 2, 4), (0.5, 2, 4))}, [node4(nodes=4)], [TOP, LOW], PRESSURE)
    assert h.starts == [DAY_S, DAY_S]
    assert [len(moves(h, n)) for n in range(4)] == [2, 2, 1, 1]


def test_busy_nodes_stay_and_so_do_those_whose_jobs_have_just_come() -> None:
    """At day 1 node 0 is busy, and the job has waited for less than an hour: node 1 goes at day 2."""
    jobs = {"training": days((0, 5, 1)), "batch": days((0.99, 1, 4))}
    h = run(jobs, [node4(nodes=2)], [TOP, LOW], PRESSURE)
    assert [moves(h, n)[1:] for n in range(2)] == [[], [(2, "cascade", "low")]]


def test_nothing_moves_while_a_waiting_job_could_use_the_rung() -> None:
    """A training gang of 12 GPUs waits for node 0 of three, so the two free ones stay until day 4."""
    jobs = {"training": days((0, 3.5, 1), (0, 1, 12)), "batch": days((0, 1, 4))}
    fleet = [node4(nodes=3)]
    h = run(jobs, fleet, [TOP, LOW], PRESSURE)
    assert h.starts == [0, 3.5 * DAY_S, 5 * DAY_S]


def test_a_step_is_the_most_of_a_rung_that_goes_at_a_review_and_the_oldest_goes_first() -> None:
    """12 GPUs wait; of four nodes, two of each age, a quarter goes at each review: old, old, new."""
    fleet = [node4(name="new", nodes=2), node4(name="old", nodes=2, delivered="-1y")]
    h = run({"batch": days((0, 9, 4), (0, 9, 4), (0, 9, 4))}, fleet, [TOP, LOW], PRESSURE | {"step": 0.25})
    assert [moves(h, n)[1:] for n in (2, 3, 0, 1)] == [
        [(1, "cascade", "low")], [(2, "cascade", "low")], [(3, "cascade", "low")], []
    ]  # fmt: skip


def test_a_step_rounds_down_but_moves_one() -> None:
    """0.3 of ten nodes is three; 0.05 of them would be none."""
    for step, first in ((0.3, 3), (0.05, 1)):
        jobs = {"batch": days(*[(0, 20, 4)] * 10)}
        h = run(jobs, [node4(nodes=10)], [TOP, LOW], PRESSURE | {"step": step}, horizon="36h")
        assert sum(len(moves(h, n)) == 2 for n in range(10)) == first


def test_by_cohort_all_of_it_goes_as_it_drains() -> None:
    """One node of the older cohort is free, so both of its nodes go; the busy one drains until day 3."""
    fleet = [node4(name="old", nodes=2, delivered="-1y"), node4(name="new", nodes=2)]
    jobs = {"training": days((0, 3, 4)), "batch": days((0, 1, 4))}
    h = run(jobs, fleet, [TOP, LOW], PRESSURE | {"unit": "cohort", "drain": "5d"})
    assert [moves(h, n)[1:] for n in range(4)] == [
        [(3, "cascade", "low")], [(1, "cascade", "low")], [], []
    ]  # fmt: skip


def test_nothing_is_sold_by_pressure_and_the_ladder_is_gone_down_a_rung_a_review() -> None:
    h = run({"batch": days((0, 1, 4))}, [node4(nodes=2)], [TOP, MIDDLE, LOW], PRESSURE)
    assert h.starts == [None]  # nobody waits for the middle, and the way down is through it
    jobs = {"inference": days((0, 60, 4)), "batch": days((0, 1, 4))}
    h = run(jobs, [node4(nodes=2)], [TOP, MIDDLE, LOW, SOLD], PRESSURE)
    assert [len(moves(h, n)) for n in range(2)] == [2, 1]


def test_what_has_run_presses_no_more() -> None:
    """Even a job of no length that ran at the very start, on the node that stands below."""
    fleet = [node4(), node4(tier="low", name="below")]
    h = run({"batch": days((0, 0, 4), (0, 3, 4))}, fleet, [TOP, LOW], PRESSURE)
    assert h.starts == [0, 0]
    assert moves(h, 0)[1:] == []


# By margin


def test_nodes_go_where_a_slot_earns_more() -> None:
    """2 USD less 50 % a year against 1.50: dearer until ln(0.75) / ln(0.5) = 0.415 y = 151.5 d, so they go at
    the review after: 6 months of 730 h are 182.5 d, 5 are 152.1."""
    prices = [
        {"tiers": ["top"], "usd_per_gpu_hour": 2.0, "change_per_year": -0.5},
        {"tiers": ["low"], "usd_per_gpu_hour": 1.5},
    ]
    h = run(
        {"batch": days((0, 1, 4))},
        [node4()],
        [TOP, LOW],
        {"rule": "margin"},
        horizon="1y",
        economics={"prices": prices},
    )
    assert moves(h, 0)[1:] == [(5 * 730 / 24, "cascade", "low")]


def test_at_the_same_margin_nobody_moves() -> None:
    h = run(
        {"batch": days((0, 1, 4))},
        [node4()],
        [TOP, LOW],
        {"rule": "margin"},
        horizon="1y",
        economics={"prices": [{"usd_per_gpu_hour": 2.0}]},
    )
    assert moves(h, 0)[1:] == []


# Several things at once


def test_at_one_instant_a_job_ends_a_node_moves_a_job_comes_and_a_pass_follows() -> None:
    """At 10 d: job 0 ends, so the node is empty and moves; job 1 arrives, and starts where it has gone."""
    jobs = {"training": days((0, 10, 4)), "batch": days((10, 1, 4))}
    h = run(jobs, [node4()], [TOP | {"leave_at": "10d"}, LOW], {"rule": "age", "drain": "1d"})
    assert ran(h, 0) == [(0, 10, "top", "completed")]
    assert ran(h, 1) == [(10, 11, "low", "completed")]
    assert moves(h, 0)[1:] == [(10, "cascade", "low")]


def test_at_one_instant_a_failure_comes_before_a_move() -> None:
    """Both at 10 d, with no time to drain: the failure stops the job, and the node moves while it is down."""
    jobs = {"training": days((0, 20, 4)), "batch": days((0, 1, 4))}
    h = run(
        jobs,
        [node4()],
        [TOP | {"leave_at": "10d"}, LOW],
        {"rule": "age", "drain": 0},
        failures=[{"name": "f", "script": [{"after": "10d", "down": "1d"}]}],
    )
    assert ran(h, 0) == [(0, 10, "top", "failed")]
    assert [(t / DAY_S, *rest) for t, *rest in story(h, 0)] == [
        (0, "up", "initial", "top"),
        (10, "down", "failure", "top"),
        (10, "down", "cascade", "low"),
        (11, "up", "repair", "low"),
    ]
    assert ran(h, 1) == [(11, 12, "low", "completed")]


def test_a_node_that_fails_while_it_drains_has_nothing_to_drain_for() -> None:
    """It drains from day 10, fails on day 11: it moves there and then, is repaired, and works on below."""
    jobs = {"training": days((0, 20, 4)), "batch": days((0, 1, 4))}
    h = run(
        jobs,
        [node4()],
        [TOP | {"leave_at": "10d"}, LOW],
        {"rule": "age", "drain": "7d"},
        failures=[{"name": "f", "script": [{"after": "11d", "down": "1d"}]}],
    )
    assert moves(h, 0)[1:] == [(11, "failure", "top"), (11, "cascade", "low"), (12, "repair", "low")]
    assert h["failures"]["down_s"].to_list() == [DAY_S]
    assert h["failures"]["tier"].to_list() == ["top"]
    assert ran(h, 1) == [(12, 13, "low", "completed")]


def test_a_node_that_is_to_leave_while_it_drains_leaves() -> None:
    """It was to move from day 10 on, and to retire from day 11 on with 2 days to drain."""
    h = run(
        {"training": days((0, 20, 4))},
        [node4()],
        [TOP | {"leave_at": "10d"}, LOW],
        {"rule": "age", "drain": "7d"},
        retirement={"rule": "fixed_age", "age": "11d", "drain": "2d"},
    )
    assert moves(h, 0)[1:] == [(13, "fixed_age", "top")]


def test_a_node_that_leaves_does_not_go_down_instead() -> None:
    """It retires from day 10 on, with 3 days to drain; at day 11 it would go down."""
    for cascade, leave_at, fleet in (
        ({"rule": "age", "drain": "7d"}, {"leave_at": "11d"}, [node4()]),
        ({"rule": "successor", "drain": "7d"}, {}, [node4(), node4(H100, delivered="11d")]),
    ):
        h = run(
            {"training": days((0, 20, 4))},
            fleet,
            [TOP | leave_at, LOW],
            cascade,
            retirement={"rule": "fixed_age", "age": "10d", "drain": "3d"},
        )
        assert moves(h, 0)[1:] == [(13, "fixed_age", "top")]


def test_a_node_under_maintenance_moves_and_comes_back_below() -> None:
    jobs = {"batch": days((0, 1, 4))}
    h = run(
        jobs,
        [node4()],
        [TOP | {"leave_at": "10d"}, LOW],
        {"rule": "age"},
        maintenance=[{"cohort": A100, "at": "9d", "lasts": "3d"}],
    )
    assert moves(h, 0)[1:] == [(9, "maintenance", "top"), (10, "cascade", "low"), (12, "maintenance", "low")]
    assert h.starts == [12 * DAY_S]
    assert h.hours("state", "tier")[("down", "top")] == 4 * 24
    assert h.hours("state", "tier")[("down", "low")] == 4 * 48


def test_a_node_under_maintenance_leaves_and_does_not_come_back() -> None:
    h = run(
        {"training": days((0, 1, 4))},
        [node4()],
        [TOP],
        None,
        maintenance=[{"cohort": A100, "at": "9d", "lasts": "3d", "every": "7d"}],
        retirement={"rule": "fixed_age", "age": "10d"},
    )
    assert moves(h, 0)[1:] == [(9, "maintenance", "top"), (10, "fixed_age", "top")]
    assert sum(h.hours("state").values()) == 4 * 240


def test_maintenance_waits_for_the_jobs_of_a_node_that_drains() -> None:
    """The node drains from day 10 and is waited for from day 11 on; job 0 ends on day 12: it moves, and is
    down for a day, on its new rung."""
    h = run(
        {"training": days((0, 12, 4)), "batch": days((0, 1, 4))},
        [node4()],
        [TOP | {"leave_at": "10d"}, LOW],
        {"rule": "age", "drain": "7d"},
        maintenance=[{"cohort": A100, "at": "11d", "lasts": "1d"}],
    )
    assert moves(h, 0)[1:] == [
        (12, "maintenance", "top"), (12, "cascade", "low"), (13, "maintenance", "low")
    ]  # fmt: skip
    assert ran(h, 1) == [(13, 14, "low", "completed")]


def test_a_burn_in_goes_on_below() -> None:
    fleet = [node4(delivered="1d", earlier_age="1y", burn_in="3d")]
    h = run({"batch": days((0, 1, 4))}, fleet, [TOP | {"leave_at": "10d"}, LOW], {"rule": "age"})
    assert moves(h, 0) == [(1, "burn_in", "top"), (1, "cascade", "low"), (4, "burn_in", "low")]
    assert h.starts == [4 * DAY_S]


# What the ladder is for


def test_the_ladder_fills_hours_that_are_stranded_without_it() -> None:
    """One node for 30 days. Training for 10 days, batch work for 15. On: from day 10 the node is below, and
    runs the batch job to day 25: 25 of 30 days allocated. Off: 10 of 30; the batch job is refused."""
    jobs = {"training": days((0, 10, 4)), "batch": days((0, 15, 4))}
    on, off = (
        run(jobs, [node4()], [TOP | {"leave_at": "10d"}, LOW], {"rule": "age", "enabled": enabled})
        for enabled in (True, False)
    )
    allocated = [sum(h.jobs("allocated_gpu_s")) / (4 * DAY_S) for h in (on, off)]
    assert allocated == [25, 10]
    assert on.hours("state")["idle_no_queue"] == 4 * 24 * 5
    assert off.hours("state")["idle_no_queue"] == 4 * 24 * 20
