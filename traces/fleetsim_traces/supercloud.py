"""MIT Supercloud: the Slurm accounting rows of the Datacenter Challenge, 2021.

*Citation.* S. Samsi et al., "The MIT Supercloud Dataset", IEEE HPEC 2021. *Licence.* as the dataset says
(dcc.mit.edu); the cleaned part below says MIT.

*How to obtain.* ``slurm-log.csv`` of the dataset, or its cleaned part in
github.com/Imama-Kainat/MIT_supercloud-stochastic-analytics, ``slurm-log-queueing-clean.csv`` (9,628 rows).

*What is taken.* GPUs are resources 1001 (tesla) and 1002 (volta) of ``tres_alloc``, else of ``tres_req``,
whose kind is ``gpu_model``. Times are Unix seconds; ``timelimit`` (min) is the estimate, 4294967295 none.
``partition`` is the tenant: the source has no account. Jobs without GPUs, or that never started, are left
out and counted.

*Known defects.* In the cleaned part ids went through floating point (16051200000000.0) and some collide: then
the line is the identity; only jobs of 300 s and more. ``nodelist`` is a Python list in text and is not read.
``mem_req`` 9.22337e+18 means not set.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.rows import NEVER_STARTED, BadRows, Check, Draft, finish, no_gpu, numbers
from fleetsim_traces.table import Trace
from fleetsim_traces.times import number

HEADER = (
    "id_job",
    "id_user",
    "partition",
    "priority",
    "state",
    "timelimit",
    "time_submit",
    "time_start",
    "time_end",
    "tres_alloc",
    "tres_req",
)
STATES = {
    "3": "completed",
    "4": "cancelled",
    "5": "failed",
    "6": "timeout",
    "7": "node_fail",
    "8": "preempted",
    "9": "boot_fail",
    "10": "deadline",
    "11": "out_of_memory",
}
GPUS = {"1001": "tesla", "1002": "volta"}
_NO_LIMIT = 4294967295


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the accounting rows at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    def count(column: str) -> pl.Expr:
        parts = [number(pl.col(column).str.extract(rf"(?:^|,){kind}=(\d+)")).fill_null(0.0) for kind in GPUS]
        return pl.sum_horizontal(parts)

    table = load(path, HEADER)
    cells = table.rows.frame
    rounded = bool(cells["id_job"].str.contains(r"[.eE]").any())
    limit = number(pl.col("timelimit"))
    frame = cells.select(
        "line",
        *([] if rounded else [pl.col("id_job").alias("job_id")]),
        *numbers(submit_s="time_submit", start_s="time_start", end_s="time_end"),
        pl.when(limit < _NO_LIMIT).then(limit * 60).alias("estimate_s"),
        pl.when(count("tres_alloc") > 0).then(count("tres_alloc")).otherwise(count("tres_req")).alias("gpus"),
        pl.coalesce(
            pl.when(pl.col("tres_req").str.contains(rf"(?:^|,){kind}=")).then(pl.lit(name))
            for kind, name in GPUS.items()
        ).alias("gpu_model"),
        pl.col("partition").alias("tenant"),
        ("user-" + pl.col("id_user").str.strip_suffix(".0")).alias("user"),
        number(pl.col("priority")).alias("priority"),
        pl.col("state").replace(STATES).alias("status"),
    ).with_columns((pl.col("end_s") - pl.col("start_s")).alias("duration_s"))
    note = "id_job went through floating point and lost digits: the line is the identity, users may be mixed."
    draft = Draft(
        path=path,
        format="supercloud",
        frame=frame,
        skips=[no_gpu(), Check(NEVER_STARTED, "line", pl.col("start_s") == 0)],
        checks=[
            Check("time_start is missing", "start_s:raw", pl.col("start_s").is_null()),
            Check(
                "time_end is missing or 0", "end_s:raw", pl.col("end_s").is_null() | (pl.col("end_s") == 0)
            ),
            Check("time_end is before time_start", "end_s:raw", pl.col("duration_s") < 0),
        ],
        misfits=table.rows.misfits,
        fields=len(table.names),
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
        rebase=True,
        notes=[note] * rounded,
    )
    return finish(draft, bad_rows)
