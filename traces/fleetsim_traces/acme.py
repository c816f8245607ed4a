"""Shanghai AI Lab Acme: LLM development on two clusters, Seren and Kalos, 2023-03 to 2023-08.

*Citation.* Q. Hu et al., "Characterization of Large Language Model Development in the Datacenter", NSDI 2024.
*Licence.* CC-BY-4.0.

*How to obtain.* github.com/InternLM/AcmeTrace, ``data/job_trace/trace_seren.csv`` and ``trace_kalos.csv``:
880,740 jobs, of which 470,497 ask for GPUs. Timestamps carry their offset (+08:00 in Seren, +00:00 in Kalos).

*What is taken.* ``gpu_num``, ``start_time``; the run time is ``end_time - start_time``. ``type`` gives the
class: Pretrain and MLLM training, SFT fine_tuning, Evaluation batch, Debug interactive, others none. There
are no tenants. Jobs without GPUs, or that never started, are left out and counted.

*Known defects.* In Kalos ``duration`` counts from submission, against its description, and ``gpu_time`` with
it: the number of such rows is noted, and GPU-hours here are lower than the published ones.

Not run on the originals, which were too large to have: written from the published schema and examples.
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
    "gpu_num",
    "type",
    "state",
    "submit_time",
    "start_time",
    "end_time",
    "duration",
    "gpu_time",
)
CLASSES = {
    "Pretrain": "training",
    "MLLM": "training",
    "SFT": "fine_tuning",
    "Evaluation": "batch",
    "Debug": "interactive",
}
_ZONE = "Asia/Shanghai"  # of a time without an offset


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the job trace at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    table = load(path, HEADER)
    cells = table.rows.frame
    frame = cells.select(
        "line",
        "job_id",
        *moments(cells, _ZONE, submit_s="submit_time", start_s="start_time", end_s="end_time"),
        *numbers(stated_s="duration", gpus="gpu_num"),
        "user",
        pl.col("type").replace_strict(CLASSES, default=None, return_dtype=pl.String).alias("workload_class"),
        pl.col("state").str.to_lowercase().alias("status"),
        pl.col("submit_time").alias("time:raw"),
        pl.concat_str("start_time", "end_time", separator=" to ").alias("duration_s:raw"),
    ).with_columns((pl.col("end_s") - pl.col("start_s")).alias("duration_s"))
    unlike = frame.filter((pl.col("duration_s") - pl.col("stated_s")).abs() > 1).height
    never = pl.col("start_s").is_null() & (pl.col("stated_s").fill_null(0) == 0)
    draft = Draft(
        path=path,
        format="acme",
        frame=frame,
        skips=[no_gpu(), Check(NEVER_STARTED, "line", never)],
        checks=[
            Check(
                "submit_time is not a timestamp",
                "time:raw",
                pl.col("submit_s").is_null(),
                "Write it as 2023-05-17 11:00:58+00:00.",
            ),
            Check(
                "start_time or end_time is not a timestamp", "duration_s:raw", pl.col("duration_s").is_null()
            ),
        ],
        misfits=table.rows.misfits,
        fields=len(table.names),
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
        rebase=True,
        notes=[f"{unlike:,} rows have a duration that is not end_time - start_time; not used."]
        * bool(unlike),
    )
    return finish(draft, bad_rows)
