"""What a checkpoint keeps and costs, to the second: at failures, at the end of a job, at that of the run."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from model.support import A100, H100, History, Job, cohort, simulate, workload

COLUMNS = ("start_s", "end_s", "restart_s", "lost_s", "checkpoint_s", "outcome")


def run(
    duration_s: float,
    fails: list[tuple[float, float]],
    restart: dict[str, Any],
    model: str = A100,
    **more: Any,
) -> tuple[list[tuple[Any, ...]], History]:
    """One job of 8 GPUs on one node that fails (after, for): its attempts, and the run."""
    script = [{"after": after, "down": down} for after, down in fails]
    failures = [{"name": "f", "script": script}] if fails else []
    h = simulate(
        [Job(0, duration_s, 8)], [cohort(model)], [workload(busy_share=1.0, sm_active=0.5)],
        scheduler={"restart": restart}, failures=failures, **more,
    )  # fmt: skip
    return h["allocations"].sort("attempt").select(COLUMNS).rows(), h


EVERY_100 = {"checkpoint": 100, "checkpoint_cost": 10}


def test_a_job_writes_between_its_checkpoints_and_not_at_its_end() -> None:
    """300 s of work: after 100 s and 200 s it writes for 10 s; after 300 s it has ended."""
    rows, h = run(300, [], EVERY_100)
    assert rows == [(0, 320, 0, 0, 20, "completed")]
    assert h.jobs("checkpoint_gpu_s") == [160]
    # written time counts as lost: the rest, 300 of 320 s, is productive
    assert h.hours("state") == pytest.approx({"lost": 8 * 20 / 3600, "productive": 8 * 300 / 3600})
    assert run(301, [], EVERY_100)[0] == [(0, 331, 0, 0, 30, "completed")]


def test_a_failure_while_it_works_loses_the_work_since_the_last_checkpoint() -> None:
    """It fails at 250 s: 100 work, 10 write, 100 work, 10 write, 30 work. 200 s are kept, 20 written, 30
    lost. Up again at 260 s, with 20 s of restart and 100 s to go: no checkpoint more."""
    rows, h = run(300, [(250, 10)], EVERY_100 | {"costs": [{"cost": 20}]})
    assert rows == [(0, 250, 0, 30, 20, "failed"), (260, 380, 20, 0, 0, "completed")]
    assert h.jobs("lost_gpu_s", "restart_gpu_s", "checkpoint_gpu_s", "attempts", "failures") == [
        (240, 160, 160, 2, 1)
    ]  # fmt: skip


def test_a_failure_while_it_writes_loses_that_checkpoint() -> None:
    """At 215 s it has worked for 200 s, the last 5 s went into the second checkpoint: 100 s are kept."""
    rows, _ = run(300, [(215, 5)], EVERY_100)
    assert rows == [(0, 215, 0, 105, 10, "failed"), (220, 430, 0, 0, 10, "completed")]


def test_a_failure_as_a_checkpoint_is_done_keeps_it() -> None:
    """At 220 s both are written; 100 s are left, and no checkpoint comes at the end."""
    rows, _ = run(300, [(220, 5)], EVERY_100)
    assert rows == [(0, 220, 0, 0, 20, "failed"), (225, 325, 0, 0, 0, "completed")]


def test_a_failure_in_the_restart_costs_another() -> None:
    """It fails at 150 s (100 kept, 40 lost) and at 165 s, 5 s into 20 s of restart: 15 s are owed still, and
    20 s more. From 170 s on: 35 s, then 200 s of work with one checkpoint between."""
    rows, _ = run(300, [(150, 10), (5, 5)], EVERY_100 | {"costs": [{"cost": 20}]})
    assert rows == [
        (0, 150, 0, 40, 10, "failed"),
        (160, 165, 5, 0, 0, "failed"),
        (170, 170 + 35 + 200 + 10, 35, 0, 10, "completed"),
    ]


@pytest.mark.parametrize(
    ("end_s", "lost_s", "writing_s"),
    [
        (99, 0, 0),  # at work
        (105, 0, 5),  # half of the first checkpoint
        (110, 0, 10),  # it is just done
        (219, 0, 19),
        (250, 0, 20),  # 30 s of work that may still be kept
    ],
)
def test_a_run_that_ends_cuts_a_checkpoint_short(end_s: int, lost_s: int, writing_s: int) -> None:
    """What is not lost yet is not lost: the job runs on, beyond the end."""
    rows, h = run(1000, [], EVERY_100, horizon=end_s)
    assert rows == [(0, end_s, 0, lost_s, writing_s, "running")]
    assert h.jobs("checkpoint_gpu_s") == [8 * writing_s]


def test_a_run_that_ends_in_the_restart_of_a_job() -> None:
    rows, _ = run(1000, [(250, 10)], EVERY_100 | {"costs": [{"cost": 20}]}, horizon=270)
    assert rows[1] == (260, 270, 10, 0, 0, "running")
    rows, _ = run(1000, [(250, 10)], EVERY_100 | {"costs": [{"cost": 20}]}, horizon=385)
    assert rows[1] == (260, 385, 20, 0, 5, "running")  # 20 s of restart, 100 s of work, 5 s of writing


def test_intervals_are_of_time_on_the_gpus_that_run_it() -> None:
    """An H100 trains 2.2 times as fast: 660 s of an A100 take 300 s, with checkpoints after 100 s and 200 s.

    It fails at 250 s: 200 s, 440 s of the work, are kept and 30 s lost. 100 s are left."""
    rows, h = run(660, [(250, 10)], EVERY_100, H100)
    assert rows == [(0, 250, 0, 30, 20, "failed"), (260, pytest.approx(360), 0, 0, 0, "completed")]
    assert h.jobs("lost_gpu_s") == [8 * 30]


def test_what_is_kept_on_one_model_is_work_on_another() -> None:
    """The H100 fails for good after 250 s with 440 of 1,100 s done; an A100 does the other 660 s in 660 s
    and six checkpoints."""
    h = simulate(
        [Job(0, 1100, 8)], [cohort(H100), cohort(A100)],
        failures=[{"name": "f", "cohorts": [H100], "script": [{"after": 250, "down": "1y"}]}],
        scheduler={"restart": EVERY_100}, horizon="1d",
    )  # fmt: skip
    assert h["allocations"].sort("attempt").select("gpu_model", *COLUMNS).rows() == [
        (H100, 0, 250, 0, 30, 20, "failed"),
        (A100, 250, pytest.approx(250 + 660 + 60), 0, 0, 60, "completed"),
    ]


def test_without_checkpoints_all_is_lost_and_saved_when_stopped_nothing() -> None:
    rows, _ = run(300, [(250, 10)], {"checkpoint": "never"})
    assert rows == [(0, 250, 0, 250, 0, "failed"), (260, 560, 0, 0, 0, "completed")]
    rows, _ = run(300, [(250, 10)], {"checkpoint": "when_stopped"})
    assert rows == [(0, 250, 0, 0, 0, "failed"), (260, 310, 0, 0, 0, "completed")]


def test_the_trace_says_of_each_job() -> None:
    """Its own: every 60 s, so 240 of 250 s are kept. The other says nothing: it is saved when stopped."""
    jobs = [Job(0, 300, 4, checkpoint_s=60), Job(0, 300, 4)]
    h = simulate(
        jobs, failures=[{"name": "f", "script": [{"after": 250, "down": 10}]}],
        scheduler={"restart": {"checkpoint": "trace"}},
    )  # fmt: skip
    assert h["allocations"].filter(pl.col("attempt") == 1).sort("job")["lost_s"].to_list() == [10, 0]
    assert h.jobs("end_s") == [260 + 60, 260 + 50]


def test_what_a_lost_second_draws_is_that_of_any_other() -> None:
    """8 A100, half of the SMs at work: all seconds but the restart's draw the same; GPUs that restart draw
    what a context does."""
    _, h = run(300, [(250, 10)], EVERY_100 | {"costs": [{"cost": 20}]}, usage_period="year")
    power_w = h["allocations"].sort("attempt")["power_w"].to_list()
    context = h["usage"].filter(pl.col("state").cast(pl.String) == "stalled")
    kwh, gpu_hours = (sum(context[column].to_list()) for column in ("energy_kwh", "gpu_hours"))
    context_w = kwh / gpu_hours * 1000 * 8
    assert power_w[1] == pytest.approx((20 * context_w + 100 * power_w[0]) / 120)
