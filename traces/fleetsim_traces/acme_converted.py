"""Acme Kalos as another project converted it for its simulator: completed GPU jobs without a date.

*Citation.* as for :mod:`fleetsim_traces.acme`. *Licence.* CC-BY-4.0 (the trace).

*How to obtain.* github.com/hyunnnchoi/AcmeTrace, ``data/converted_trace/converted_kalos_trace.csv``: 319
jobs.

*What is taken.* The run time is ``num_iteration`` x ``iteration_computing_time``, the GPUs ``gpu_workers``
(nodes) x ``gpu_per_worker``. ``iteration_networking_time`` 0.75 marks pre-training: class training; with any
other it is unknown.

*Known defects.* Only COMPLETED jobs; no users; run times are multiples of half a second.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.rows import BadRows, Check, Draft, finish, numbers
from fleetsim_traces.table import Trace
from fleetsim_traces.times import number

HEADER = (
    "job_id",
    "arrival_time",
    "num_iteration",
    "iteration_computing_time",
    "iteration_networking_time",
    "gpu_workers",
    "gpu_per_worker",
)
_PRETRAIN = 0.75


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the converted trace at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    table = load(path, HEADER)
    col = {name: number(pl.col(name)) for name in HEADER[1:]}
    frame = table.rows.frame.select(
        "line",
        "job_id",
        *numbers(submit_s="arrival_time"),
        (col["num_iteration"] * col["iteration_computing_time"]).alias("duration_s"),
        pl.concat_str("num_iteration", "iteration_computing_time", separator=" x ").alias("duration_s:raw"),
        (col["gpu_workers"] * col["gpu_per_worker"]).alias("gpus"),
        pl.concat_str("gpu_workers", "gpu_per_worker", separator=" x ").alias("gpus:raw"),
        pl.when(col["iteration_networking_time"] == _PRETRAIN)
        .then(pl.lit("training"))
        .alias("workload_class"),
    )
    draft = Draft(
        path=path,
        format="acme-converted",
        frame=frame,
        checks=[Check("arrival_time is not a number", "submit_s:raw", pl.col("submit_s").is_null())],
        misfits=table.rows.misfits,
        fields=len(table.names),
        constants={"status": "completed"},
    )
    return finish(draft, bad_rows)
