"""Scenario arithmetic on job tables: pure functions from a table to a table, columns in and columns out.

They work on a polars frame with the job table's columns, sorted by ``submit_s`` (:func:`frame` of a trace,
and :func:`to_trace` back); other columns are carried along. Times are seconds on the frame's own clock.
Nothing here draws a random number of its own: *rng* is the caller's stream for that cause.

:func:`thin`, :func:`multiply` and :func:`repeat` change the load and keep the bursts: see
:mod:`fleetsim_traces.transform_load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import floor, inf
from typing import TYPE_CHECKING

from fleetsim_traces.rows import to_arrow
from fleetsim_traces.table import WORKLOAD_CLASSES, Trace
from fleetsim_traces.text import fail
from fleetsim_traces.transform_load import groups, moved_by, moved_to, multiply, repeat, shift, thin

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "assign_class", "clip", "frame", "groups", "map_tenants", "merge", "multiply", "rebase", "repeat",
    "select", "shift", "stretch", "thin", "to_trace", "window",
]  # fmt: skip


def frame(trace: Trace) -> pl.DataFrame:
    """The jobs of *trace* as a polars frame, names as Categorical."""
    import polars as pl

    return pl.DataFrame(pl.from_arrow(trace.jobs))


def to_trace(jobs: pl.DataFrame, trace: Trace, note: str) -> Trace:
    """*jobs* in the place of those of *trace*, on the same clock; *note* says what was done."""
    import polars as pl

    texts = [name for name, kind in jobs.schema.items() if kind in (pl.Categorical, pl.Enum)]
    table = to_arrow(jobs.with_columns(pl.col(texts).cast(pl.String)) if texts else jobs)
    return replace(
        trace, jobs=table, rows_read=table.num_rows, rejected={}, samples=(), notes=(*trace.notes, note)
    )


def select(
    jobs: pl.DataFrame,
    *,
    min_gpus: int | None = None,
    max_gpus: int | None = None,
    max_duration_s: float | None = None,
    tenants: Sequence[str] | None = None,
    users: Sequence[str] | None = None,
    statuses: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The jobs within all the limits given (inclusive) whose names are among those given."""
    import polars as pl

    keep = pl.lit(True)
    for column, least, most in (("gpus", min_gpus, max_gpus), ("duration_s", None, max_duration_s)):
        keep = keep if least is None else keep & (pl.col(column) >= least)
        keep = keep if most is None else keep & (pl.col(column) <= most)
    for column, names in (
        ("tenant", tenants), ("user", users), ("status", statuses), ("workload_class", classes),
    ):  # fmt: skip
        if names is not None:
            keep = keep & pl.col(column).cast(pl.String).is_in(list(names)).fill_null(False)
    return jobs.filter(keep)


def window(
    jobs: pl.DataFrame,
    start_s: float = 0.0,
    end_s: float = inf,
    *,
    origin_s: float | None = None,
    warm_start: bool = False,
) -> pl.DataFrame:
    """The jobs submitted in [*start_s*, *end_s*) from *origin_s*, their times from the window's opening on.

    *origin_s* is the first submission unless given. With *warm_start*, jobs that ran when the window opened
    (by their recorded start, else as if none had waited) come first: submitted and started at 0, with what
    was left of their run time and of their estimate. A column ``warm`` is true for them. Jobs that had not
    begun are left out.
    """
    import polars as pl

    if not end_s > start_s:  # NaN fails too
        raise fail("window", f"it ends at {end_s:g} s, not after {start_s:g} s")
    if origin_s is None:
        origin_s = float(jobs["submit_s"][0]) if jobs.height else 0.0
    opens_s = origin_s + start_s
    submitted = pl.col("submit_s") - opens_s
    started = pl.col("start_s") - opens_s if "start_s" in jobs.columns else pl.lit(None, pl.Float64)
    began = pl.coalesce(started, submitted)
    before = submitted < 0
    running = before & (began <= 0) & (began + pl.col("duration_s") > 0)
    inside = (submitted < end_s - start_s) & ((~before | running) if warm_start else ~before)
    columns = {  # those that come in the window, and those that ran before
        "submit_s": (submitted, pl.lit(0.0)),
        "start_s": (started, pl.lit(0.0)),
        "duration_s": (pl.col("duration_s"), pl.col("duration_s") + began),
        "estimate_s": (pl.col("estimate_s"), (pl.col("estimate_s") + began).clip(0.0)),
    }
    return jobs.filter(inside).with_columns(
        *(
            pl.when(before).then(rest).otherwise(whole).alias(name)
            for name, (whole, rest) in columns.items()
            if name in jobs.columns
        ),
        warm=before,
    )


def clip(
    jobs: pl.DataFrame,
    *,
    min_duration_s: float | None = None,
    max_duration_s: float | None = None,
    max_gpus: int | None = None,
) -> pl.DataFrame:
    """Every job, with values beyond a limit set to it."""
    import polars as pl

    return jobs.with_columns(
        duration_s=pl.col("duration_s").clip(min_duration_s, max_duration_s),
        gpus=pl.col("gpus").clip(None, max_gpus),
    )


def stretch(jobs: pl.DataFrame, factor: float) -> pl.DataFrame:
    """Submissions *factor* times as far from 0, so that 2 halves the rate; recorded starts keep their wait.

    Hours and weekdays do not survive it: :func:`thin` and :func:`multiply` change the load and keep them.
    """
    import polars as pl

    if not 0 < factor < inf:
        raise fail("stretch", f"{factor:g} is not above 0")
    return moved_to(jobs, pl.col("submit_s") * factor)


def merge(parts: Sequence[pl.DataFrame], shifts_s: Sequence[float] | None = None) -> pl.DataFrame:
    """All jobs of *parts*, each *shifts_s* later; equal times in the order of the parts.

    Where an identity occurs twice, those of the k-th part (from 1) after the first get the prefix ``k:``.
    """
    import polars as pl

    if shifts_s is not None and len(shifts_s) != len(parts):
        raise fail("shifts_s", f"{len(shifts_s)} for {len(parts)} tables")
    moved = [shift(p, s) for p, s in zip(parts, shifts_s or [0.0] * len(parts), strict=True)]
    if not moved:
        raise fail("merge", "no tables")
    if sum(p.height for p in moved) != pl.concat([p["job_id"] for p in moved]).n_unique():
        moved = [
            p.with_columns(job_id=pl.lit(f"{k}:") + pl.col("job_id")) if k > 1 else p
            for k, p in enumerate(moved, 1)
        ]
    return pl.concat(moved, how="diagonal").sort("submit_s", maintain_order=True)


def map_tenants(jobs: pl.DataFrame, goes_to: Mapping[str, str], rest: str | None = None) -> pl.DataFrame:
    """Each job given to the tenant that its own maps to, others to *rest*, or left where they are if None."""
    import polars as pl

    own = pl.col("tenant").cast(pl.String)
    other = own if rest is None else pl.lit(rest)
    mapped = own.replace_strict(dict(goes_to), default=other, return_dtype=pl.String) if goes_to else other
    return jobs.with_columns(tenant=mapped.cast(jobs.schema["tenant"]))


def assign_class(jobs: pl.DataFrame, workload_class: str, *, only_missing: bool = True) -> pl.DataFrame:
    """*workload_class* for the jobs without one, or for all."""
    import polars as pl

    if workload_class not in WORKLOAD_CLASSES:
        raise fail(
            "workload_class", f"no class {workload_class!r}", f"There are {', '.join(WORKLOAD_CLASSES)}."
        )
    own = pl.col("workload_class").cast(pl.String)
    value = own.fill_null(workload_class) if only_missing else pl.lit(workload_class)
    return jobs.with_columns(workload_class=value.cast(jobs.schema["workload_class"]))


def rebase(trace: Trace) -> Trace:
    """*trace* with the whole second of its first submission as time 0; the epoch moves along."""
    jobs = frame(trace)
    zero = float(floor(jobs["submit_s"][0])) if jobs.height else 0.0
    moved = to_trace(moved_by(jobs, -zero), trace, f"Begins {zero:,.0f} s later.")
    return replace(moved, epoch=trace.epoch + timedelta(seconds=zero) if trace.epoch else None)
