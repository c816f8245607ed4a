"""Slurm accounting, as ``sacct --parsable2`` prints it: the log most clusters have.

*How to obtain.* ::

    sacct --allusers --noconvert --parsable2 --allocations --starttime 2024-01-01 --endtime 2025-01-01 \\
        --format
        JobID,User,Account,Partition,State,Submit,Start,End,ElapsedRaw,TimelimitRaw,Priority,ReqTRES,AllocTRES

Any order and more columns will do, also ``--parsable`` (a bar at the end of each line), ``--duplicates``, and
steps, which are left out. *Citation, licence.* Those of the site's owner. Row counts are the site's.

*What is taken.* GPUs are ``gres/gpu`` of ``AllocTRES``, else of ``ReqTRES``: the count without a type, else
the sum over types (``gres/gpu:a100=8``). The type in ``ReqTRES`` is ``gpu_model``; a MIG profile in it
(``a100_1g.5gb``) gives the share and the memory. CPU and host memory are ``cpu`` and ``mem`` of the same
lists; with *cpu_jobs* jobs of 0 GPUs are taken too. The run time is ``ElapsedRaw``, else ``Elapsed``, else
``End - Start``; the account is the tenant; ``Timelimit`` the estimate.

*Times* are local to the machine that ran ``sacct`` and carry no offset: say its zone with *zone* (UTC unless
said). Timestamps with an offset or as Unix seconds (``SLURM_TIME_FORMAT``) are read as what they are.

*Known defects.* A job that was requeued has a row for each run with ``--duplicates``: they become one job
of all their run time, at the first submission, and the rows are counted as skipped. Elements of arrays that
have not started (``12_[3-5]``), pending jobs, and jobs without GPUs are left out and counted. Jobs still
running have the run time so far. Parts of a heterogeneous job (``7+0``) are jobs of their own. Job names
with a bar break their row: leave JobName out of ``--format``. ``sacct`` ends texts that it cut with ``+``:
use ``--parsable2``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces import mig
from fleetsim_traces.delimited import load
from fleetsim_traces.rows import NEVER_STARTED, BadRows, Check, Draft, finish, no_gpu
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail
from fleetsim_traces.times import by_value, instants, is_zone, number, zone_hint

if TYPE_CHECKING:
    import polars as pl

HEADER = ("JobID", "Submit", "Start", "State")
OPTIONAL = (
    "End",
    "Elapsed",
    "ElapsedRaw",
    "User",
    "Account",
    "Partition",
    "Timelimit",
    "TimelimitRaw",
    "Priority",
    "AllocTRES",
    "ReqTRES",
    "AllocGRES",
    "ReqGRES",
)
_TRES = "Add AllocTRES (and ReqTRES) to sacct --format."
_AGAIN = ("REQUEUED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL")  # after these a job may run again
_WAITING = ("PENDING", "REQUEUE_HOLD", "CONFIGURING", "SPECIAL_EXIT")
_MIB = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
_SPAN = r"^(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?$"  # [DD-[HH:]]MM:SS


def read(path: Path, *, zone: str = "UTC", cpu_jobs: bool = False, bad_rows: BadRows = "refuse") -> Trace:
    """Read the accounting rows at *path*, times without an offset in *zone*; raises TraceError.

    With *cpu_jobs* jobs without GPUs are read too.
    """
    import polars as pl

    if not is_zone(zone):
        raise fail("zone", f"no time zone {zone!r}", zone_hint(zone))
    table = load(path, HEADER, OPTIONAL, separator="|", quoted=False)
    if not {"AllocTRES", "ReqTRES", "AllocGRES", "ReqGRES"} & set(table.names):
        raise fail(f"{path}:1", "no column tells of GPUs", _TRES)
    cells = table.rows.frame.filter(~pl.col("JobID").str.contains(".", literal=True))
    steps = table.rows.frame.height - cells.height
    present = set(table.names)
    allocated = [_counted(cells[name]) for name in ("AllocTRES", "AllocGRES") if name in present]
    requested = [_counted(cells[name]) for name in ("ReqTRES", "ReqGRES") if name in present]
    kinds = [kind for _, kind in requested]
    hosts = [_host(cells[name]) for name in ("AllocTRES", "ReqTRES") if name in present]
    counts = {"allocated": [n for n, _ in allocated], "requested": [n for n, _ in requested]}
    elapsed_s = _first_of(cells, ("ElapsedRaw", 1), "Elapsed")
    if elapsed_s.null_count():
        spans = cells.select(_instant("End", zone) - _instant("Start", zone)).to_series()
        elapsed_s = elapsed_s.to_frame().select(pl.first().fill_null(spans)).to_series()
    word = pl.col("State").str.extract(r"^\s*([A-Z_]+)")
    state, status = by_value(cells["State"], word, word.str.to_lowercase())
    frame = cells.select(
        "line",
        pl.col("JobID").alias("job_id"),
        _instant("Submit", zone).alias("submit_s"),
        _instant("Start", zone).alias("start_s"),
        elapsed_s.alias("duration_s"),
        _first_of(cells, ("TimelimitRaw", 60), "Timelimit").alias("estimate_s"),
        *(pl.max_horizontal(*found, pl.lit(0.0)).alias(name) for name, found in counts.items()),
        pl.coalesce(*kinds, pl.lit(None, pl.String)).alias("kind"),
        pl.coalesce(*(cpu for cpu, _ in hosts), pl.lit(None, pl.Float64)).alias("cpu_milli"),
        pl.coalesce(*(memory for _, memory in hosts), pl.lit(None, pl.Float64)).alias("memory_mib"),
        pl.col("Account").replace("", "default").alias("tenant"),
        pl.col("User").alias("user"),
        number(pl.col("Priority")).alias("priority"),
        state.alias("state"),
        status.alias("status"),
        pl.col("Submit").alias("submit_s:raw"),
        pl.col("Start").alias("start:raw"),
        pl.col("Elapsed" if "Elapsed" in present else "ElapsedRaw").alias("duration_s:raw"),
        pl.col("State").alias("state:raw"),
    ).with_columns(pl.when(pl.col("allocated") > 0).then("allocated").otherwise("requested").alias("gpus"))
    if frame["kind"].null_count() < frame.height:
        frame = frame.with_columns(
            pl.when(~pl.col("kind").str.contains(mig.PROFILE)).then("kind").alias("gpu_model"),
            mig.share(pl.col("kind")).alias("gpu_share"),
            mig.memory_gb(pl.col("kind")).alias("min_memory_gb"),
        )
    frame = _requeued(frame)
    raw = pl.col("start:raw").str.strip_chars()
    never = pl.col("start_s").is_null() & (
        raw.is_in(["", "None", "Unknown"]) | pl.col("state").is_in(_WAITING)
    )
    skips = [
        Check("an earlier run of a requeued job, counted in the last", "line", pl.col("again")),
        Check(NEVER_STARTED, "line", never),
        no_gpu(cpu_jobs),
    ]
    running = frame.filter((pl.col("state") == "RUNNING") & (pl.col("gpus") > 0)).height
    notes = [
        f"{count:,} {text}"
        for count, text in (
            (steps, "rows left out: steps of jobs."),
            (running, "jobs were still running: their run time is so far."),
        )
        if count
    ]
    draft = Draft(
        path=path,
        format="sacct",
        frame=frame,
        skips=skips,
        checks=[
            Check(
                "Submit is not a timestamp",
                "submit_s:raw",
                pl.col("submit_s").is_null(),
                "Write YYYY-MM-DDTHH:MM:SS.",
            ),
            Check(
                "Start is not a timestamp",
                "start:raw",
                pl.col("start_s").is_null(),
                "Write YYYY-MM-DDTHH:MM:SS.",
            ),
            Check("State is unknown", "state:raw", pl.col("state").is_null()),
            Check("Elapsed, or Start and End, are missing", "duration_s:raw", pl.col("duration_s").is_null()),
        ],
        misfits=table.rows.misfits,
        fields=len(table.names),
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
        rebase=True,
        notes=[*notes, f"Times without an offset are in {zone}."],
    )
    return finish(draft, bad_rows)


def _instant(name: str, zone: str) -> pl.Expr:
    """Seconds since 1970 of timestamps; of numbers, if the log has those (SLURM_TIME_FORMAT=%s)."""
    import polars as pl

    def made(cells: pl.Series) -> pl.Series:
        found = instants(cells, zone)
        return cells.cast(pl.Float64, strict=False) if found.null_count() == len(found) else found

    return pl.col(name).map_batches(made, return_dtype=pl.Float64)


def _counted(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The GPUs that TRES or GRES lists count: without a type, else the sum over types. And the first type."""
    import polars as pl

    cell, separator = pl.col(cells.name), "=" if cells.name.endswith("TRES") else ":"
    plain = cell.str.extract(rf"(?:^|,)(?:gres/)?gpu{separator}(\d+)(?:,|\(|$)").cast(pl.Float64)
    many = cell.str.extract_all(rf"(?:^|,)(?:gres/)?gpu:[^=,:(]+{separator}\d+")
    total = many.list.eval(pl.element().str.extract(r"(\d+)$").cast(pl.Float64)).list.sum()
    count = pl.coalesce(plain, pl.when(cell.str.contains("gpu:", literal=True)).then(total))
    kind = cell.str.extract(r"(?:^|,)(?:gres/)?gpu:([^=,:(]*[^=,:(0-9][^=,:(]*)[=:]")
    counts, kinds = by_value(cells, count, kind)
    return counts, kinds


def _host(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Thousandths of a core and MiB (rounded up) in TRES lists; a memory without a unit is in MiB."""
    import polars as pl

    cell = pl.col(cells.name)
    cpu = cell.str.extract(r"(?:^|,)cpu=(\d+)(?:,|$)").cast(pl.Float64) * 1000
    memory = cell.str.extract_groups(r"(?:^|,)mem=([\d.]+)([KMGTP]?)(?:,|$)").struct
    amount = memory.field("1").cast(pl.Float64, strict=False)
    unit = memory.field("2").replace_strict(_MIB, default=None, return_dtype=pl.Float64)
    cpus, memories = by_value(cells, cpu, (amount * unit).ceil())
    return cpus, memories


def _first_of(cells: pl.DataFrame, raw: tuple[str, int], span: str) -> pl.Series:
    """Seconds: a number times the factor in *raw*, where it is none the span ``D-HH:MM:SS`` of the other."""
    import polars as pl

    name, factor = raw
    found = cells.select(number(pl.col(name)) * factor).to_series()
    if found.null_count() == 0:
        return found
    [spans] = by_value(cells[span], _span(span))
    return pl.select(pl.coalesce(found, spans)).to_series()


def _span(column: str) -> pl.Expr:
    """Seconds of ``D-HH:MM:SS``; null for UNLIMITED, Partition_Limit and the like."""
    import polars as pl

    parts = pl.col(column).str.extract_groups(_SPAN)
    days, hours, minutes, seconds = (parts.struct.field(str(i)).cast(pl.Float64) for i in (1, 2, 3, 4))
    return days.fill_null(0.0) * 86400 + hours.fill_null(0.0) * 3600 + minutes * 60 + seconds


def _requeued(frame: pl.DataFrame) -> pl.DataFrame:
    """*frame* with ``again``, true for runs of a job that ran once more; its last run has the time of all."""
    import polars as pl

    frame = frame.with_columns(pl.lit(False).alias("again"))
    if not frame["state"].is_in(_AGAIN).any():
        return frame
    last = pl.col("line") == pl.col("line").last().over("job_id")
    later = ~last & pl.col("state").is_in(_AGAIN)
    frame = frame.with_columns(later.alias("again"))
    ids = frame.filter("again")["job_id"].unique()
    merged = frame.filter(pl.col("job_id").is_in(ids)).with_columns(
        pl.col("submit_s").min().over("job_id"),
        pl.col("start_s").min().over("job_id"),
        pl.col("duration_s").fill_null(0.0).sum().over("job_id"),
    )
    return pl.concat([frame.filter(~pl.col("job_id").is_in(ids)), merged]).sort("line")
