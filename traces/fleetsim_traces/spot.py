"""Alibaba spot GPU cluster 2026: high-priority and spot jobs of 184 days.

*Citation.* Alibaba cluster-trace-v2026-spot-gpu. *Licence.* none stated in the folder.

*How to obtain.* github.com/alibaba/clusterdata, ``cluster-trace-v2026-spot-gpu/job_info_df.csv``; nodes
(``node_info_df.csv``, 4,278) go to :func:`fleetsim_traces.nodes.read_nodes`.

*What is taken.* ``gpu_request`` is for one worker and may be a fraction: each worker takes that many GPUs,
rounded up, and the share of each that makes the request. ``organization`` is the tenant; ``job_type`` HP has
priority 1, Spot 0. Jobs without GPUs are left out and counted.

*Known defects.* No date. Durations end at 15,897,599 s, the length of the window, and may hold waiting time
(the demand for A10 is above the A10 nodes listed).

Not run on the original, which could not be had: written from its schema, and read on 700 of its rows as
another project printed them (without ``gpu_model``).
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.rows import NO_GPU, BadRows, Check, Draft, finish, numbers
from fleetsim_traces.table import Trace

HEADER = ("job_name", "organization", "job_type", "duration", "gpu_request", "worker_num", "submit_time")
PRIORITY = {"HP": 1.0, "Spot": 0.0}


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the jobs at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    table = load(path, HEADER, ("gpu_model",))
    ask = pl.col("ask")
    whole = ask.ceil()
    frame = table.rows.frame.select(
        "line",
        pl.col("job_name").alias("job_id"),
        *numbers(submit_s="submit_time", duration_s="duration", ask="gpu_request", workers="worker_num"),
        pl.col("organization").alias("tenant"),
        pl.col("job_type").replace_strict(PRIORITY, default=None, return_dtype=pl.Float64).alias("priority"),
        "job_type",
        "gpu_model",
        pl.concat_str("worker_num", "gpu_request", separator=" x ").alias("gpus:raw"),
    ).with_columns(
        (pl.col("workers") * whole).alias("gpus"),
        pl.when(ask > 0).then(ask / whole).otherwise(1.0).alias("gpu_share"),
    )
    draft = Draft(
        path=path,
        format="spot",
        frame=frame,
        skips=[Check(NO_GPU, "line", ask == 0)],
        checks=[
            Check("job_type is neither HP nor Spot", "job_type", pl.col("priority").is_null()),
            Check("gpu_request is negative", "ask:raw", ask < 0),
            Check("worker_num is below 1", "workers:raw", pl.col("workers") < 1),
        ],
        misfits=table.rows.misfits,
        fields=len(table.names),
        notes=["submit_time counts from the start of the trace: there is no date."],
    )
    return finish(draft, bad_rows)
