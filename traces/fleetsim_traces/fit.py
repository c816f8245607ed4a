"""From a job table to the parameters of a family: how to share a workload without sharing a log.

:func:`fit` reads any job table and returns :class:`~fleetsim_traces.parameters.Parameters`; ``dump`` writes
them as a family file and ``generate_jobs`` makes look-alikes from it.

What goes into the file is counts, shares and quantiles over at least :data:`CROWD` jobs, never a job:

* run times, batch sizes and gaps are tables of at most 20 quantiles. A quantile is the geometric mean of the
  :data:`CROWD` values around its rank, to three digits; it is only taken where as many jobs lie on either
  side. The largest value is none of the log's: it is where the mean of the table becomes the mean of the
  jobs, so GPU time comes out right. The smallest is rounded down to one digit.
* GPU counts, statuses and labels of fewer jobs than that go to their neighbour, or to the most frequent.
* tenants with fewer than :data:`CELL` jobs become one group; names are made up, by rank.

Bursts. A job follows another when the same owner (user; the tenant where users are unknown) asked for the
same GPU count within *batch_gap_s*; the rest begin a batch. The dispersion of those beginnings at windows of
a minute to a week, beyond hour and weekday, is solved for factors of nested blocks of time.

The gap. Too long a gap joins jobs that only met, and no measure of the look-alike would tell: it has the same
gaps again. So the gaps of :data:`BATCH_GAPS_S` are tried up to the longest at which a pause is
:data:`_RATHER` times as likely to end as just beyond; where jobs come by chance it is equally likely, and
only the shortest is left. Of those tried, the one whose look-alikes are nearest in gaps and burstiness is
taken: on average over :data:`_SEEDS`, for one seed differs from the next by more than two gaps do.

How close that comes: the worst of three seeds, beside the distance between the two halves of the log itself
(``quality.check``; the tests hold the first column to bounds). Azure is the request side, ``fit_requests``.

=========================  ==============  ==============  ==============
measure                    Philly, halves  openb, halves   Azure conv
=========================  ==============  ==============  ==============
size, KS                   0.005   0.05    0.002   0.004   -
run time (tokens), KS      0.04    0.24    0.02    0.06    0.02 (both)
gap, KS                    0.05    0.20    0.03    0.13    0.02
GPU time by size, TV       0.05    0.14    0.18    0.40    -
tenants by jobs, TV        0.02    0.30    one tenant      -
hour, TV                   0.13    0.14    0.04    0.06    one hour
dispersion, 1 min, decades 0.06    0.00    0.02    0.07    0.05
dispersion, 1 h, decades   0.17    0.32    0.10    0.19    -
dispersion, 1 d, decades   0.38    0.48    0.18    0.10    -
=========================  ==============  ==============  ==============

Why not nearer: Philly resubmits on timers of 360 and 600 s (gaps) and has days of one campaign (dispersion
in a day); a few openb pods run for months and hold most of the GPU time.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces import fit_tables, generate, quality
from fleetsim_traces.distributions import scores_of_ranks
from fleetsim_traces.fit_arrivals import arrivals, batches_of
from fleetsim_traces.fit_people import CELL, batch_sizes, labels_of, split_by_gpus, status_of, tenants_of
from fleetsim_traces.fit_tables import CROWD, quantiles, round_to, shares
from fleetsim_traces.parameters import Batches, Parameters
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

BATCH_GAPS_S = (0.5, 3.0, 10.0, 30.0, 60.0, 180.0)
_RATHER, _BEYOND = 2.0, 5.0  # so much likelier, and just beyond is up to so many times the gap
_ALIKE = 0.005  # distances that differ by less are alike: then the shortest gap
_SEEDS = (0, 1, 2, 3, 4)
TRIAL = 50_000  # first jobs of a longer trace that choose among gaps
MAX_TENANTS = 40  # described one by one
FEWEST = 50  # jobs that say anything


def fit(
    trace: Trace,
    *,
    about: str | None = None,
    zone: str = "UTC",
    batch_gap_s: float | None = None,
) -> Parameters:
    """Parameters from which ``generate_jobs`` makes look-alikes of *trace*.

    *about* says in a few words what they imitate; hours and weekdays are those of *zone* (IANA). Jobs of the
    same owner and GPU count no more than *batch_gap_s* apart are a batch; None tries some. Jobs of CPU alone
    are left out. Raises TraceError
    for fewer than 50 jobs, a span of no time, or a zone that does not exist.
    """
    import polars as pl
    import pyarrow.compute as pc

    trace = replace(trace, jobs=trace.jobs.filter(pc.field("gpus") > 0))
    if batch_gap_s is not None and not 0 < batch_gap_s <= 86_400:
        raise fail("batch_gap_s", f"{batch_gap_s:g} is not above 0 and up to 86,400")
    if batch_gap_s is None:
        batch_gap_s = _best_gap(trace, zone)
    names = ["submit_s", "duration_s", "gpus", "gpu_share", "tenant", "user", "status", "workload_class",
             "gpu_model", "priority"]  # fmt: skip
    jobs = pl.DataFrame(pl.from_arrow(trace.jobs.select(names))).with_columns(
        pl.col("tenant", "user", "status", "workload_class", "gpu_model").cast(pl.String),
        pl.col("gpu_share").cast(pl.Float64).round(4),
        pl.col("duration_s").clip(lower_bound=1.0),
    )
    span_s = _span(trace)
    jobs = batches_of(_merge_rare_counts(jobs), batch_gap_s)

    tenants = jobs.group_by("tenant").len().sort(["len", "tenant"], descending=[True, False])
    head = tenants.filter(pl.col("len") >= CELL).head(MAX_TENANTS)["tenant"].to_list()
    if not head and tenants["len"][0] >= CROWD:
        head = [tenants["tenant"][0]] if tenants.height == 1 else []
    labels = {name: labels_of(jobs, name) for name in ("workload_class", "gpu_model", "priority")}
    classes = labels["workload_class"]
    singles = jobs.filter(pl.col("gpus") == 1)["gpu_share"]
    return Parameters(
        version=1,
        kind="jobs",
        about=(about or f"jobs as in {trace.format}")[:200],
        source=f"Fitted by fleetsim_traces.fit to {jobs.height:,} jobs over {span_s / 86400:.1f} days.",
        jobs_per_day=round_to(jobs.height / span_s * 86400, 4),
        clock=zone if trace.epoch is not None else None,
        arrivals=arrivals(trace, jobs, zone),
        batches=_batches(jobs),
        gpu_count_share=shares(jobs["gpus"]),
        gpu_share_of_single=shares(singles, CROWD) if len(singles) and singles.min() != 1.0 else None,
        duration_s_by_gpus=_by_gpus(jobs, "duration_s", FEWEST // 2),
        tenants=tenants_of(jobs, head),
        status=status_of(jobs),
        workload_class=next(iter(classes)) if classes else None,
        gpu_model_share=labels["gpu_model"],
        priority_share=labels["priority"],
    )


def _span(trace: Trace) -> float:
    """Seconds from first to last submission; raises TraceError for a trace that is too small to fit."""
    jobs, submit_s = trace.jobs.num_rows, trace.jobs["submit_s"]
    span_s = float(submit_s[jobs - 1].as_py() - submit_s[0].as_py()) if jobs else 0.0
    if jobs < FEWEST or span_s <= 0:
        raise fail(
            trace.source, f"{jobs:,} jobs over {span_s:,.0f} s are too few to fit",
            f"Give at least {FEWEST} jobs at different times.",
        )  # fmt: skip
    return span_s


def _best_gap(trace: Trace, zone: str) -> float:
    """The gap within a batch, as the module says; from the first :data:`TRIAL` jobs of a longer trace."""
    _span(trace)
    part = replace(trace, jobs=trace.jobs.slice(0, TRIAL))
    start = generate.START if trace.epoch is None else trace.epoch

    def distance(gap_s: float) -> float:
        parameters = fit(part, zone=zone, batch_gap_s=gap_s)
        found = []
        for seed in _SEEDS:
            made = generate.generate_jobs(parameters, jobs=part.jobs.num_rows, seed=seed, start=start)
            measures = quality.check(part, made, zone=zone)["measures"]
            bursts = [measures[f"dispersion.{window}"]["distance"] for window in ("1min", "10min")]
            known = [d for d in bursts if d is not None]
            found.append(measures["gap.ks"]["distance"] + (sum(known) / len(known) if known else 0.0))
        return float(np.mean(found))

    likely = _likely_gaps(trace)
    if len(likely) == 1:
        return likely[0]
    found = {gap_s: distance(gap_s) for gap_s in likely}
    return min(gap_s for gap_s in found if found[gap_s] <= min(found.values()) + _ALIKE)


def _likely_gaps(trace: Trace) -> list[float]:
    """The gaps up to which a pause of an owner is likelier to end than just beyond; the first in any case."""
    import polars as pl

    jobs = pl.DataFrame(
        pl.from_arrow(trace.jobs.select(["submit_s", "duration_s", "gpus", "tenant", "user"]))
    )
    gaps = batches_of(jobs.with_columns(pl.col("tenant", "user").cast(pl.String)), np.inf)["gap_s"]
    pauses = np.sort(gaps.drop_nulls().to_numpy())

    def ending_rate(low: float, high: float) -> float:
        """Ends a second that pauses longer than *low* last, up to *high*; of all pauses where few are."""
        longer = pauses[pauses > low]
        if len(longer) < CROWD:
            return float(len(pauses) / pauses.sum())
        return float((longer <= high).sum() / (np.minimum(longer, high) - low).sum())

    longest = 0
    for i, (before, gap_s) in enumerate(pairwise(BATCH_GAPS_S), start=1):
        ended = np.searchsorted(pauses, (before, gap_s), side="right")
        if ended[1] - ended[0] >= CROWD and (
            ending_rate(before, gap_s) >= _RATHER * ending_rate(gap_s, _BEYOND * gap_s)
        ):
            longest = i
    return list(BATCH_GAPS_S[: longest + 1])


def _merge_rare_counts(jobs: pl.DataFrame) -> pl.DataFrame:
    """GPU counts of fewer than CROWD jobs become the nearest one with more."""
    import polars as pl

    counts = jobs.group_by("gpus").len()
    common = np.sort(counts.filter(pl.col("len") >= CROWD)["gpus"].to_numpy())
    if not len(common):
        common = np.array([int(np.median(jobs["gpus"].to_numpy()))])
    goes_to = {
        int(n): int(common[np.argmin(np.abs(np.log(common) - np.log(n)))]) for n in counts["gpus"].to_list()
    }
    return jobs.with_columns(pl.col("gpus").replace_strict(goes_to, return_dtype=pl.Int64))


def _by_gpus(jobs: pl.DataFrame, column: str, fewest: int, *, whole: bool = False) -> dict[int, Any]:
    """A table of *column* for each GPU count of at least *fewest* jobs; of all jobs where there is none."""

    found = {
        gpus: quantiles(of_count, whole=whole)
        for gpus, of_count in split_by_gpus(jobs, column)
        if len(of_count) >= fewest
    }
    return found or {int(jobs["gpus"].to_numpy().min()): quantiles(jobs[column].to_numpy(), whole=whole)}


def _batches(jobs: pl.DataFrame) -> Batches:
    import polars as pl

    gaps = jobs["gap_s"].drop_nulls().to_numpy()
    step_s = fit_tables.step_of(jobs["submit_s"].to_numpy())
    followers = jobs.filter(pl.col("gap_s").is_not_null())
    again = followers.filter((pl.col("gap_s") == 0) & (pl.col("duration_s") == pl.col("before_s"))).height
    return Batches(
        jobs_by_gpus=_by_gpus(batch_sizes(jobs), "jobs", FEWEST // 2, whole=True),
        gap_s=quantiles(fit_tables.spread_ties(gaps, step_s)) if len(gaps) >= FEWEST // 2 else {0.5: 10.0},
        duration_correlation=_correlation(jobs),
        same_again_share=round_to(again / followers.height, 3) if again >= CROWD else 0.0,
    )


def _correlation(jobs: pl.DataFrame) -> float:
    """Correlation of the normal scores of run times in a batch, from each job and the one before it."""
    import polars as pl

    scored = jobs.with_columns(
        pl.col("duration_s")
        .map_batches(lambda s: pl.Series(scores_of_ranks(s.to_numpy())), return_dtype=pl.Float64)
        .over("tenant", "gpus")
        .alias("score")
    )
    pairs = scored.with_columns(before=pl.col("score").shift().over("batch", order_by="submit_s"))
    # one vote for each batch, however long: else the longest alone would decide
    means = (
        pairs.drop_nulls("before")
        .group_by("batch")
        .agg(product=(pl.col("score") * pl.col("before")).mean(), square=(pl.col("score") ** 2).mean())
    )
    if means.height < CROWD:
        return 0.0
    product, square = (means[name].to_numpy().sum() for name in ("product", "square"))
    return float(np.clip(round_to(product / max(square, 1e-9), 2), 0.0, 0.99))
