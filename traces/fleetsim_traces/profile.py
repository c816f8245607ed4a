"""What a workload looks like, in numbers.

Keys of :func:`profile`, all of them always present and fit for JSON:

``format``, ``source``, ``generated``, ``epoch`` (ISO, null if unknown), ``notes``
    As in the trace.
``jobs``, ``rows_read``, ``rejected`` (reason -> rows)
    ``rows_read`` is the sum of the other two.
``span_s``
    From the first submission to the last.
``gpu_hours``, ``mean_gpus``
    GPUs x share x run time, and that over the span: what would be busy on average if nothing ever waited
    (null for a span of 0).
``gpus``
    List of ``{gpus, jobs, jobs_share, gpu_hours, gpu_hours_share}`` by GPU count.
``duration_s``
    ``mean``, ``by_jobs`` and ``by_gpu_time``: quantile -> seconds. A quantile q is the shortest run time
    such that jobs no longer than it are q of all jobs (of all GPU time).
``arrivals``
    ``zone``, ``by_hour`` (24 counts from midnight; from the first hour of the trace where the epoch is
    unknown and ``zone`` null), ``by_weekday`` (7 counts from Monday, null where the epoch is unknown).
``tenants``
    ``count``, ``top`` (list of ``{tenant, jobs, jobs_share, gpu_hours, gpu_hours_share}`` by GPU-hours),
    ``gini_jobs``, ``gini_gpu_hours`` (0 all alike, to 1 - 1/count one has all), ``hhi_jobs``,
    ``hhi_gpu_hours`` (sum of squared shares, 1/count to 1).
``users``
    Distinct users; null where the source names none.
``status``
    List of ``{status, jobs, jobs_share, gpu_hours, gpu_hours_share}``, status null where unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail
from fleetsim_traces.times import is_zone, zone_hint

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

QUANTILES = {
    "p5": 0.05,
    "p25": 0.25,
    "p50": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "max": 1.0,
}
TOP = 10


def profile(trace: Trace, *, zone: str = "UTC", top: int = TOP) -> dict[str, Any]:
    """Describe *trace*; *zone* (IANA) is that of hours and weekdays, *top* the tenants to list.

    The keys are explained above. Raises TraceError for a zone that does not exist.
    """
    import polars as pl

    names = ["submit_s", "duration_s", "gpus", "gpu_share", "tenant", "user", "status"]
    jobs = pl.DataFrame(pl.from_arrow(trace.jobs.select(names))).with_columns(
        pl.col("tenant", "user", "status").cast(pl.String),
        (pl.col("gpus") * pl.col("gpu_share").cast(pl.Float64) * pl.col("duration_s") / 3600).alias(
            "gpu_hours"
        ),
    )
    span_s = float(jobs["submit_s"][-1] - jobs["submit_s"][0])
    gpu_hours = float(jobs["gpu_hours"].sum())
    duration_s, weight = jobs["duration_s"].to_numpy(), jobs["gpu_hours"].to_numpy()
    tenants = _shares(jobs, "tenant").sort("gpu_hours", "jobs", "tenant", descending=[True, True, False])
    by_tenant = {k: tenants[k].cast(pl.Float64).to_numpy() for k in ("jobs", "gpu_hours")}
    status = _shares(jobs, "status").sort("jobs", "status", descending=[True, False])
    return {
        "format": trace.format,
        "source": trace.source,
        "generated": trace.generated,
        "epoch": trace.epoch.isoformat() if trace.epoch else None,
        "notes": list(trace.notes),
        "jobs": jobs.height,
        "rows_read": trace.rows_read,
        "rejected": dict(trace.rejected),
        "span_s": span_s,
        "gpu_hours": gpu_hours,
        "mean_gpus": gpu_hours * 3600 / span_s if span_s else None,
        "gpus": _shares(jobs, "gpus").sort("gpus").to_dicts(),
        "duration_s": {
            "mean": float(duration_s.mean()),
            "by_jobs": _quantiles(duration_s, np.ones_like(duration_s)),
            "by_gpu_time": _quantiles(duration_s, weight),
        },
        "arrivals": _arrivals(trace, zone),
        "tenants": {
            "count": tenants.height,
            "top": tenants.head(top).to_dicts(),
            "gini_jobs": _gini(by_tenant["jobs"]),
            "gini_gpu_hours": _gini(by_tenant["gpu_hours"]),
            "hhi_jobs": _hhi(by_tenant["jobs"]),
            "hhi_gpu_hours": _hhi(by_tenant["gpu_hours"]),
        },
        "users": jobs["user"].drop_nulls().n_unique() or None,
        "status": status.to_dicts(),
    }


def _shares(jobs: pl.DataFrame, key: str) -> pl.DataFrame:
    """Jobs and GPU-hours by *key*, and their shares; shares of GPU-hours are 0 where there are none."""
    import polars as pl

    groups = jobs.group_by(key, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("jobs"), pl.col("gpu_hours").sum()
    )
    return groups.select(
        key,
        "jobs",
        (pl.col("jobs") / pl.col("jobs").sum()).alias("jobs_share"),
        "gpu_hours",
        (pl.col("gpu_hours") / pl.col("gpu_hours").sum()).fill_nan(0.0).alias("gpu_hours_share"),
    )


def _quantiles(values: Floats, weights: Floats) -> dict[str, float]:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    if reached[-1] == 0:  # no GPU time at all
        return dict.fromkeys(QUANTILES, 0.0)
    # a hair below, so that rounding in the sum does not push q of all to the next value
    places = np.searchsorted(reached, np.array(list(QUANTILES.values())) * reached[-1] * (1 - 1e-12))
    found = values[order][np.minimum(places, len(values) - 1)]
    return dict(zip(QUANTILES, found.tolist(), strict=True))


def local_hours(trace: Trace, times_s: Floats, zone: str) -> npt.NDArray[np.int64]:
    """The hour of the week (0 is Monday from midnight) in *zone* of each of *times_s*, on the trace's clock.

    Without an epoch hours count from the trace's own zero. Raises TraceError for a zone that does not exist.
    """
    import polars as pl

    if not is_zone(zone):
        raise fail("zone", f"no time zone {zone!r}", zone_hint(zone))
    if trace.epoch is None:
        return (times_s // 3600).astype(np.int64) % 168
    since = pl.Series(times_s * 1e6 + trace.epoch.timestamp() * 1e6).cast(pl.Int64)
    local = since.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    weekday, hour = (part.cast(pl.Int64).to_numpy() for part in (local.dt.weekday(), local.dt.hour()))
    hours: npt.NDArray[np.int64] = (weekday - 1) * 24 + hour
    return hours


def local_counts(trace: Trace, zone: str) -> tuple[list[int], list[int] | None]:
    """Submissions by hour of the day (24) and by weekday from Monday (7), in *zone*.

    Without an epoch hours count from the trace's own zero, and weekdays are None. Raises TraceError for a
    zone that does not exist.
    """
    hours = local_hours(trace, trace.jobs["submit_s"].to_numpy(), zone)
    by_weekday = None if trace.epoch is None else np.bincount(hours // 24, minlength=7).tolist()
    return np.bincount(hours % 24, minlength=24).tolist(), by_weekday


def _arrivals(trace: Trace, zone: str) -> dict[str, Any]:
    by_hour, by_weekday = local_counts(trace, zone)
    return {"zone": zone if trace.epoch else None, "by_hour": by_hour, "by_weekday": by_weekday}


def _gini(values: Floats) -> float:
    """0 where all are alike; 1 - 1/n where one of n has everything."""
    if values.sum() == 0:
        return 0.0
    ranked, n = np.sort(values), len(values)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ranked / (n * ranked.sum()))


def _hhi(values: Floats) -> float:
    """Herfindahl-Hirschman index: the sum of squared shares."""
    total = values.sum()
    return float(((values / total) ** 2).sum()) if total else 0.0
