"""Microsoft Philly, the original ``cluster_job_log``: JSON with every scheduling attempt of each job.

*Citation.* M. Jeon et al., "Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads",
USENIX ATC 2019. *Licence.* CC-BY-4.0.

*How to obtain.* github.com/msr-fiddle/philly-traces, ``cluster_job_log`` in ``trace-data.tar.gz``: 117,325
jobs, of which 82,247 have an attempt with a start and an end.

*What is taken.* The run time is the sum over attempts, as in the flattened CSV; the GPUs are those of the
attempt that had most; ``start_s`` is the first attempt's start. ``vc`` is the tenant, ``user`` the user.

*Known defects.* Timestamps are America/Los_Angeles without an offset; those in the hour that happened twice
are read as the first. Jobs without an attempt that has both times (or GPUs) never ran on record: left out
and counted. Attempts without an end are not counted: for the last it means that the job was still running.
Attempts of a job can differ in GPUs; the number of such jobs is noted.

Not run on the original, which was too large to have: written from its published schema and example.
The number of an element of the document stands for the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetsim_traces.jsontext import list_at, load_json, text_at
from fleetsim_traces.rows import NEVER_STARTED, BadRows, Check, Draft, finish
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail
from fleetsim_traces.times import instants

ZONE = "America/Los_Angeles"
STATUS = {"Pass": "completed", "Killed": "killed", "Failed": "failed"}


def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
    """Read the job log at *path*; raises TraceError for what cannot be used."""
    import polars as pl

    jobs = load_json(path)
    if not isinstance(jobs, list):
        raise fail(path, "not a list of jobs", 'The log begins with [ and has "jobid" and "attempts".')
    if odd := [i for i, job in enumerate(jobs, start=1) if not isinstance(job, dict)]:
        raise fail(f"{path}:{odd[0]}", "not a job", 'Each has "jobid", "submitted_time", "attempts".')
    columns = ("jobid", "vc", "user", "status", "submitted_time")
    frame = pl.DataFrame(
        {name: [text_at(job, name) for job in jobs] for name in columns},
        schema=dict.fromkeys(columns, pl.String),
    ).select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
        pl.col("jobid").alias("job_id"),
        pl.col("vc").alias("tenant"),
        "user",
        pl.col("status").replace(STATUS),
        pl.col("submitted_time").fill_null("").alias("time"),
    )
    frame = frame.with_columns(instants(frame["time"], ZONE).alias("submit_s"))
    frame = frame.join(_runs(path, jobs), on="line", how="left", maintain_order="left")
    uneven = frame.filter(pl.col("gpus") != pl.col("fewest")).height
    draft = Draft(
        path=path,
        format="philly-log",
        frame=frame,
        skips=[
            Check(
                f"{NEVER_STARTED}, or no attempt with start, end and GPUs",
                "line",
                pl.col("duration_s").is_null(),
            )
        ],
        checks=[
            Check(
                "submitted_time is not a date and time",
                "time",
                pl.col("submit_s").is_null(),
                "Write YYYY-MM-DD HH:MM:SS, local time.",
            ),
            Check("an attempt ends before it starts", "shortest", pl.col("shortest") < 0),
        ],
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
        rebase=True,
        notes=[f"{uneven:,} jobs had attempts with fewer GPUs than their largest."] * bool(uneven),
        constants={"workload_class": "training"},
    )
    return finish(draft, bad_rows)


def _runs(path: Path, jobs: list[Any]) -> Any:
    """For the jobs that ran, by line: run time over all attempts, first start, most and fewest GPUs."""
    import polars as pl

    attempts = pl.DataFrame(
        list(_attempts(jobs)),
        schema={"line": pl.Int64, "start": pl.String, "end": pl.String, "gpus": pl.Float64},
        orient="row",
    )
    attempts = attempts.with_columns(
        instants(attempts["start"], ZONE).alias("start_s"), instants(attempts["end"], ZONE).alias("end_s")
    )
    unread = attempts.filter(
        (pl.col("start_s").is_null() & (pl.col("start") != ""))
        | (pl.col("end_s").is_null() & (pl.col("end") != ""))
    )
    if unread.height:
        line, start, end, *_ = unread.row(0)
        raise fail(
            f"{path}:{line}",
            f"{unread.height:,} attempts have times that are none, such as {start!r} to {end!r}",
        )
    run_s = pl.col("end_s") - pl.col("start_s")
    return (
        attempts.filter(run_s.is_not_null() & (pl.col("gpus") > 0))
        .group_by("line", maintain_order=True)
        .agg(
            run_s.sum().alias("duration_s"),
            run_s.min().alias("shortest"),
            pl.col("start_s").min(),
            pl.col("gpus").max(),
            pl.col("gpus").min().alias("fewest"),
        )
    )


def _attempts(jobs: list[Any]) -> Iterator[tuple[int, str, str, float]]:
    for line, job in enumerate(jobs, start=1):
        for attempt in list_at(job, "attempts"):
            gpus = sum(len(list_at(server, "gpus")) for server in list_at(attempt, "detail"))
            start, end = (text_at(attempt, name) or "" for name in ("start_time", "end_time"))
            yield line, *("" if text == "None" else text for text in (start, end)), float(gpus)  # type: ignore[misc]
