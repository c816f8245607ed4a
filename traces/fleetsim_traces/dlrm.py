"""Alibaba DLRM 2025: instances of recommendation inference with GPUs apart from CPUs, over 31 days.

*Citation.* Alibaba cluster-trace-gpu-v2025; L. Yang et al., "GPU-Disaggregated Serving for Deep Learning
Recommendation Models at Scale", NSDI 2025. *Licence.* none stated in the folder.

*How to obtain.* github.com/alibaba/clusterdata, ``cluster-trace-gpu-v2025/disaggregated_DLRM_trace.csv``:
23,871 instances of 156 applications.

*What is taken.* Heterogeneous-node instances (role HN, one GPU each); those of CPU nodes (CN) ask for no GPU:
left out and counted. The application is the tenant, the class inference.

*Known defects.* No date. An empty creation time means older than the trace: submitted and started at 0 s. An
empty deletion time means alive at its end (2,678,400 s). Run times of both are lower bounds; their numbers
are noted. Instances of an application are created together (39 % of gaps are 0 s).
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.rows import BadRows, Check, Draft, finish, no_gpu, numbers
from fleetsim_traces.table import Trace

HEADER = (
    "instance_sn",
    "role",
    "app_name",
    "gpu_request",
    "creation_time",
    "scheduled_time",
    "deletion_time",
)
END_S = 31 * 86400.0


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the instances at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    table = load(path, HEADER)
    frame = table.rows.frame.select(
        "line",
        pl.col("instance_sn").alias("job_id"),
        *numbers(
            gpus="gpu_request", submit_s="creation_time", start_s="scheduled_time", end_s="deletion_time"
        ),
        pl.col("app_name").alias("tenant"),
    )
    old, alive = (pl.col(name).str.strip_chars() == "" for name in ("submit_s:raw", "end_s:raw"))
    frame = frame.with_columns(
        pl.when(old).then(0.0).otherwise("submit_s").alias("submit_s"),
        pl.when(old).then(0.0).otherwise("start_s").alias("start_s"),
        pl.when(alive).then(END_S).otherwise("end_s").alias("end_s"),
        pl.when(alive).then(pl.lit("running")).otherwise(pl.lit("completed")).alias("status"),
    ).with_columns((pl.col("end_s") - pl.col("start_s")).alias("duration_s"))
    gpu = frame.filter(pl.col("gpus") > 0)
    notes = [
        f"{gpu.filter(old).height:,} instances are older than the trace: they begin at 0 s.",
        f"{gpu.filter(alive).height:,} instances were alive at its end: their run time is a lower bound.",
    ]
    draft = Draft(
        path=path,
        format="dlrm",
        frame=frame,
        skips=[no_gpu()],
        checks=[
            Check("scheduled_time is missing", "start_s:raw", pl.col("start_s").is_null()),
            Check("deletion_time is not a number", "end_s:raw", pl.col("end_s").is_null()),
            Check("deletion_time is before scheduled_time", "end_s:raw", pl.col("duration_s") < 0),
        ],
        misfits=table.rows.misfits,
        fields=len(table.names),
        notes=notes,
        constants={"workload_class": "inference"},
    )
    return finish(draft, bad_rows)
