"""How long things last, from observed lives of which many have not ended yet.

A life is watched from an entry age (0, or later where it was already in use: left truncation, delayed entry)
to the age at which it ended or was last seen (right censoring). What is made of them:

- :func:`kaplan_meier`: survival and cumulative hazard by age, without assumptions (Kaplan and Meier 1958;
  Nelson 1972, Aalen 1978; variance by Greenwood 1926; band by log(-log), Kalbfleisch and Prentice 1980);
- :func:`hazard_by_age`: failures per year in each age band, with exact Poisson intervals (Garwood 1936);
- :func:`fit_weibull`: maximum likelihood and standard errors.

All rest on one assumption: lives that stop being watched would have gone on like the others of their age.
Ages are seconds; rates are per year of 365 days.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from fleetsim.units import YEAR_S

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Counts = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

LEVEL = 0.95  # of bands and intervals, unless told otherwise
_EQUAL = 1e-9  # products of shares that should be equal differ by less


@dataclass(frozen=True)
class Lives:
    """Observed lives, a row each: seen from age *entry_s* to *age_s* (s), and whether they *died* then.

    Raises ``ValueError`` unless the columns are equally long, not empty, finite, and 0 <= entry < age.
    """

    age_s: Floats
    died: Flags
    entry_s: Floats

    def __post_init__(self) -> None:
        if not 0 < len(self.age_s) == len(self.died) == len(self.entry_s):
            sizes = f"{len(self.age_s)} ages, {len(self.died)} ends and {len(self.entry_s)} entries"
            raise ValueError(f"{sizes}: the columns must be equally long, and not empty")
        sound = (self.entry_s >= 0) & (self.entry_s < self.age_s) & np.isfinite(self.age_s)
        if not sound.all():
            i = int(np.argmin(sound))
            raise ValueError(
                f"life {i} is seen from {self.entry_s[i]} s to {self.age_s[i]} s: "
                "write finite ages, 0 <= entry < age"
            )

    @classmethod
    def of(cls, age_s: npt.ArrayLike, died: npt.ArrayLike, entry_s: npt.ArrayLike | None = None) -> Lives:
        """The same from anything like columns; without *entry_s* all are seen from age 0."""
        ages = np.asarray(age_s, dtype=np.float64)
        entries = np.zeros_like(ages) if entry_s is None else np.asarray(entry_s, dtype=np.float64)
        return cls(ages, np.asarray(died, dtype=np.bool_), entries)

    def __len__(self) -> int:
        return len(self.age_s)

    @property
    def deaths(self) -> int:
        """Lives whose end was seen."""
        return int(self.died.sum())

    @property
    def exposure_s(self) -> float:
        """Time at risk of all lives together, s."""
        return float((self.age_s - self.entry_s).sum())

    def at_risk(self, age_s: Floats) -> Counts:
        """How many lives are watched just before each age: entry < age <= end."""
        come = np.searchsorted(np.sort(self.entry_s), age_s)
        gone = np.searchsorted(np.sort(self.age_s), age_s)
        return (come - gone).astype(np.int64)


@dataclass(frozen=True)
class Survival:
    """Survival by age: steps at the ages of deaths, which hold until the next; before the first it is 1.

    *std_error* is Greenwood's, of *survival*. *low* and *high* are the pointwise band at *level*. Where all
    that were left have died, survival is 0, its error is unknown (NaN), and the band goes from 0 to the high
    end of the step before. *hazard* is the cumulative hazard of Nelson and Aalen, the sum of deaths /
    at_risk; the variance behind *hazard_std_error* is the sum of deaths / at_risk**2.
    """

    level: float
    age_s: Floats
    at_risk: Counts
    deaths: Counts
    survival: Floats
    std_error: Floats
    low: Floats
    high: Floats
    hazard: Floats
    hazard_std_error: Floats

    def at(self, age_s: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Survival, low and high just after each age. Beyond the last life seen they say nothing."""
        step = np.searchsorted(self.age_s, np.asarray(age_s, dtype=np.float64), side="right")
        one = np.ones(1)
        survival, low, high = (np.concatenate((one, c))[step] for c in (self.survival, self.low, self.high))
        return survival, low, high

    def median_s(self) -> tuple[float, float, float]:
        """The first age (s) at which at most half survive, and the low and high end of its interval.

        The ends are where the band crosses one half (Brookmeyer and Crowley 1982). Infinite where it is not
        reached.
        """
        median, low, high = (self._halved(curve) for curve in (self.survival, self.low, self.high))
        return median, low, high

    def _halved(self, curve: Floats) -> float:
        below = curve <= 0.5 + _EQUAL
        return float(self.age_s[np.argmax(below)]) if below.any() else math.inf


def kaplan_meier(lives: Lives, level: float = LEVEL) -> Survival:
    """Survival by age of *lives*, with a pointwise band at *level*.

    At equal ages deaths come before ends of watching, and entries after both. With delayed entry the few at
    risk at the lowest ages decide all that follows: if they all die, survival is 0 from there on.
    """
    ages, deaths = np.unique(lives.age_s[lives.died], return_counts=True)
    at_risk = lives.at_risk(ages)
    survival = np.cumprod(1 - deaths / at_risk, dtype=np.float64)
    left = at_risk - deaths
    some = left > 0
    term = np.divide(deaths, at_risk * left, out=np.zeros_like(survival), where=some)
    greenwood = np.sqrt(np.cumsum(term))
    z = NormalDist().inv_cdf((1 + level) / 2)
    alive = survival > 0
    spread = np.exp(z * np.divide(greenwood, -np.log(survival, where=alive, out=-np.ones_like(survival))))
    low, high = (np.where(alive, survival**power, 0.0) for power in (spread, 1 / spread))
    if not alive.all():
        first = int(np.argmin(alive))
        high[first:] = high[first - 1] if first else 1.0
    return Survival(
        level=level,
        age_s=ages,
        at_risk=at_risk,
        deaths=deaths.astype(np.int64),
        survival=survival,
        std_error=np.where(alive, survival * greenwood, np.nan),
        low=low,
        high=high,
        hazard=np.cumsum(deaths / at_risk),
        hazard_std_error=np.sqrt(np.cumsum(deaths / at_risk.astype(np.float64) ** 2)),
    )


@dataclass(frozen=True)
class HazardByAge:
    """Failures per year by age band, from over *from_s* up to and with *to_s*.

    *per_year* is deaths / exposure, the maximum likelihood rate if it is constant in the band; NaN where
    nobody was watched. *low* and *high* are the exact Poisson interval at *level* around it.
    """

    level: float
    from_s: Floats
    to_s: Floats
    at_risk: Counts  # just after from_s
    exposure_s: Floats
    deaths: Counts
    per_year: Floats
    low: Floats
    high: Floats

    def curve(self, least: int = 5) -> list[tuple[float, float]]:
        """Steps (age in s, failures per year) for :class:`fleetsim.life.hazards.Curve`.

        The last rate holds for ever, so bands at the end are taken together until they have *least* deaths
        (or all are one). Ages at which nobody was watched have the rate of the band before, or, at the
        beginning, of the first that has one. Raises ``ValueError`` where nobody was ever watched.
        """
        seen = np.flatnonzero(self.exposure_s > 0)
        if not len(seen):
            raise ValueError("no exposure in any age band: there is no rate to take")
        tail = np.cumsum(self.deaths[seen][::-1])[::-1]
        enough = int(np.argmax(tail < least)) if (tail < least).any() else len(seen)
        last = seen[max(enough - 1, 0)]
        rate = self.deaths[last:].sum() / self.exposure_s[last:].sum() * YEAR_S
        points = [(float(self.from_s[i]), float(self.per_year[i])) for i in seen if i < last]
        points.append((float(self.from_s[last]), float(rate)))
        return [(0.0, points[0][1]), *points[1:]]


def hazard_by_age(lives: Lives, edges_s: Sequence[float] | Floats, level: float = LEVEL) -> HazardByAge:
    """Deaths, time at risk and rate of *lives* in the bands between *edges_s*, which rise.

    Raises ``ValueError`` unless there are two edges or more that are finite, 0 or more, and rise.
    """
    edges = np.asarray(edges_s, dtype=np.float64)
    if len(edges) < 2 or not (edges[0] >= 0 and (np.diff(edges) > 0).all() and np.isfinite(edges[-1])):
        raise ValueError(f"{edges.tolist()}: two edges or more must be finite, 0 or more, and rise")
    until = _summed(lives.age_s, edges) - _summed(lives.entry_s, edges)
    # differences of large sums: what is left of nothing is noise
    exposure_s = np.where(np.diff(until) > 1e-12 * until[-1], np.diff(until), 0.0)
    dead = np.sort(lives.age_s[lives.died])
    deaths = np.diff(np.searchsorted(dead, edges, side="right")).astype(np.int64)
    years = np.where(exposure_s > 0, exposure_s / YEAR_S, np.nan)
    ends = np.array([poisson_interval(int(n), level) for n in deaths])
    return HazardByAge(
        level=level,
        from_s=edges[:-1],
        to_s=edges[1:],
        at_risk=lives.at_risk(np.nextafter(edges[:-1], np.inf)),
        exposure_s=exposure_s,
        deaths=deaths,
        per_year=deaths / years,
        low=ends[:, 0] / years,
        high=ends[:, 1] / years,
    )


def _summed(values: Floats, at: Floats) -> Floats:
    """The sum of min(value, limit) over all *values*, for each limit in *at*."""
    ordered = np.sort(values)
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    below = np.searchsorted(ordered, at)
    return sums[below] + at * (len(values) - below)


def poisson_interval(count: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a Poisson mean of which *count* events were seen (Garwood, Biometrika 1936).

    Both tails have (1 - *level*) / 2; for 0 events the low end is 0. Right to a relative 1e-9 up to a
    million events (tests compare with chi-square quantiles).

    >>> [round(x, 4) for x in poisson_interval(0)], [round(x, 4) for x in poisson_interval(10)]
    ([0.0, 3.6889], [4.7954, 18.3904])
    """
    tail = (1 - level) / 2
    return (_poisson_mean(count - 1, 1 - tail) if count else 0.0), _poisson_mean(count, tail)


def _poisson_mean(count: int, share: float) -> float:
    """The mean of which *count* or fewer events have the probability *share*: Newton's method, bracketed."""
    reach = 40.0 * math.sqrt(count + 1)  # standard deviations: beyond, terms are nothing
    counts = np.arange(max(0, count - int(reach)), count + 1, dtype=np.float64)
    first = math.lgamma(counts[0] + 1)
    log_factorial = np.concatenate(([first], first + np.cumsum(np.log(counts[1:]))))
    low, high = float(counts[0]), count + 40.0 + reach
    # Wilson and Hilferty's cube of a normal is near enough to begin with
    k = count + 1
    mean = k * (1 - 1 / (9 * k) - NormalDist().inv_cdf(share) / (3 * math.sqrt(k))) ** 3
    for _ in range(100):
        if not low < mean < high:
            mean = (low + high) / 2
        terms = np.exp(counts * math.log(mean) - mean - log_factorial)
        over = float(terms.sum()) - share
        low, high = (mean, high) if over > 0 else (low, mean)
        step = over / float(terms[-1])
        mean += step
        if abs(step) <= 1e-13 * mean:
            break
    return mean


@dataclass(frozen=True)
class WeibullFit:
    """Survival exp(-(age / scale)**shape), fitted; standard errors from the observed information."""

    shape: float
    scale_s: float
    shape_std_error: float
    scale_std_error_s: float
    log_likelihood: float

    def survival(self, age_s: npt.ArrayLike) -> Floats:
        """The share that survives each age."""
        return np.exp(-((np.asarray(age_s, dtype=np.float64) / self.scale_s) ** self.shape))

    @property
    def mean_s(self) -> float:
        """Mean life, s: scale * Gamma(1 + 1 / shape)."""
        return self.scale_s * math.gamma(1 + 1 / self.shape)

    @property
    def median_s(self) -> float:
        """Median life, s: scale * (ln 2)**(1 / shape)."""
        return float(self.scale_s * math.log(2) ** (1 / self.shape))


def fit_weibull(lives: Lives) -> WeibullFit:
    """The Weibull distribution most likely to give *lives*, censoring and delayed entry considered.

    With D deaths and A(k) = sum(age**k - entry**k), the likelihood is highest in the scale at
    (A / D)**(1 / k), and in the shape k where D / k + sum over deaths of ln(age) = D A' / A. Raises
    ``ValueError`` where fewer than two different ages of death were seen, or the likelihood has no maximum
    at a shape between 0.01 and 1,000.
    """
    if len(np.unique(lives.age_s[lives.died])) < 2:
        raise ValueError(f"it needs two deaths at different ages, of {lives.deaths}")
    unit_s = float(lives.age_s.max())
    ages, entries = lives.age_s / unit_s, lives.entry_s / unit_s
    late = entries > 0
    log_ages, log_entries = np.log(ages), np.log(entries[late])
    deaths, log_deaths = lives.deaths, float(log_ages[lives.died].sum())

    def sums(k: float) -> tuple[float, float, float]:
        """A and its first two derivatives by k."""
        come, gone = np.exp(k * log_entries), np.exp(k * log_ages)
        return (
            float(gone.sum() - come.sum()),
            float(gone @ log_ages - come @ log_entries),
            float(gone @ log_ages**2 - come @ log_entries**2),
        )

    def score(k: float) -> float:
        a, a1, _ = sums(k)
        return deaths / k + log_deaths - deaths * a1 / a

    low, high = 0.01, 1000.0
    if not score(low) > 0 > score(high):
        raise ValueError("the likelihood has no maximum at a Weibull shape between 0.01 and 1,000")
    while high / low > 1 + 1e-13:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if score(middle) > 0 else (low, middle)
    k = math.sqrt(low * high)
    a, a1, a2 = sums(k)
    u = math.log(a / deaths) / k  # logarithm of the scale, in units of unit_s
    # minus the second derivatives of the log-likelihood in k and u, with A exp(-k u) = D
    kk = deaths / k**2 + deaths * (a2 / a - 2 * u * a1 / a + u**2)
    uk = -deaths * k * (a1 / a - u)
    uu = k**2 * deaths
    determinant = kk * uu - uk**2
    scale_s = unit_s * math.exp(u)
    return WeibullFit(
        shape=k,
        scale_s=scale_s,
        shape_std_error=math.sqrt(uu / determinant),
        scale_std_error_s=scale_s * math.sqrt(kk / determinant),
        log_likelihood=deaths * (math.log(k) - k * u - 1 - math.log(unit_s)) + (k - 1) * log_deaths,
    )
