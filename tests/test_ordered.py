"""Queues in the order of a key: which order, who blocks whom, and what is predicted from what has ended."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import History, Job, cohort, read, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.errors import InputError
from fleetsim.policies.estimates import estimates_s
from fleetsim.workload import load_jobs

WAIT = Job(0, 100, 8, user="z", tenant="z")  # holds the node while others gather


def simulate(jobs: Sequence[Job], tenants: Sequence[dict[str, Any]] = (), **scheduler: Any) -> History:
    """Replay *jobs* on one node of eight under *scheduler*."""
    words = text([cohort()], [workload()], scheduler=scheduler, tenants=list(tenants))
    with tempfile.TemporaryDirectory() as folder:
        run = experiment.run(scenario.parse(words, "test"), Path(folder) / "run", traces={"w": trace(jobs)})
        return read(run.path)


# Orders


def test_the_smallest_gang_goes_first() -> None:
    """At 100: 1, 2 and 4 GPUs start; 6 does not fit before 110, nor 8 before 115."""
    jobs = [WAIT, Job(1, 5, 8), Job(2, 5, 6), Job(3, 10, 4), Job(4, 10, 2), Job(5, 10, 1)]
    assert simulate(jobs, queue="smallest").starts == [0, 115, 110, 100, 100, 100]


def test_the_shortest_job_goes_first_and_ties_are_by_arrival() -> None:
    jobs = [WAIT, Job(1, 30, 8), Job(2, 20, 8), Job(3, 10, 8), Job(4, 20, 8)]
    assert simulate(jobs, queue="sjf").starts == [0, 150, 110, 100, 130]


def test_the_job_at_the_front_blocks_unless_it_is_skipped() -> None:
    """From 100 job 2 (shortest) holds 4 GPUs until 105. Job 1 is next and needs 8; job 3 needs 4."""
    jobs = [WAIT, Job(1, 6, 8), Job(2, 5, 4), Job(3, 7, 4)]
    assert simulate(jobs, queue="sjf").starts == [0, 105, 100, 111]
    assert simulate(jobs, queue="sjf", on_misfit="stop").starts == [0, 105, 100, 111]
    assert simulate(jobs, queue="sjf", on_misfit="skip").starts == [0, 107, 100, 100]


def test_the_shortest_is_the_one_believed_to_be() -> None:
    """By their limits job 2 (10) goes before job 1 (20); job 3 has none and counts as 15."""
    jobs = [WAIT, Job(1, 5, 8, estimate_s=20.0), Job(2, 9, 8, estimate_s=10.0), Job(3, 7, 8)]
    estimate = {"source": "trace", "default": 15}
    assert simulate(jobs, queue="sjf", estimate=estimate).starts == [0, 116, 100, 109]
    assert simulate(jobs, queue="sjf").starts == [0, 100, 112, 105]


def test_priority_of_the_tenant_then_of_the_job_then_arrival() -> None:
    tenants: list[dict[str, Any]] = [{"name": "z"}, {"name": "low"}, {"name": "high", "priority": 1}]
    jobs = [
        WAIT,
        Job(1, 1, 8, tenant="low"),
        Job(2, 1, 8, tenant="low", priority=2**31 - 1),
        Job(3, 1, 8, tenant="high", priority=-(2**31)),
        Job(4, 1, 8, tenant="high"),
        Job(5, 1, 8, tenant="low"),
    ]
    assert simulate(jobs, tenants, queue="priority").starts == [0, 103, 102, 101, 100, 104]


# Prediction from history


def test_what_is_predicted_is_the_mean_of_the_nearest_group_that_has_ended() -> None:
    """By 100 have ended: a's 10 and 20 s on 1 GPU, a's 60 on 2, b's 8 on 2, and z's 100 on 4.

    Predicted GPU seconds: a on 1: 15; a on 2: 2 x 60; a on 4: 4 x 30 (all of a); c on 2: 2 x 34 (all on 2);
    c on 3: 3 x 39.6 (all five: 198 s).
    """
    past = [
        Job(0, 10, 1, user="a"),
        Job(0, 20, 1, user="a"),
        Job(0, 60, 2, user="a"),
        Job(0, 100, 4, user="z"),
        Job(60, 8, 2, user="b"),
        Job(80, 120, 8, user="y"),
    ]
    new = [
        Job(110, 1, 4, user="a"),  # 120, and first
        Job(111, 1, 2, user="a"),  # 120
        Job(112, 1, 3, user="c"),  # 118.8
        Job(113, 1, 2, user="c"),  # 68
        Job(114, 1, 1, user="a"),  # 15
    ]
    assert simulate([*past, *new], queue="qssf").starts[6:] == [221, 221, 220, 220, 220]  # 6 GPUs, then 4


def test_nothing_is_known_of_a_job_before_it_has_ended() -> None:
    """Job 3 comes while job 1 (same user) runs for ever: it is predicted as nothing has ended, like job 2."""
    jobs = [Job(0, 1000, 4, user="a"), Job(1, 10, 8, user="b"), Job(2, 10, 8, user="a")]
    assert simulate(jobs, queue="qssf").starts == [0, 1000, 1010]


def test_jobs_of_unknown_user_are_not_of_one_user() -> None:
    """50 s (user unknown) and 2 s have ended, 26 in the mean. 5 GPUs of a new user are predicted as 5 x 26 =
    130 GPU seconds, 4 of an unknown one as 4 x 26 = 104, not as 4 x 50."""
    past = [Job(0, 50, 1), Job(0, 2, 2, user="b"), Job(60, 40, 8)]
    assert simulate([*past, Job(70, 5, 5, user="c"), Job(71, 5, 4)], queue="qssf").starts[3:] == [105, 100]


@settings(deadline=None, max_examples=40)
@given(data=st.data(), queue=st.sampled_from(["smallest", "sjf", "priority"]))
def test_of_equal_shapes_the_first_in_order_starts_first(data: st.DataObject, queue: str) -> None:
    """Whatever waits at the same time and is of one size starts in order of the key, skipped or not."""
    jobs: list[Job] = []
    now = 0.0
    for _ in range(data.draw(st.integers(1, 20))):
        gpus, priority = data.draw(st.integers(1, 8)), data.draw(st.integers(-2, 2))
        jobs.append(Job(now, float(data.draw(st.integers(0, 30))), gpus, priority=priority))
        now += data.draw(st.sampled_from([0, 0, 1, 7]))
    keys = {
        "smallest": [float(job.gpus) for job in jobs],
        "sjf": [job.duration_s for job in jobs],
        "priority": [-float(job.priority or 0) for job in jobs],
    }[queue]
    for on_misfit in ("stop", "skip"):
        run = simulate(jobs, queue=queue, on_misfit=on_misfit)
        assert set(run.jobs("status")) == {"completed"}
        starts = dict(run.jobs("job", "start_s"))
        for n, first in enumerate(jobs):
            for k, second in enumerate(jobs):
                both_wait = max(first.submit_s, second.submit_s) <= min(starts[n], starts[k])
                same = on_misfit == "stop" or first.gpus == second.gpus
                if both_wait and same and (keys[n], n) < (keys[k], k):
                    assert starts[n] <= starts[k]


# Estimates


def estimated(jobs: Sequence[Job], scenario_seed: int = 0, **estimate: Any) -> list[float]:
    scheduler = {"queue": "sjf", "estimate": estimate}
    parsed = scenario.parse(text([cohort()], [workload()], scheduler=scheduler, seed=scenario_seed), "test")
    loaded, _ = load_jobs(parsed, {"w": trace(jobs)})
    assert parsed.spec.scheduler.estimate is not None
    return list(estimates_s(loaded, parsed.spec.scheduler.estimate))


def test_estimates_are_source_times_factor() -> None:
    jobs = [Job(0, 10, estimate_s=60.0), Job(1, 20)]
    assert estimated(jobs) == [10, 20]
    assert estimated(jobs, factor=2.5) == [25, 50]
    assert estimated(jobs, source="trace", default="1h", factor=2.0) == [120, 7200]


def test_the_error_is_lognormal_of_median_one_and_drawn_from_the_seed() -> None:
    jobs = [Job(n, 10.0) for n in range(4000)]
    logs = np.log(np.array(estimated(jobs, error=0.5)) / 10)
    assert logs.mean() == pytest.approx(0, abs=4 * 0.5 / 4000**0.5)
    assert logs.std() == pytest.approx(0.5, rel=0.1)
    assert estimated(jobs, error=0.5) == estimated(jobs, error=0.5)
    assert estimated(jobs, error=0.5, scenario_seed=1) != estimated(jobs, error=0.5)
    assert estimated(jobs, error=0.5, seed=1) != estimated(jobs, error=0.5)
    twice = np.log(np.array(estimated(jobs, error=1.0)) / 10)
    assert twice == pytest.approx(2 * logs, abs=1e-12)  # the draws are the same
    assert log(estimated(jobs[:1], error=0.5)[0] / 10) == pytest.approx(logs[0])  # in order of arrival


@pytest.mark.parametrize(("limits", "missing"), [([None, None], "2 of 2"), ([5.0, None], "1 of 2")])
def test_limits_that_the_trace_does_not_give_are_refused(limits: list[float | None], missing: str) -> None:
    jobs = [Job(0, 1, estimate_s=limit) for limit in limits]
    with pytest.raises(InputError) as caught:
        simulate(jobs, queue="easy", estimate={"source": "trace"})
    (problem,) = caught.value.problems
    assert problem.place == "scheduler.estimate.source"
    assert f"no limit for {missing} jobs" in problem.message
    assert "Give `default`" in problem.remedy
