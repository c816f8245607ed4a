"""15,000 jobs each of Philly, Helios, Blue Waters and Theta, as prepared to train a workload generator.

*Citation.* M. Soysal, Y. Fan, D. Dai et al., Gen-Parallel-Workloads (DIR-LAB); the originals as in
:mod:`fleetsim_traces.philly` and :mod:`fleetsim_traces.helios`. *Licence.* no licence file; the Philly and
Helios originals are CC-BY-4.0.

*How to obtain.* github.com/DIR-LAB/Gen-Parallel-Workloads, ``<System>/training_data/*_data_training.csv``,
15,000 rows each.

*What is taken.* ``gpu_num`` (Blue Waters: XK nodes of one GPU each), ``run_time``; submission is the running
sum of ``interval`` over all rows. ``wall_time`` above 0 is the estimate. Jobs without GPUs (28 % of Helios,
77 % of Blue Waters) are left out and counted.

*Known defects.* No date, no start. ``interval`` can jump (4,488,422 s in row 2 of Blue Waters). Users are
renumbered from 1. ``wall_time`` is 0 on Philly and Helios, though described as the time in the system.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.rows import BadRows, Check, Draft, finish, no_gpu, numbers
from fleetsim_traces.table import Trace
from fleetsim_traces.times import number

HEADER = ("u_id", "user", "gpu_num", "interval", "run_time", "wall_time", "new_status")
STATUS = {"Pass": "completed", "Failed": "failed", "Killed": "killed"}


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the training data at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    table = load(path, HEADER)
    gap_s, limit_s = number(pl.col("interval")), number(pl.col("wall_time"))
    frame = table.rows.frame.select(
        "line",
        pl.col("u_id").alias("job_id"),
        pl.when(gap_s.is_finite()).then(gap_s).otherwise(0.0).cum_sum().alias("submit_s"),
        gap_s.alias("gap_s"),
        pl.col("interval").alias("gap:raw"),
        *numbers(duration_s="run_time", gpus="gpu_num"),
        pl.when(limit_s > 0).then(limit_s).alias("estimate_s"),
        ("user-" + pl.col("user").str.strip_chars()).alias("user"),
        pl.col("new_status").replace(STATUS).alias("status"),
    )
    unread = ~pl.col("gap_s").is_finite().fill_null(False)
    draft = Draft(
        path=path,
        format="gen-parallel",
        frame=frame,
        skips=[no_gpu()],
        checks=[
            Check("interval is not a number", "gap:raw", unread),
            Check("interval is negative", "gap:raw", pl.col("gap_s") < 0),
        ],
        misfits=table.rows.misfits,
        fields=len(table.names),
        notes=["Submission is the running sum of interval: there is no date."],
    )
    return finish(draft, bad_rows)
