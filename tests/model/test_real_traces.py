"""Every job of real public logs, replayed to the end with balanced books and none lost on the way."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from model.support import V100, cohort, simulate, workload

from fleetsim_traces import read_trace

#: File, rows, largest gang, and nodes of eight: about the machine or the demand of the log.
LOGS = [
    ("philly/philly.csv", 70_318, 128, 44),
    ("swf/lublin_256.swf", 10_000, 256, 40),
    ("swf/NASA-iPSC-1993-3.1-cln.swf.gz", 18_239, 128, 16),
]


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
@pytest.mark.parametrize(("log", "rows", "largest", "nodes"), LOGS)
def test_every_row_is_replayed(
    real_traces: Path, log: str, rows: int, largest: int, nodes: int, queue: str
) -> None:
    """A fleet that holds the largest gang: all complete, at the speed and for the time that the log says."""
    log_jobs = read_trace(real_traces / log)
    assert (log_jobs.rows_read, log_jobs.jobs.num_rows) == (rows, rows)
    given = pl.DataFrame(log_jobs.jobs)
    assert given["gpus"].max() == largest <= 8 * nodes

    run = simulate(log_jobs, [cohort(V100, nodes)], [workload(reference_gpu=V100)], queue=queue)
    jobs = run["jobs"]
    assert jobs["status"].unique().to_list() == ["completed"]
    assert jobs["job_id"].to_list() == given["job_id"].to_list()
    assert jobs["gpus"].to_list() == given["gpus"].to_list()
    assert (jobs["end_s"] == jobs["start_s"] + given["duration_s"]).all()
    assert (jobs["start_s"] >= jobs["submit_s"]).all()
    assert (jobs["wait_s"] > 0).any()  # the queue was tried
    assert run["allocations"]["gpus"].sum() == jobs["gpus"].sum()
    work_s = float((given["gpus"] * given["duration_s"]).sum())
    hours = run.hours("state")
    assert (hours["stalled"] + hours["productive"]) * 3600 == pytest.approx(work_s, rel=1e-9)
    assert sum(hours.values()) * 3600 == pytest.approx(8 * nodes * run.manifest["end_s"], rel=1e-9)
    assert all(check["holds"] for check in run.manifest["checks"])


@pytest.mark.parametrize("queue", ["fifo", "fifo_skip"])
@pytest.mark.parametrize(("log", "rows", "largest", "nodes"), LOGS)
def test_rows_are_conserved_on_a_fleet_that_is_too_small(
    real_traces: Path, log: str, rows: int, largest: int, nodes: int, queue: str
) -> None:
    """Seven GPUs short of the largest gang: that one is rejected, and completed + rejected = rows."""
    log_jobs = read_trace(real_traces / log)
    too_large = int((pl.DataFrame(log_jobs.jobs)["gpus"] > largest - 7).sum())
    run = simulate(log_jobs, [cohort(V100, largest - 7, 1)], queue=queue)
    count = dict(run["jobs"]["status"].cast(pl.String).value_counts().rows())
    assert count == {"completed": rows - too_large, "rejected": too_large}
    assert too_large > 0
    assert run.manifest["rejected"] == {"larger than any pool": too_large}
    assert run["jobs"].height == rows


def test_a_month_of_philly_accounts_for_every_row(real_traces: Path) -> None:
    """Completed, running, queued, and the rows submitted later: all of them, at the cut."""
    log_jobs = read_trace(real_traces / "philly/philly.csv")
    run = simulate(log_jobs, [cohort(V100, 24)], [workload(reference_gpu=V100)], horizon="30d")
    count = dict(run["jobs"]["status"].cast(pl.String).value_counts().rows())
    assert set(count) == {"completed", "running", "queued"}
    left_out = run.manifest["sources"]["w"]["left_out"]
    assert set(left_out) == {"submitted after the end"}
    assert sum(count.values()) + left_out["submitted after the end"] == 70_318
    held = run["allocations"].filter(pl.col("outcome").cast(pl.String) == "running")
    assert held["end_s"].unique().to_list() == [30 * 86_400]
    assert held["gpus"].sum() <= 24 * 8
