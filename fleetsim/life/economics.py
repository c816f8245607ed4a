"""Formulas of money and reliability: pure functions of numbers, without clock, tables or state.

Money is nominal USD before tax, of one GPU with its share of the server. Shares and rates are parts of one:
0.1 is 10 %. A year has 8,760 h. ``kw`` is the IT power in kW that a GPU's slot reserves. What is a
``Number`` may be a float or an array.

Depreciation, annuity and cost of ownership are textbook (Barroso, Hölzle, Ranganathan, "The Datacenter as a
Computer", 3rd ed., 2018, chapter 6). The slot rule, the residual curve and the intrinsic value are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fleetsim.units import YEAR_S

Floats = NDArray[np.float64]
Number = TypeVar("Number", float, Floats)

HOURS_PER_YEAR = 8760.0

#: A rate per year that makes no difference: below it the closed forms would divide nothing by nothing.
NO_RATE = 1e-12

#: Total life by the age from which it is believed, both in years: ((0, 6), (2, 5)) is 6, and 5 from age 2 on.
Estimates = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Market:
    """The secondary market; the fields are those of the scenario's ``economics.market``."""

    floor: float = 0.05  # share of the price that is left however old
    decay_per_year: float = 0.4
    per_successor: float = 0.15  # share of the value lost when a successor ships
    depth_per_month: float = 0.02  # share of the stock that finds buyers at full value
    discount_per_percent: float = 0.03  # share of the value, for each further percent of the stock
    max_discount: float = 0.0


@dataclass(frozen=True)
class Terms:
    """What a scenario says of money, with its defaults filled in."""

    usd_per_kwh: float
    load_factor: float  # share of the slot's power that is drawn, in what is expected
    discount_rate: float  # per year
    life_y: float  # over which the annuity of a new part runs
    book: Estimates
    market: Market
    utilisation: Mapping[str, float]  # by GPU model: rented hours over all hours, in what is expected
    opex_usd_per_gpu_year: Mapping[str, float]  # by GPU model
    capex_usd_per_gpu: Mapping[
        str, float
    ]  # by cohort, when new; a cohort that is not here has no known price
    successors_s: Mapping[str, Sequence[float]]  # by GPU model: when its successors ship
    horizon_y: float = 10.0  # how far ahead a sale is considered in the intrinsic value


# Prices over time


@dataclass(frozen=True)
class PricePath:
    """A price by time in s: straight lines between points, the first price before them.

    After the last point it changes by ``change_per_year``, compounded continuously; 0 keeps it. A start price
    that falls by a fifth every year is ``PricePath((0.0,), (1.5,), -0.2)``.

    Raises ``ValueError`` unless there are as many prices as times, times rise and the change is above -1.
    """

    times_s: tuple[float, ...]
    usd: tuple[float, ...]
    change_per_year: float = 0.0

    def __post_init__(self) -> None:
        if not self.times_s or len(self.times_s) != len(self.usd):
            raise ValueError(f"{len(self.times_s)} times and {len(self.usd)} prices: give one price a time")
        if any(b <= a for a, b in pairwise(self.times_s)):
            raise ValueError(f"the times {self.times_s} must rise")
        if not self.change_per_year > -1:
            raise ValueError(f"a change of {self.change_per_year} a year must be above -1")

    def at(self, time_s: Number) -> Number:
        """The price at *time_s*."""
        beyond_y = np.maximum(time_s - self.times_s[-1], 0.0) / YEAR_S
        price: Number = np.interp(time_s, self.times_s, self.usd) * (1 + self.change_per_year) ** beyond_y
        return price

    def mean(self, start_s: Number, end_s: Number) -> Number:
        """The exact mean of the price from *start_s* to *end_s*, which is later."""
        mean: Number = (self._integral(end_s) - self._integral(start_s)) / (end_s - start_s)
        return mean

    def _integral(self, time_s: float | Floats) -> Any:
        """The price integrated from the first point to *time_s*, USD s."""
        times, usd = np.array(self.times_s), np.array(self.usd)
        whole = np.concatenate([[0.0], np.cumsum(np.diff(times) * (usd[1:] + usd[:-1]) / 2)])
        inner = np.clip(time_s, times[0], times[-1])
        i = np.searchsorted(times, inner, "right") - 1
        between = whole[i] + (inner - times[i]) * (usd[i] + np.interp(inner, times, usd)) / 2
        before = np.minimum(time_s - times[0], 0.0) * usd[0]
        beyond_y = np.maximum(time_s - times[-1], 0.0) / YEAR_S
        grown_y = _accrued(math.log1p(self.change_per_year), beyond_y)
        return before + between + usd[-1] * grown_y * YEAR_S


def _accrued(rate: float, years: float | Floats) -> Any:
    """A flow that is 1 now and grows continuously at *rate*, added up over *years*."""
    return np.expm1(rate * years) / rate if abs(rate) > NO_RATE else years


def years_until(usd: float, target_usd: float, change_per_year: float) -> float:
    """Years in which a price of *usd* that falls by *change_per_year* (-0.2) comes down to *target_usd*.

    ``ln(target / usd) / ln(1 + change)``: negative if it is lower already, infinite if it never gets there.
    Raises ``ValueError`` unless *usd* is positive and the change between -1 and 0.
    """
    if not (usd > 0 and -1 < change_per_year < 0):
        raise ValueError(f"{usd} must be positive and a change of {change_per_year} between -1 and 0")
    return math.log(target_usd / usd) / math.log1p(change_per_year) if target_usd > 0 else math.inf


# Depreciation


def book_value(age_y: Number, capex_usd: float, estimates: Estimates) -> Number:
    """What is not written off at *age_y*, USD: straight line to zero, changes of estimate prospective.

    When the life changes from L0 to L1 at age n, the book value stays and is written off over the rest of
    the new life: ``annual charge = book value / (L1 - n)`` (IAS 8, 36-38). Once written off, it stays zero.

    Raises ``ValueError`` unless the first estimate is from age 0, ages rise and no life is over when its
    estimate is made.

    >>> float(book_value(3.0, 50_000.0, [(0, 6)]))  # 50,000 * 3 / 6
    25000.0
    """
    ages, shares = _write_off(estimates)
    share: Number = np.maximum(np.interp(age_y, ages, shares), 0.0)  # rounding, just before the end
    return share * capex_usd


def depreciation_usd_per_year(age_y: Number, capex_usd: float, estimates: Estimates) -> Number:
    """The annual charge of :func:`book_value` at *age_y*; from the instant of a change on, the new one.

    Raises ``ValueError`` as that does.

    >>> round(float(depreciation_usd_per_year(2.0, 50_000.0, [(0, 6), (2, 5)])), 2)  # 33,333.33 / 3
    11111.11
    """
    ages, shares = _write_off(estimates)
    charges = np.concatenate([[0.0], -np.diff(shares) / np.diff(ages), [0.0]])
    charge: Number = charges[np.searchsorted(ages, age_y, "right")] * capex_usd
    return charge


def _write_off(estimates: Estimates) -> tuple[Floats, Floats]:
    """The corners of the book value as a share of the price: ages in years, shares."""
    ages = [age_y for age_y, _ in estimates]
    if ages[:1] != [0] or any(b <= a for a, b in pairwise(ages)) or any(end <= age for age, end in estimates):
        raise ValueError(
            f"estimates {[*estimates]} must start at age 0 and rise in age, each with a life beyond its age"
        )
    corners, shares, end_y = [0.0], [1.0], estimates[0][1]
    for age_y, life_y in estimates[1:]:
        if age_y >= end_y:
            break
        shares.append(shares[-1] * (end_y - age_y) / (end_y - corners[-1]))
        corners.append(age_y)
        end_y = life_y
    return np.array([*corners, end_y]), np.array([*shares, 0.0])


# Cost of ownership


def capital_recovery_factor(rate: float, life_y: float) -> float:
    """The level payment at the end of each of *life_y* years that repays 1: ``r / (1 - (1 + r)^-L)``."""
    return -rate / math.expm1(-life_y * math.log1p(rate)) if rate > NO_RATE else 1 / life_y


def annuity_usd_per_year(capex_usd: float, residual_usd: float, rate: float, life_y: float) -> float:
    """*capex_usd* less the present value of its residual, per year: ``(C - S / (1 + r)^L) * CRF(r, L)``."""
    residual_now_usd = residual_usd / math.pow(1 + rate, life_y)
    return (capex_usd - residual_now_usd) * capital_recovery_factor(rate, life_y)


def annuity_usd_per_kw_year(
    capex_usd: float,
    residual_usd: float,
    kw: float,
    rate: float,
    life_y: float,
    retrofit_usd_per_kw: float = 0.0,
) -> float:
    """What a kW of a new part must earn per year to be paid back over *life_y*.

    ``A = [C/k + X - (S/k) / (1 + r)^L] * CRF(r, L)``. X, *retrofit_usd_per_kw*, is what the slot itself needs
    for it, such as liquid cooling.
    """
    return annuity_usd_per_year(capex_usd / kw + retrofit_usd_per_kw, residual_usd / kw, rate, life_y)


def energy_usd_per_year(kw: float, load_factor: float, pue: float, usd_per_kwh: float) -> float:
    """Energy at the meter for the slot of a GPU: ``k * LF * PUE * E * 8760``."""
    return kw * load_factor * pue * usd_per_kwh * HOURS_PER_YEAR


def ownership_usd_per_year(
    annuity_usd: float, energy_usd: float, kw: float, colocation_usd_per_kw_month: float, upkeep_usd: float
) -> float:
    """Total cost of ownership of a GPU per year: annuity, energy, space by kW and month, and upkeep."""
    return annuity_usd + energy_usd + colocation_usd_per_kw_month * kw * 12 + upkeep_usd


def usd_per_hour(usd_per_year: float, utilisation: float = 1.0) -> float:
    """A cost by the year per installed hour, or per hour billed if only *utilisation* of them are."""
    return usd_per_year / (HOURS_PER_YEAR * utilisation)


def rent_usd_per_kwh(usd_per_gpu_hour: float, kw: float) -> float:
    """Rent per kWh of IT power reserved, while rented: ``p / k``."""
    return usd_per_gpu_hour / kw


# What a slot earns, and when its part is obsolete


def margin_usd_per_kw_year(
    usd_per_gpu_hour: Number,
    utilisation: float,
    energy_usd_per_year: float,
    opex_usd_per_year: float,
    kw: float,
) -> Number:
    """What a kW of slot earns per year: ``M = (p * U * 8760 - energy - opex) / k``."""
    return (usd_per_gpu_hour * utilisation * HOURS_PER_YEAR - energy_usd_per_year - opex_usd_per_year) / kw


def rent_at_margin(
    margin_usd_per_kw_year: float,
    utilisation: float,
    energy_usd_per_year: float,
    opex_usd_per_year: float,
    kw: float,
) -> float:
    """The rent in USD per GPU hour that gives this margin: :func:`margin_usd_per_kw_year` turned round."""
    earned = margin_usd_per_kw_year * kw + energy_usd_per_year + opex_usd_per_year
    return earned / (utilisation * HOURS_PER_YEAR)


def expected_margin(terms: Terms, gpu_model: str, kw: float, pue: float, usd_per_gpu_hour: Number) -> Number:
    """:func:`margin_usd_per_kw_year` of a GPU model at a rent, with the expectations of *terms*."""
    energy_usd = energy_usd_per_year(kw, terms.load_factor, pue, terms.usd_per_kwh)
    opex_usd = terms.opex_usd_per_gpu_year[gpu_model]
    return margin_usd_per_kw_year(usd_per_gpu_hour, terms.utilisation[gpu_model], energy_usd, opex_usd, kw)


def holding_usd_per_kw_year(resale_usd: float, resale_in_a_year_usd: float, rate: float, kw: float) -> float:
    """What keeping a part for a year costs in resale: ``H = [(1 + r) * S(t) - S(t + 1)] / k``."""
    return ((1 + rate) * resale_usd - resale_in_a_year_usd) / kw


def slot(margin_old: float, holding_old: float, margin_new: float, annuity_new: float) -> bool:
    """The new part earns more than the old in the same slot, all costs counted: ``M_n - A_n > M_o - H_o``."""
    return margin_new - annuity_new > margin_old - holding_old


def naive(margin_old: float, holding_old: float, margin_new: float, annuity_new: float) -> bool:
    """As :func:`slot`, as if the new part cost nothing: ``M_n > M_o - H_o``."""
    return margin_new > margin_old - holding_old


def cash_out(margin_old: float, holding_old: float, margin_new: float, annuity_new: float) -> bool:
    """The old part does not earn its running cost: ``M_o < 0``. Right where power is not scarce."""
    return margin_old < 0


#: Whether to retire the old part now, by the name of the rule; all arguments in USD per kW and year.
RULES: Mapping[str, Callable[[float, float, float, float], bool]] = {
    "slot": slot,
    "naive": naive,
    "cash_out": cash_out,
}


# What a used part is worth


def residual_share(age_y: Number, successor_ages_y: Sequence[float], market: Market) -> Number:
    """Market value over the price when new: ``[f + (1 - f) * exp(-lambda * age)] * (1 - s)^n``.

    n counts the successors that have shipped by *age_y*; *successor_ages_y* are the part's ages when they
    do. One that had shipped when the part was new is in its price, and does not count.
    """
    kept: Number = market.floor + (1 - market.floor) * np.exp(-market.decay_per_year * age_y)
    return kept * _outdated(age_y, successor_ages_y, market)


def scrap_share(age_y: Number, successor_ages_y: Sequence[float], market: Market) -> Number:
    """The part of :func:`residual_share` that age does not take: ``f * (1 - s)^n``."""
    return market.floor * _outdated(age_y, successor_ages_y, market)


def _outdated(age_y: Number, successor_ages_y: Sequence[float], market: Market) -> Number:
    later = np.sort([age for age in successor_ages_y if age > 0])
    factor: Number = (1 - market.per_successor) ** np.searchsorted(later, age_y, "right").astype(np.float64)
    return factor


def intrinsic_value(margins_usd: Floats, scraps_usd: Floats, step_y: float, discount_rate: float) -> Floats:
    """What a part is worth to one who keeps it for as long as that pays, USD.

    ``V = max over T of [present value of the margins from now to T + scrap(T) / (1 + r)^T]``, T at the ends
    of n steps of *step_y* years, or now. *margins_usd* (..., n) is per year, level within a step and earned
    evenly over it; *scraps_usd* (..., n + 1) is what the part fetches at each T.
    """
    steps = scraps_usd.shape[-1]
    worth = (1 + discount_rate) ** (-step_y * np.arange(steps))
    step_worth_y = _accrued(-math.log1p(discount_rate), step_y)
    earned = np.zeros_like(scraps_usd)
    np.cumsum(margins_usd * worth[:-1] * step_worth_y, axis=-1, out=earned[..., 1:])
    value: Floats = (earned + scraps_usd * worth).max(axis=-1)
    return value


def sale_discount(share_sold: float, market: Market) -> float:
    """Discount on the last GPU sold once *share_sold* of the stock has been sold in the month."""
    return max(0.0, share_sold - market.depth_per_month) * 100 * market.discount_per_percent


def sellable_share(market: Market) -> float:
    """The share of the stock that can be sold in a month before the discount is above ``max_discount``."""
    if not market.discount_per_percent:
        return 1.0
    return min(1.0, market.depth_per_month + market.max_discount / market.discount_per_percent / 100)


# Utilisation and reliability


def utilisation_chain(*shares: float) -> list[float]:
    """Shares of the installed hours from shares of the step before.

    In order: availability, allocation, busy, goodput, MFU. MFU is SM activity times tensor efficiency, so
    that neither of the two is a step of its own beside it.
    """
    return [*accumulate(shares, mul)]


def failure_rate(failures: float, units: float, time: float) -> float:
    """Failures observed per unit and time: ``failures / (units * time)``."""
    return failures / (units * time)


def job_mttf_h(nodes: float, failures_per_node_day: float) -> float:
    """Mean time to failure in h of a job on *nodes* nodes: ``24 / (nodes * rate)``.

    Any node stops the job, and failures are independent of age (Kokolis et al., "Revisiting Reliability in
    Large-Scale Machine Learning Research Clusters", 2024).
    """
    return 24 / (nodes * failures_per_node_day)


def young_interval_s(checkpoint_s: float, mttf_s: float) -> float:
    """The time between checkpoints that loses least: ``sqrt(2 * C * MTTF)`` (Young, CACM 17(9), 1974)."""
    return math.sqrt(2 * checkpoint_s * mttf_s)


def effective_training_ratio(
    mttf_s: float, interval_s: float, checkpoint_s: float, restart_s: float
) -> float:
    """ETTR to first order: ``1 - [C / tau + (tau / 2 + R) / MTTF]``."""
    return 1 - (checkpoint_s / interval_s + (interval_s / 2 + restart_s) / mttf_s)


def availability(mtbf: float, mttr: float) -> float:
    """The share of time in service in the long run: ``MTBF / (MTBF + MTTR)``, both in the same unit."""
    return mtbf / (mtbf + mttr)
