"""Jobs paired between two runs: how their waits and completion times changed, and how sure that is."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim.records import Floats
from fleetsim.streams import stream

if TYPE_CHECKING:
    import polars as pl

#: Of the bootstrap: resamples drawn, and blocks that a resample has at most and an interval needs at least.
RESAMPLES = 4000
MOST_BLOCKS, LEAST_BLOCKS = 30, 10

#: Changes of a job's time up to this are rounding, s.
SAME_S = 1e-6

DEFINITIONS = {
    "paired": "jobs of the same workload, job_id, GPUs and duration, completed in both and warm in neither",
    "difference": "mean over the pairs of (this run - baseline), s",
    "interval": "95 % percentile interval of the difference: circular block bootstrap (Politis and Romano, "
    f"1992) over the pairs in order of submission, {RESAMPLES} resamples of k = min(sqrt(pairs), "
    f"{MOST_BLOCKS}) blocks of pairs / k neighbours, so that jobs that met in one queue stay together; none "
    f"below {LEAST_BLOCKS**2} pairs. It says how far the difference rests on a few stretches of this "
    "workload, not what another workload would show; too narrow where a queue seldom empties",
    "faster": f"share of the pairs whose JCT is shorter than in the baseline, by more than {SAME_S:g} s",
    "slower": f"share of the pairs whose JCT is longer than in the baseline, by more than {SAME_S:g} s",
}


def pair(base: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Jobs with the same workload and job_id in both, in order of the first's submissions.

    Both have the columns job_id, workload, gpus, reference_duration_s, wait_s and jct_s (null where there is
    none). The result has them of both, and ``alike``: the same GPUs and duration, so the same job; and
    ``counts``: alike, with a JCT in both.
    """
    import polars as pl

    columns = ["job_id", "workload", "gpus", "reference_duration_s", "wait_s", "jct_s"]
    both = base.select(columns).join(
        other.select(columns), on=["job_id", "workload"], suffix="_other", maintain_order="left"
    )
    alike = (pl.col("gpus") == pl.col("gpus_other")) & (
        pl.col("reference_duration_s") == pl.col("reference_duration_s_other")
    )
    return both.with_columns(
        alike=alike, counts=alike & pl.col("jct_s").is_not_null() & pl.col("jct_s_other").is_not_null()
    )


def changes(pairs: pl.DataFrame) -> dict[str, Any]:
    """What the pairs of a run and the baseline show, as plain values: ``DEFINITIONS``."""
    wait_s, wait_other_s, jct_s, jct_other_s = _times(pairs)
    change_s = jct_other_s - jct_s
    return {
        "jobs_in_both": pairs.height,
        "jobs_not_alike": int((~pairs["alike"]).sum()),
        "jobs_paired": len(jct_s),
        "wait": _difference(wait_s, wait_other_s),
        "jct": _difference(jct_s, jct_other_s),
        "faster": float(np.mean(change_s < -SAME_S)) if len(jct_s) else None,
        "slower": float(np.mean(change_s > SAME_S)) if len(jct_s) else None,
    }


def ratios(pairs: pl.DataFrame) -> tuple[Floats, Floats]:
    """JCT / JCT in the baseline, ten bins to a factor of ten, and the share of the pairs in each.

    Pairs that did not change, or took no time, are in no bin; those beyond a factor of a million are in the
    last. The x of a bin is its middle on a log scale; empty bins at the ends are left out.
    """
    _, _, base_s, other_s = _times(pairs)
    moved = (np.abs(other_s - base_s) > SAME_S) & (base_s > 0) & (other_s > 0)
    edges = np.linspace(-6.0, 6.0, 121)  # of the logarithm, with an edge at no change
    count, _ = np.histogram(np.clip(np.log10(other_s[moved] / base_s[moved]), -6, 6), edges)
    shown = slice(*(np.flatnonzero(count)[[0, -1]] + (0, 1))) if count.any() else slice(0)
    return (10 ** ((edges[1:] + edges[:-1]) / 2))[shown], (count / max(1, len(base_s)))[shown]


def _times(pairs: pl.DataFrame) -> list[Floats]:
    """Wait and JCT in the baseline and in the other run, s, of the pairs that count."""
    counted = pairs.filter("counts")
    return [counted[name].to_numpy() for name in ("wait_s", "wait_s_other", "jct_s", "jct_s_other")]


def _difference(base_s: Floats, other_s: Floats) -> dict[str, float | None]:
    if not len(base_s):
        return dict.fromkeys(("baseline_mean_s", "difference_s", "low_s", "high_s"))
    low_s, high_s = block_bootstrap(other_s - base_s) or (None, None)
    return {
        "baseline_mean_s": float(base_s.mean()),
        "difference_s": float(np.mean(other_s - base_s)),
        "low_s": low_s,
        "high_s": high_s,
    }


def block_bootstrap(values: Floats) -> tuple[float, float] | None:
    """The 95 % interval of the mean of *values*, whose neighbours depend on each other: see ``DEFINITIONS``.

    Sums of blocks come from one running sum, so the cost is O(values + resamples x blocks). None where there
    are too few values. Coverage measured on 400 series of 3,000 and of 20,000 values: independent ones 95 and
    95 %; AR(1) with coefficient 0.9 93 and 94 %; the change of M/M/1 waits from load 0.8 to 0.72, paired,
    77 and 90 %. Resampling single values covers 15 % of the last.
    """
    count = len(values)
    blocks = min(isqrt(count), MOST_BLOCKS)
    if blocks < LEAST_BLOCKS:
        return None
    length = count // blocks
    running = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[: length - 1])))))
    first = stream(0, "bootstrap").integers(0, count, (RESAMPLES, blocks))
    means = (running[first + length] - running[first]).sum(axis=1) / (blocks * length)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
