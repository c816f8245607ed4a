"""When jobs come: batches, the rate by hour and weekday, and how bursty it is at which scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fleetsim_traces.fit_tables import round_to, step_of
from fleetsim_traces.parameters import Arrivals
from fleetsim_traces.profile import local_hours
from fleetsim_traces.table import Trace

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

LEVELS_S = (60, 600, 3600, 86_400, 604_800)
_FEWEST_BLOCKS = 8  # of a level in the trace, for its factor to be known
_HOURS = 48  # span below which a trace does not tell hours of the day apart
_WEEKDAYS = 14 * 24  # nor weekdays


def batches_of(jobs: pl.DataFrame, gap_s: float) -> pl.DataFrame:
    """*jobs* with ``batch`` (a number), and ``gap_s`` and ``before_s`` (run time) of the one before in it."""
    import polars as pl

    owner = "user" if jobs["user"].null_count() < jobs.height / 2 else "tenant"
    keys = [pl.col("tenant"), pl.col(owner).alias("owner"), pl.col("gpus")]
    own = jobs.select(pl.struct(*keys).rank("dense").alias("own")).to_series()
    jobs = jobs.with_columns(own=own, row=pl.int_range(pl.len())).sort("own", "submit_s", maintain_order=True)
    gap = pl.col("submit_s").diff()
    follows = ((pl.col("own") == pl.col("own").shift()) & (gap <= gap_s)).fill_null(False)
    return jobs.with_columns(
        batch=(~follows).cum_sum(),
        gap_s=pl.when(follows).then(gap),
        before_s=pl.when(follows).then(pl.col("duration_s").shift()),
    ).sort("row")


def arrivals(trace: Trace, jobs: pl.DataFrame, zone: str) -> Arrivals:
    """The rate at which batches of *jobs* begin."""
    import polars as pl

    begin = jobs.filter(pl.col("gap_s").is_null())["submit_s"].to_numpy()
    end_s = float(jobs["submit_s"][-1])
    first_s = float(jobs["submit_s"][0])
    hours = local_hours(trace, np.arange(first_s, end_s + 3600, 3600.0), zone)
    of_job = local_hours(trace, begin, zone)
    seen = len(hours)
    hour_rate = _rates(of_job % 24, hours % 24, 24) if seen >= _HOURS else [1.0] * 24
    known = trace.epoch is not None and seen >= _WEEKDAYS
    weekday_rate = _rates(of_job // 24, hours // 24, 7) if known else [1.0] * 7
    expected = np.array(hour_rate)[hours % 24] * np.array(weekday_rate)[hours // 24]
    return Arrivals(
        hour_rate=hour_rate,
        weekday_rate=weekday_rate,
        load_cv_by_s=load_cv(
            jobs["submit_s"].to_numpy() - first_s, jobs["batch"].to_numpy(), expected, end_s - first_s
        ),
        time_step_s=step_of(jobs["submit_s"].to_numpy()),
    )


def _rates(events: Ints, exposure: Ints, bins: int) -> list[float]:
    """Events by bin over the hours the trace spent in it, in means."""
    spent = np.bincount(exposure, minlength=bins)
    rate = np.bincount(events, minlength=bins) / np.maximum(spent, 1)
    rate[spent == 0] = rate[spent > 0].mean()
    return [round_to(float(r), 3) for r in rate / rate.mean()]


def load_cv(
    times_s: Floats, batch: Ints, expected: Floats, span_s: float, lengths_s: tuple[int, ...] = LEVELS_S
) -> dict[int, float]:
    """Coefficient of variation of the factor of each block length, from pairs of jobs in one block.

    Of the pairs of jobs in a block only those of different batches count: what is left of burstiness once
    batches are taken out. Their number over the square of the expected jobs, summed over blocks, estimates
    the second moment S of the product of all factors, the finer ones averaged over the block. With n blocks
    of the next length in each, ``S = A + (S_next - A) / n`` for the product A of the factors down to it.
    """
    levels = [s for s in lengths_s if span_s / s >= _FEWEST_BLOCKS]
    whole = min(int(span_s // 3600), len(expected) - 1)
    hours = expected[:whole].sum() + expected[whole] * (span_s / 3600 - whole)
    mean_per_hour = len(times_s) / max(float(hours), 1e-9)
    moments = []
    for length in levels:
        blocks = int(span_s // length)
        place = (times_s // length).astype(np.int64)
        counts = np.bincount(place, minlength=blocks)[:blocks].astype(np.float64)
        _, alike = np.unique(np.stack((place, batch))[:, place < blocks], axis=1, return_counts=True)
        if length >= 3600:
            per = length // 3600
            rates = expected[: blocks * per].reshape(blocks, per).sum(axis=1)
        else:
            rates = expected[((np.arange(blocks) + 0.5) * length // 3600).astype(np.int64)] * length / 3600
        m = rates * mean_per_hour
        pairs = (counts**2).sum() - (alike.astype(np.float64) ** 2).sum()
        moments.append(float(pairs / max((m**2).sum(), 1e-12)))
    found: dict[int, float] = {}
    products: list[float] = []
    for i, length in enumerate(levels):
        if i == 0:
            products.append(moments[0])
            continue
        n = length / levels[i - 1]
        products.append((moments[i] - moments[i - 1] / n) / (1 - 1 / n))
    coarser = 1.0
    for length, product in reversed(list(zip(levels, products, strict=True))):
        variance = max(0.0, product / coarser - 1)
        if variance > 0.001:
            found[length] = round_to(min(float(np.sqrt(variance)), 100.0), 3)
        coarser = max(coarser, product)
    return dict(sorted(found.items()))
