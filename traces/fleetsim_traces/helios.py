"""SenseTime Helios: the Slurm logs of four training clusters, 2020-04 to 2020-09.

*Citation.* Q. Hu et al., "Characterization and Prediction of Deep Learning Workloads in Large-Scale GPU
Datacenters", SC 2021. *Licence.* CC-BY-4.0.

*How to obtain.* github.com/S-Lab-System-Group/HeliosData, ``data/<cluster>/cluster_log.csv`` of Venus (247 k
jobs), Earth (873 k), Saturn (1,753 k) and Uranus (490 k): 3,362,981 jobs, of which 1,580,464 ask for GPUs.

*What is taken.* ``gpu_num``; ``duration`` (s) as run time, ``start_time``; the virtual cluster is the tenant.
Times are Asia/Shanghai without an offset. Jobs without GPUs are left out and counted, as are jobs that never
started.

*Known defects.* ``TIMEOUT`` and ``NODE_FAIL`` are rare and counted as failed in the paper; they stay as they
are here. The state ``SUSPENDED`` occurs once.

Not run on the originals, which were too large to have: written from the published schema.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.rows import NEVER_STARTED, BadRows, Check, Draft, finish, no_gpu, numbers
from fleetsim_traces.table import Trace
from fleetsim_traces.times import moments

HEADER = (
    "job_id",
    "user",
    "vc",
    "gpu_num",
    "state",
    "submit_time",
    "start_time",
    "end_time",
    "duration",
    "queue",
)
ZONE = "Asia/Shanghai"


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the job log at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    table = load(path, HEADER)
    cells = table.rows.frame
    frame = cells.select(
        "line",
        "job_id",
        *moments(cells, ZONE, submit_s="submit_time", start_s="start_time", end_s="end_time"),
        *numbers(duration_s="duration", gpus="gpu_num"),
        pl.col("vc").alias("tenant"),
        "user",
        pl.col("state").str.to_lowercase().alias("status"),
        pl.col("submit_time").alias("time:raw"),
    )
    unlike = frame.filter((pl.col("end_s") - pl.col("start_s") - pl.col("duration_s")).abs() > 1).height
    never = pl.col("start_s").is_null() & (pl.col("duration_s").fill_null(0) == 0)
    draft = Draft(
        path=path,
        format="helios",
        frame=frame,
        skips=[no_gpu(), Check(NEVER_STARTED, "line", never)],
        checks=[
            Check(
                "submit_time is not a date and time",
                "time:raw",
                pl.col("submit_s").is_null(),
                "Write YYYY-MM-DD HH:MM:SS, local time.",
            )
        ],
        misfits=table.rows.misfits,
        fields=len(table.names),
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
        rebase=True,
        notes=[f"{unlike:,} rows have a duration that is not end_time - start_time."] * bool(unlike),
        constants={"workload_class": "training"},
    )
    return finish(draft, bad_rows)
