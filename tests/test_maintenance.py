"""Nodes that are down for a time, and nodes that are one tenant's for a time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import A100, H100, History, Job, cohort, read, simulate, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.errors import InputError

Changes = list[tuple[float, int, str, str]]


def window(at: float = 100, lasts: float = 50, **more: Any) -> dict[str, Any]:
    return {"cohort": A100, "at": at, "lasts": lasts, **more}


def changes(run: History) -> Changes:
    """What became of nodes after they were first up."""
    rows = run["node_states"].select("time_s", "node", pl.col("state", "cause").cast(pl.String)).rows()
    return [row for row in rows if row[3] == "maintenance"]


def spans(run: History) -> list[tuple[float, float]]:
    return run.jobs("start_s", "end_s")


def attempts(run: History, job: int) -> list[tuple[float, float, int]]:
    """Start, end and node of every attempt."""
    rows = run["allocations"].filter(pl.col("job") == job).select("start_s", "end_s", "node").rows()
    return sorted(rows)


# Maintenance


def test_a_window_on_an_idle_node() -> None:
    """One job ends before it, one comes while the node is down, at 110: it starts when it is up, at 150."""
    run = simulate([Job(0, 60), Job(110, 5)], maintenance=[window()])
    assert spans(run) == [(0, 60), (150, 155)]
    assert changes(run) == [(100, 0, "down", "maintenance"), (150, 0, "up", "maintenance")]
    # 8 GPUs x 155 s, of which 50 s down; 60 s and 5 s of one GPU are allocated
    hours = run.hours("state")
    assert sum(hours.values()) * 3600 == pytest.approx(8 * 155)
    assert hours["down"] * 3600 == pytest.approx(8 * 50)
    assert (hours["stalled"] + hours["productive"]) * 3600 == pytest.approx(65)
    assert "idle_queue" not in hours  # a job waits, but nothing is up


def test_other_nodes_go_on() -> None:
    """Nodes 1 and 2 of four are down from 100 to 150: node 0 and then node 3 are taken."""
    jobs = [Job(0, 1), Job(100, 10, 8), Job(100, 10, 8), Job(100, 10, 8)]
    run = simulate(jobs, [cohort(nodes=4)], maintenance=[window(first=1, nodes=2)])
    assert spans(run)[1:] == [(100, 110), (100, 110), (110, 120)]
    assert [run.where(job) for job in range(1, 4)] == [[(0, 8)], [(3, 8)], [(0, 8)]]
    assert [row[:3] for row in changes(run)] == [(100, 1, "down"), (100, 2, "down")]  # the run ends at 120


def test_a_job_that_runs_is_waited_for_on_its_node_alone() -> None:
    """It runs on node 0 until 120: that is down from 120 to 170, node 1 from 100 to 150."""
    run = simulate([Job(0, 120), Job(130, 5, 8), Job(130, 45, 8)], [cohort(nodes=2)], maintenance=[window()])
    assert [row[:3] for row in changes(run)] == [
        (100, 1, "down"), (120, 0, "down"), (150, 1, "up"), (170, 0, "up"),
    ]  # fmt: skip
    assert spans(run) == [(0, 120), (150, 155), (155, 200)]


def test_nothing_starts_while_a_node_drains() -> None:
    """From 70 on; what ends at 90 leaves its GPUs unused. A job of the others' size would end by 75."""
    run = simulate([Job(0, 90, 4), Job(69, 5, 4), Job(70, 5, 4)], maintenance=[window(drain=30)])
    assert spans(run) == [(0, 90), (69, 74), (150, 155)]


def test_jobs_are_stopped_where_the_scenario_says_so(tmp_path: Path) -> None:
    """A job of 200 s has 100 s left at 100; it goes on from 150, with 10 s of restart before, to 260."""
    words = text(
        [cohort()],
        [workload()],
        maintenance=[window(stop=True)],
        scheduler={"restart": {"costs": [{"cost": 10}]}},
    )
    given = {"w": trace([Job(0, 200), Job(0, 100)])}
    run = read(experiment.run(scenario.parse(words, "test"), tmp_path / "run", traces=given).path)
    assert attempts(run, 0) == [(0, 100, 0), (150, 260, 0)]
    assert attempts(run, 1) == [(0, 100, 0)]  # it ended just then
    assert run.jobs("status") == ["completed", "completed"]


def test_a_gang_is_stopped_if_one_of_its_nodes_goes() -> None:
    """It starts again at once on the nodes that stay, at 100, with 100 s left."""
    run = simulate([Job(0, 200, 16)], [cohort(nodes=3)], maintenance=[window(first=1, nodes=1, stop=True)])
    assert attempts(run, 0) == [(0, 100, 0), (0, 100, 1), (100, 200, 0), (100, 200, 2)]


def test_windows_come_again() -> None:
    run = simulate([Job(0, 10), Job(310, 100)], maintenance=[window(lasts=20, every=100)])
    assert [row[::2] for row in changes(run)] == [
        (100, "down"), (120, "up"), (200, "down"), (220, "up"), (300, "down"), (320, "up"), (420, "down")
    ][: len(changes(run))]  # fmt: skip
    assert spans(run) == [(0, 10), (320, 420)]  # at 400 it is waited for: until 420, when the run ends


def test_two_windows_at_once_are_one() -> None:
    """100 to 150 and 120 to 180: down once, from 100 to 180."""
    run = simulate([Job(0, 1), Job(110, 5)], maintenance=[window(), window(120, 60)])
    assert [row[:3] for row in changes(run)] == [(100, 0, "down"), (180, 0, "up")]
    assert spans(run)[1] == (180, 185)


def test_equal_times_finish_down_arrival() -> None:
    """What ends at 100 makes room for the window; what comes at 100 finds the node down; at 150, up."""
    run = simulate([Job(0, 100, 8), Job(100, 1), Job(150, 1, 8)], maintenance=[window()])
    assert [row[:3] for row in changes(run)] == [(100, 0, "down"), (150, 0, "up")]
    assert spans(run) == [(0, 100), (150, 151), (151, 152)]


# Reservations


def reserved(at: float = 100, lasts: float = 50, **more: Any) -> dict[str, Any]:
    return {"cohort": A100, "at": at, "lasts": lasts, "tenant": "vip", **more}


def test_reserved_nodes_are_for_one_tenant_only() -> None:
    """Node 0 of two from 100 to 150. At 110 it is the vip's; the others have node 1; at 150 it is all's."""
    jobs = [
        Job(0, 1),
        Job(110, 60, 8),  # node 1
        Job(111, 10, 8),  # waits: node 0 is reserved
        Job(112, 20, 8, tenant="vip"),  # node 0, at once
        Job(115, 30, 8, tenant="vip"),  # node 0 at 132
    ]
    run = simulate(jobs, [cohort(nodes=2)], queue="fifo_skip", reservations=[reserved(nodes=1)])
    assert spans(run)[1:] == [(110, 170), (162, 172), (112, 132), (132, 162)]
    assert [run.where(job) for job in range(1, 5)] == [[(1, 8)], [(0, 8)], [(0, 8)], [(0, 8)]]
    # the vip's second job went on beyond 150, and node 0 is all's when it has ended


def test_a_node_goes_back_when_it_is_empty() -> None:
    """The vip's job holds half of node 0 until 170: nothing starts beside it from 150 on."""
    jobs = [Job(0, 1), Job(110, 60, 4, tenant="vip"), Job(160, 5, 4), Job(161, 5, 4, tenant="vip")]
    run = simulate(jobs, reservations=[reserved(nodes=1)])
    assert spans(run)[1:] == [(110, 170), (170, 175), (170, 175)]
    ends = run["events"].filter(pl.col("subject") == "vip").select("time_s", pl.col("kind").cast(pl.String))
    assert ends.rows() == [(100, "reservation"), (170, "reservation_end")]


def test_the_tenant_tries_its_nodes_first_and_then_the_others() -> None:
    """Node 0 is reserved from 500 to 600. A gang of both nodes fits neither pool and waits for 600."""
    jobs = [
        Job(0, 500, 12),  # nodes 0 and 1 until 500, so node 0 is handed over only at 500
        Job(520, 10, 4, tenant="vip"),
        Job(521, 10, 4),
        Job(540, 10, 16, tenant="vip"),
    ]
    run = simulate(jobs, [cohort(nodes=2)], reservations=[reserved(lasts=500, gpus=5)])
    assert [run.where(job) for job in (1, 2)] == [[(0, 4)], [(1, 4)]]
    assert spans(run)[3] == (600, 610)  # when both nodes are in one pool again


def test_reserved_nodes_are_cleared_if_asked() -> None:
    run = simulate(
        [Job(0, 300, 8), Job(90, 20, 8, tenant="vip")],
        queue="fifo_skip",
        reservations=[reserved(nodes=1, stop=True)],
    )
    assert attempts(run, 0) == [(0, 100, 0), (150, 350, 0)]
    assert attempts(run, 1) == [(100, 120, 0)]


def test_a_node_never_empty_is_not_handed_over() -> None:
    """It is closed from 100 to 150 all the same."""
    run = simulate(
        [Job(0, 300, 4), Job(110, 5, 4), Job(110, 5, 4, tenant="vip")], reservations=[reserved(nodes=1)]
    )
    assert spans(run)[1:] == [(150, 155), (155, 160)]
    kinds = run["events"].filter(pl.col("subject") == "vip").select("time_s", pl.col("kind").cast(pl.String))
    assert kinds.rows() == [(150, "reservation_missed")]


def test_reservations_do_not_share_nodes() -> None:
    """Two of two nodes each: 0 and 1, 2 and 3."""
    jobs = [Job(0, 1), *(Job(100, 10, 16, tenant=name) for name in ("vip", "other", "t"))]
    run = simulate(
        jobs,
        [cohort(nodes=4)],
        queue="fifo_skip",
        reservations=[reserved(nodes=2), {**reserved(gpus=16), "tenant": "other"}],
    )
    assert [run.where(job) for job in (1, 2)] == [[(0, 8), (1, 8)], [(2, 8), (3, 8)]]
    assert spans(run)[3] == (150, 160)


def test_maintenance_of_reserved_nodes() -> None:
    """Node 0 is the vip's from 100 to 300, and down from 120 to 180 within it."""
    jobs = [
        Job(0, 99, 8),
        Job(0, 400, 8),
        Job(110, 10, tenant="vip"),
        Job(130, 10, tenant="vip"),
        Job(185, 10),
    ]
    run = simulate(
        jobs,
        [cohort(nodes=2)],
        queue="fifo_skip",
        maintenance=[window(120, 60, nodes=1)],
        reservations=[reserved(lasts=200, nodes=1)],
    )
    assert spans(run)[2:] == [(110, 120), (180, 190), (300, 310)]
    assert [row[:3] for row in changes(run)] == [(120, 0, "down"), (180, 0, "up")]


EVERY_PASS = {"restart": {"costs": [{"cost": "20s"}], "charge": "every_pass"}}


def test_jobs_that_are_interrupted_are_waited_for_longer() -> None:
    """Every pass costs a running job 20 s. At 50 that on node 0 is to end at 100; a pass at 60 makes it 120.

    So node 0 is down from 120 to 170, and takes the third job then.
    """
    run = simulate(
        [Job(0, 100), Job(0, 200), Job(60, 10)],
        [cohort(nodes=2, gpus_per_node=1)],
        queue="las",
        scheduler=EVERY_PASS,
        maintenance=[window(50, 50, nodes=1)],
    )
    assert spans(run)[0] == (0, 120) and spans(run)[2] == (170, 180)
    assert [row[:3] for row in changes(run)] == [(120, 0, "down"), (170, 0, "up")]


def test_jobs_that_are_interrupted_are_waited_for_longer_by_a_reservation() -> None:
    """Node 0 is the vip's from 120, not 100, and given back when his job ends: at 165, not 145.

    All cost 20 s at 60, 65, 120 and 130. The vip's has 25 s to do from 120 on: no more than 10 s at 130 are
    lost, and 10 s more at 140, when the window is over and one comes that has to wait.
    """
    jobs = [Job(0, 100), Job(0, 1000), Job(60, 25, tenant="vip"), Job(130, 5), Job(140, 5)]
    run = simulate(
        jobs,
        [cohort(nodes=2, gpus_per_node=1)],
        queue="las",
        scheduler=EVERY_PASS,
        reservations=[reserved(50, 85, nodes=1)],
    )
    assert spans(run)[0] == (0, 120) and spans(run)[2] == (120, 165)
    ends = run["events"].filter(pl.col("subject") == "vip").select("time_s", pl.col("kind").cast(pl.String))
    assert ends.rows() == [(120, "reservation"), (165, "reservation_end")]


# Every history


@st.composite
def windows(draw: st.DrawFn, nodes: int) -> dict[str, Any]:
    first = draw(st.integers(0, nodes - 1))
    lasts, drain = draw(st.sampled_from([1.0, 7.0, 30.0])), draw(st.sampled_from([0.0, 0.0, 5.0, 20.0]))
    return window(
        draw(st.sampled_from([0.0, 1.0, 10.0, 33.0])),
        lasts,
        drain=drain,
        every=draw(st.sampled_from([None, lasts + drain + 1, lasts + drain + 9])),
        stop=draw(st.booleans()),
        first=first,
        nodes=draw(st.integers(1, nodes - first)),
    )


JOBS = st.lists(
    st.builds(
        Job,
        st.sampled_from([0.0, 0.0, 1.0, 5.0, 10.0, 12.0, 40.0]),
        st.sampled_from([0.0, 1.0, 5.0, 20.0, 60.0]),
        st.sampled_from([1, 1, 2, 3, 4, 6]),
        tenant=st.sampled_from(["t", "vip"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(
    data=st.data(),
    nodes=st.integers(2, 4),
    jobs=JOBS,
    placement=st.sampled_from(["best_fit", "spread", "topology"]),
)
def test_laws_of_windows(data: st.DataObject, nodes: int, jobs: list[Job], placement: str) -> None:
    """Nothing runs on a node that is down or another's; hours of nodes are those in which they are up."""
    jobs = sorted(jobs, key=lambda job: job.submit_s)
    maintenance = data.draw(st.lists(windows(nodes), max_size=2))
    reservations = [
        {**{k: v for k, v in w.items() if k != "first"}, "tenant": "vip", "nodes": 1}
        for w in data.draw(st.lists(windows(nodes), max_size=2))
    ]
    run = simulate(
        jobs,
        [cohort(nodes=nodes, gpus_per_node=4, topology={"nodes_per_rack": 2})],
        placement=placement,
        queue=data.draw(st.sampled_from(["fifo", "fifo_skip"])),
        maintenance=maintenance,
        reservations=reservations,
        horizon=300,
    )
    down: dict[int, list[tuple[float, float]]] = defaultdict(list)
    began: dict[int, float] = {}
    for at_s, node, state, _ in changes(run):
        assert (state == "down") == (node not in began)  # in turn
        if state == "down":
            began[node] = at_s
        else:
            down[node].append((began.pop(node), at_s))
    for node, at_s in began.items():
        down[node].append((at_s, 300))
    held: dict[int, list[tuple[float, int]]] = defaultdict(list)
    rows = run["allocations"].select("job", "node", "gpus", "start_s", "end_s").rows()
    for job, node, gpus, start_s, end_s in rows:
        assert all(end_s <= a or b <= start_s for a, b in down[node])
        held[node] += [(start_s, gpus), (end_s, -gpus)] if end_s > start_s else []
        for w, first in [(w, w["first"]) for w in maintenance] + [(w, k) for k, w in enumerate(reservations)]:
            if first <= node < first + w["nodes"]:
                turns = range(40 if w["every"] else 1)
                for at_s in [w["at"] + turn * (w["every"] or 0) for turn in turns]:
                    closes = max(0.0, at_s - w["drain"])
                    if "tenant" in w and jobs[job].tenant == "vip":
                        assert not closes <= start_s < at_s
                    else:
                        assert not closes <= start_s < at_s + w["lasts"]
                        assert not (w["stop"] and start_s < at_s < end_s)
    for of_node in held.values():
        total = 0
        for _, gpus in sorted(of_node):
            total += gpus
            assert 0 <= total <= 4
    down_s = sum(b - a for of_node in down.values() for a, b in of_node)
    assert run.hours("state").get("down", 0) * 3600 == pytest.approx(4 * down_s, rel=1e-9)
    assert sum(run.hours("state").values()) * 3600 == pytest.approx(4 * 300 * nodes, rel=1e-9)
    for job, end_s, status in run.jobs("job", "end_s", "status"):
        if status == "completed":
            ran = sum(end - start for start, end in {row[3:] for row in rows if row[0] == job})
            assert ran == pytest.approx(jobs[job].duration_s)
            assert end_s == max(row[4] for row in rows if row[0] == job)


# What is refused


def refused(horizon: float | str = 5000, **keys: Any) -> list[str]:
    fleet = [cohort(nodes=4), cohort(H100, delivered=1000, tenants=["vip"])]
    words = text(fleet, [workload()], horizon=horizon, **keys)
    with pytest.raises(InputError) as caught:
        scenario.parse(words, "s.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"cohort": "a100"}, ["maintenance[0].cohort", "no cohort 'a100'", A100]),
        ({"at": 6000}, ["maintenance[0].at", "6000.0 lies outside the run"]),
        ({"at": -1}, ["maintenance[0].at", "-1.0 lies outside the run"]),
        ({"cohort": H100, "at": 1010, "drain": 20}, ["maintenance[0].at", "delivered only after"]),
        ({"every": 70, "drain": 20}, ["maintenance[0].every", "70.0 leaves no time", "More than 1 min 10 s"]),
        ({"nodes": 5}, ["maintenance[0].nodes", "node 4 of a100-sxm-80", "It has 4"]),
        ({"first": 4}, ["maintenance[0].first", "node 4 of a100-sxm-80"]),
        ({"lasts": 0}, ["maintenance[0].lasts", "longer than zero"]),
    ],
)
def test_maintenance_that_cannot_be(keys: dict[str, Any], expected: list[str]) -> None:
    [problem] = refused(maintenance=[{**window(), **keys}])
    assert [part for part in expected if part not in problem] == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"nodes": 1, "gpus": 1}, ["reservations[0]", "needs one of `nodes` and `gpus`"]),
        ({}, ["reservations[0]", "needs one of `nodes` and `gpus`"]),
        ({"nodes": 1, "tenant": "vup"}, ["reservations[0].tenant", "no tenant 'vup'", "vip"]),
        ({"nodes": 5}, ["reservations[0].nodes", "5 nodes reserved in all", "has 4"]),
        ({"gpus": 33}, ["reservations[0].gpus", "5 nodes reserved in all"]),
        (
            {"cohort": H100, "at": 2000, "nodes": 1, "tenant": "t"},
            ["reservations[0].tenant", "'t' may not run on cohort h100-sxm-80", "It belongs to vip"],
        ),
    ],
)
def test_reservations_that_cannot_be(keys: dict[str, Any], expected: list[str]) -> None:
    tenants = [{"name": "vip"}, {"name": "t"}]
    [problem] = refused(reservations=[{**reserved(), **keys}], tenants=tenants)
    assert [part for part in expected if part not in problem] == []


def test_reservations_of_a_cohort_add_up() -> None:
    [problem] = refused(reservations=[reserved(nodes=3), reserved(nodes=2)])
    assert "reservations[1].nodes" in problem


def test_a_run_that_might_never_end() -> None:
    """A job longer than the time between two windows would never end."""
    [problem] = refused("drain", maintenance=[window(every=1000, stop=True)])
    assert "maintenance[0].every" in problem and "for ever" in problem
