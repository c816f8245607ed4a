"""Distributions as a few quantiles: what a parameter file holds, and draws from it.

A table of quantiles is read as log-normal between its points: the logarithm of the value is linear in the
normal score of the probability. Two points are a log-normal, more bend it. Outside its points a table is
flat, so no draw is above the last value or below the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

END_SCORE = 4.0  # normal score of probability 1 in a table: one draw in 30,000 is at or above its value
_GRID = np.linspace(-6.0, 6.0, 4001)
_WEIGHT = np.exp(-(_GRID**2) / 2)
_WEIGHT /= _WEIGHT.sum()


@dataclass(frozen=True)
class Table:
    """Normal scores and the logarithms of the values there, both ascending."""

    scores: Floats
    logs: Floats

    @classmethod
    def of_quantiles(cls, quantiles: Mapping[float, float]) -> Table:
        """From probability -> value, values above 0; raises ValueError unless they ascend together."""
        points = sorted(quantiles.items())
        values = np.array([v for _, v in points])
        if not len(points) or values[0] <= 0 or (np.diff(values) < 0).any():
            raise ValueError("quantiles must be above 0 and rise with their probability")
        return cls(np.array([score(p) for p, _ in points]), np.log(values))

    @classmethod
    def of_log_normal(cls, mu: float, sigma: float, largest: float = np.inf) -> Table:
        """exp(normal(mu, sigma)), no more than *largest*."""
        ends = np.array([-6.0, 6.0])
        top = min((np.log(largest) - mu) / sigma, 6.0) if sigma > 0 else 6.0
        scores = np.unique(np.append(ends, top))
        return cls(scores, np.minimum(mu + sigma * scores, np.log(largest)))

    def at(self, scores: Floats) -> Floats:
        """Values at normal scores."""
        values: Floats = np.exp(np.interp(scores, self.scores, self.logs))
        return values

    def mean(self, *, whole: bool = False) -> float:
        """Mean; with *whole* that of the values rounded to whole numbers of at least 1."""
        values = self.at(_GRID)
        return float(_WEIGHT @ (np.maximum(1.0, np.rint(values)) if whole else values))


def score(probability: float) -> float:
    """The normal score of a probability; :data:`END_SCORE` either way at 0 and 1."""
    if 0 < probability < 1:
        return NormalDist().inv_cdf(probability)
    return END_SCORE if probability >= 1 else -END_SCORE


def scores_of_ranks(values: Floats) -> Floats:
    """The normal score of the rank of each value among them; equal values in order of place."""
    grid = np.linspace(0, 1, 4097)[1:-1]
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / len(values)
    inverse = NormalDist().inv_cdf
    return np.interp(ranks, grid, [inverse(p) for p in grid.tolist()])


def draw(tables: list[Table], which: npt.NDArray[np.int64], scores: Floats) -> Floats:
    """For each normal score the value of ``tables[which]`` there."""
    values = np.empty(len(scores))
    order = np.argsort(which, kind="stable")
    edges = np.searchsorted(which[order], np.arange(len(tables) + 1))
    for i, table in enumerate(tables):
        rows = order[edges[i] : edges[i + 1]]
        values[rows] = table.at(scores[rows])
    return values
