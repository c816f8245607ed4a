"""How often things of an age fail: hazard rates, and the age at which the next failure comes.

A hazard has components that add up (competing risks): the first of them to strike is the failure. A bathtub
is three: a Weibull of shape below 1 (early failures), a constant (chance), a Weibull of shape above 1
(wear). Ages are seconds; rates are failures per second, and per year of 365 days where a name says so.

Failures are drawn by inversion (Devroye, "Non-Uniform Random Variate Generation", 1986, chapter VI.2): if E
is a unit exponential, the failure after age a is where the cumulative hazard has grown by E since a. That is
exact, also for a unit that is not new; the draws come from outside, so that runs can share them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

from fleetsim.units import YEAR_S

__all__ = ["Constant", "Curve", "Hazard", "Weibull", "next_failure"]


class Hazard(Protocol):
    """One component of a hazard. Ages and cumulative hazards are 0 or more."""

    def rate(self, age_s: float) -> float:
        """Failures per second at *age_s*; infinite where the curve is."""

    def cumulative(self, age_s: float) -> float:
        """Failures expected from age 0 to *age_s*: the integral of the rate."""

    def age_at(self, cumulative: float) -> float:
        """The first age (s) at which *cumulative* is reached; infinite where it never is."""


class Constant:
    """*per_year* failures a year at any age. Raises ``ValueError`` unless it is finite and 0 or more."""

    __slots__ = ("_rate",)

    def __init__(self, per_year: float) -> None:
        _require_rate(per_year)
        self._rate = per_year / YEAR_S

    def rate(self, age_s: float) -> float:
        return self._rate

    def cumulative(self, age_s: float) -> float:
        return self._rate * age_s

    def age_at(self, cumulative: float) -> float:
        if cumulative <= 0:
            return 0.0
        return cumulative / self._rate if self._rate else math.inf


class Weibull:
    """Survival to age t is exp(-(t / scale)**shape): *shape* below 1 falls with age, above 1 rises.

    Raises ``ValueError`` unless *shape* and *scale_s* (s; 63.2 % have failed by then) are finite and above 0.
    """

    __slots__ = ("_inverse", "_scale_s", "_shape")

    def __init__(self, shape: float, scale_s: float) -> None:
        for name, value in (("shape", shape), ("scale", scale_s)):
            if not 0 < value < math.inf:
                raise ValueError(f"a Weibull {name} of {value} must be finite and above 0")
        self._shape, self._scale_s, self._inverse = shape, scale_s, 1 / shape

    def rate(self, age_s: float) -> float:
        try:
            return float(self._shape / self._scale_s * (age_s / self._scale_s) ** (self._shape - 1))
        except (OverflowError, ZeroDivisionError):  # beyond floats; at age 0 where the shape is below 1
            return math.inf

    def cumulative(self, age_s: float) -> float:
        try:
            return float((age_s / self._scale_s) ** self._shape)
        except OverflowError:
            return math.inf

    def age_at(self, cumulative: float) -> float:
        try:
            return float(self._scale_s * cumulative**self._inverse)
        except OverflowError:
            return math.inf


class Curve:
    """A rate that changes in steps: *points* are ages (s) and failures per year from that age on.

    It is 0 before the first age, and the last rate holds for ever. Raises ``ValueError`` unless there is a
    point, ages are 0 or more and rise, and rates are finite and 0 or more.
    """

    __slots__ = ("_ages_s", "_rates", "_reached")

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        if not points:
            raise ValueError("a curve needs at least one point: an age and a rate per year")
        for _, per_year in points:
            _require_rate(per_year)
        ages_s = [age_s for age_s, _ in points]
        if not ages_s[0] >= 0 or any(not a < b for a, b in pairwise([*ages_s, math.inf])):
            raise ValueError(f"the ages of a curve, {ages_s} s, must be finite, 0 or more, and rise")
        if ages_s[0] > 0:
            points = [(0.0, 0.0), *points]
        self._ages_s = [age_s for age_s, _ in points]
        self._rates = [per_year / YEAR_S for _, per_year in points]
        self._reached = [0.0]  # cumulative hazard at each age
        for (a, b), rate in zip(pairwise(self._ages_s), self._rates, strict=False):
            self._reached.append(self._reached[-1] + rate * (b - a))

    def rate(self, age_s: float) -> float:
        return self._rates[bisect_right(self._ages_s, age_s) - 1]

    def cumulative(self, age_s: float) -> float:
        i = bisect_right(self._ages_s, age_s) - 1
        return self._reached[i] + self._rates[i] * (age_s - self._ages_s[i])

    def age_at(self, cumulative: float) -> float:
        i = bisect_left(self._reached, cumulative) - 1
        if i < 0:
            return 0.0
        rate = self._rates[i]  # above 0, unless it is the last: more is reached after it
        return self._ages_s[i] + (cumulative - self._reached[i]) / rate if rate else math.inf


def next_failure(
    components: Sequence[Hazard], age_s: float, exponentials: Iterable[float], factor: float = 1.0
) -> tuple[float, int]:
    """The age (s) at which a unit of *age_s* fails next, and the place of the component that strikes.

    *exponentials* are unit-exponential draws, one for each component. *factor* (above 0) multiplies the
    rates, as of a lemon. ``(inf, -1)`` where no component ever strikes; at equal ages the first one does.
    """
    first_s, struck = math.inf, -1
    for i, (component, exponential) in enumerate(zip(components, exponentials, strict=True)):
        used = component.cumulative(age_s)
        # a hazard that is used up at this age strikes at once
        at_s = component.age_at(used + exponential / factor) if used < math.inf else age_s
        if at_s < first_s:
            first_s, struck = at_s, i
    return max(first_s, age_s), struck  # rounding may have gone below the age


def _require_rate(per_year: float) -> None:
    if not 0 <= per_year < math.inf:
        raise ValueError(f"a rate of {per_year} failures a year must be finite and 0 or more")
