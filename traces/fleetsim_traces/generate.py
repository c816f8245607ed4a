"""Look-alikes of job logs: seeded, from a family's figures, with no row of a log in them.

A family (:mod:`fleetsim_traces.parameters`) is a built-in name or a file that ``fit`` wrote. Its jobs come in
batches: a tenant and a GPU count are drawn for each, then its user, its number of jobs and what their run
times have in common. Batches begin at a rate that follows hour and weekday, times random factors of nested
blocks of time, which makes submissions bursty at every scale from a minute to a week. Run times, batch sizes
and gaps come from quantile tables of the tenant and the GPU count; how a job ends is drawn by its run time.

Not imitated: queueing and what users do about it (resubmission on a timer, waiting for quiet hours), outages,
tenants that appear, vanish or are busy on days of their own, several GPU counts in one batch, and anything
that ties one batch to an earlier one. ``start_s`` and ``estimate_s`` stay null. Tails end at the largest
value of a table: look at the GPU-hours with ``fleetsim_traces.profile`` before you size anything by them.

The family ``philly`` is an older, simpler model (:mod:`fleetsim_traces.generate_marginals`), kept because a
bundled sample is made of it; ``philly-tenants`` is the closer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces import generate_marginals
from fleetsim_traces.distributions import draw
from fleetsim_traces.generate_arrivals import begins, stream
from fleetsim_traces.generate_cells import Cells, as_table, batches_of, users_of
from fleetsim_traces.generate_marginals import look_alike, require
from fleetsim_traces.parameters import FAMILIES as _BY_BATCH
from fleetsim_traces.parameters import Parameters, load_family
from fleetsim_traces.rows import to_arrow
from fleetsim_traces.table import MAX_TIME_S, Trace
from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

FAMILIES = tuple(sorted((*generate_marginals.FAMILIES, *_BY_BATCH)))
START = generate_marginals.START
MAX_JOBS = generate_marginals.MAX_JOBS
_DAY_S = 86400


def generate_jobs(
    family: str | Path | Parameters = "philly",
    *,
    jobs: int | None = None,
    seed: int = 0,
    start: datetime = START,
    jobs_per_day: float | None = None,
    days: float | None = None,
    load: float | None = None,
    gpus: float | None = None,
) -> Trace:
    """Make jobs that look like *family*; the same arguments give the same table.

    *family* is a built-in name, a family file, or parameters. *jobs* or *days* says how many (default 10,000
    jobs). The mean rate is the family's own, or *jobs_per_day*, or what keeps *load* (0.8) of *gpus* busy on
    average if nothing waits. *start* is the instant of ``submit_s = 0``; hours and weekdays of the family's
    rates are counted on its clock. Raises TraceError for arguments out of range.
    """
    if isinstance(family, str) and family in generate_marginals.FAMILIES:
        rate = jobs_per_day
        if load is not None or gpus is not None or days is not None:
            remedy = "philly-tenants takes them; or give jobs and jobs_per_day."
            raise fail("family", f"{family} takes no days, load or gpus", remedy)
        return generate_marginals.generate_jobs(
            family, jobs=10_000 if jobs is None else jobs, seed=seed, start=start, jobs_per_day=rate
        )
    p = family if isinstance(family, Parameters) else load_family(family, FAMILIES)
    name = "fitted" if isinstance(family, Parameters) else Path(family).stem
    cells = Cells(p)
    rate = _rate(p, cells, jobs_per_day, load, gpus)
    if days is not None and jobs is not None:
        raise fail("days", "given together with jobs", "Keep one of the two.")
    if days is not None and not 0 < days * _DAY_S < MAX_TIME_S / 10:
        raise fail("days", f"{days:g} is not above 0 and below 11,574")
    number = jobs if jobs is not None else 10_000 if days is None else max(1, round(days * rate))
    require("jobs", number, seed, start)
    if not number / rate * _DAY_S < MAX_TIME_S / 10:
        raise fail("jobs_per_day", f"{rate:g} is too low for {number:,} jobs")
    jobs_made = _table(p, cells, number, number / rate, seed, start)
    return look_alike(jobs_made, name, p.about, rate, seed, start)


def gpu_seconds_per_job(p: Parameters) -> float:
    """Mean of GPUs x share x run time over the jobs of a family."""
    return Cells(p).gpu_seconds(p)


def _rate(
    p: Parameters, cells: Cells, jobs_per_day: float | None, load: float | None, gpus: float | None
) -> float:
    if (load is None) != (gpus is None):
        raise fail("load", "load and gpus go together", "load=0.8, gpus=512 keeps 80 % of 512 GPUs busy.")
    if load is not None and gpus is not None:
        if jobs_per_day is not None:
            raise fail("load", "given together with jobs_per_day", "Keep one of the two.")
        if not (0 < load <= 1000 and 0 < gpus <= 1e9):  # NaN fails too
            raise fail("load", f"{load:g} of {gpus:g} GPUs is not above 0 and below 1,000 of 1e9")
        return load * gpus * _DAY_S / cells.gpu_seconds(p)
    rate = p.jobs_per_day if jobs_per_day is None else jobs_per_day
    if not 0 < rate <= 1e9:
        raise fail("jobs_per_day", f"{rate:g} is not above 0 and up to 1e9")
    return rate


def _table(p: Parameters, cells: Cells, jobs: int, days: float, seed: int, start: datetime) -> Any:
    import polars as pl

    cell, size = batches_of(cells, jobs, seed)
    batch = np.repeat(np.arange(len(size)), size)
    lead = np.cumsum(size) - size
    row = cell[batch]
    follower = np.ones(jobs, dtype=bool)
    follower[lead] = False
    again = follower & (stream(seed, "same_again").random(jobs) < p.batches.same_again_share)

    begin_s = begins(p.arrivals, seed, len(size), start, days)
    gap_s = as_table(p.batches.gap_s).at(stream(seed, "gaps").standard_normal(jobs))
    if p.arrivals.time_step_s:  # as many whole steps as the log would show
        gap_s = np.floor(gap_s / p.arrivals.time_step_s) * p.arrivals.time_step_s
    gap_s[~follower | again] = 0.0
    total_s = np.cumsum(gap_s)
    submit_s = begin_s[batch] + total_s - total_s[lead][batch]
    if p.arrivals.time_step_s:
        submit_s = np.floor(submit_s / p.arrivals.time_step_s) * p.arrivals.time_step_s

    common = p.batches.duration_correlation
    scores = np.sqrt(common) * stream(seed, "batch_durations").standard_normal(len(size))[batch]
    scores += np.sqrt(1 - common) * stream(seed, "durations").standard_normal(jobs)
    duration_s = np.maximum(1.0, np.rint(draw(cells.tables, cells.duration[row], scores)))
    duration_s = duration_s[np.maximum.accumulate(np.where(again, 0, np.arange(jobs)))]

    gpus = cells.gpus[row]
    tenant_names = np.array([name for name, _ in cells.tenants])
    frame = pl.DataFrame({"submit_s": submit_s, "duration_s": duration_s, "gpus": gpus}).with_columns(
        gpu_share=pl.when(pl.col("gpus") == 1)
        .then(_pick(seed, "gpu_share", p.gpu_share_of_single, batch, pl.Float64))
        .fill_null(1.0),
        workload_class=pl.lit(p.workload_class, pl.String),
        tenant=tenant_names[cells.tenant[row]],
        user=pl.Series(users_of(seed, cells, cells.tenant[cell]), dtype=pl.String).gather(batch),
        status=_status(seed, p, duration_s),
        gpu_model=_pick(seed, "gpu_model", p.gpu_model_share, batch, pl.String),
        priority=_pick(seed, "priority", p.priority_share, batch, pl.Int64),
    )
    frame = frame.sort("submit_s", maintain_order=True)
    return to_arrow(frame.with_columns(pl.format("job-{}", pl.int_range(1, pl.len() + 1)).alias("job_id")))


def _pick(seed: int, cause: str, shares: Mapping[Any, float] | None, batch: Ints, kind: Any) -> pl.Series:
    """A draw from *shares* for each batch, given to its jobs; null where there are no shares."""
    import polars as pl

    if shares is None:
        return pl.repeat(None, len(batch), dtype=kind, eager=True)
    chance = np.cumsum(list(shares.values()))
    draws = stream(seed, cause).random(int(batch[-1]) + 1) * chance[-1]
    place = np.minimum(np.searchsorted(chance, draws, side="right"), len(chance) - 1)
    return pl.Series(list(shares), dtype=kind).gather(place[batch])


def _status(seed: int, p: Parameters, duration_s: Floats) -> pl.Series:
    """How each job ends: a draw from the shares of its band of run time; null where those are unknown."""
    import polars as pl

    if p.status is None:
        return pl.repeat(None, len(duration_s), dtype=pl.String, eager=True)
    draws = stream(seed, "status").random(len(duration_s))
    limits = [np.inf if band.up_to_s is None else band.up_to_s for band in p.status]
    which = np.searchsorted(np.array(limits), duration_s)
    names = list(dict.fromkeys(name for band in p.status for name in band.share))
    code = np.zeros(len(duration_s), np.int64)
    for i, band in enumerate(p.status):
        rows = np.flatnonzero(which == i)
        chance = np.cumsum([band.share.get(name, 0.0) for name in names])
        code[rows] = np.searchsorted(chance / chance[-1], draws[rows], side="right")
    return pl.Series(names, dtype=pl.String).gather(code)
