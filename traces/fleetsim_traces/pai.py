"""Alibaba PAI 2020: jobs made of tasks that share GPUs, July and August 2020.

*Citation.* Q. Weng et al., "MLaaS in the Wild: Workload Analysis and Scheduling in Large-Scale
Heterogeneous GPU Clusters", NSDI 2022. *Licence.* CC-BY-4.0.

*How to obtain.* github.com/alibaba/clusterdata, ``cluster-trace-gpu-v2020``: ``pai_task_table`` and, beside
it, ``pai_job_table``, ``pai_instance_table``, ``pai_group_tag_table`` (``.tar.gz``; unpack them). CSV
without a header line: the columns are those of the ``.header`` files (a header line that was put in is
skipped).

*What is taken.* Name the folder, or the task table in it. One row for each job: GPUs are ``inst_num`` x
``plan_gpu`` percent over its tasks, each instance taking whole GPUs rounded up, and ``gpu_share`` is the
part of them that makes the sum, so that GPU-hours are the plan's. The run time is from the earliest start
to the latest end of its GPU tasks, of their instances where that table is there. From the job table, if
there, come submission, user and status; else submission is the first start. From the tag table, if there,
comes the GPU type asked for (``gpu_type`` of the task table is the type that was given, and is not used).

*Known defects.* Times are shifted: read as UTC+8, hour and weekday are real, the date is not (epoch 1970).
Jobs without GPUs, that never started, or without an end are left out and counted; jobs running at the end of
the trace are among these.

Not run on the originals, which were too large to have: written from the published schema and examples.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces.delimited import Rows, split_rows
from fleetsim_traces.rows import NEVER_STARTED, BadRows, Check, Draft, finish
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail, read_text
from fleetsim_traces.times import number

if TYPE_CHECKING:
    import polars as pl

TASK = (
    "job_name",
    "task_name",
    "inst_num",
    "status",
    "start_time",
    "end_time",
    "plan_cpu",
    "plan_mem",
    "plan_gpu",
    "gpu_type",
)
JOB = ("job_name", "inst_id", "user", "status", "start_time", "end_time")
INSTANCE = (
    "job_name",
    "task_name",
    "inst_name",
    "worker_name",
    "inst_id",
    "status",
    "start_time",
    "end_time",
    "machine",
)
TAG = ("inst_id", "user", "gpu_type_spec", "group", "workload")
STATUS = {"Terminated": "completed", "Failed": "failed", "Running": "running", "Waiting": "waiting"}
_ENDINGS = (".csv", "", ".csv.gz", ".csv.zst", ".csv.xz")


def find(folder: Path, table: str) -> Path | None:
    """The file of *table* in *folder*, plain or packed."""
    files = (folder / f"{table}{ending}" for ending in _ENDINGS)
    return next((file for file in files if file.is_file()), None)


def is_task_row(line: str) -> bool:
    """True where *line* looks like one of a task table, which has no header."""
    cells = line.split(",")
    return len(cells) == len(TASK) and cells[3] in {*STATUS, "Interrupted", "status"}


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the task table at *path*, or in that folder, with the tables beside it; raises TraceError."""
    import polars as pl

    folder = path if path.is_dir() else path.parent
    tasks_file = find(folder, "pai_task_table") if path.is_dir() else path
    if tasks_file is None:
        raise fail(path, "a folder without pai_task_table.csv", "Unpack pai_task_table.tar.gz into it.")
    rows = _load(tasks_file, TASK)
    tasks = rows.frame.with_columns(
        number(pl.col(name)).alias(f"{name}_n") for name in ("inst_num", "start_time", "end_time", "plan_gpu")
    ).with_columns(
        pl.any_horizontal(
            pl.col(f"{name}_n").is_null() & (pl.col(name).str.strip_chars() != "")
            for name in ("inst_num", "start_time", "end_time", "plan_gpu")
        ).alias("unread")
    )
    gpu = tasks.filter((pl.col("plan_gpu_n") > 0).fill_null(False))
    notes = ["Times are shifted: hour and weekday in UTC+8 are real, the date is not."]
    if instances := find(folder, "pai_instance_table"):
        spans = (
            _load(instances, INSTANCE)
            .frame.group_by("job_name", "task_name")
            .agg(
                number(pl.col("start_time")).min().alias("began"),
                number(pl.col("end_time")).max().alias("over"),
            )
        )
        gpu = gpu.join(spans, on=["job_name", "task_name"], how="left", maintain_order="left").with_columns(
            pl.coalesce("began", "start_time_n").alias("start_time_n"),
            pl.coalesce("over", "end_time_n").alias("end_time_n"),
        )
    percent = pl.col("inst_num_n") * pl.col("plan_gpu_n")
    demand = gpu.group_by("job_name").agg(
        (pl.col("inst_num_n") * (pl.col("plan_gpu_n") / 100).ceil()).sum().alias("gpus"),
        percent.sum().alias("percent"),
        pl.col("inst_num_n").null_count().alias("uncounted"),
        pl.col("start_time_n").min().alias("start_s"),
        pl.when(pl.col("end_time_n").null_count() == 0).then(pl.col("end_time_n").max()).alias("end_s"),
    )
    frame = (
        tasks.group_by("job_name", maintain_order=True)
        .agg(
            pl.col("line").first(),
            pl.col("unread").any(),
            pl.concat_str("inst_num", "start_time", "end_time", "plan_gpu", separator=",")
            .filter("unread")
            .first()
            .alias("unread:raw"),
            pl.coalesce(
                pl.col("status").filter(pl.col("status") != "Terminated").first(), pl.col("status").first()
            ),
        )
        .join(demand, on="job_name", how="left", maintain_order="left")
    )
    frame = _described(folder, frame, notes).with_columns(
        pl.col("job_name").alias("job_id"),
        pl.col("gpus").fill_null(0.0),
        pl.when(pl.col("gpus") > 0).then(pl.col("percent") / 100 / pl.col("gpus")).alias("gpu_share"),
        (pl.col("end_s") - pl.col("start_s")).alias("duration_s"),
        pl.col("status").replace(STATUS),
    )
    ends = pl.col("end_s").is_null()
    draft = Draft(
        path=tasks_file,
        format="pai",
        frame=frame,
        skips=[
            Check(
                "no GPU asked for",
                "line",
                (pl.col("gpus") == 0) & ~pl.col("unread") & (pl.col("uncounted").fill_null(0) == 0),
            ),
            Check(NEVER_STARTED, "line", pl.col("start_s").is_null() & ~pl.col("unread")),
            Check("no end on record", "line", ends & ~pl.col("unread")),
        ],
        checks=[
            Check("a task has text where numbers belong", "unread:raw", pl.col("unread")),
            Check("a task has no inst_num", "job_name", pl.col("uncounted") > 0),
            Check("it ends before it starts", "duration_s", pl.col("duration_s") < 0),
        ],
        misfits=rows.misfits,
        fields=len(TASK),
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
        rebase=True,
        notes=notes,
    )
    return finish(draft, bad_rows)


def _described(folder: Path, frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """*frame* with what the job and tag tables say."""
    import polars as pl

    frame = frame.with_columns(pl.col("start_s").alias("submit_s"))
    if (jobs_file := find(folder, "pai_job_table")) is None:
        notes.append("No pai_job_table: submission is the first start.")
        return frame
    jobs = (
        _load(jobs_file, JOB)
        .frame.unique("job_name", keep="first", maintain_order=True)
        .select(
            "job_name",
            "inst_id",
            "user",
            pl.col("status").alias("ended"),
            number(pl.col("start_time")).alias("asked_s"),
        )
    )
    frame = frame.join(jobs, on="job_name", how="left", maintain_order="left").with_columns(
        pl.min_horizontal("asked_s", "submit_s").alias("submit_s"),
        pl.coalesce("ended", "status").alias("status"),
    )
    if (tags_file := find(folder, "pai_group_tag_table")) is None:
        return frame
    tags = _load(tags_file, TAG).frame.unique("inst_id", keep="first", maintain_order=True)
    tags = tags.select("inst_id", pl.col("gpu_type_spec").alias("gpu_model"))
    return frame.join(tags, on="inst_id", how="left", maintain_order="left")


def _load(path: Path, names: tuple[str, ...]) -> Rows:
    """The rows of a table without a header line (with one, it is skipped)."""
    data = read_text(path)
    header = ",".join(names).encode()
    start = data.find(b"\n") + 1 if data.startswith(header) else 0
    return split_rows(path, data, list(names), start=start)
