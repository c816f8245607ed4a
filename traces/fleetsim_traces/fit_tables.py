"""Summaries of at least :data:`CROWD` values: the parts of a family file that ``fit`` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.distributions import Table

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

CROWD = 10  # values behind every figure
PROBABILITIES = (
    0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.995, 0.999,
)  # fmt: skip


def round_to(value: float, digits: int) -> float:
    """*value* to *digits* significant digits."""
    return float(f"{value:.{digits}g}")


def quantiles(
    values: Floats, *, whole: bool = False, probabilities: tuple[float, ...] = PROBABILITIES
) -> dict[float, float]:
    """A table of quantiles of *values* (above 0) whose mean is theirs; *whole* where they are whole numbers.

    Each figure rests on at least CROWD values, and the last on their mean.
    """
    ranked = np.sort(values)
    n = len(ranked)
    half = CROWD // 2
    inner = {}
    for p in probabilities:
        if min(p, 1 - p) * n >= CROWD:
            at = int(p * n)
            inner[p] = round_to(float(np.exp(np.log(ranked[at - half : at + half]).mean())), 3)
    if not inner:
        inner[0.5] = round_to(float(np.exp(np.log(ranked).mean())), 3)
    least, most = min(inner), max(inner)
    digit = 10.0 ** np.floor(np.log10(ranked[0]))
    low_p = round_to(min(least / 2, 1 / n), 2)
    table = {low_p: min(float(np.floor(ranked[0] / digit + 1e-9) * digit), inner[least]), **inner}
    high_p = round(1 - min((1 - most) / 2, 1 / n), 7)
    table[high_p] = _last(table, high_p, float(values.mean()), whole)
    # what draws below the first or above the last point is cut there: rounding must not turn them round
    rising = np.maximum.accumulate(list(table.values())).tolist()
    between = [1 <= i < len(rising) - 1 and rising[i - 1] == rising[i + 1] for i in range(len(rising))]
    return {float(p): v for p, v, idle in zip(table, rising, between, strict=True) if not idle}


def _last(table: dict[float, float], probability: float, mean: float, whole: bool) -> float:
    """The value at *probability* with which the table has *mean*, by bisection of its logarithm."""
    floor = max(table.values())
    low, high = np.log(floor), np.log(max(floor, mean) * 1e4)
    for _ in range(40):
        middle = (low + high) / 2
        made = Table.of_quantiles({**table, probability: float(np.exp(middle))}).mean(whole=whole)
        low, high = (middle, high) if made < mean else (low, middle)
    return max(round_to(float(np.exp(low)), 3), floor)


def step_of(times_s: Floats) -> float:
    """1 where all times are whole seconds, else 0."""
    return 1.0 if (times_s == np.rint(times_s)).all() else 0.0


def spread_ties(gaps_s: Floats, step_s: float) -> Floats:
    """Gaps counted in whole steps as continuous ones, whose whole part they are: 0 becomes (0, 1) evenly."""
    if step_s == 0:
        return np.maximum(gaps_s, 1e-6)
    ranked = np.sort(gaps_s)
    _, first, count = np.unique(ranked, return_index=True, return_counts=True)
    place = np.arange(len(ranked)) - np.repeat(first, count)
    return ranked + step_s * (place + 0.5) / np.repeat(count, count)


def shares(column: pl.Series, fewest: int = 0) -> dict[Any, float]:
    """Value -> its share, most frequent first; values of fewer rows than *fewest* go to the most frequent."""
    counts = column.value_counts(sort=True)
    found = sorted(counts.iter_rows(), key=lambda row: (-row[1], str(row[0])))
    kept = {value: count for value, count in found if count >= fewest} or {found[0][0]: found[0][1]}
    first = next(iter(kept))
    kept[first] += len(column) - sum(kept.values())
    return {value: round_to(count / len(column), 4) for value, count in kept.items()}
