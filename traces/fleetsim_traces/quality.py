"""How far a look-alike is from what it imitates: two-sample distances between two job tables.

:func:`check` gives a report fit for JSON, :func:`table` the same as text. Each measure has the value of both
sides where one number says it, and a distance that is 0 for equal tables:

``ks``
    Kolmogorov-Smirnov: the largest difference between the two cumulative distributions, 0 to 1.
``wasserstein``
    The area between them, in the unit of the quantity: how far a job must be moved on average. With
    ``_log`` it is that of log10, in decades: run times span seven, and the area in seconds sees only the
longest. ``tv``
    Total variation between two sets of shares: the part that is in the wrong place, 0 to 1. Tenants and users
    are compared by rank, because a look-alike has none of the names.
``decades``
    The distance of two positive numbers: the absolute log10 of their ratio; 0.3 is a factor of two.

Burstiness is the index of dispersion of counts: the variance of the number of submissions in a window over
their mean, 1 for a Poisson process, here at windows from a minute to a day.

Two samples of one process differ too. What a distance is worth shows beside that of two halves of the log,
or of two look-alikes with different seeds; the tests of the fit hold their bounds against those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.table import Trace

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

WINDOWS_S = {"1 min": 60, "10 min": 600, "1 h": 3600, "1 d": 86400}
FEWEST_WINDOWS = 10  # a variance of fewer counts says nothing

Measure = dict[str, Any]


def ks(a: Floats, b: Floats) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    at = np.concatenate((a, b))
    return float(np.abs(_cdf(a, at) - _cdf(b, at)).max())


def wasserstein(a: Floats, b: Floats) -> float:
    """Wasserstein distance (order 1) of two samples: the area between their cumulative distributions."""
    at = np.sort(np.concatenate((a, b)))
    return float((np.abs(_cdf(a, at[:-1]) - _cdf(b, at[:-1])) * np.diff(at)).sum())


def total_variation(a: Mapping[Any, float], b: Mapping[Any, float]) -> float:
    """Half the sum of the differences of two sets of shares; each is divided by its sum first."""
    total_a, total_b = sum(a.values()), sum(b.values())
    if total_a <= 0 or total_b <= 0:
        return 0.0 if total_a == total_b else 1.0
    keys = dict.fromkeys([*a, *b])
    return float(sum(abs(a.get(k, 0.0) / total_a - b.get(k, 0.0) / total_b) for k in keys) / 2)


def dispersion(times_s: Floats, window_s: float) -> float | None:
    """Index of dispersion of the counts in whole windows from the first of the sorted *times_s* on.

    None where there are fewer than :data:`FEWEST_WINDOWS`.
    """
    windows = int((times_s[-1] - times_s[0]) // window_s) if len(times_s) else 0
    if windows < FEWEST_WINDOWS:
        return None
    place = ((times_s - times_s[0]) // window_s).astype(np.int64)
    counts = np.bincount(place, minlength=windows)[:windows]
    return float(counts.var() / counts.mean())


def decades(a: float | None, b: float | None) -> float | None:
    """Absolute log10 of the ratio of two numbers; None where one is absent or not above 0."""
    if a is None or b is None or a <= 0 or b <= 0:
        return None
    return float(abs(np.log10(b / a)))


def check(trace: Trace, generated: Trace, *, zone: str = "UTC") -> dict[str, Any]:
    """Compare *generated* with *trace*; hours and weekdays of both are those of *zone* (IANA).

    The report has ``trace`` and ``generated`` (jobs, span_s, gpu_hours of each) and ``measures``: name ->
    ``{about, unit, trace, generated, distance}``, with null where a side does not have what it takes. Raises
    TraceError for a zone that does not exist.
    """
    from fleetsim_traces.profile import local_counts

    sides = [_columns(t) for t in (trace, generated)]
    measures: dict[str, Measure] = {}

    def add(name: str, about: str, unit: str, values: Any, distance: float | None) -> None:
        one, other = values
        measures[name] = {
            "about": about, "unit": unit, "trace": one, "generated": other, "distance": distance,
        }  # fmt: skip

    days = [max(c["submit_s"][-1] - c["submit_s"][0], 1.0) / 86400 for c in sides]
    rate = [len(c["submit_s"]) / d for c, d in zip(sides, days, strict=True)]
    add("jobs_per_day", "jobs per day", "decades", rate, decades(*rate))
    busy = [float(c["gpu_s"].sum() / d / 86400) for c, d in zip(sides, days, strict=True)]
    add("mean_gpus", "GPUs busy on average, if nothing waited", "decades", busy, decades(*busy))

    pairs = {
        "size": ("GPUs of a job", "GPU", [c["gpus"] for c in sides]),
        "duration": ("run time", "s", [c["duration_s"] for c in sides]),
        "gap": ("time between submissions", "s", [np.diff(c["submit_s"]) for c in sides]),
    }
    for name, (what, unit, (a, b)) in pairs.items():
        if not (len(a) and len(b)):
            continue
        medians = (float(np.median(a)), float(np.median(b)))
        add(f"{name}.ks", f"{what}: Kolmogorov-Smirnov (median)", "", medians, ks(a, b))
        means = (float(a.mean()), float(b.mean()))
        add(f"{name}.wasserstein", f"{what}: Wasserstein (mean)", unit, means, wasserstein(a, b))
        if name != "size":
            logs = [np.log10(np.maximum(x, 1.0)) for x in (a, b)]
            typical = [float(10 ** x.mean()) for x in logs]
            add(
                f"{name}.wasserstein_log", f"{what}: Wasserstein of log10 (geometric mean)", "decades",
                typical, wasserstein(*logs),
            )  # fmt: skip

    for weight, of in (("gpu_s", "GPU time"), ("one", "jobs")):
        sizes = [_by(c["frame"], "gpus", weight) for c in sides]
        top = [max(s, key=lambda k, s=s: s[k]) for s in sizes]  # type: ignore[misc]
        label = f"{of} by GPUs of the job (size with most)"
        add(f"sizes_{_of(weight)}.tv", label, "", top, total_variation(*sizes))
    clocks = [local_counts(t, zone) for t in (trace, generated)]
    for name, about, i in (("hour", "hour of submission (busiest)", 0),
                           ("weekday", "weekday of submission (busiest, Monday is 0)", 1)):  # fmt: skip
        found = [dict(enumerate(c[i] or [])) for c in clocks]
        if all(found):
            peaks = [max(f, key=lambda k, f=f: f[k]) for f in found]  # type: ignore[misc]
            add(f"{name}.tv", about, "", peaks, total_variation(found[0], found[1]))
    for key in ("tenant", "user", "status"):
        for weight, of in (("one", "jobs"), ("gpu_s", "GPU time")):
            shares = [_by(c["frame"], key, weight) for c in sides]
            if not all(shares):
                continue
            if key != "status":
                shares = [dict(enumerate(sorted(s.values(), reverse=True))) for s in shares]
            largest = [max(s.values()) / (sum(s.values()) or 1.0) for s in shares]
            about = f"share of {of} by {key} (largest)"
            add(f"{key}_{_of(weight)}.tv", about, "", largest, total_variation(*shares))
    for label, window_s in WINDOWS_S.items():
        index = [dispersion(c["submit_s"], window_s) for c in sides]
        add(
            f"dispersion.{label}".replace(" ", ""), f"dispersion of counts in {label}", "decades",
            index, decades(*index),
        )  # fmt: skip
    return {
        "trace": _facts(sides[0]),
        "generated": _facts(sides[1]),
        "zone": zone,
        "measures": measures,
    }


def table(report: Mapping[str, Any]) -> str:
    """The measures of a report as aligned text, a line each."""
    rows = [("measure", "trace", "generated", "distance")]
    for m in report["measures"].values():
        unit = f" {m['unit']}" if m["unit"] else ""
        distance = "-" if m["distance"] is None else f"{m['distance']:.3g}{unit}"
        rows.append((m["about"], _number(m["trace"]), _number(m["generated"]), distance))
    width = [max(len(row[i]) for row in rows) for i in range(4)]
    return "".join(
        f"{a:<{width[0]}}  {b:>{width[1]}}  {c:>{width[2]}}  {d:<{width[3]}}".rstrip() + "\n"
        for a, b, c, d in rows
    )


def _of(weight: str) -> str:
    return "by_jobs" if weight == "one" else "by_gpu_time"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _cdf(sample: Floats, at: Floats) -> Floats:
    ranked = np.sort(sample)
    return np.searchsorted(ranked, at, side="right") / len(ranked)


def _columns(trace: Trace) -> dict[str, Any]:
    """The columns compared, as arrays, and the table as a frame with ``one`` and ``gpu_s``."""
    import polars as pl

    names = ["submit_s", "duration_s", "gpus", "gpu_share", "tenant", "user", "status"]
    frame = pl.DataFrame(pl.from_arrow(trace.jobs.select(names))).with_columns(
        pl.col("tenant", "user", "status").cast(pl.String),
        pl.lit(1.0).alias("one"),
        (pl.col("gpus") * pl.col("gpu_share").cast(pl.Float64) * pl.col("duration_s")).alias("gpu_s"),
    )
    arrays = {k: frame[k].cast(pl.Float64).to_numpy() for k in ("submit_s", "duration_s", "gpus", "gpu_s")}
    return {"frame": frame, **arrays}


def _by(frame: pl.DataFrame, key: str, weight: str) -> dict[Any, float]:
    """Sum of *weight* by *key*; empty where the key is unknown throughout."""
    import polars as pl

    sums = frame.drop_nulls(key).group_by(key, maintain_order=True).agg(pl.col(weight).sum())
    return dict(sums.iter_rows())


def _facts(columns: Mapping[str, Any]) -> dict[str, Any]:
    submit_s = columns["submit_s"]
    return {
        "jobs": len(submit_s),
        "span_s": float(submit_s[-1] - submit_s[0]),
        "gpu_hours": float(columns["gpu_s"].sum() / 3600),
    }
