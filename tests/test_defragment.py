"""Running jobs moved together for a gang that waits: when, which, and at what cost."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import A100, History, Job, cohort, read, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.errors import InputError

HOURLY: dict[str, Any] = {"every": 60, "moves": 8}


def simulate(
    jobs: Sequence[Job],
    nodes: int,
    defragment: dict[str, Any] | None = HOURLY,
    gpus_per_node: int = 4,
    **scheduler: Any,
) -> History:
    rules = {"defragment": defragment, "restart": {"costs": [{"cost": 5}]}, **scheduler}
    words = text([cohort(nodes=nodes, gpus_per_node=gpus_per_node)], [workload()], scheduler=rules)
    with tempfile.TemporaryDirectory() as folder:
        run = experiment.run(scenario.parse(words, "test"), Path(folder) / "run", traces={"w": trace(jobs)})
        return read(run.path)


def attempts(run: History, job: int) -> list[tuple[float, float, int, int]]:
    """Start, end, node and GPUs of every attempt."""
    rows = run["allocations"].filter(pl.col("job") == job).select("start_s", "end_s", "node", "gpus").rows()
    return sorted(rows)


#: Two nodes of four, half of each in use from 10 to 1000; at 20 comes a job for a whole node.
HALVES = [Job(0, 1000, 2), Job(0, 10, 2), Job(0, 1000, 2), Job(20, 30, 4)]


def test_a_node_is_cleared_for_a_job_that_needs_one() -> None:
    """At 60 job 0 moves from node 0 to node 1, where 2 GPUs are free; it pays 5 s and ends at 1005."""
    run = simulate(HALVES, 2)
    assert attempts(run, 0) == [(0, 60, 0, 2), (60, 1005, 1, 2)]
    assert attempts(run, 2) == [(0, 1000, 1, 2)]
    assert attempts(run, 3) == [(60, 90, 0, 4)]
    outcomes = run["allocations"].filter(pl.col("job") == 0)["outcome"].cast(pl.String).to_list()
    assert outcomes == ["migrated", "completed"]


def test_without_it_the_job_waits() -> None:
    assert simulate(HALVES, 2, None).starts[3] == 1000


def test_nothing_moves_where_it_would_not_help() -> None:
    """The moved jobs must find a place: three of two GPUs do not fit beside four on two nodes."""
    jobs = [Job(0, 1000, 3), Job(0, 1000, 3), Job(20, 30, 2)]
    run = simulate(jobs, 2)
    assert run.starts == [0, 0, 1000]
    assert run["allocations"].height == 3


def test_a_job_that_can_stay_beside_stays() -> None:
    """Node 0 holds 3 and 2 of its 8, node 1 3 and 4. For 4 GPUs the 2 leave node 0, and the 3 stay there."""
    jobs = [
        Job(0, 1000, 3), Job(0, 1000, 2), Job(0, 10, 3),  # node 0
        Job(0, 1000, 3), Job(0, 1000, 3), Job(0, 10, 2),  # node 1
        Job(20, 30, 4),
    ]  # fmt: skip
    run = simulate(jobs, 2, gpus_per_node=8)
    assert [run.where(job) for job in (0, 3, 4)] == [[(0, 3)], [(1, 3)], [(1, 3)]]
    assert attempts(run, 1) == [(0, 60, 0, 2), (60, 1005, 1, 2)]
    assert attempts(run, 6) == [(60, 90, 0, 4)]


def test_a_gang_of_whole_nodes_and_a_remainder() -> None:
    """Four nodes of four hold one GPU each from 10 on. Ten GPUs need two whole nodes and half of one.

    Nodes 0 and 1 are cleared, and node 2 has the remainder. Of the jobs moved the first goes there too, where
    one GPU is left, the second to node 3.
    """
    jobs = [*(Job(0, t, n) for _ in range(4) for t, n in ((1000, 1), (10, 3))), Job(20, 30, 10)]
    run = simulate(jobs, 4)
    assert attempts(run, 8) == [(60, 90, 0, 4), (60, 90, 1, 4), (60, 90, 2, 2)]
    assert [attempts(run, job)[1:] for job in (0, 2)] == [[(60, 1005, 2, 1)], [(60, 1005, 3, 1)]]
    assert [len(attempts(run, job)) for job in (4, 6)] == [1, 1]


@pytest.mark.parametrize(("moves", "start_s"), [(1, 1000), (2, 60)])
def test_no_more_jobs_move_than_allowed(moves: int, start_s: float) -> None:
    jobs = [*(Job(0, t, n) for _ in range(4) for t, n in ((1000, 1), (10, 3))), Job(20, 30, 10)]
    assert simulate(jobs, 4, {"every": 60, "moves": moves}).starts[8] == start_s


def test_fewest_jobs_then_fewest_gpus_then_lowest_node() -> None:
    """Nodes of 8 that hold 2 and 1, 5, 4, 4: for 5 GPUs one job must go, of 4 GPUs: on the lower node."""
    jobs = [
        Job(0, 1000, 2), Job(0, 1000, 2), Job(0, 10, 4),  # node 0: 4 free; two jobs hold 4
        Job(0, 1000, 5), Job(0, 10, 3),  # node 1: 3 free
        Job(0, 1000, 4), Job(0, 10, 4),  # node 2
        Job(0, 1000, 4), Job(0, 10, 4),  # node 3
        Job(20, 30, 5),
    ]  # fmt: skip
    run = simulate(jobs, 4, gpus_per_node=8)
    # on node 0 one job of 2 may stay beside 5, so one job of 2 GPUs moves: fewer GPUs than on nodes 2 and 3
    assert attempts(run, 1)[1:] == [(60, 1005, 1, 2)]
    assert attempts(run, 9) == [(60, 90, 0, 5)]
    run = simulate([Job(0, 1000, 4), *jobs[2:]], 4, gpus_per_node=8)  # now one job of 4 on nodes 0, 2, 3
    assert attempts(run, 0)[1:] == [(60, 1005, 2, 4)]


def test_a_node_with_a_part_of_a_larger_gang_is_not_cleared() -> None:
    """A gang holds node 0 and half of node 1; node 2 has one GPU in use, which cannot go but to node 1."""
    jobs = [Job(0, 1000, 6), Job(0, 10, 2), Job(0, 1000, 1), Job(20, 30, 4)]
    run = simulate(jobs, 3)
    assert run.where(0) == [(0, 4), (1, 2)]
    assert attempts(run, 2) == [(0, 60, 2, 1), (60, 1005, 1, 1)]
    assert attempts(run, 3) == [(60, 90, 2, 4)]


def test_only_the_first_job_that_does_not_fit() -> None:
    """Two jobs for a node each: at 60 one is cleared for the first; the second waits for it, until 90."""
    run = simulate([*HALVES, Job(21, 30, 4)], 2, queue="fifo_skip")
    assert run.starts[3:] == [60, 90]
    assert len(attempts(run, 2)) == 1


def test_every_is_counted_from_the_start_and_only_while_jobs_wait() -> None:
    """Every 7 s: the job comes at 20, so at 21. A second one finds nothing to move at 28 ... 49."""
    run = simulate([*HALVES, Job(22, 5, 4)], 2, {"every": 7, "moves": 1})
    assert run.starts[3:] == [21, 51]


JOBS = st.lists(
    st.builds(
        Job,
        st.sampled_from([0.0, 0.0, 1.0, 5.0, 10.0, 12.0, 40.0]),
        st.sampled_from([1.0, 5.0, 20.0, 60.0, 200.0]),
        st.sampled_from([1, 1, 2, 2, 3, 4, 6, 8]),
    ),
    min_size=4,
    max_size=20,
).map(lambda jobs: [Job(0, 1), *sorted(jobs, key=lambda job: job.submit_s)])


@settings(deadline=None, max_examples=150)
@given(
    jobs=JOBS,
    nodes=st.integers(2, 4),
    moves=st.integers(1, 4),
    queue=st.sampled_from(["fifo", "fifo_skip", "sjf"]),
    placement=st.sampled_from(["best_fit", "first_fit", "worst_fit"]),
)
def test_laws_of_moving(jobs: list[Job], nodes: int, moves: int, queue: str, placement: str) -> None:
    """All work is done; a job only ever moves; and at such a time a gang starts where they were."""
    run = simulate(jobs, nodes, {"every": 10, "moves": moves}, queue=queue, placement=placement)
    rows = run["allocations"].select("job", "start_s", "end_s", "node", "gpus", "outcome").rows()
    held: dict[int, list[tuple[float, int]]] = defaultdict(list)
    moved: dict[float, list[int]] = defaultdict(list)
    starts: dict[float, set[int]] = defaultdict(set)
    for job, start_s, end_s, node, gpus, outcome in rows:
        held[node] += [(start_s, gpus), (end_s, -gpus)]
        assert outcome in ("completed", "migrated")
        if outcome == "migrated":
            moved[end_s].append(job)
            assert any(row[0] == job and row[1] == end_s for row in rows)  # it runs on at once
        else:
            assert run.jobs("end_s")[job] == end_s
        if start_s == run.starts[job]:
            starts[start_s].add(job)
    for of_node in held.values():
        total = 0
        for _, gpus in sorted(of_node):
            total += gpus
            assert 0 <= total <= 4
    first_s = run.jobs("submit_s")
    for at_s, movers in moved.items():
        assert at_s % 10 == 0
        assert 0 < len(movers) <= moves
        where = {row[3] for row in rows if row[0] in movers and row[2] == at_s}
        waited = [job for job in starts[at_s] if first_s[job] < at_s or jobs[job].gpus > 1]
        taken = {row[3] for row in rows if row[0] in waited and row[1] == at_s}
        assert where & taken
    for n, job in enumerate(jobs):
        ran = {row[1:3] for row in rows if row[0] == n}
        count = len([at_s for at_s, movers in moved.items() if n in movers])
        assert sum(end - start for start, end in ran) <= job.duration_s + 5 * count + 1e-9
        assert run.jobs("status")[n] == "completed"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"queue": "las"}, ["scheduler.defragment", "`las` keeps count", "fifo"]),
        ({"queue": "smallest", "preemptive": True}, ["scheduler.defragment", "`smallest` keeps count"]),
        ({"placement": "consolidate"}, ["scheduler.defragment", "`consolidate` places", "best_fit"]),
        ({"defragment": {"moves": 0}}, ["scheduler.defragment.moves"]),
    ],
)
def test_what_is_refused(rules: dict[str, Any], expected: list[str]) -> None:
    words = text([cohort(A100)], [workload()], scheduler={"defragment": HOURLY, **rules})
    with pytest.raises(InputError) as caught:
        scenario.parse(words, "s.yaml")
    [problem] = map(str, caught.value.problems)
    assert [part for part in expected if part not in problem] == []
